#!/usr/bin/env python3
"""Whoever waits for an answer of sbxfs is free within a second of a signal, whatever is waited for: the end of a
command, a launch, a change, or a sandbox that does not answer. Contract 1.3."""

import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import MountCase, main  # noqa: E402
from live.place import wait_until  # noqa: E402

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
# poll(2) until there is news; SIGINT as every program but Python has it.
POLL = ("import os, select, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); p = select.poll();"
        "fd = os.open(sys.argv[1], os.O_RDONLY); p.register(fd, select.POLLIN);"
        "[(p.poll(), os.pread(fd, 1 << 20, 0)) for _ in range(3)]")


class WaiterCase(MountCase):
    def start(self, *argv: str) -> "subprocess.Popen[bytes]":
        waiter = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(waiter.wait)
        self.addCleanup(waiter.kill)
        return waiter

    def asleep(self, pid: int) -> bool:
        """Its own work is done: it sleeps, or waits in the kernel."""
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "SD"

    def freed(self, waiter: "subprocess.Popen[bytes]", number: signal.Signals, what: str) -> None:
        started = time.monotonic()
        waiter.send_signal(number)
        try:
            code = waiter.wait(10)
        except subprocess.TimeoutExpired:
            self.fail(f"{what} cannot be ended by {number.name}")
        self.assertLess(time.monotonic() - started, 1, f"{what}, {number.name}")
        self.assertEqual(code, -number, what)


class Commands(WaiterCase):
    def test_whoever_waits_for_a_command(self) -> None:
        event = self.box.run("endless", "echo up; sleep 600")
        wait_until(lambda: event.stdout == b"up\n", "it runs")
        events = self.box.path / "events"
        waits = {"wait": ["cat", str(event.path / "wait")], "wait.60": ["cat", str(event.path / "wait.60")],
                 "follow": ["cat", str(event.path / "follow")],
                 "tail -f": ["tail", "-n", "+1", "-f", str(event.path / "stdout")],
                 "poll status": [sys.executable, "-c", POLL, str(event.path / "status")],
                 "poll stdout": [sys.executable, "-c", POLL, str(event.path / "stdout")],
                 "poll log": [sys.executable, "-c", POLL, str(events / "log.jsonl")]}
        for number in SIGNALS:
            waiters = {what: self.start(*argv) for what, argv in waits.items()}
            wait_until(lambda: self.daemon.waiting() >= 3, "the readers wait")
            wait_until(lambda: all(self.asleep(waiter.pid) for waiter in waiters.values()), "all wait")
            for what, waiter in waiters.items():
                with self.subTest(what=what, number=number.name):
                    self.freed(waiter, number, what)
            wait_until(lambda: self.daemon.waiting() == 0, "nothing is left of them")
        (event.path / "ctl").write_text("kill\n")
        self.assertEqual(event.wait(), "killed 137")

    def test_a_writer_that_is_not_at_the_end_of_its_script(self) -> None:
        before = self.box.latest()
        for number in SIGNALS:
            script = f"{{ echo 'echo never'; exec sleep 600; }} > {self.box.path}/cmd"
            writer = self.start("sh", "-c", script)
            wait_until(lambda: self.asleep(writer.pid) and
                       b"sleep" in Path(f"/proc/{writer.pid}/cmdline").read_bytes()[:6], "it has written")
            self.freed(writer, number, "a writer of cmd")
            wait_until(lambda: self.daemon.waiting() == 0, "it is told")
        self.assertEqual(self.box.sh("echo next"), "next\n")
        self.assertEqual(self.box.latest(), before + 1)


class Files(WaiterCase):
    def test_whoever_waits_for_the_files_of_a_sandbox_that_does_not_answer(self) -> None:
        box = Box.make(self.daemon, "frozen")
        calls = {"stat": ["stat"], "ls": ["ls", "-l"], "cat": ["cat"], "mkdir": ["mkdir"], "rm": ["rm"],
                 "rmdir": ["rmdir"], "ln": ["ln", "-s", "x"], "touch": ["touch"], "chmod": ["chmod", "600"],
                 "truncate": ["truncate", "-s", "1"], "dd": ["dd", "if=/dev/zero", "bs=1M", "count=4", "conv=fsync"]}
        # Each in a directory of its own: a change holds the directory that it changes. And all of them known here:
        # who looks up a name for the first time holds up whoever looks up the same one, in the kernel.
        for number in SIGNALS:
            for what in calls:
                box.sh(f"mkdir -p /workspace/{number.name}/{what}/d; echo x > /workspace/{number.name}/{what}/f")
        subprocess.run(["ls", "-lR", str(box.path / "fs" / "workspace")], check=True, stdout=subprocess.DEVNULL)
        pids = list(box.processes())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            waiters = []
            for number in SIGNALS:
                for what, argv in calls.items():
                    directory = box.path / "fs" / "workspace" / number.name / what
                    name = {"mkdir": "new", "ln": "new", "touch": "new", "rmdir": "d", "ls": "."}.get(what, "f")
                    target = f"of={directory / name}" if what == "dd" else str(directory / name)
                    waiters.append((number, what, self.start(*argv, target)))
            wait_until(lambda: all(waiter.poll() is not None or self.asleep(waiter.pid)
                                   for _, _, waiter in waiters), "all wait")
            for number, what, waiter in waiters:
                # What is answered from memory has not waited.
                if waiter.poll() is None:
                    with self.subTest(what=what, number=number.name):
                        self.freed(waiter, number, what)
            wait_until(lambda: self.daemon.waiting() == 0, "nothing is left of them")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        self.assertEqual(box.sh("echo thawed"), "thawed\n")
        box.destroy()


class Launches(WaiterCase):
    def test_whoever_waits_for_a_launch(self) -> None:
        # Until it is launched; where that was faster than the signal, nobody has waited.
        for number in SIGNALS:
            name = f"new-{number.name.lower()}"
            (self.mnt / name).mkdir()
            for file in ("ready", "fs/etc/hostname", "work/x"):
                waiter = self.start("cat", str(self.mnt / name / file))
                started = time.monotonic()
                waiter.send_signal(number)
                waiter.wait(10)
                self.assertLess(time.monotonic() - started, 1, file)
            Box(self.daemon, name).await_ready()
            Box(self.daemon, name).destroy()


if __name__ == "__main__":
    main()
