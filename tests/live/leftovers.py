"""What sbxfs must not leave behind once every sandbox is destroyed and the mount is gone: looked for
from outside, in /proc, in the control groups and on the disk, whatever sbxfs itself says."""

import os
import subprocess
import time
from pathlib import Path
from typing import Iterable

UID_REGISTRY = Path("/run/sbxfs-uids")


def tokens(state: Path) -> set[str]:
    """The names under which the provider keeps boxes in this state directory now."""
    try:
        return set(os.listdir(state / "boxes"))
    except FileNotFoundError:
        return set()


def processes_of(place: Path) -> dict[int, str]:
    """Processes that have anything of `place`: in their arguments, as an open file, as root or working
    directory, or mounted in a mount namespace of their own."""
    own_namespace = os.readlink("/proc/self/ns/mnt")
    needle = str(place)
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in (os.getpid(), os.getppid()):
            continue
        why = _touches(Path("/proc") / entry, needle, own_namespace)
        if why:
            found[int(entry)] = why
    return found


def _touches(process: Path, needle: str, own_namespace: str) -> str:
    try:
        words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        for link in ("cwd", "root"):
            if needle in os.readlink(process / link):
                return f"{words} ({link})"
        if needle in words and "python" not in words:
            return words
        for fd in os.listdir(process / "fd"):
            target = os.readlink(process / "fd" / fd)
            if needle in target and not target.endswith(".log"):
                return f"{words} (has {target})"
        if os.readlink(process / "ns" / "mnt") != own_namespace:
            if needle in (process / "mountinfo").read_text(errors="replace"):
                return f"{words} (mounted)"
    except OSError:
        pass  # gone meanwhile, a kernel thread, or another user's
    return ""


def stat_of(process: Path) -> tuple[str, str, int]:
    """Name, state and parent."""
    name, rest = (process / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
    state, parent = rest.split()[:2]
    return name, state, int(parent)


def guards() -> dict[int, int]:
    """The processes that end the connection of a daemon that is killed (fs/connection_guard.h), and whose children they
    are."""
    found = {}
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit():
                name, state, parent = stat_of(Path("/proc") / entry)
                if name == "sbxfs-guard" and state not in "ZX":
                    found[int(entry)] = parent
        except OSError:
            pass  # gone meanwhile
    return found


def orphaned_guards() -> list[str]:
    left = []
    for guard, parent in guards().items():
        try:
            name = stat_of(Path(f"/proc/{parent}"))[0]
        except OSError:
            name = "nobody"
        if "sbxf" not in name:  # also as mount.fuse.sbxfs, of which the kernel keeps 15 letters
            left.append(f"process {guard}: guards a connection, its parent is {name}")
    return left


def control_groups_of(owner: str) -> list[str]:
    """Control groups whose name holds `owner`, which is a mount id."""
    found = subprocess.run(["find", "/sys/fs/cgroup", "-name", f"*{owner}*", "-prune"],
                           capture_output=True, text=True, check=False)
    return found.stdout.split()


def uid_ranges_of(state: Path) -> list[str]:
    """Ranges of user ids that are still taken by boxes of this state directory."""
    taken = []
    for file in UID_REGISTRY.glob("*") if UID_REGISTRY.is_dir() else ():
        try:
            owner = os.readlink(file) if file.is_symlink() else file.read_text()
        except OSError:
            continue
        if str(state) in owner:
            taken.append(f"{file.name}: {owner.strip()}")
    return taken


def left_behind(place: Path, state: Path, owners: Iterable[str], limit: float = 10) -> list[str]:
    """One line for each thing that is still there after `limit` seconds. The mount is gone by now, and
    every box was destroyed; `owners` are the mount ids they had."""
    deadline = time.monotonic() + limit
    while True:
        left = [f"process {pid}: {what}" for pid, what in processes_of(place).items()]
        left += orphaned_guards()
        left += [f"box directory {token}" for token in sorted(tokens(state))]
        left += [f"mounted: {point}" for point in _mounts(state)]
        for owner in owners:
            left += [f"control group {path}" for path in control_groups_of(owner)]
        left += [f"user ids {line}" for line in uid_ranges_of(state)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _mounts(path: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(str(path))]
