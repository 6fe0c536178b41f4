"""Random steps of programs in a directory: drawn from a seed, and taken in a real directory. The model test takes
each one twice, below fs/ and in a directory of this machine, and compares what came of it."""

import contextlib
import errno
import hashlib
import mmap
import os
import random
import shlex
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

# Few names, so that steps meet.
DIRECTORIES = ("", "a", "b", "a/c")
FILES = ("f", "g", "h")
MODES = (0o600, 0o644, 0o755, 0o440)
SIZES = (0, 1, 10, 4095, 4096, 4097, 70000, 300000)
SLOTS = 3  # open files of one process

Step = dict[str, Any]
# What was done and seen, in values that can be compared; an errno's name where it was refused.
Outcome = Any


def name(dice: random.Random) -> str:
    directory = dice.choice(DIRECTORIES)
    last = dice.choice(FILES if dice.random() < 0.85 else DIRECTORIES[1:3])
    return f"{directory}/{last}" if directory else last


def directory(dice: random.Random) -> str:
    return dice.choice(DIRECTORIES[1:])


def draw(dice: random.Random) -> Step:
    """One step. Its data come from a seed too, so that a step prints in one line."""
    kind = dice.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
    step: Step = {"kind": kind, "path": name(dice)}
    if kind in ("rename", "link"):
        step["to"] = name(dice)
        if dice.random() < 0.2:
            step["path"], step["to"] = directory(dice), directory(dice)
    elif kind in ("mkdir", "rmdir", "list"):
        step["path"] = directory(dice) if dice.random() < 0.9 else name(dice)
    elif kind == "symlink":
        step["target"] = dice.choice(("f", "a/g", "../f", "nowhere", "a", "."))
    elif kind in ("write", "append", "store", "slot_write", "create", "replace", "slot_save"):
        step |= {"seed": dice.randrange(1 << 30), "size": dice.choice(SIZES)}
    if kind in ("pwrite", "pread", "slot_write", "slot_read", "store"):
        step |= {"seed": dice.randrange(1 << 30), "at": dice.choice(SIZES), "size": dice.choice(SIZES)}
    if kind in ("truncate", "slot_truncate"):
        step["size"] = dice.choice(SIZES)
    if kind == "chmod":
        step["mode"] = dice.choice(MODES)
    if kind == "utime":
        step["time"] = dice.randrange(1_000_000_000, 1_500_000_000)
    if kind.startswith("slot"):
        step |= {"slot": dice.randrange(SLOTS), "flags": dice.choice(
            (os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_TRUNC))}
    return step


def draw_script(dice: random.Random) -> str:
    """A few lines of shell about the same names, for a command."""
    lines = []
    for _ in range(dice.randrange(1, 5)):
        one, other = shlex.quote(name(dice)), shlex.quote(name(dice))
        lines.append(dice.choice((
            f"echo {dice.randrange(1000)} > {one}", f"echo {dice.randrange(1000)} >> {one}", f"rm -f {one}",
            f"mv -T {one} {other}", f"mkdir -p {directory(dice)}", f"cp {one} {other}", f"cksum < {one}",
            f"ln -sfn f {one}", f"chmod 644 {one}", f"truncate -s {dice.choice(SIZES)} {one}",
            f"find . -type f -size +0 | LC_ALL=C sort | head -3", f"touch -d @{dice.randrange(10**9, 15 * 10**8)} {one}",
            f"head -c {dice.choice(SIZES)} /dev/zero | tr '\\0' {dice.choice('xyz')} > {one}")))
    return "".join(f"{{ {line}; }} 2>/dev/null; echo $?\n" for line in lines)


def some(step: Step) -> bytes:
    return random.Random(step["seed"]).randbytes(step["size"])


def told(data: bytes) -> tuple[int, str]:
    return len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()


def put(path: Path, flags: int, data: bytes) -> None:
    fd = os.open(path, flags | os.O_WRONLY, 0o644)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """As programs do: what was written before a failure is told as a short write."""
    while True:
        data = data[os.write(fd, data):]
        if not data:
            return


@dataclass
class Walker:
    """One process's steps below one root, with its open files."""

    root: Path
    slots: dict[int, int] = field(default_factory=dict)

    def take(self, step: Step) -> Outcome:
        try:
            return KINDS[step["kind"]][1](self, self.root / step["path"], step)
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def close_all(self) -> None:
        for fd in self.slots.values():
            try:
                os.close(fd)
            except OSError:
                pass  # what it has to say was said to a step, or the link was cut
        self.slots.clear()

    # --- the kinds

    def write(self, path: Path, step: Step) -> Outcome:
        put(path, os.O_CREAT | os.O_TRUNC, some(step))

    def append(self, path: Path, step: Step) -> Outcome:
        put(path, os.O_CREAT | os.O_APPEND, some(step))

    def create(self, path: Path, step: Step) -> Outcome:
        put(path, os.O_CREAT | os.O_EXCL, some(step))

    def replace(self, path: Path, step: Step) -> Outcome:
        """As editors save."""
        aside = path.with_name(".aside")
        fd = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            write_all(fd, some(step))
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.rename(aside, path)
        except OSError:
            # The rename may have been made: its own errno says so, not that of this.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside)
            raise

    def pwrite(self, path: Path, step: Step) -> Outcome:
        fd = os.open(path, os.O_WRONLY)
        try:
            os.lseek(fd, step["at"], os.SEEK_SET)
            write_all(fd, some(step))
        finally:
            os.close(fd)

    def store(self, path: Path, step: Step) -> Outcome:
        """Through a mapping of the file."""
        fd = os.open(path, os.O_RDWR)
        try:
            size = os.fstat(fd).st_size
            if not stat.S_ISREG(os.fstat(fd).st_mode) or size == 0:
                return "nothing to map"
            with mmap.mmap(fd, size) as view:
                at = step["at"] % size
                data = some(step)[:size - at]
                view[at:at + len(data)] = data
                view.flush()
                return told(view[:])
        finally:
            os.close(fd)

    def read(self, path: Path, step: Step) -> Outcome:
        return told(path.read_bytes())

    def pread(self, path: Path, step: Step) -> Outcome:
        fd = os.open(path, os.O_RDONLY)
        try:
            return told(os.pread(fd, step["size"], step["at"]))
        finally:
            os.close(fd)

    def stat(self, path: Path, step: Step) -> Outcome:
        return facts(path)

    def list(self, path: Path, step: Step) -> Outcome:
        with os.scandir(path) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in entries)

    def mkdir(self, path: Path, step: Step) -> Outcome:
        os.mkdir(path)

    def rmdir(self, path: Path, step: Step) -> Outcome:
        os.rmdir(path)

    def unlink(self, path: Path, step: Step) -> Outcome:
        os.unlink(path)

    def rename(self, path: Path, step: Step) -> Outcome:
        os.rename(path, self.root / step["to"])

    def link(self, path: Path, step: Step) -> Outcome:
        os.link(path, self.root / step["to"], follow_symlinks=False)

    def symlink(self, path: Path, step: Step) -> Outcome:
        os.symlink(step["target"], path)

    def readlink(self, path: Path, step: Step) -> Outcome:
        return os.readlink(path)

    def truncate(self, path: Path, step: Step) -> Outcome:
        os.truncate(path, step["size"])

    def chmod(self, path: Path, step: Step) -> Outcome:
        os.chmod(path, step["mode"] | (0o100 if path.is_dir() else 0))

    def utime(self, path: Path, step: Step) -> Outcome:
        os.utime(path, (step["time"], step["time"]))
        return os.stat(path).st_mtime

    def slot_open(self, path: Path, step: Step) -> Outcome:
        if step["slot"] in self.slots:
            os.close(self.slots.pop(step["slot"]))
        self.slots[step["slot"]] = os.open(path, step["flags"], 0o644)

    def slot(self, step: Step) -> int:
        if step["slot"] not in self.slots:
            raise OSError(errno.EBADF, "nothing is open there")
        return self.slots[step["slot"]]

    def slot_write(self, path: Path, step: Step) -> Outcome:
        os.lseek(self.slot(step), step["at"], os.SEEK_SET)
        write_all(self.slot(step), some(step))

    def slot_read(self, path: Path, step: Step) -> Outcome:
        return told(os.pread(self.slot(step), step["size"], step["at"]))

    def slot_truncate(self, path: Path, step: Step) -> Outcome:
        os.ftruncate(self.slot(step), step["size"])

    def slot_stat(self, path: Path, step: Step) -> Outcome:
        found = os.fstat(self.slot(step))
        return stat.S_IFMT(found.st_mode), 0 if stat.S_ISDIR(found.st_mode) else found.st_size

    def slot_sync(self, path: Path, step: Step) -> Outcome:
        os.fsync(self.slot(step))

    def slot_save(self, path: Path, step: Step) -> Outcome:
        """As editors begin to save; what is done with the open file next is drawn."""
        if step["slot"] in self.slots:
            os.close(self.slots.pop(step["slot"]))
        with contextlib.suppress(OSError):
            os.unlink(path)
        fd = self.slots[step["slot"]] = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        write_all(fd, some(step))
        os.fsync(fd)

    def slot_close(self, path: Path, step: Step) -> Outcome:
        fd = self.slot(step)
        del self.slots[step["slot"]]
        os.close(fd)


KINDS: dict[str, tuple[int, Callable[[Walker, Path, Step], Outcome]]] = {
    "write": (12, Walker.write), "append": (6, Walker.append), "create": (6, Walker.create),
    "replace": (5, Walker.replace), "pwrite": (5, Walker.pwrite), "store": (3, Walker.store),
    "read": (12, Walker.read), "pread": (5, Walker.pread), "stat": (10, Walker.stat), "list": (6, Walker.list),
    "mkdir": (8, Walker.mkdir), "rmdir": (3, Walker.rmdir), "unlink": (5, Walker.unlink), "rename": (8, Walker.rename),
    "link": (4, Walker.link), "symlink": (4, Walker.symlink), "readlink": (3, Walker.readlink),
    "truncate": (4, Walker.truncate), "chmod": (3, Walker.chmod), "utime": (3, Walker.utime),
    "slot_open": (8, Walker.slot_open), "slot_write": (8, Walker.slot_write), "slot_read": (8, Walker.slot_read),
    "slot_truncate": (3, Walker.slot_truncate), "slot_stat": (5, Walker.slot_stat), "slot_sync": (2, Walker.slot_sync),
    "slot_close": (3, Walker.slot_close),
}
# Not drawn unless a session asks for it: a seed of the others goes on drawing the same steps.
SAVING = {"slot_save": (25, Walker.slot_save)}


def facts(path: Path) -> Outcome:
    """Kind and mode; of a file also its size, and the time where somebody has set it (drawn from the far past)."""
    found = os.lstat(path)
    kind = stat.filemode(found.st_mode)
    if stat.S_ISREG(found.st_mode):
        return kind, found.st_size, int(found.st_mtime) if found.st_mtime < 1_500_000_000 else "now"
    return (kind,) if not stat.S_ISLNK(found.st_mode) else ("l",)


def whole(root: Path) -> dict[str, Outcome]:
    """Everything below a root."""
    found: dict[str, Outcome] = {}
    for where, dirs, files in os.walk(root):
        for entry in dirs + files:
            path = Path(where) / entry
            key = str(path.relative_to(root))
            found[key] = facts(path)
            if path.is_symlink():
                found[key] = ("l", os.readlink(path))
            elif path.is_file():
                found[key] += told(path.read_bytes())
    return found


def run_here(root: Path, script: str) -> tuple[str, str]:
    """What a command of the same script says, taken on this machine."""
    done = subprocess.run(["bash", "-c", script], cwd=root, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=30)
    return f"exited {done.returncode}", done.stdout


def run_there(box: Path, directory: str, label: str, script: str) -> tuple[str, str]:
    """The same as a command of a sandbox."""
    (box / "run" / label).write_text(f"cd {directory}\n{script}")
    outcome: Optional[str] = (box / "events" / label / "wait.30").read_text().strip()
    return outcome or "", (box / "events" / label / "stdout").read_text()
