#!/usr/bin/env python3
"""The save harness: a file is saved as editors do, to a name of its own that is then renamed over the old one, and the
disk in the sandbox fails at a byte of what the server is sent: it is full, read-only, may no longer be written to, or the
directory is gone. The old content is there or the new one, never a third; what was lost is reported as contract 5 says,
and nothing else is.

  behind    the file system has room when the save begins: everything is answered ahead
  short     it has too little room for that: data waits for its answer at close(2)

A number draws the save, its fault and the byte. Needs root, for a disk of its own.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.relay import IN, Relay  # noqa: E402
from harness.sweep import Sweep, arguments, bounded, run  # noqa: E402
from harness.worlds import RelayedWorld  # noqa: E402
from live.box import Box  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import Place, isolate, require, wait_until  # noqa: E402

SAVES = 1000
LIMIT = 60.0  # seconds for one
SIZES = (100, 5000, 70_000, 400_000, 1_500_000)
# Beside what write-behind leaves free on a disk (write_behind_room.cc), and less than that.
ROOM = {"behind": 96 << 20, "short": 32 << 20}
OWNER = 12345  # of the disk's directory, as whom the sandbox writes there
CONFIG = """default_template = "default"
[templates.default]
provider = "local"
workdir = "/workspace"
binds = ["{files}:/disk:rw"]
"""
LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT = 1, 32
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, IMMUTABLE = 0x80086601, 0x40086602, 0x10


class Disk:
    """A file system of this machine, shown in the sandbox as /disk; `here` is the directory files are saved in."""

    def __init__(self, place: Place, room: int) -> None:
        self.root = place.path / "disk"
        self.room = room
        self.root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "none", str(self.root)], check=True)
        self.files = self.root / "files"
        self.here = self.files / "d"
        self.away = self.root / "away"
        for directory in (self.files, self.here):
            directory.mkdir()
            os.chown(directory, OWNER, OWNER)

    def _remount(self, flags: int, options: str) -> bool:
        # Not by mount(8): a child would close the file that is being saved, and wait for what waits for us.
        return LIBC.mount(b"none", bytes(self.root), b"tmpfs", MS_REMOUNT | flags, options.encode()) == 0

    def used(self) -> int:
        space = os.statvfs(self.root)
        return (space.f_blocks - space.f_bfree) * space.f_frsize

    # --- what may happen to it; whether it has

    def fill(self, left: int) -> bool:
        return self._remount(0, f"size={self.used() + left}")

    def forbid(self) -> bool:
        os.chown(self.here, OWNER + 1, OWNER + 1)
        return True

    def freeze(self) -> bool:
        self._set_flags(IMMUTABLE)
        return True

    def make_read_only(self) -> bool:
        return self._remount(MS_RDONLY, "")  # not while a file is open for writing

    def vanish(self) -> bool:
        os.rename(self.here, self.away)
        return True

    def heal(self) -> None:
        assert self._remount(0, f"size={self.room}")
        if self.away.exists():
            os.rename(self.away, self.here)
        self._set_flags(0)
        os.chown(self.here, OWNER, OWNER)

    def _set_flags(self, flags: int) -> None:
        handle = os.open(self.here, os.O_RDONLY)
        try:
            now = struct.unpack("l", fcntl.ioctl(handle, FS_IOC_GETFLAGS, bytes(8)))[0]
            fcntl.ioctl(handle, FS_IOC_SETFLAGS, struct.pack("l", now & ~IMMUTABLE | flags))
        finally:
            os.close(handle)

    # --- what is there

    def content(self, name: str) -> Optional[bytes]:
        for directory in (self.here, self.away):
            if (directory / name).exists():
                return (directory / name).read_bytes()
        return None


# What a program may be told of each.
FAULTS: dict[str, tuple[Callable[[Disk, random.Random], bool], tuple[int, ...]]] = {
    "full": (lambda disk, dice: disk.fill(dice.choice((0, 0, 4096, 65536, 262144))), (errno.ENOSPC,)),
    "forbidden": (lambda disk, dice: disk.forbid(), (errno.EACCES, errno.EPERM)),
    "frozen": (lambda disk, dice: disk.freeze(), (errno.EPERM, errno.EACCES)),
    "read-only": (lambda disk, dice: disk.make_read_only(), (errno.EROFS,)),
    "vanished": (lambda disk, dice: disk.vanish(), (errno.ENOENT,)),
}


@dataclass
class Save:
    """How one editor does it, and what it was told."""

    data: bytes
    parts: int
    sync: bool  # before close
    hold: bool  # the file stays open until it has its new name, and is synced then
    mode: bool  # fchmod, as who keeps the old file's
    told: list[tuple[str, int]] = field(default_factory=list)
    synced: bool = False

    @staticmethod
    def draw(dice: random.Random) -> "Save":
        hold = dice.random() < 0.25
        return Save(dice.randbytes(dice.choice(SIZES)), dice.randrange(1, 5), dice.random() < 0.4 and not hold, hold,
                    dice.random() < 0.3)

    def make(self, target: Path) -> None:
        """As editors do: it ends with the first step that fails, and the old file stays."""
        temporary = target.with_name(f".{target.name}.new")
        handle = -1

        def step(what: str, call: Callable[[], object]) -> bool:
            try:
                call()
            except OSError as error:
                self.told.append((what, error.errno or 0))
                return False
            return True

        def opened() -> None:
            nonlocal handle
            handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)

        def written() -> None:
            size = -(-len(self.data) // self.parts)
            for start in range(0, len(self.data), size):
                part = memoryview(self.data)[start:start + size]
                while part:
                    part = part[os.write(handle, part):]

        def synced() -> None:
            os.fsync(handle)
            self.synced = True

        if not step("open", opened):
            return
        good = step("write", written)
        good = good and (not self.mode or step("chmod", lambda: os.fchmod(handle, 0o640)))
        good = good and (not self.sync or step("fsync", synced))
        if not self.hold:
            good = step("close", lambda: os.close(handle)) and good
        good = good and step("rename", lambda: os.rename(temporary, target))
        if self.hold:
            if good:
                step("fsync", synced)
            step("close", lambda: os.close(handle))


class World(RelayedWorld):
    """One sandbox."""

    def __init__(self, kind: str) -> None:
        self.place = Place()
        try:
            self.begin(kind)
        except BaseException:
            self.place.end()
            raise

    def begin(self, kind: str) -> None:
        self.disk = Disk(self.place, ROOM[kind])
        self.daemon = Daemon(self.place, config=CONFIG.format(files=self.disk.files)).start()
        self.box = Box.make(self.daemon, "b")
        self.here = self.box.path / "fs" / "disk" / "d"
        found = list((self.daemon.state / "boxes").glob("*/ssh.sock"))
        assert len(found) == 1 and self.daemon.process is not None, found
        relay = self.relay = Relay(found[0], self.daemon.process.pid)
        # What is connected has not come by it.
        for pid, line in self.box.processes().items():
            if "sshd" in line and pid != self.box.init():
                with contextlib.suppress(ProcessLookupError):  # its parent was faster
                    os.kill(pid, signal.SIGKILL)
        wait_until(lambda: relay.in_use() and self.box.status == "ready", "the daemon comes by the relay")
        self.old = b"the first\n"
        (self.here / "file").write_bytes(self.old)
        self.box.sh("true")

    def learn(self) -> None:
        """What must be known before a change is answered ahead is asked now."""
        (self.box.path / "ctl").write_text("drop_caches\n")
        for _ in range(3):
            (self.here / "x").mkdir()
            os.listdir(self.here)
            (self.here / "x").rmdir()
        assert (self.here / "file").read_bytes() == self.old

    def leave(self) -> None:
        self.box.destroy()


class Attempt:
    """One save with its fault."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.box = world.box
        self.dice = random.Random(number)
        self.save = Save.draw(self.dice)
        self.fault = self.dice.choice([*FAULTS, "full", "full"])
        size = len(self.save.data)
        # In what makes the file, anywhere, or in what follows the data.
        self.at = self.dice.choice((self.dice.randrange(1, 1500), self.dice.randrange(1, size + 2000),
                                    size + self.dice.randrange(1, 1500)))
        if self.fault == "read-only":  # possible only while nothing is open for writing there
            self.save.hold = False
            self.at = self.dice.choice((self.dice.randrange(1, 120), size + self.dice.randrange(250, 900)))
        self.order = self.dice.choice(("command", "create", "read"))
        self.happened = False

    def say(self, what: str) -> str:
        save = self.save
        return (f"{what}: {self.fault} at {self.at}, {len(save.data)} bytes in {save.parts} parts, sync={save.sync} "
                f"hold={save.hold} mode={save.mode}, told {[(one, errno.errorcode[code]) for one, code in save.told]}, "
                f"synced {save.synced}, then {self.order}")

    def run(self) -> bool:
        world, disk, save = self.world, self.world.disk, self.save
        world.learn()
        directory = os.open(world.here, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        before = (self.world.daemon.mnt / ".mount" / "last_error").read_text()

        def fault() -> None:
            self.happened = FAULTS[self.fault][0](disk, self.dice)

        try:
            world.relay.arm_now(IN, self.at, fault)
            save.make(world.here / "file")
            barrier = 0
            try:
                os.fsync(directory)
            except OSError as error:
                barrier = error.errno or 0
            world.relay.disarm()
            self.check(barrier, before)
        finally:
            os.close(directory)
        disk.heal()
        self.go_on()
        return self.happened

    def check(self, barrier: int, before: str) -> None:
        save, disk = self.save, self.world.disk
        found, rest = disk.content("file"), disk.content(".file.new")
        assert found in (self.world.old, save.data), self.say(
            f"a third: {None if found is None else len(found)} bytes, and {len(self.world.old)} before")
        new = found == save.data
        assert not (save.synced and save.data not in (found, rest)), self.say("fsync said yes, and the data is not there")
        allowed = FAULTS[self.fault][1] if self.happened else ()
        for what, code in save.told:
            # A rename, what the kernel asks within an open, and fchmod, which comes to us by the name, find that the file
            # was never made. Its close says why.
            missing = errno.ENOENT if what in ("open", "rename", "chmod") and rest is None else errno.EIO
            assert code in (*allowed, errno.EIO, missing) and self.happened, self.say(f"{what} failed with {errno.errorcode[code]}")
            assert not (new and what == "rename"), self.say("the rename was made and is said not to be")
        if new and rest is None and not save.told:
            self.check_whole(barrier)
        elif not save.told:
            assert barrier != 0 or not self.is_acknowledged(), self.say("fsync of the directory said yes")
            self.check_reported(before)
        else:
            self.check_told()
        self.world.old = found or b""

    def is_acknowledged(self) -> bool:
        """Nothing was lost since the last time somebody heard of it."""
        return (self.box.path / "error").read_text() == ""

    def create(self) -> int:
        try:
            os.close(os.open(self.world.here.parent / "probe", os.O_CREAT | os.O_WRONLY, 0o644))
        except OSError as error:
            return error.errno or 0
        return 0

    def command(self) -> tuple[str, str]:
        event = self.box.submit("cat /disk/d/file | cksum")
        return event.wait(), event.text("error")

    def check_whole(self, barrier: int) -> None:
        assert barrier == 0, self.say(f"nothing was lost, and fsync of the directory says {errno.errorcode[barrier]}")
        error = (self.box.path / "error").read_text()
        assert error == "", self.say(f"nothing was lost, and error says {error}")
        assert self.create() != errno.EIO, self.say("nothing was lost, and a new file is EIO")
        said, why = self.command()
        assert said == "exited 0", self.say(f"nothing was lost, and the command is {said}: {why}")

    def check_reported(self, before: str) -> None:
        """Each way in which it is told, in any order."""
        newest = (self.world.daemon.mnt / ".mount" / "last_error").read_text()
        assert newest != before and "lost" in newest, self.say(f"last_error does not know: {newest[:300]}")
        if self.order == "create":
            code = self.create()
            assert code == errno.EIO, self.say(f"a new file before anybody has heard: {code}")
        if self.order != "command":
            error = (self.box.path / "error").read_text()
            assert "/disk/d/" in error, self.say(f"error says {error!r}")
        else:
            code = self.create()
            assert code == errno.EIO, self.say(f"a new file before anybody has heard: {code}")
        said, why = self.command()
        assert said == "refused" and "/disk/d/" in why, self.say(f"the next command is {said}: {why}")
        assert self.create() != errno.EIO, self.say("a new file is still EIO")

    def check_told(self) -> None:
        """The program knows; what was told before it failed may have been lost, too."""
        error = (self.box.path / "error").read_text()
        said, why = self.command()
        if error:
            assert said == "refused" and "/disk/d/" in why, self.say(f"the next command is {said}: {why}")
        else:
            assert said == "exited 0" or self.fault == "vanished", self.say(f"nothing was lost, and {said}: {why}")

    def go_on(self) -> None:
        """With the disk as it was, everything is."""
        for _ in range(2):  # the first may still be the one that is refused
            said, why = self.command()
            if said == "exited 0":
                break
        assert said == "exited 0", self.say(f"afterwards the command is {said}: {why}")
        error = self.box.path / "error"
        error.read_text()  # by now somebody has heard
        assert error.read_text() == "", self.say("error still speaks of it")
        self.box.sh("rm -f /disk/d/.file.new /disk/probe")
        again = Save(self.dice.randbytes(1000), 1, False, False, False)
        again.make(self.world.here / "file")
        assert not again.told, self.say(f"afterwards a save is told {again.told}")
        said, why = self.command()
        assert said == "exited 0", self.say(f"after a good save the command is {said}: {why}")
        self.world.old = again.data
        assert self.world.disk.content("file") == again.data, self.say("a good save afterwards was not made")


_world: Optional[World] = None


def finish() -> None:
    global _world
    if _world is not None:
        ending, _world = _world, None
        ending.end()


class Session:
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def attempt(self, number: int) -> bool:
        global _world
        here = _world = _world or World(self.kind)
        try:
            with bounded(LIMIT, here.abandon):
                return Attempt(here, number).run()
        except BaseException:
            if _world is here:
                _world = None
                here.abandon()
            raise


def main() -> int:
    require(needs_root=True)
    isolate()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = arguments(__doc__ or "", ROOM)
    session = Session(options.session)
    return run(Sweep(title=f"saves {options.session}", unit="saves", command=f"tests/harness/saves.py {options.session}",
                     measure=lambda: SAVES, attempt=session.attempt, finish=finish), options)


if __name__ == "__main__":
    sys.exit(main())
