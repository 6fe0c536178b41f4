"""Calls that are made in two directories, and what came of them: `Probe` notes each call's result or errno under a name
that is the same in both, in a process of its own, so that umask, working directory and descriptors are, too."""

import ctypes
import errno
import hashlib
import os
import pickle
import signal
import stat
import sys
import traceback
from pathlib import Path
from typing import Any, Callable

Outcomes = dict[str, str]
Case = Callable[["Probe"], None]

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
libc.opendir.restype = ctypes.c_void_p
libc.readdir.argtypes, libc.readdir.restype = [ctypes.c_void_p], ctypes.c_void_p
libc.telldir.argtypes, libc.telldir.restype = [ctypes.c_void_p], ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.rewinddir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]

AT_FDCWD, UTIME_NOW, UTIME_OMIT = -100, (1 << 30) - 1, (1 << 30) - 2
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = 0x100, 0x1000, 0x400
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def checked(value: int) -> int:
    if value == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value


# --- calls that Python has no name for

def renameat2(old: str, new: str, flags: int) -> None:
    checked(libc.renameat2(AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), flags))


def linkat(old: str, new: str, flags: int) -> None:
    checked(libc.linkat(AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), flags))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    checked(libc.fallocate(fd, mode, offset, length))


def utimensat(path: str, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> None:
    times = (ctypes.c_long * 4)(*atime, *mtime)
    checked(libc.utimensat(AT_FDCWD, path.encode(), times, flags))


class Directory:
    """opendir(3) and what goes with it."""

    def __init__(self, path: str) -> None:
        self.stream = libc.opendir(path.encode())
        if self.stream is None:
            checked(-1)

    def read(self, count: int = 1 << 30) -> list[str]:
        names: list[str] = []
        while len(names) < count and (entry := libc.readdir(self.stream)):
            names.append(os.fsdecode(ctypes.string_at(entry + 19)))  # d_name
        return names

    def tell(self) -> int:
        return int(libc.telldir(self.stream))

    def seek(self, place: int) -> None:
        libc.seekdir(self.stream, place)

    def rewind(self) -> None:
        libc.rewinddir(self.stream)

    def close(self) -> None:
        libc.closedir(self.stream)


def name_of(error: OSError) -> str:
    return "EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode[error.errno or 0]  # ENOTSUP is the same


class Probe:
    """What a case makes its calls with, in its working directory."""

    def __init__(self) -> None:
        self.outcomes: Outcomes = {}

    def note(self, label: str, value: object) -> None:
        name, again = label, 2
        while name in self.outcomes:
            name, again = f"{label} ({again})", again + 1
        self.outcomes[name] = shown(value)

    def do(self, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """Makes the call and notes what came of it. Its value; None when it failed."""
        words = [shown(arg) for arg in args if isinstance(arg, (str, bytes))]
        return self.say(" ".join([call.__name__, *words]), call, *args, **more)

    def say(self, label: str, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        """The same under another name, for calls that differ in numbers."""
        try:
            value = call(*args, **more)
        except OSError as error:
            self.note(label, name_of(error))
            return None
        self.note(label, value)
        return value

    def open(self, path: str, flags: int, mode: int = 0o666, label: str = "") -> int:
        """A descriptor, whose number does not count; -1 when there is none."""
        try:
            fd = os.open(path, flags, mode)
        except OSError as error:
            self.note(label or f"open {shown(path)} {flag_names(flags)}", name_of(error))
            return -1
        self.note(label or f"open {shown(path)} {flag_names(flags)}", "opened")
        return fd

    def try_open(self, path: str, flags: int, mode: int = 0o666) -> None:
        fd = self.open(path, flags, mode)
        if fd >= 0:
            os.close(fd)

    def look(self, path: str) -> None:
        """What lstat says of it, but for times and numbers."""
        try:
            facts = os.lstat(path)
        except OSError as error:
            self.note(f"look {shown(path)}", name_of(error))
            return
        words = [stat.filemode(facts.st_mode)]
        if not stat.S_ISDIR(facts.st_mode):  # else it is the file system's own affair
            words += [f"{facts.st_size} bytes", f"{facts.st_nlink} names"]
        words += ["mine" if (facts.st_uid, facts.st_gid) == (os.geteuid(), os.getegid()) else "not mine"]
        self.note(f"look {shown(path)}", " ".join(words))

    def content(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                self.note(f"content {shown(path)}", file.read())
        except OSError as error:
            self.note(f"content {shown(path)}", name_of(error))

    def names(self, path: str = ".") -> None:
        self.say(f"names {shown(path)}", lambda: sorted(os.listdir(path)))


def shown(value: object) -> str:
    if value is None:
        return "done"
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    text = value if isinstance(value, str) else repr(value)
    if len(text) > 80:
        text = f"{text[:20]}... of {len(text)}, {hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
    return text


def flag_names(flags: int) -> str:
    words = [("O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE")[flags & os.O_ACCMODE]]
    rest = flags & ~os.O_ACCMODE
    for name in ("O_TMPFILE", "O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_DIRECTORY", "O_NOFOLLOW", "O_PATH", "O_DIRECT", "O_SYNC"):
        bits = getattr(os, name)
        if rest & bits == bits:
            words.append(name)
            rest &= ~bits
    return "|".join(words)


def make(path: str, data: bytes = b"", mode: int = 0o644) -> None:
    """A file that a case begins with."""
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def outcomes_in(directory: Path, case: Case, limit: int = 60) -> Outcomes:
    """Runs the case in a process whose working directory this is."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(limit)
            os.close(reader)
            os.umask(0o022)
            os.chdir(directory)
            probe = Probe()
            case(probe)
            os.chdir("/")
            with os.fdopen(writer, "wb") as out:
                pickle.dump(probe.outcomes, out)
            code = 0
        except BaseException:  # whatever it is, the parent says so
            traceback.print_exc(file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        data = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0 and data, f"{case.__name__} in {directory}: ended with {status}"
    return dict(pickle.loads(data))
