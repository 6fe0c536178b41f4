#!/usr/bin/env python3
"""The daemon runs out of what it keeps its promises with: the disk of its state directory is full and has room again, becomes
read-only, no descriptor can be opened, no memory is left. What was accepted runs once and ends with its true result, what was
refused never runs, and everything goes on when there is enough again. Contracts 1, 2 and 4.

tests/core/state_disk_test.cc fails each single operation. SBXFS_DISK_SECONDS: how long the disk fills and empties."""

import errno
import hashlib
import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box, Event  # noqa: E402
from live.case import Live, MountCase, main  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import fill, wait_until  # noqa: E402

ROOT = os.geteuid() == 0
SECONDS = float(os.environ.get("SBXFS_DISK_SECONDS", "6"))
SEED = int(os.environ.get("SBXFS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)


class Worker:
    """Gives commands to a sandbox, each by a name of its own, and knows what has to come of them."""

    def __init__(self, box: Box, name: str, allowed: set[int]) -> None:
        self.box, self.name, self.allowed = box, name, allowed
        self.dice = random.Random(f"{SEED} {name}")
        self.accepted: dict[str, tuple[int, bytes]] = {}  # code and what it prints, by name
        self.refused: list[str] = []
        self.numbers = itertools.count()
        self.wrong: list[BaseException] = []

    def submit(self, padding: int = 0) -> None:
        name = f"{self.name}-{next(self.numbers)}"
        code, count = self.dice.randrange(3), self.dice.choice([0, 1, 100, 3000, 20_000])
        script = f"echo {name} >> /workspace/ran; seq {count}; exit {code}\n#" + "x" * padding
        try:
            self.box.run(name, script)
            self.accepted[name] = (code, "".join(f"{n}\n" for n in range(1, count + 1)).encode())
        except OSError as error:
            if error.errno not in self.allowed:
                raise
            self.refused.append(name)

    def run(self, until: float) -> None:
        try:
            while time.monotonic() < until:
                self.submit()
                time.sleep(self.dice.choice([0, 0.01, 0.1]))  # the pace of somebody who works
        except BaseException as error:  # pylint: disable=broad-except
            self.wrong.append(error)

    def check(self) -> None:
        assert not self.wrong, self.wrong
        for name, (code, printed) in self.accepted.items():
            event = Event(self.box, name)
            assert event.wait(60) == f"exited {code}", f"{name}: {event.text('wait')}: {event.text('error')}"
            got = event.stdout
            assert hashlib.sha256(got).digest() == hashlib.sha256(printed).digest(), \
                f"{name} printed {len(printed)} bytes, {len(got)} are here"
        there = set(os.listdir(self.box.path / "events"))
        ran = (self.box.path / "work" / "ran").read_text().splitlines() if self.accepted else []
        for name in self.accepted:
            assert ran.count(name) == 1, f"{name} ran {ran.count(name)} times"
        for name in self.refused:
            assert name not in there and name not in ran, f"{name} was refused, and is there"


@unittest.skipUnless(ROOT, "needs root, for a small disk of its own")
class StateDisk(MountCase):
    """Its disk, without the sandboxes: those have room."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = Live.place.path / "disk"
        self.disk.mkdir(exist_ok=True)
        self.own = Daemon(Live.place, name="-own")
        self.own.state = self.disk / "state"
        self.boxes = Live.place.path / "boxes"
        self.boxes.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=711", "none", str(self.boxes)], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.boxes)], check=True)

    def mount_disk(self, *words: str) -> None:
        subprocess.run(["mount", *words, str(self.disk)], check=True)
        self.own.state.mkdir(mode=0o700, exist_ok=True)
        (self.own.state / "boxes").mkdir(mode=0o711, exist_ok=True)
        subprocess.run(["mount", "--bind", str(self.boxes), str(self.own.state / "boxes")], check=True)

    def umount_disk(self) -> None:
        """Lazily: a sandbox has a copy of every mount there was."""
        subprocess.run(["umount", "-l", str(self.own.state / "boxes")], check=True)
        subprocess.run(["umount", "-l", str(self.disk)], check=True)

    def test_a_disk_that_is_full_and_has_room_again_loses_nothing(self) -> None:
        self.mount_disk("-t", "tmpfs", "-o", "size=56m,mode=700", "none")
        self.addCleanup(self.umount_disk)
        self.addCleanup(self.own.abandon)
        box = Box.make(self.own.start(), "f")
        dice = random.Random(SEED)
        workers = [Worker(box, name, {errno.ENOSPC}) for name in ("a", "b", "c")]
        fills = 0
        for killed in (False, True):
            until = time.monotonic() + SECONDS / 2
            threads = [threading.Thread(target=worker.run, args=(until,)) for worker in workers]
            for thread in threads:
                thread.start()
            while time.monotonic() < until:
                fill(self.disk)
                fills += 1
                time.sleep(dice.uniform(0.02, 0.4))
                (self.disk / "fill").unlink()
                time.sleep(dice.uniform(0.02, 0.3))
            for thread in threads:
                thread.join()
            fill(self.disk)
            if killed:
                self.own.kill()
                (self.disk / "fill").unlink()
                self.own.start()
                box.await_ready()
            else:
                (self.disk / "fill").unlink()
            for worker in workers:
                worker.check()
        accepted, refused = (sum(len(found) for found in each) for each in (
            [worker.accepted for worker in workers], [worker.refused for worker in workers]))
        print(f"state disk: full {fills} times, {accepted} commands accepted, {refused} refused; seed {SEED}", flush=True)
        self.assertGreater(accepted, 0)
        self.assertEqual(box.sh("echo on"), "on\n")
        lines = (box.path / "events" / "log.jsonl").read_text().splitlines()
        self.assertEqual(len(lines), accepted + 1)
        box.destroy()
        wait_until((self.own.state / "reserve").exists, "there is a reserve again")
        self.own.umount()
        self.assertEqual(self.own.complaints(["the reserve", "journal commit failed", "output not stored"]), [])

    def test_a_disk_that_turns_read_only_keeps_what_it_has(self) -> None:
        image = Live.place.path / "image"
        with image.open("wb") as file:
            file.truncate(96 << 20)
        made = subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", str(image)], capture_output=True, check=False)
        tried = subprocess.run(["mount", "-o", "loop,errors=remount-ro", str(image), str(self.disk)], capture_output=True,
                               check=False)
        if made.returncode != 0 or tried.returncode != 0:
            self.skipTest("no ext4 in a file here")
        subprocess.run(["umount", str(self.disk)], check=True)
        self.mount_disk("-o", "loop,errors=remount-ro", str(image))
        self.addCleanup(self.umount_disk)
        self.addCleanup(self.own.abandon)
        device = subprocess.run(["findmnt", "-no", "SOURCE", str(self.disk)], capture_output=True, text=True, check=True).stdout
        error = Path("/sys/fs/ext4") / Path(device.strip()).name / "trigger_fs_error"
        if not device.startswith("/dev/loop") or not error.exists():
            self.skipTest("this kernel makes no errors")
        box = Box.make(self.own.start(), "f")
        worker = Worker(box, "w", {errno.EIO})
        for _ in range(5):
            worker.submit()
        worker.check()
        script = "echo r >> /workspace/ran; seq 1000; while [ ! -e /workspace/go ]; do sleep 0.02; done; seq 1000; exit 3"
        running = box.run("r", script)
        wait_until(lambda: len(running.stdout) == 3893, "it runs")
        error.write_text("1")
        wait_until(lambda: "ro" in subprocess.run(["findmnt", "-no", "OPTIONS", str(self.disk)], capture_output=True, text=True,
                                                  check=True).stdout, "it is read-only")
        worker.submit()
        self.assertEqual(len(worker.refused), 1)
        self.assertIn("Read-only file system", self.own.last_error())
        with self.assertRaises(OSError) as caught:
            (self.own.mnt / "second").mkdir()
        self.assertEqual(caught.exception.errno, errno.EIO)
        (box.path / "work" / "go").touch()
        self.assertEqual(running.text("wait.1"), "running\n", "no outcome that could be forgotten")
        worker.check()  # and what was there can be read
        self.own.kill()
        self.umount_disk()
        # Another device: the sandbox may still have the old mount.
        mended = Live.place.path / "mended"
        shutil.copyfile(image, mended)
        subprocess.run(["e2fsck", "-fy", str(mended)], capture_output=True, check=False)
        self.mount_disk("-o", "loop", str(mended))
        self.own.start()
        box.await_ready()
        self.assertEqual(running.wait(), "exited 3")
        self.assertEqual(running.stdout, "".join(f"{n}\n" for n in range(1, 1001)).encode() * 2)
        self.assertNotIn("second", os.listdir(self.own.mnt))
        worker.submit()
        worker.check()
        box.destroy()
        self.own.umount()


class Limits(MountCase):
    def limited(self, which: int, value: int) -> None:
        assert self.daemon.process is not None
        _, hard = resource.prlimit(self.daemon.process.pid, which)
        resource.prlimit(self.daemon.process.pid, which, (value, hard))

    def free(self, which: int) -> None:
        assert self.daemon.process is not None
        _, hard = resource.prlimit(self.daemon.process.pid, which)
        resource.prlimit(self.daemon.process.pid, which, (hard, hard))

    def test_without_descriptors_nothing_is_lost_and_all_goes_on_with_some(self) -> None:
        self.allow_log("output not stored", "sandbox status", "after a failed launch", "refused op=", "journal commit failed")
        worker = Worker(self.box, "d", {errno.EMFILE, errno.EIO, errno.EAGAIN, errno.ENFILE})
        worker.submit()
        worker.check()
        assert self.daemon.process is not None
        self.limited(resource.RLIMIT_NOFILE, len(os.listdir(f"/proc/{self.daemon.process.pid}/fd")))
        try:
            for _ in range(5):
                worker.submit()
            box = Box(self.daemon, "nofiles")
            try:
                box.path.mkdir()
                said = (box.path / "ready").read_text()
                self.assertRegex(said, "(?i)^ready|descriptor|open files", "it says why")
            except OSError as error:
                self.assertIn(error.errno, (errno.EMFILE, errno.EIO, errno.EAGAIN))
                self.assertRegex(self.daemon.last_error(), "(?i)open files|descriptor")
        finally:
            self.free(resource.RLIMIT_NOFILE)
        for _ in range(3):
            worker.submit()
        worker.check()
        if box.path.exists():
            box.destroy()
        again = Box.make(self.daemon, "files")
        self.assertEqual(again.sh("echo on"), "on\n")
        again.destroy()

    def test_without_memory_the_daemon_may_end_and_nothing_is_lost(self) -> None:
        self.allow_log("taking over|stale|healed|unclean", ".*")
        errors = {errno.ENOMEM, errno.EIO, errno.EAGAIN, errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV}
        worker = Worker(self.box, "m", errors)
        worker.submit()
        worker.check()
        ended = 0
        for room in (4 << 20, 1 << 20, 1 << 16):
            assert self.daemon.process is not None
            # Not of addresses: heaps have them in advance.
            said = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
            size = int(said.split("VmData:")[1].split()[0]) * 1024
            self.limited(resource.RLIMIT_DATA, size + room)
            before = len(worker.refused)
            for n in range(15):
                worker.submit(900_000 if n % 3 == 2 else 0)
            # Nobody knows what became of those that the daemon took along.
            unsure, worker.refused = worker.refused[before:], worker.refused[:before]
            try:
                self.free(resource.RLIMIT_DATA)
                os.listdir(self.mnt)
            except OSError:
                ended += 1
                self.daemon.process.wait(30)
                self.daemon.process = None
                self.daemon.start()
                self.box.await_ready()
            worker.check()
            ran = (self.box.path / "work" / "ran").read_text().splitlines()
            for name in unsure:
                self.assertLessEqual(ran.count(name), 1)
        print(f"state disk: without memory {len(worker.accepted)} commands accepted, the daemon ended {ended} times", flush=True)


if __name__ == "__main__":
    main(limit=80 + SECONDS)
