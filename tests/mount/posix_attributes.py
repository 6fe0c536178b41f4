"""Cases of posix_test.py: modes, owners, times and rights; listings, locks and programs."""

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import time
from typing import Any

from live.posix import AT_SYMLINK_NOFOLLOW, UTIME_NOW, UTIME_OMIT, Directory, Probe, make, utimensat
from mount.posix_cases import CREAT, EXCL, ODD_PATHS, OTHER, R, RW, TRUNC, W, case, case_of_its_own, furnish, listed, size


# --- attributes

@case
def chmod_of_everything(t: Probe) -> None:
    furnish()
    for mode in (0o000, 0o400, 0o644, 0o777, 0o7 << 3, 0o200):
        t.say(f"chmod {mode:o}", os.chmod, "file", mode)
        t.look("file")
    for path in [*ODD_PATHS[:11], "to_file", "to_full", "empty"]:
        t.do(os.chmod, path, 0o700)
    t.look("file")
    t.look("full")
    fd = os.open("file", R)
    t.do(os.fchmod, fd, 0o640)
    t.look("file")


@case
def chmod_of_sticky_directories(t: Probe) -> None:
    os.mkdir("d")
    t.say("sticky", os.chmod, "d", 0o1777)
    t.look("d")
    t.say("not sticky", os.chmod, "d", 0o755)
    t.look("d")


@case
def chmod_of_set_ids(t: Probe) -> None:
    make("f")
    os.mkdir("d")
    t.say("set-user-id", os.chmod, "f", 0o4755)
    t.say("set-group-id", os.chmod, "f", 0o2755)
    t.say("set-group-id of a directory", os.chmod, "d", 0o2755)


@case
def chown_to_oneself_and_to_others(t: Probe) -> None:
    furnish()
    me, mine = os.geteuid(), os.getegid()
    t.say("to me", os.chown, "file", me, mine)
    t.say("to nobody new", os.chown, "file", -1, -1)
    t.say("of a link", os.lchown, "dangling", me, mine)
    for path in ODD_PATHS[:11]:
        t.do(os.chown, path, me, mine)
    t.look("file")


@case
def chown_to_somebody_else(t: Probe) -> None:
    make("f")
    t.say("owner", os.chown, "f", OTHER, -1)
    t.say("group", os.chown, "f", -1, OTHER)


@case
def utimensat_now_omit_and_seconds(t: Probe) -> None:
    furnish()

    def times(path: str) -> None:
        facts = os.lstat(path)
        t.note(f"times of {path}", (int(facts.st_atime), int(facts.st_mtime)))

    t.say("set", utimensat, "file", (1_000_000_000, 0), (1_100_000_000, 0))
    times("file")
    t.say("omit atime", utimensat, "file", (0, UTIME_OMIT), (1_200_000_000, 0))
    times("file")
    t.say("omit mtime", utimensat, "file", (1_300_000_000, 0), (0, UTIME_OMIT))
    times("file")
    t.say("omit both", utimensat, "file", (0, UTIME_OMIT), (0, UTIME_OMIT))
    times("file")
    before = os.stat(".").st_mtime
    t.say("now", utimensat, "file", (0, UTIME_NOW), (0, UTIME_NOW))
    t.note("it is now", abs(os.stat("file").st_mtime - before) < 60)
    t.say("mtime now", utimensat, "file", (5, 0), (0, UTIME_NOW))
    t.note("atime of then", int(os.stat("file").st_atime))
    t.say("a directory", utimensat, "full", (1_000_000_000, 0), (1_100_000_000, 0))
    times("full")
    t.say("through a link", utimensat, "to_file", (1_000_000_001, 0), (1_100_000_001, 0))
    times("file")
    t.say("a second before 1970", utimensat, "file", (0, 0), (0, 0))
    times("file")
    t.say("no nanosecond", utimensat, "file", (0, 1 << 30), (0, 0))
    for path in ODD_PATHS[:11]:
        t.do(utimensat, path, (1, 0), (1, 0))
    fd = os.open("file", R)
    t.say("futimens", os.utime, fd, (7, 8))
    times("file")
    make("full/inside", b"later")
    t.note("a write moves it", int(os.stat("full/inside").st_mtime) > 1_100_000_000)


@case
def utimensat_of_a_symbolic_link(t: Probe) -> None:
    os.symlink("nowhere", "l")
    t.say("of the link", utimensat, "l", (1_000_000_000, 0), (1_100_000_000, 0), AT_SYMLINK_NOFOLLOW)
    t.note("mtime", int(os.lstat("l").st_mtime))


@case
def utimensat_nanoseconds(t: Probe) -> None:
    make("f")
    t.say("set", utimensat, "f", (1_000_000_000, 123456789), (1_100_000_000, 987654321))
    t.note("read back", os.stat("f").st_mtime_ns)


@case
def utimensat_out_of_32_bits(t: Probe) -> None:
    make("f")
    for second in (-1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 33):
        t.say(f"set {second}", utimensat, "f", (second, 0), (second, 0))
        t.note(f"shown after {second}", int(os.stat("f").st_mtime))


@case
def times_move_with_what_is_done(t: Probe) -> None:
    old = (1_000_000_000, 1_000_000_000)

    def moved(path: str) -> bool:
        return os.stat(path).st_mtime > 1_000_000_001

    make("f", b"text")
    os.mkdir("d")
    for label, path, act in (("write", "f", lambda: make("f", b"other")), ("truncate", "f", lambda: os.truncate("f", 1)),
                             ("chmod", "f", lambda: os.chmod("f", 0o600)), ("read", "f", lambda: open("f").read()),
                             ("create in", "d", lambda: make("d/x")), ("unlink in", "d", lambda: os.unlink("d/x")),
                             ("mkdir in", "d", lambda: os.mkdir("d/y")), ("rename in", "d", lambda: os.rename("d/y", "d/z")),
                             ("symlink in", "d", lambda: os.symlink("x", "d/s")), ("link in", "d", lambda: os.link("f", "d/h")),
                             ("rmdir in", "d", lambda: os.rmdir("d/z"))):
        os.utime(path, old)
        act()
        t.note(f"{label} moves mtime", moved(path))
    os.utime("f", old)
    os.rename("f", "g")
    t.note("rename moves mtime", moved("g"))
    t.note("ctime is of today", os.stat("g").st_ctime > 1_500_000_000)


@case
def access_of_modes(t: Probe) -> None:
    furnish()
    for mode in (0o000, 0o400, 0o200, 0o100, 0o644, 0o755):
        os.chmod("file", mode)
        os.chmod("full", mode)
        for path in ("file", "full"):
            for way in (os.F_OK, os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK):
                t.say(f"{path} {mode:o} {way}", os.access, path, way)
                t.say(f"{path} {mode:o} {way}, effective", os.access, path, way, effective_ids=True)
        t.try_open("file", R)
        t.try_open("file", W)
        t.try_open("full/inside", R)
        t.try_open("full/new", W | CREAT)
        t.say(f"list {mode:o}", lambda: sorted(os.listdir("full")))
        t.do(os.unlink, "full/new")
        os.chmod("file", 0o644)
    os.chmod("full", 0o755)
    for path in ODD_PATHS:
        t.say(f"access {path[:20]}", os.access, path, os.F_OK)
    t.say("a link itself", os.access, "dangling", os.F_OK, follow_symlinks=False)


@case
def directories_that_may_not_be_searched_or_written(t: Probe) -> None:
    os.mkdir("d")
    make("d/f", b"x")
    os.mkdir("d/sub")
    for mode in (0o500, 0o600, 0o300, 0o000):
        os.chmod("d", mode)
        for call, args in ((listed, ("d",)), (size, ("d/f",)), (os.mkdir, ("d/new",)), (os.unlink, ("d/none",)),
                           (os.rename, ("d/f", "d/g")), (os.rename, ("d/g", "d/f")), (os.symlink, ("x", "d/l")), (os.link, ("d/f", "d/h")),
                           (os.rmdir, ("d/new",)), (os.unlink, ("d/l",)), (os.unlink, ("d/h",)), (os.chmod, ("d/sub", 0o700)),
                           (os.chdir, ("d/sub",)), (os.readlink, ("d/f",)), (os.truncate, ("d/f", 1))):
            t.say(f"{mode:o} {call.__name__} {' '.join(str(arg) for arg in args)}", call, *args)
            if call is os.chdir and os.path.basename(os.getcwd()) == "sub":
                os.chdir("../..")
    os.chmod("d", 0o755)
    t.names("d")


@case
def what_stat_says(t: Probe) -> None:
    furnish()
    for path in ("file", "full", "to_file", "dangling", "empty"):
        t.look(path)
        facts = os.lstat(path)
        t.note(f"{path}: one device, an inode", (facts.st_dev == os.stat(".").st_dev, facts.st_ino > 0, facts.st_rdev))
    t.note("blocks of a file", os.stat("file").st_blocks > 0)
    t.note("block size", os.stat("file").st_blksize > 0)
    with os.scandir(".") as entries:
        kinds = {entry.name: (entry.is_file(follow_symlinks=False), entry.is_dir(follow_symlinks=False), entry.is_symlink(),
                              entry.inode() == os.lstat(entry.name).st_ino) for entry in entries}
    t.note("what a listing says", sorted(kinds.items()))
    for path in ODD_PATHS:
        t.say(f"stat {path[:20]}", lambda: stat.filemode(os.stat(path).st_mode))


@case
def statfs_says_what_programs_need(t: Probe) -> None:
    furnish()
    for path in ("file", "full", "."):
        space = os.statvfs(path)
        # Nobody waits longer than 250 ms for it: what is not known by then is told as nothing.
        for _ in range(50):
            if space.f_bfree > 0:
                break
            time.sleep(0.1)
            space = os.statvfs(path)
        t.note(f"statvfs {path}", (space.f_bsize > 0, space.f_blocks >= space.f_bfree >= space.f_bavail, space.f_bfree > 0, space.f_namemax))
    t.do(os.statvfs, "nothing")
    t.do(os.statvfs, "file/x")
    fd = os.open("file", R)
    t.say("fstatvfs", lambda: os.fstatvfs(fd).f_namemax)


@case
def extended_attributes(t: Probe) -> None:
    make("f")
    t.say("list", os.listxattr, "f")
    t.say("get", os.getxattr, "f", "user.a")
    t.say("set", os.setxattr, "f", "user.a", b"1")
    t.say("remove", os.removexattr, "f", "user.a")


# --- directories as lists

@case
def reading_a_directory_from_places(t: Probe) -> None:
    for number in range(300):
        os.close(os.open(f"f{number:03}", W | CREAT))
    listing = Directory(".")
    first = listing.read(100)
    place = listing.tell()
    rest = listing.read()
    t.note("whole", sorted(first + rest))
    listing.seek(place)
    t.note("again from there", listing.read() == rest)
    listing.rewind()
    # POSIX promises no order, and what is asked again may come in another one than what was known.
    t.note("again from the start", sorted(listing.read()) == sorted(first + rest))
    t.note("at the end", listing.read())
    make("new")
    listing.rewind()
    t.note("a rewind sees what is new", "new" in listing.read())
    listing.close()
    for path in ("nothing", "f000", "f000/x", ""):
        t.do(Directory, path)


@case
def removing_while_reading(t: Probe) -> None:
    for number in range(600):
        os.close(os.open(f"f{number}", W | CREAT))
    listing = Directory(".")
    seen = []
    while names := listing.read(50):
        for name in names:
            if name not in (".", ".."):
                os.unlink(name)
                seen.append(name)
    t.note("each was met once", (len(seen), len(set(seen))))
    t.names()


@case
def making_and_renaming_while_reading(t: Probe) -> None:
    for number in range(500):
        os.close(os.open(f"f{number}", W | CREAT))
    listing = Directory(".")
    names = listing.read(20)
    for number in range(100):
        make(f"later{number}")
        os.unlink(f"f{499 - number}")
    names += listing.read()
    t.note("what stayed is met once", sorted(name for name in names if name[0] == "f" and int(name[1:]) < 400))


@case_of_its_own
def ten_thousand_entries(t: Probe) -> None:
    for number in range(10000):
        os.close(os.open(f"f{number}", W | CREAT | EXCL))
    names = os.listdir(".")
    t.note("all are there", (len(names), len(set(names))))
    with os.scandir(".") as entries:
        t.note("of size 0", sum(entry.stat().st_size == 0 for entry in entries))
    for number in range(0, 10000, 2):
        os.unlink(f"f{number}")
    t.note("half are", len(os.listdir(".")))


# --- locks

@case
def flock_between_descriptors_and_processes(t: Probe) -> None:
    one, two = os.open("f", RW | CREAT), os.open("f", RW)
    t.say("shared", fcntl.flock, one, fcntl.LOCK_SH)
    t.say("shared twice", fcntl.flock, two, fcntl.LOCK_SH | fcntl.LOCK_NB)
    t.say("exclusive against shared", fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    t.say("unlock", fcntl.flock, one, fcntl.LOCK_UN)
    t.say("exclusive", fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    t.say("another process", lambda: os.waitstatus_to_exitcode(os.spawnlp(os.P_WAIT, "flock", "flock", "-n", "f", "true") << 8))
    os.close(two)
    t.say("free by close", fcntl.flock, one, fcntl.LOCK_EX | fcntl.LOCK_NB)
    reading = os.open("f", R)
    os.close(one)
    t.say("exclusive by a reader", fcntl.flock, reading, fcntl.LOCK_EX | fcntl.LOCK_NB)


@case
def record_locks_between_processes(t: Probe) -> None:
    make("f", b"0" * 100)
    fd = os.open("f", RW)
    t.say("lock", fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
    t.say("overlap by the same", fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)

    def child(start: int, way: int) -> Any:
        script = f"import fcntl, os; fcntl.lockf(os.open('f', os.O_RDWR), {way} | fcntl.LOCK_NB, 5, {start})"
        return subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode

    t.say("inside, by another", child, 12, fcntl.LOCK_EX)
    t.say("apart, by another", child, 50, fcntl.LOCK_EX)
    t.say("unlock part", fcntl.lockf, fd, fcntl.LOCK_UN, 10, 10)
    t.say("inside the free part", child, 11, fcntl.LOCK_SH)
    os.close(os.open("f", R))  # the close of any descriptor gives up all, as POSIX has it
    t.say("after any close", child, 0, fcntl.LOCK_EX)
    reading = os.open("f", R)
    t.say("exclusive by a reader", fcntl.lockf, reading, fcntl.LOCK_EX | fcntl.LOCK_NB)


@case
def leases_and_sizes_of_pipes_are_not_of_files(t: Probe) -> None:
    fd = os.open("f", RW | CREAT)
    t.say("F_GETFL", lambda: fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND))
    t.say("F_GETPIPE_SZ", fcntl.fcntl, fd, 1032)
    t.say("ioctl", fcntl.ioctl, fd, 0x5401)


# --- executing

@case
def programs_are_executed(t: Probe) -> None:
    make("script", b"#!/bin/sh\necho said $1\nexit 7\n", 0o755)
    shutil.copy("/bin/true", "binary")
    os.chmod("binary", 0o755)
    os.symlink("script", "link")
    make("no_interpreter", b"#!/no/such/program\n", 0o755)
    make("not_executable", b"#!/bin/sh\n", 0o644)
    make("no_format", b"\0\1\2\3", 0o755)
    make("empty", b"", 0o755)
    os.mkdir("d")
    for path in ("script", "binary", "link", "no_interpreter", "not_executable", "no_format", "empty", "d", "nothing", "script/x"):
        t.do(executed, path)


def executed(path: str) -> tuple[int, bytes]:
    done = subprocess.run(["./" + path, "word"], capture_output=True, check=False, timeout=20)
    return done.returncode, done.stdout


@case
def a_program_that_is_open_for_writing_is_not_executed(t: Probe) -> None:
    make("script", b"#!/bin/sh\nexit 3\n", 0o755)
    fd = os.open("script", W)
    t.do(executed, "script")
    os.close(fd)
    t.do(executed, "script")


@case
def a_program_that_runs_is_not_written(t: Probe) -> None:
    shutil.copy("/bin/sleep", "program")
    os.chmod("program", 0o755)
    running = subprocess.Popen(["./program", "1000"])
    try:
        t.try_open("program", W)
        t.try_open("program", W | TRUNC)
        t.do(os.truncate, "program", 0)
        t.do(os.rename, "program", "moved")
        t.do(os.unlink, "moved")
    finally:
        running.kill()
        running.wait()
