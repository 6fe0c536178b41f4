#!/usr/bin/env python3
"""A daemon that is killed while the kernel waits for it dies, and all who wait with it are freed: by the process that
guards its connection (fs/connection_guard.h), which is gone when the daemon is. Contract 1.3."""

import errno
import os
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path
from typing import Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import Live, main  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.leftovers import guards, orphaned_guards, stat_of  # noqa: E402
from live.place import file_system_at, sbxfs, wait_until  # noqa: E402
from live.silence import MIB, Call, SilenceCase, Waiter  # noqa: E402

DIED = [os.strerror(errno.ECONNABORTED), os.strerror(errno.ENOTCONN)]


def guard_of(daemon: int) -> int:
    (found,) = [pid for pid, parent in guards().items() if parent == daemon]
    return found


def abort_of(guard: int) -> Optional[int]:
    """The number of the connection it would end."""
    try:
        return int(os.readlink(f"/proc/{guard}/fd/1").split("/")[-2])
    except (OSError, ValueError, IndexError):
        return None


def reachable(mnt: Path) -> bool:
    try:
        os.listdir(mnt)
    except OSError:
        return False
    return True


class GuardCase(SilenceCase):
    def setUp(self) -> None:
        super().setUp()
        if "nobody ends the connection" in self.daemon.log.read_text():
            self.skipTest("fusectl is not mounted, and only root can do without")

    def pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def own(self, name: str) -> Daemon:
        """Another daemon, not started."""
        return Daemon(Live.place, name=name)

    def assert_gone(self, *pids: int) -> None:
        wait_until(lambda: not set(pids) & set(guards()), "the guard is gone", 2)


class Killed(GuardCase):
    def waiters_of(self, box: Box, file: Path) -> tuple[Waiter, Waiter]:
        """One for a page of the file, and one that has all pages dropped."""
        def reads() -> Call:
            fd = os.open(file, os.O_RDONLY)
            return lambda: os.pread(fd, 4096, MIB // 2)

        def drops() -> Call:
            fd = os.open(box.path / "ctl", os.O_WRONLY)
            return lambda: os.write(fd, b"drop_caches\n")

        made = Waiter("read", reads), Waiter("drop_caches", drops)
        for waiter in made:
            self.addCleanup(waiter.close)
            waiter.hear(b"r")
        return made

    def waits_in_the_kernel(self) -> bool:
        for thread in Path(f"/proc/{self.pid()}/task").iterdir():
            if stat_of(thread)[:2] == ("kernel-pages", "D"):
                return True
        return False

    def test_one_that_drops_a_page_somebody_waits_for_dies_and_nobody_goes_on_waiting(self) -> None:
        box, relay = self.relayed("hanging")
        guard = guard_of(self.pid())
        file = self.furnish(box, "files", 0) / "0" / "f"
        waiters = reader, dropper = self.waiters_of(box, file)
        relay.swallow(True)
        reader.go()
        wait_until(reader.waits, "it waits for the page")
        dropper.go()
        wait_until(self.waits_in_the_kernel, "the daemon waits for the page")
        self.assertEqual(self.daemon.waiting(), 2)

        process = self.daemon.process
        assert process is not None
        since = time.monotonic()
        process.kill()
        for waiter in waiters:
            self.assertLess(waiter.freed(since, 10), 2, waiter.what)
            self.assertEqual(waiter.code, 1)
            said = waiter.last_words()
            self.assertTrue(any(why in said for why in DIED), said)
        self.assertEqual(process.wait(2), -signal.SIGKILL)
        self.daemon.process = None
        self.assertLess(time.monotonic() - since, 2)
        self.assert_gone(guard)

        # And it is a dead mount like any other.
        with self.assertRaises(OSError) as caught:
            os.listdir(self.mnt)
        self.assertEqual(caught.exception.errno, errno.ENOTCONN)
        relay.swallow(False)
        self.daemon.start()
        wait_until(lambda: box.status == "ready", "it is back", 40)
        self.assertEqual(file.read_bytes(), bytes(MIB))
        self.assertEqual(box.sh("echo on"), "on\n")
        box.destroy()


class Guard(GuardCase):
    def test_it_has_nothing_but_its_file(self) -> None:
        guard = Path(f"/proc/{guard_of(self.pid())}")
        self.assertEqual((guard / "environ").read_bytes(), b"")
        self.assertEqual((guard / "cmdline").read_bytes(), b"/proc/self/exe\0connection-guard\0")
        self.assertEqual(os.readlink(guard / "cwd"), "/")
        files = {fd: os.readlink(guard / "fd" / fd) for fd in os.listdir(guard / "fd")}
        self.assertEqual(list(files), ["1"])
        self.assertTrue(files["1"].endswith(f"/{self.daemon.device()}/abort"), files)

    def test_no_signal_ends_it_or_has_it_end_the_mount(self) -> None:
        guard = guard_of(self.pid())
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            os.kill(guard, number)
        for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
            os.kill(guard, number)
        # All it was to hear it has heard when it sleeps again.
        wait_until(lambda: stat_of(Path(f"/proc/{guard}"))[1] == "S", "it sleeps")
        self.assertEqual((self.mnt / ".mount/version").read_text(), (self.mnt / ".mount/version").read_text())
        self.assertEqual(guard_of(self.pid()), guard)

    def test_however_a_daemon_ends_it_is_gone_too(self) -> None:
        def unmounted(daemon: Daemon) -> None:
            daemon.umount()

        def told(daemon: Daemon) -> None:
            assert daemon.process is not None
            daemon.process.terminate()
            self.assertEqual(daemon.process.wait(20), 0)
            daemon.process = None

        def killed(daemon: Daemon) -> None:
            daemon.kill()
            with self.assertRaises(OSError):
                os.listdir(daemon.mnt)
            subprocess.run([sbxfs(), "umount", str(daemon.mnt)], check=True)

        def lazily(daemon: Daemon) -> None:
            assert daemon.process is not None
            guard = guard_of(daemon.process.pid)
            held = os.open(daemon.mnt / "README.md", os.O_RDONLY)
            subprocess.run([sbxfs(), "umount", "-l", str(daemon.mnt)], check=True)
            self.assertEqual(guard_of(daemon.process.pid), guard)
            os.close(held)
            self.assertEqual(daemon.process.wait(20), 0)
            daemon.process = None

        for end in (unmounted, told, killed, lazily):
            with self.subTest(end.__name__):
                daemon = self.own("-ends").start()
                assert daemon.process is not None
                guard = guard_of(daemon.process.pid)
                end(daemon)
                self.assert_gone(guard)
                self.assertIsNone(file_system_at(daemon.mnt))

    def test_a_mount_that_fails_leaves_none(self) -> None:
        point, file = Live.place.path / "fails", Live.place.path / "no-state"
        point.mkdir()
        file.touch()
        done = subprocess.run([sbxfs(), "mount", "-o", f"state_dir={file}", point], capture_output=True, check=False)
        self.assertEqual(done.returncode, 32)
        wait_until(lambda: not orphaned_guards(), "there is none whose daemon has ended", 5)

    def test_one_in_the_background_has_one_too(self) -> None:
        daemon = self.own("-behind")
        subprocess.run(daemon.command(), check=True)
        device = daemon.device()
        (guard,) = [pid for pid in guards() if abort_of(pid) == device]
        os.kill(guards()[guard], signal.SIGKILL)
        self.assert_gone(guard)
        wait_until(lambda: not reachable(daemon.mnt), "it is dead")
        subprocess.run([sbxfs(), "umount", str(daemon.mnt)], check=True)

    def test_a_late_one_leaves_the_next_connection_of_that_number_alone(self) -> None:
        daemon = self.own("-late")
        for _ in range(20):  # who mounts something else meanwhile may get the number
            daemon.start()
            assert daemon.process is not None
            device, guard = daemon.device(), guard_of(daemon.process.pid)
            os.kill(guard, signal.SIGSTOP)
            daemon.kill()
            subprocess.run([sbxfs(), "umount", str(daemon.mnt)], check=True)
            daemon.start()
            same = daemon.device() == device
            os.kill(guard, signal.SIGCONT)
            self.assert_gone(guard)
            os.stat(daemon.mnt / ".mount")
            self.assertIn("# sbxfs", (daemon.mnt / "README.md").read_text())
            daemon.umount()
            if same:
                return
        self.skipTest("no number was used again")


if __name__ == "__main__":
    main(limit=100, box=None, options=["writeback=off"])
