"""Cases of posix_test.py: what makes, moves, links and removes names."""

import os
import shutil
import stat
from typing import Callable

from live.posix import AT_SYMLINK_FOLLOW, EXCHANGE, NOREPLACE, WHITEOUT, Probe, linkat, make, renameat2
from mount.posix_cases import CREAT, ODD_PATHS, R, RW, W, case, furnish, size


@case
def unlink_of_everything(t: Probe) -> None:
    furnish()
    for path in [*ODD_PATHS, "full", "to_full", "to_file", ".", "..", "/", "full/.", "full/.."]:
        if path in ("full/../file", "./file", "full//inside", "to_full/inside"):
            continue
        t.do(os.unlink, path)
    t.do(os.unlink, "to_full/inside")
    t.do(os.unlink, "empty/../file")
    t.names()


@case
def an_open_file_outlives_its_name(t: Probe) -> None:
    fd = os.open("f", RW | CREAT)
    os.write(fd, b"0123456789")
    t.do(os.unlink, "f")
    t.look("f")
    t.say("size and names", lambda: (os.fstat(fd).st_size, os.fstat(fd).st_nlink))
    t.say("read", os.pread, fd, 20, 0)
    t.say("write", os.pwrite, fd, b"more", 10)
    t.say("truncate", os.ftruncate, fd, 12)
    t.say("chmod", os.fchmod, fd, 0o600)
    t.say("mode", lambda: stat.filemode(os.fstat(fd).st_mode))
    make("f", b"another")
    t.say("still the old one", os.pread, fd, 20, 0)
    os.close(fd)
    t.content("f")


@case
def a_directory_that_is_open_or_current_is_removed(t: Probe) -> None:
    os.makedirs("d/e")
    above = os.open("d", R)
    fd = os.open("d/e", R)
    os.chdir("d/e")
    t.do(os.rmdir, "../e")
    t.say("list", os.listdir, fd)
    t.say("list .", os.listdir, ".")
    t.say("make in it", os.open, "x", W | CREAT, dir_fd=fd)
    t.say("mkdir in it", os.mkdir, "x")
    t.say("look up in it", os.stat, "x")
    os.fchdir(above)
    t.names()


@case
def a_directory_that_was_removed_is_not_the_next_of_its_name(t: Probe) -> None:
    os.mkdir("d")
    fd = os.open("d", R)
    os.rmdir("d")
    os.mkdir("d")
    make("d/f", b"text")
    t.say("make in the old one", os.open, "x", W | CREAT, dir_fd=fd)
    t.say("mkdir in it", os.mkdir, "y", dir_fd=fd)
    t.say("look up in it", lambda: os.stat("f", dir_fd=fd).st_size)
    t.say("list it", os.listdir, fd)
    t.names("d")
    os.mkdir("e")
    replaced = os.open("e", R)
    os.rename("d", "e")
    t.say("make in one that was replaced", os.open, "x", W | CREAT, dir_fd=replaced)
    t.names("e")


@case
def rename_of_files(t: Probe) -> None:
    furnish()
    make("other", b"other")
    t.do(os.rename, "file", "other")
    t.content("other")
    t.look("file")
    t.do(os.rename, "other", "full/moved")
    t.do(os.rename, "full/moved", "full/inside")
    t.content("full/inside")
    t.do(os.rename, "full/inside", "full/inside")
    t.do(os.rename, "full/inside", "to_full/inside")
    t.do(os.rename, "to_full/inside", "back")
    t.names()
    t.names("full")


@case
def rename_of_every_kind_over_every_kind(t: Probe) -> None:
    kinds: dict[str, Callable[[str], None]] = {
        "file": lambda name: make(name, b"text"), "empty": os.mkdir, "full": lambda name: os.makedirs(f"{name}/sub"),
        "link": lambda name: os.symlink("nowhere", name), "nothing": lambda name: None}
    for old, make_old in kinds.items():
        for new, make_new in kinds.items():
            os.mkdir(f"{old}_{new}")
            os.chdir(f"{old}_{new}")
            make_old("old")
            make_new("new")
            for a, b in (("old", "new/"), ("old/", "new"), ("old", "new")):
                t.say(f"{old} over {new}: {a} {b}", os.rename, a, b)
            t.names()
            t.look("new")
            os.chdir("..")


@case
def rename_where_it_cannot_be(t: Probe) -> None:
    furnish()
    for path in ODD_PATHS[:11]:
        t.do(os.rename, path, "target")
        if path not in ("dangling", "loop_a"):
            t.do(os.rename, "empty", path)
            t.do(os.rename, "file", path)
    for old, new in (("full", "full/sub"), ("full", "full/sub/sub"), ("full/inside", "full"), (".", "x"), ("..", "x"), ("empty", "."),
                     ("empty", ".."), ("full/.", "x"), ("full/..", "x"), ("empty", "full/."), ("full", "to_full/x"), ("full/", "moved/"),
                     ("moved", "moved")):
        t.do(os.rename, old, new)
    t.names()


@case
def rename_of_two_names_of_one_file_does_nothing(t: Probe) -> None:
    make("a", b"text")
    t.do(os.link, "a", "b")
    t.do(os.rename, "a", "b")
    t.names()
    t.look("a")
    t.say("noreplace", renameat2, "a", "b", NOREPLACE)
    t.names()


@case
def rename_with_flags(t: Probe) -> None:
    furnish()
    t.say("noreplace, taken", renameat2, "file", "full/inside", NOREPLACE)
    t.say("noreplace, a directory there", renameat2, "file", "empty", NOREPLACE)
    t.say("noreplace, a link there", renameat2, "file", "dangling", NOREPLACE)
    t.say("noreplace, free", renameat2, "file", "free", NOREPLACE)
    t.say("noreplace, a directory", renameat2, "empty", "empty2", NOREPLACE)
    t.say("noreplace, of nothing", renameat2, "nothing", "x", NOREPLACE)
    t.say("noreplace, onto itself", renameat2, "free", "free", NOREPLACE)
    t.say("unknown flag", renameat2, "free", "x", 64)
    t.say("both flags", renameat2, "free", "x", NOREPLACE | EXCHANGE)
    t.names()


@case
def rename_exchange(t: Probe) -> None:
    make("a", b"a")
    make("b", b"b")
    t.say("nothing there", renameat2, "a", "x", EXCHANGE)
    t.say("two files", renameat2, "a", "b", EXCHANGE)
    t.content("a")


@case
def rename_whiteout(t: Probe) -> None:
    make("a", b"a")
    t.say("whiteout", renameat2, "a", "b", WHITEOUT)
    t.names()


@case
def an_open_file_goes_with_its_name(t: Probe) -> None:
    make("a", b"old")
    make("new", b"new")
    fd = os.open("a", RW)
    os.rename("a", "b")
    os.pwrite(fd, b"OLD", 0)
    t.content("b")
    os.mkdir("d")
    os.rename("b", "d/c")
    os.rename("d", "e")
    os.pwrite(fd, b"more", 3)
    t.content("e/c")
    os.rename("new", "e/c")
    os.pwrite(fd, b"lost", 0)
    t.content("e/c")
    t.say("it reads", os.pread, fd, 20, 0)
    directory = os.open("e", R)
    os.rename("e", "f")
    t.say("an open directory", os.listdir, directory)
    t.say("openat", lambda: os.read(os.open("c", R, dir_fd=directory), 10))


@case
def hard_links(t: Probe) -> None:
    furnish()
    t.do(os.link, "file", "second")
    t.do(os.link, "second", "full/third")
    t.look("file")
    os.chmod("second", 0o600)
    with open("full/third", "ab") as file:
        file.write(b"!")
    t.look("file")
    t.content("file")
    t.note("one inode", len({os.stat(name).st_ino for name in ("file", "second", "full/third")}))
    t.do(os.unlink, "file")
    t.look("second")
    os.unlink("full/third")
    t.look("second")


@case
def hard_links_that_cannot_be(t: Probe) -> None:
    furnish()
    for path in ODD_PATHS[:11]:
        if path not in ("dangling", "loop_a"):
            t.do(os.link, path, "target")
        t.do(os.link, "file", path)
    for old, new in (("full", "target"), ("file", "full"), ("file", "full/inside"), ("file", "file"), ("file", "."), (".", "target")):
        t.do(os.link, old, new)
    t.names()


@case
def to_another_file_system(t: Probe) -> None:
    furnish()
    for path in ("file", "full", "dangling"):
        t.do(os.rename, path, "/proc/there")
        t.do(os.link, path, "/proc/there")
    t.do(os.rename, "/proc/version", "here")
    t.do(os.link, "/proc/version", "here")


@case
def hard_links_of_symbolic_links(t: Probe) -> None:
    furnish()
    t.say("of the link", linkat, "dangling", "hard", 0)
    t.look("hard")
    t.say("of what it leads to", linkat, "to_file", "hard2", AT_SYMLINK_FOLLOW)
    t.look("hard2")
    t.say("of what is not there", linkat, "dangling", "hard3", AT_SYMLINK_FOLLOW)


@case
def symbolic_links(t: Probe) -> None:
    furnish()
    for number, target in enumerate(["x", "a/b", "../up", "with space", "new\nline", "./x", "x/", "t" * 255, "t" * 256, "d/" * 2000 + "x", "p" * 4095, "p" * 4096, ""]):
        t.do(os.symlink, target, f"l{number}")
        t.say(f"read l{number}", os.readlink, f"l{number}")
        t.look(f"l{number}")
        t.say(f"stat l{number}", os.stat, f"l{number}")
    for path in ODD_PATHS[:11]:
        t.do(os.symlink, "x", path)
        t.do(os.readlink, path)
    for path in ("file", "full", ".", "to_full/inside", "to_full/"):
        t.do(os.readlink, path)
    t.do(os.symlink, "x", "full")


@case
def symbolic_links_to_absolute_paths(t: Probe) -> None:
    t.do(os.symlink, "/etc/hostname", "l")
    t.say("target", os.readlink, "l")


@case
def symbolic_links_are_followed_40_times(t: Probe) -> None:
    make("link0", b"end")
    for number in range(1, 43):
        os.symlink(f"link{number - 1}", f"link{number}")
    for number in (1, 39, 40, 41, 42):
        t.content(f"link{number}")
    t.say("create by a link", lambda: (os.symlink("made", "maker"), os.close(os.open("maker", W | CREAT)))[1])
    t.look("made")


@case
def mkdir_and_rmdir(t: Probe) -> None:
    furnish()
    for path in [*ODD_PATHS[:11], "new", "new/", "new2/", "full", "to_full", ".", "..", "/", "new/..", "new/.", "new/x/y"]:
        t.do(os.mkdir, path)
    for path in [*ODD_PATHS[:11], "full", "file", "to_full", "to_full/", ".", "new/.", "new/..", "/", "new", "new2/"]:
        t.do(os.rmdir, path)
    t.names()


@case
def a_directory_and_its_parents_count_each_other(t: Probe) -> None:
    os.mkdir("d")
    before = os.stat("d").st_nlink
    for name in ("a", "b", "c"):
        os.mkdir(f"d/{name}")
    os.rmdir("d/c")
    t.note("names added by two directories", os.stat("d").st_nlink - before)


@case
def mknod_of_a_regular_file(t: Probe) -> None:
    furnish()
    t.do(os.mknod, "made", 0o640 | stat.S_IFREG)
    t.look("made")
    t.say("no kind is a file", os.mknod, "made2", 0o600)
    t.look("made2")
    for path in [*ODD_PATHS[:11], "file", "full", "new/"]:
        t.do(os.mknod, path, 0o600 | stat.S_IFREG)
    t.say("a directory", os.mknod, "d", 0o700 | stat.S_IFDIR)
    t.names()


@case
def pipes_sockets_and_devices(t: Probe) -> None:
    furnish()
    t.do(os.mkfifo, "file")
    t.do(os.mkfifo, "nothing/x")
    t.do(os.mkfifo, "fifo")
    t.say("socket", os.mknod, "socket", 0o600 | stat.S_IFSOCK)
    t.say("device", os.mknod, "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))


@case
def names_of_255_and_256_bytes(t: Probe) -> None:
    for name in ("n" * 255, "n" * 256, "ü" * 127, "ü" * 128):
        t.try_open(name, W | CREAT)
        t.do(os.mkdir, name + "d")
        t.do(os.stat, name + "e")
        t.do(os.rename, name, name[:-1] + "r")
        t.do(os.symlink, name, name[:-1] + "s")
        t.do(os.unlink, name[:-1] + "r")
    t.names()


@case
def names_of_any_bytes(t: Probe) -> None:
    for name in (b"\xff\xfe", b"new\nline", b" ", b"...", b"-rf", b"*", b"\\", b"\x01", b"a\tb", "ü".encode(), "u\u0308".encode()):
        fd = os.open(name, W | CREAT)
        os.close(fd)
    t.note("names", sorted(os.listdir(b".")))


@case
def paths_of_up_to_4096_bytes(t: Probe) -> None:
    here = os.getcwd()
    name = "d" * 250
    depth = 0
    while len(os.getcwd()) + 251 < 4000:
        os.mkdir(name)
        os.chdir(name)
        depth += 1
        if depth >= 14:
            break
    make("f", b"deep")
    os.chdir(here)
    path = "/".join([name] * depth + ["f"])
    t.content(path)
    for padding in (4094, 4095, 4096):
        t.say(f"a path of {padding}", size, "./" * ((padding - len(path)) // 2) + path.replace("/", "//" if (padding - len(path)) % 2 else "/", 1))
    shutil.rmtree(name)
    t.names()


@case
def paths_that_grow_by_steps(t: Probe) -> None:
    here = os.open(".", R)

    def grow() -> None:
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)

    t.say("5000 bytes in steps", grow)
    os.fchdir(here)
