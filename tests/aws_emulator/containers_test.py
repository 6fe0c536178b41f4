#!/usr/bin/env python3
"""The thread that starts containers and sees them end."""

import shutil
import signal
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from aws_emulator import containers as module  # noqa: E402
from aws_emulator.containers import Container, Containers, Plan  # noqa: E402


def wait_until(true, what, limit=20):
    deadline = time.monotonic() + limit
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


class Watched(Containers):
    """Remembers by which descriptor each is told about."""

    def __init__(self, *words):
        self.told_by = {}
        super().__init__(*words)

    def _watch(self, container: Container, info_read: int) -> None:
        self.told_by[container.plan.name] = info_read
        super()._watch(container, info_read)


class ContainersTest(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)
        entrypoint = self.place / "entrypoint"
        entrypoint.write_text("#!/bin/sh\n")
        self.containers = Watched(self.place, entrypoint)
        self.addCleanup(self.containers.close)
        self.ends = []

    def start(self, name):
        return self.containers.start(Plan(
            name=name, argv=["sleep", "60"], environment={}, workdir="/workspace", files={}, covers={}, printed=print,
            ended=lambda code: self.ends.append(name), started=lambda: None, failed=lambda why: self.ends.append(why)))

    def test_one_that_ends_does_not_take_what_another_is_told_by_the_same_descriptor(self):
        real_open = module.os.pidfd_open

        def open_elsewhere(pid):
            """As if another thread had taken the number that has just become free, for a moment."""
            taken = module.os.open("/dev/null", module.os.O_RDONLY)
            try:
                return real_open(pid)
            finally:
                module.os.close(taken)
        with mock.patch.object(module.os, "pidfd_open", open_elsewhere):
            first = self.start("first")
            wait_until(lambda: first.first is not None, "the first runs")
        gate = self.place / "gate"
        real = module.bubblewrap

        def late(*words):
            return ["sh", "-c", 'until [ -e "$0" ]; do sleep 0.01; done; exec "$@"', str(gate), *real(*words)]
        with mock.patch.object(module, "bubblewrap", late):
            second = self.start("second")
            wait_until(lambda: "second" in self.containers.told_by, "the second starts")
        self.addCleanup(gate.touch)
        self.assertEqual(self.containers.told_by["first"], self.containers.told_by["second"])
        first.kill(signal.SIGKILL)
        wait_until(lambda: self.ends == ["first"], "the first has ended", 5)
        gate.touch()
        second.kill(signal.SIGKILL)
        wait_until(lambda: self.ends == ["first", "second"], "the second has ended, too")


if __name__ == "__main__":
    if shutil.which("bwrap") is None:
        print("skipped: no bubblewrap")
        sys.exit(77)
    unittest.main()
