"""What is wanted, and whether it was reached: mostly how many times as fast as sshfs, the better of its one and four
connections, in the same run."""

from dataclasses import dataclass
from typing import Any, Optional

QUIET_0, QUIET_20, BUSY_20 = "0ms", "20ms", "20ms-busy"
SSHFS = ("sshfs-1", "sshfs-4")

TITLES = {
    "read": "sequential read", "write": "sequential write",
    "read_big": "sequential read, large file", "write_big": "sequential write, large file",
    "random_read": "4 KiB random reads", "sparse_read": "4 KiB random reads, sparse file",
    "find": "find, cold", "grep": "grep -r, cold", "copy_out": "cp -r out",
    "git_cold": "git status, cold", "git_warm": "git status, warm",
    "copy_in": "cp -r in", "untar": "tar x", "saves": "ten atomic saves with fsync", "remove": "rm -rf",
    "command": "`true` until its outcome", "stat_cold": "stat, cold", "open_read_cold": "open and read 4 KB, cold",
    "stat_warm": "stat, warm", "create": "create and write", "rename": "rename", "unlink": "unlink",
}

# Times as fast as sshfs: at 0 ms, at 20 ms quiet, at 20 ms with others at work.
RATIOS: dict[str, tuple[Optional[float], Optional[float], Optional[float]]] = {
    "read": (1.05, 8, 8), "write": (1.05, 1.4, 1.4), "read_big": (0.9, None, None), "write_big": (0.9, None, None),
    "random_read": (1.2, 8, 4), "sparse_read": (1, 1, 1), "find": (1, 5, 5), "grep": (1.2, 40, 10),
    "copy_out": (1.2, 40, 10), "git_cold": (1.2, 25, 10), "git_warm": (1, 20, 2), "copy_in": (2, 90, 8),
    "untar": (2, 200, 8), "saves": (1, 3, 2), "remove": (2, 40, 4),
}


@dataclass(frozen=True)
class Verdict:
    situation: str
    result: str
    what: str
    goal: float
    reached: float
    met: bool
    at_least: bool  # else: at most


def median(results: dict[str, Any], situation: str, result: str, peer: str, key: str = "seconds") -> Optional[float]:
    found = results.get(situation, {}).get(result, {}).get(peer)
    return None if found is None or not found.get(key) else found[key]["median"]


def best_sshfs(results: dict[str, Any], situation: str, result: str) -> Optional[float]:
    """sshfs knows nothing of what goes on at the other end."""
    known = [median(results, "20ms" if situation == BUSY_20 else situation, result, peer) for peer in SSHFS]
    times = [time for time in known if time is not None]
    return min(times) if times else None


def verdicts(results: dict[str, Any]) -> list[Verdict]:
    found: list[Verdict] = []

    def add(situation: str, result: str, what: str, goal: float, reached: Optional[float], at_least: bool) -> None:
        if reached is not None:
            met = reached >= goal if at_least else reached <= goal
            found.append(Verdict(situation, result, what, goal, reached, met, at_least))

    for result, goals in RATIOS.items():
        for situation, goal in zip((QUIET_0, QUIET_20, BUSY_20), goals):
            ours, theirs = median(results, situation, result, "sbxfs"), best_sshfs(results, situation, result)
            if goal is not None and ours and theirs:
                add(situation, result, "times as fast as sshfs", goal, theirs / ours, True)
    for result in ("read", "write", "read_big", "write_big"):
        ours = median(results, QUIET_0, result, "sbxfs", "cpu_seconds")
        bare = median(results, QUIET_0, result, "loop", "cpu_seconds")
        if ours and bare:
            add(QUIET_0, result, "CPU seconds, in those of a bare loop", 1.3, ours / bare, False)
    for situation in (QUIET_20, BUSY_20):
        fetched = median(results, situation, "sparse_read", "sbxfs", "from_server")
        asked = median(results, situation, "sparse_read", "sbxfs", "bytes_read")
        if fetched and asked:
            add(situation, "sparse_read", "bytes fetched for each byte read", 32, fetched / asked, False)
    limits = {QUIET_0: (2.0, 5.0), QUIET_20: (43.0, None), BUSY_20: (43.0, None)}
    for situation, (middle, late) in limits.items():
        seconds = median(results, situation, "command", "sbxfs")
        if seconds:
            add(situation, "command", "ms", middle, seconds * 1000, False)
        p99 = median(results, situation, "command", "sbxfs", "p99_ms")
        if late is not None and p99:
            add(situation, "command", "ms, 99th percentile", late, p99, False)
    return found
