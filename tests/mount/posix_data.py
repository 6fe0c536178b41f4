"""Cases of posix_test.py: open, and what is read and written."""

import fcntl
import mmap
import os
import resource
import signal
import stat
import subprocess
import sys

from live.posix import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, Probe, fallocate, make
from mount.posix_cases import APPEND, CREAT, EXCL, ODD_PATHS, R, RW, TRUNC, W, case, furnish


# --- open

@case
def open_flags(t: Probe) -> None:
    furnish()
    for path in [*ODD_PATHS, "file", "full", "empty/", "to_file", "to_full"]:
        for flags in (R, W, RW, R | os.O_DIRECTORY, R | os.O_NOFOLLOW, os.O_PATH, os.O_PATH | os.O_NOFOLLOW,
                      os.O_PATH | os.O_DIRECTORY, W | TRUNC, W | APPEND):
            if path == "file" and flags & TRUNC:
                continue  # others need what is in it
            t.try_open(path, flags)
    t.look("file")


@case
def open_creates(t: Probe) -> None:
    furnish()
    for path in [*ODD_PATHS, "new", "file", "full", "new/", "empty/new", "empty/new2/"]:
        for flags in (W | CREAT | EXCL, R | CREAT, W | CREAT | os.O_NOFOLLOW, R | CREAT | os.O_DIRECTORY):
            t.try_open(path, flags, 0o640)
        t.look(path)
    t.names()
    t.names("empty")


@case
def open_excl_finds_links_of_any_kind(t: Probe) -> None:
    furnish()
    for path in ("to_file", "to_full", "dangling", "loop_a"):
        t.try_open(path, W | CREAT | EXCL)
        t.look(path)


@case
def open_trunc(t: Probe) -> None:
    for flags in (W, RW, W | CREAT, W | APPEND, W | CREAT | EXCL):
        make("f", b"0123456789")
        t.try_open("f", flags | TRUNC)
        t.content("f")
    os.symlink("f", "link")
    make("f", b"0123456789")
    t.try_open("link", W | TRUNC)
    t.look("f")
    t.look("link")


@case
def open_modes_and_umask(t: Probe) -> None:
    for umask in (0o000, 0o022, 0o077, 0o777):
        os.umask(umask)
        for mode in (0o666, 0o777, 0o600, 0o444, 0o000, 0o1666):
            name = f"{umask:o}_{mode:o}"
            t.try_open(name, RW | CREAT | EXCL, mode)
            t.look(name)
        t.do(os.mkdir, f"d{umask:o}", 0o777)
        t.look(f"d{umask:o}")
        if umask == 0o777:
            os.chmod(f"d{umask:o}", 0o700)


@case
def open_creates_with_set_user_id(t: Probe) -> None:
    t.try_open("f", W | CREAT, 0o4755)
    t.look("f")


@case
def mkdir_and_mknod_modes(t: Probe) -> None:
    for mode in (0o777, 0o1777, 0o700, 0o1000, 0o555):
        t.do(os.mkdir, f"d{mode:o}", mode)
        t.look(f"d{mode:o}")
        t.do(os.mknod, f"f{mode:o}", mode | stat.S_IFREG)
        t.look(f"f{mode:o}")
    os.chmod("d1000", 0o700)


@case
def a_file_created_read_only_is_written_by_its_maker(t: Probe) -> None:
    fd = t.open("f", RW | CREAT | EXCL, 0o400)
    t.do(os.write, fd, b"text")
    t.do(os.pread, fd, 10, 0)
    os.close(fd)
    t.look("f")


@case
def open_tmpfile(t: Probe) -> None:
    fd = t.open(".", RW | os.O_TMPFILE, 0o600)
    if fd >= 0:
        os.close(fd)
    t.names()


@case
def open_path_descriptors_only_name(t: Probe) -> None:
    furnish()
    fd = os.open("file", os.O_PATH)
    t.do(os.read, fd, 1)
    t.do(os.write, fd, b"x")
    t.do(os.fchmod, fd, 0o600)
    t.do(os.ftruncate, fd, 0)
    t.say("fstat size", lambda: os.fstat(fd).st_size)
    t.say("read by /proc", lambda: os.read(os.open(f"/proc/self/fd/{fd}", R), 20))
    directory = os.open("full", os.O_PATH | os.O_DIRECTORY)
    t.say("openat", lambda: os.read(os.open("inside", R, dir_fd=directory), 20))
    link = os.open("dangling", os.O_PATH | os.O_NOFOLLOW)
    t.say("readlinkat", lambda: os.readlink("", dir_fd=link))


@case
def descriptors_refuse_what_they_were_not_opened_for(t: Probe) -> None:
    furnish()
    reading, writing, directory = os.open("file", R), os.open("file", W), os.open("full", R)
    t.say("write to a reader", os.write, reading, b"x")
    t.say("truncate a reader", os.ftruncate, reading, 0)
    t.say("allocate by a reader", fallocate, reading, 0, 0, 10)
    t.say("read from a writer", os.read, writing, 1)
    t.say("read a directory", os.read, directory, 1)
    t.say("pread a directory", os.pread, directory, 1, 0)
    t.say("write a directory", os.write, directory, b"x")
    t.say("truncate a directory", os.ftruncate, directory, 0)
    t.say("map a writer", lambda: mmap.mmap(writing, 10, prot=mmap.PROT_READ))
    t.say("map a reader for stores", lambda: mmap.mmap(reading, 10, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE))
    t.say("map a directory", lambda: mmap.mmap(directory, 10, prot=mmap.PROT_READ))
    t.say("list a file", os.listdir, reading)
    t.say("openat below a file", os.open, "x", R, dir_fd=reading)
    os.close(reading)
    t.say("read what is closed", os.read, reading, 1)


@case
def dup_shares_the_offset_and_a_second_open_does_not(t: Probe) -> None:
    make("f", b"0123456789")
    one = os.open("f", RW)
    two, other = os.dup(one), os.open("f", R)
    t.say("one", os.read, one, 3)
    t.say("dup", os.read, two, 3)
    t.say("other", os.read, other, 3)
    fcntl.fcntl(two, fcntl.F_SETFL, os.O_APPEND)
    os.write(one, b"end")
    t.say("after append by the other's flag", os.lseek, two, 0, os.SEEK_CUR)
    os.close(one)
    t.say("dup after close", os.pread, two, 20, 0)


# --- reading and writing

@case
def reads_at_and_after_the_end(t: Probe) -> None:
    make("f", b"0123456789")
    fd = os.open("f", R)
    for size, offset in ((4, 0), (10, 0), (11, 0), (4, 8), (4, 10), (4, 11), (4, 1 << 40), (0, 0), (0, 100), (1, (1 << 63) - 1), (1, -1)):
        t.say(f"pread {size} at {offset}", os.pread, fd, size, offset)
    for step in range(4):
        t.say("read 4", os.read, fd, 4)
    t.say("seek beyond", os.lseek, fd, 100, os.SEEK_SET)
    t.say("read there", os.read, fd, 4)
    parts = [bytearray(3), bytearray(4), bytearray(100)]
    t.say("preadv", os.preadv, fd, parts, 1)
    t.note("parts", b"|".join(bytes(part) for part in parts[:2]) + b"|" + bytes(parts[2][:5]))
    os.lseek(fd, 5, os.SEEK_SET)
    t.say("readv", os.readv, fd, [bytearray(2), bytearray(100)])
    t.say("an empty file", lambda: os.read(os.open("f2", RW | CREAT), 10))


@case
def writes_and_their_offsets(t: Probe) -> None:
    fd = os.open("f", RW | CREAT)
    t.say("write", os.write, fd, b"0123456789")
    t.say("pwrite inside", os.pwrite, fd, b"AB", 4)
    t.say("the offset has stayed", os.lseek, fd, 0, os.SEEK_CUR)
    t.say("pwrite beyond", os.pwrite, fd, b"end", 20)
    t.say("write nothing", os.write, fd, b"")
    t.say("pwrite nothing far away", os.pwrite, fd, b"", 1000)
    t.say("writev", os.writev, fd, [b"one", b"", b"two"])
    t.say("pwritev", os.pwritev, fd, [b"x", b"y"], 0)
    t.say("pwrite at -1", os.pwrite, fd, b"x", -1)
    t.say("pwrite at the last offset", os.pwrite, fd, b"x", (1 << 63) - 1)
    t.say("size", lambda: os.fstat(fd).st_size)
    t.content("f")


@case
def append_goes_to_the_end_whatever_the_offset(t: Probe) -> None:
    make("f", b"0123456789")
    fd = os.open("f", RW | APPEND)
    t.say("seek", os.lseek, fd, 2, os.SEEK_SET)
    t.say("write", os.write, fd, b"abc")
    t.say("offset", os.lseek, fd, 0, os.SEEK_CUR)
    t.say("pwrite appends, too", os.pwrite, fd, b"XY", 0)  # as Linux has it, beside POSIX
    other = os.open("f", W | APPEND)
    for number in range(5):
        os.write(other if number % 2 else fd, b"%d" % number)
    os.ftruncate(fd, 3)
    t.say("after a truncation", os.write, fd, b"end")
    t.content("f")


@case
def direct_and_synchronous_writes(t: Probe) -> None:
    fd = t.open("sync", W | CREAT | os.O_SYNC)
    t.do(os.write, fd, b"x" * 5000)
    fd = t.open("dsync", W | CREAT | os.O_DSYNC, label="open dsync")
    t.do(os.write, fd, b"x" * 5000)
    fd = os.open("sync", RW | os.O_DIRECT)
    buffer = mmap.mmap(-1, 4096)
    buffer.write(b"d" * 4096)
    t.say("write direct", os.writev, fd, [buffer])
    t.say("read direct", os.preadv, fd, [buffer], 0)
    t.note("what", bytes(buffer))
    t.content("sync")


@case
def a_sparse_file(t: Probe) -> None:
    fd = os.open("f", RW | CREAT)
    os.pwrite(fd, b"middle", 1 << 20)
    t.say("hole", os.pread, fd, 10, 500000)
    t.say("edge", os.pread, fd, 10, (1 << 20) - 5)
    os.ftruncate(fd, 3 << 20)
    t.say("size", lambda: os.fstat(fd).st_size)
    t.content("f")
    t.say("beyond 4 GiB", os.pwrite, fd, b"far", 5 << 30)
    t.say("size", lambda: os.fstat(fd).st_size)
    t.say("bytes", os.pread, fd, 10, (5 << 30) - 3)


@case
def truncation_up_down_and_of_what_is_none(t: Probe) -> None:
    furnish()
    for size in (4, 8, 0, 100, 5000, 4096, 3):
        t.say(f"truncate to {size}", os.truncate, "file", size)
        t.content("file")
    fd = os.open("file", RW)
    for size in (1, 2, 10000, 0):
        t.say(f"ftruncate to {size}", os.ftruncate, fd, size)
        t.say("size", lambda: os.fstat(fd).st_size)
        t.say("bytes", os.pread, fd, 20000, 0)
    for path in [*ODD_PATHS, "full", "to_file", "to_full"]:
        t.do(os.truncate, path, 3)
    t.say("truncate to -1", os.truncate, "file", -1)
    t.say("ftruncate to -1", os.ftruncate, fd, -1)
    t.say("4 TiB, all hole", os.ftruncate, fd, 1 << 42)
    t.say("size", lambda: os.fstat(fd).st_size)
    t.say("its end", os.pread, fd, 10, (1 << 42) - 5)
    os.ftruncate(fd, 0)


@case
def what_was_cut_off_reads_as_zeroes_when_it_comes_back(t: Probe) -> None:
    fd = os.open("f", RW | CREAT)
    os.write(fd, b"x" * 10000)
    os.ftruncate(fd, 5000)
    os.ftruncate(fd, 10000)
    t.say("cut", os.pread, fd, 10000, 0)
    os.ftruncate(fd, 100)
    os.pwrite(fd, b"end", 300)
    t.say("gap", os.pread, fd, 1000, 0)


@case
def fallocate_and_posix_fallocate(t: Probe) -> None:
    fd = os.open("f", RW | CREAT)
    os.write(fd, b"0123456789")
    t.say("fallocate", fallocate, fd, 0, 0, 8192)
    t.say("fallocate, size kept", fallocate, fd, KEEP_SIZE, 0, 100000)
    t.say("punch a hole", fallocate, fd, KEEP_SIZE | PUNCH_HOLE, 2, 3)
    t.say("zero a range", fallocate, fd, ZERO_RANGE, 4, 2)
    t.content("f")


@case
def posix_fallocate_by_the_c_library(t: Probe) -> None:
    fd = os.open("f", RW | CREAT)
    os.write(fd, b"0123456789")
    t.do(os.posix_fallocate, fd, 0, 20000)
    t.do(os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    t.content("f")
    t.say("of length 0", os.posix_fallocate, fd, 0, 0)


@case
def seeking(t: Probe) -> None:
    make("f", b"0123456789")
    fd = os.open("f", R)
    for offset, whence in ((0, os.SEEK_END), (-3, os.SEEK_END), (2, os.SEEK_CUR), (100, os.SEEK_END), (-1, os.SEEK_SET), (-200, os.SEEK_CUR),
                           (0, 99), (0, os.SEEK_DATA), (3, os.SEEK_DATA), (0, os.SEEK_HOLE), (10, os.SEEK_DATA), (10, os.SEEK_HOLE),
                           (11, os.SEEK_HOLE), (-1, os.SEEK_DATA), (1 << 62, os.SEEK_SET)):
        t.say(f"seek {offset} by {whence}", os.lseek, fd, offset, whence)


@case
def seeking_in_a_sparse_file(t: Probe) -> None:
    fd = os.open("f", RW | CREAT)
    os.pwrite(fd, b"x" * 4096, 1 << 20)
    t.say("first data", os.lseek, fd, 0, os.SEEK_DATA)
    t.say("first hole", os.lseek, fd, 0, os.SEEK_HOLE)
    t.say("hole after the data", os.lseek, fd, 1 << 20, os.SEEK_HOLE)


@case
def copying_between_descriptors(t: Probe) -> None:
    make("from", bytes(range(256)) * 40)
    source, target = os.open("from", R), os.open("to", RW | CREAT)
    t.say("copy_file_range", os.copy_file_range, source, target, 1000)
    t.say("at offsets", os.copy_file_range, source, target, 500, 100, 5000)
    t.say("past the end", os.copy_file_range, source, target, 500, 20000, 0)
    t.say("of one file, overlapping", os.copy_file_range, target, target, 100, 0, 50)
    t.say("of one file, apart", os.copy_file_range, target, target, 100, 0, 1000)
    t.say("to a reader", os.copy_file_range, target, source, 100)
    appending = os.open("to", W | APPEND)
    t.say("to an appender", os.copy_file_range, source, appending, 10)
    t.say("a directory", os.copy_file_range, os.open(".", R), target, 10)
    t.say("sendfile", os.sendfile, target, source, 300, 100)
    reader, writer = os.pipe()
    t.say("sendfile to a pipe", os.sendfile, writer, source, 0, 200)
    t.say("through the pipe", os.read, reader, 1000)
    t.say("splice", os.splice, source, writer, 100, 50)
    t.say("splice back", os.splice, reader, target, 100, None, 9000)
    t.content("to")


@case
def limits_of_a_process_hold(t: Probe) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    fd = os.open("f", RW | CREAT)
    t.say("up to the limit", os.write, fd, b"x" * 8000)
    t.say("beyond", os.write, fd, b"x")
    t.say("truncate beyond", os.ftruncate, fd, 6000)
    t.say("allocate beyond", os.posix_fallocate, fd, 0, 6000)
    t.look("f")


@case
def fsync_of_all_that_can_be_opened(t: Probe) -> None:
    furnish()
    for path in ("file", "full", "."):
        fd = os.open(path, R)
        t.say(f"fsync {path}", os.fsync, fd)
        t.say(f"fdatasync {path}", os.fdatasync, fd)
    fd = os.open("file", RW)
    os.write(fd, b"more")
    t.say("fsync", os.fsync, fd)
    os.unlink("file")
    os.write(fd, b"and more")
    t.say("fsync of what has no name", os.fsync, fd)
    reader, _ = os.pipe()
    t.say("fsync of a pipe", os.fsync, reader)


@case
def mappings_shared_and_private(t: Probe) -> None:
    make("f", b"a" * 10000)
    fd = os.open("f", RW)
    shared, private = mmap.mmap(fd, 0), mmap.mmap(fd, 0, access=mmap.ACCESS_COPY)
    shared[4095:4098] = b"SSS"
    private[0:3] = b"PPP"
    t.say("by read", os.pread, fd, 10, 4090)
    t.note("the private sees", private[4090:4100])
    os.pwrite(fd, b"WWW", 5000)
    t.note("the shared sees", shared[4999:5004])
    shared.flush()
    os.close(fd)
    shared[9999:10000] = b"Z"
    shared.close()
    private.close()
    t.content("f")


@case
def a_mapping_outlives_name_and_descriptor(t: Probe) -> None:
    make("f", b"a" * 5000)
    fd = os.open("f", RW)
    view = mmap.mmap(fd, 0)
    os.close(fd)
    os.unlink("f")
    view[0:3] = b"new"
    view.flush()
    t.note("after", view[0:5])
    t.names()


@case
def a_mapping_beyond_the_end_is_a_signal(t: Probe) -> None:
    make("f", b"a" * 8192)
    script = ("import mmap, os; fd = os.open('f', os.O_RDWR); view = mmap.mmap(fd, 8192); view[8191]; os.ftruncate(fd, 100);"
              "print(view[50], view[200], flush=True); view[5000]")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, preexec_fn=no_core)
    t.note("it saw", done.stdout)
    t.note("it ended by", done.returncode)


def no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
