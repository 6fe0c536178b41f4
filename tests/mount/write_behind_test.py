#!/usr/bin/env python3
"""Changes that are answered before the sandbox has them, over a link that swallows every byte: what need not wait does
not, what waits is free within a second of a signal, and all of it arrives. Contract 5, "Write-behind"."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.case import main  # noqa: E402
from live.place import wait_until  # noqa: E402
from live.silence import MIB, Call, SilenceCase, Waiter  # noqa: E402

BLOCK = bytes(range(256)) * 256


class Silent(SilenceCase):
    def quiet(self, name: str) -> tuple[Any, Any, Path]:
        """A box that takes changes behind."""
        box, relay = self.relayed(name)
        work = box.path / "fs" / "workspace"
        (work / "old").write_bytes(b"old")

        # The first changes of a quiet time wait, while the server is asked what must be known for those that follow.
        for name in ("one", "two", "three"):
            (work / name).mkdir()
            os.listdir(work)
            (work / name).rmdir()
        return box, relay, work

    def test_changes_are_answered_at_once_and_arrive(self) -> None:
        box, relay, work = self.quiet("ahead")
        handle = os.open(work / "open", os.O_WRONLY | os.O_CREAT)
        self.addCleanup(os.close, handle)
        os.listdir(work)
        changes: dict[str, Call] = {
            "a new file": lambda: (work / "new").write_bytes(BLOCK),
            "mkdir": lambda: (work / "dir").mkdir(),
            "a file in it": lambda: (work / "dir" / "f").write_bytes(b"f"),
            "symlink": lambda: (work / "link").symlink_to("new"),
            "write": lambda: os.pwrite(handle, BLOCK, 0),
            "rename": lambda: os.rename(work / "new", work / "old"),
            "unlink": lambda: (work / "dir" / "f").unlink(),
            "listing": lambda: self.assertIn("link", os.listdir(work)),
            "stat": lambda: self.assertEqual((work / "old").stat().st_size, len(BLOCK)),
        }
        relay.swallow(True)
        took = {}
        for what, call in changes.items():
            started = time.monotonic()
            call()
            took[what] = time.monotonic() - started
        self.assertLess(max(took.values()), 1, took)
        relay.swallow(False)
        os.fsync(handle)
        self.assertEqual(box.sh("cd /workspace; ls; ls dir; readlink link; sha256sum < old; sha256sum < open | sort"),
                         box.sh("cd /workspace; echo dir link old open | tr ' ' '\\n'; echo new; "
                                f"head -c {len(BLOCK)} old | sha256sum; head -c {len(BLOCK)} old | sha256sum"))
        self.assertEqual((work / "old").read_bytes(), BLOCK)
        box.destroy()

    def test_who_waits_behind_them_is_free_within_a_second_of_a_signal(self) -> None:
        box, relay, work = self.quiet("waits")

        def opened(call: Callable[[int], Any]) -> Callable[[], Call]:
            def prepare() -> Call:
                fd = os.open(work / f"f{os.getpid()}", os.O_WRONLY | os.O_CREAT)
                return lambda: (os.write(fd, BLOCK), call(fd))
            return prepare

        def much(fd: int) -> None:
            for _ in range(80):  # more than may be unacknowledged in all
                os.write(fd, bytes(MIB))

        kinds = {"fsync": opened(os.fsync), "write much": opened(much),
                 "ftruncate": opened(lambda fd: os.ftruncate(fd, 1))}
        waiters = {f"{what} {number.name}": (Waiter(what, prepare), number)
                   for what, prepare in kinds.items() for number in (signal.SIGINT, signal.SIGKILL)}
        for waiter, _ in waiters.values():
            self.addCleanup(waiter.close)
            waiter.hear(b"r")
        relay.swallow(True)
        for waiter, _ in waiters.values():
            waiter.go()
        wait_until(lambda: all(waiter.ended() or waiter.waits() for waiter, _ in waiters.values()), "all wait", 20)
        for what, (waiter, number) in waiters.items():
            with self.subTest(what):
                self.assertFalse(waiter.ended(), f"{what} has not waited: {waiter.code}")
                os.kill(waiter.pid, number)
                self.assertLess(waiter.freed(time.monotonic(), 40), 1, what)
                self.assertEqual(waiter.code, -number)
        relay.swallow(False)
        wait_until(lambda: self.daemon.waiting() == 0, "nothing is left of them", 40)
        box.submit("true").wait()
        self.assertEqual(box.sh("echo on"), "on\n")
        box.destroy()


if __name__ == "__main__":
    main(limit=110, box=None)
