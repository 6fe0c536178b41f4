#!/usr/bin/env python3
"""The soak test: a mount under mixed load for long, by many processes at once: sandboxes come and go, commands run, are
signalled and forgotten, files are made, changed and removed, the tree is crawled, waits are given up. At the end everything
that .mount/metrics shows as being there now is as it was before, and the memory has not grown in the second half.

--seconds N runs so long. SBXFS_BINARY may be a build with the address sanitizer: its leaks are found at the daemon's end."""

import argparse
import contextlib
import ctypes
import errno
import fcntl
import mmap
import multiprocessing
import os
import random
import select
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.sweep import bounded  # noqa: E402
from live.box import Box, Event  # noqa: E402
from live.case import end_without_trace  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.metrics import Metrics  # noqa: E402
from live.place import Place, isolate, require, sbxfs, slack, wait_until  # noqa: E402

CONFIG = """default_template = "default"
[templates.default]
provider = "local"
workdir = "/workspace"
max_lifetime = "8h"
idle_timeout = "4h"
"""
MIB = 1 << 20
# What there is at a moment: as before when the load is over.
ZERO = ("sbxfs_dirty_bytes", "sbxfs_dirty_changes", "sbxfs_commands_queued", "sbxfs_commands_running",
        "sbxfs_sftp_requests_in_flight", "sbxfs_requests_waiting", "sbxfs_requests_waiting_oldest_seconds",
        "sbxfs_open_handles", "sbxfs_cache_bytes", "sbxfs_cache_entries")
SAME = ("sbxfs_inodes", "sbxfs_sandboxes", "sbxfs_process_open_fds")
# What is kept by design: a destroyed sandbox is history for a week, the number and name of a forgotten event stay used.
KIB = 1 / 1024
SANDBOX, EVENT = 28 * KIB, 0.5 * KIB
# What is allocated when nothing goes on may grow by that and by what fills up once, such as the buffers of links and
# SQLite's cache of pages.
HEAP_NOISE = 5.0  # MiB
# The resident memory in the second half by that and by so much a minute; free pages of the heap are given back late.
SLOPE = 1.0  # MiB a minute
RSS_NOISE = 12.0  # MiB
# Most that one turn takes, on a machine that is ours: a crawl through the history of more than a thousand sandboxes.
CRAWL = 60.0  # seconds
# What the load is meant to meet.
ALLOWED = (r"refused op=", r"outcome", r"sandbox status ")


class Load:
    """One process's part. Each turn is one call of `turn`; the last one leaves nothing behind."""

    def __init__(self, mnt: Path, boxes: list[str], seed: int) -> None:
        self.mnt = mnt
        self.boxes = [Box(FakeDaemon(mnt), name) for name in boxes]  # type: ignore[arg-type]
        self.dice = random.Random(seed)
        self.number = seed
        self.begin()

    def begin(self) -> None: ...
    def turn(self) -> int: return 1
    def end(self) -> None: ...


class FakeDaemon:
    """What a Box needs of its daemon, in a process that has not started it."""

    def __init__(self, mnt: Path) -> None:
        self.mnt = mnt


class Coming(Load):
    """Sandboxes that are made, used and destroyed; some before they are ready."""

    def begin(self) -> None:
        self.made = 0

    def turn(self) -> int:
        self.made += 1
        box = Box(self.boxes[0].daemon, f"t{self.number}-{self.made}")
        box.path.mkdir()
        if self.dice.random() < 0.3:
            box.path.rmdir()
            return 2
        box.await_ready()
        assert box.sh("echo one > f; cat f") == "one\n"
        assert (box.path / "fs" / "workspace" / "f").read_text() == "one\n"
        left = box.run("left", "echo on; sleep 600") if self.dice.random() < 0.5 else None
        if left is not None:
            wait_until(lambda: left.stdout == b"on\n", "it runs")
        subprocess.run(["rmdir", str(box.path)], check=True)
        return 6


class Commands(Load):
    """Serial and parallel ones, with output, ends of every kind, and their events forgotten."""

    def begin(self) -> None:
        self.made = 0

    def turn(self) -> int:
        box = self.dice.choice(self.boxes)
        self.made += 1
        kind = self.dice.randrange(6)
        if kind == 0:
            event = box.submit("echo $((6 * 7))")
            assert event.wait() == "exited 0" and event.stdout == b"42\n"
        elif kind == 1:
            event = box.submit("exit 7")
            assert event.wait() == "exited 7"
        elif kind == 2:
            event = box.run(f"r{self.number}-{self.made}", "head -c 100000 /dev/zero; echo err >&2")
            assert event.wait() == "exited 0" and len(event.stdout) == 100_000 and event.stderr == b"err\n"
        elif kind == 3:
            event = box.run(f"r{self.number}-{self.made}", "echo up; sleep 600")
            wait_until(lambda: event.stdout == b"up\n", "it runs", pause=0.002)
            (event.path / "ctl").write_text(self.dice.choice(["term", "kill", "int"]) + "\n")
            said = event.wait()
            assert said.startswith("killed"), said
        elif kind == 4:
            event = box.submit('{"cmd": "sleep 600", "timeout": 0.2, "parallel": true}', "cmd.json")
            assert event.wait(20).startswith("timed_out"), event.text("status")
        else:
            event = box.run(f"r{self.number}-{self.made}", "seq 1000")
            assert (event.path / "follow").read_bytes() == "".join(f"{i}\n" for i in range(1, 1001)).encode()
        assert event.text("result.json") and event.text("report")
        event.path.resolve().rmdir()
        return 6


class Files(Load):
    """A tree of its own below fs/, changed in every way."""

    def begin(self) -> None:
        self.box = self.boxes[self.number % len(self.boxes)]
        self.root = self.box.path / "fs" / "workspace" / f"files{self.number}"
        self.root.mkdir()
        self.turns = 0

    def turn(self) -> int:
        self.turns += 1
        here = self.root / f"d{self.turns}"
        here.mkdir()
        sizes = [self.dice.choice([0, 1, 100, 5_000, 70_000]) for _ in range(8)]
        if self.turns % 10 == 0:
            sizes.append(3 * MIB)
        for i, size in enumerate(sizes):
            data = bytes([i]) * size
            (here / f"f{i}").write_bytes(data)
            assert (here / f"f{i}").read_bytes() == data
        with (here / "f0").open("ab") as file:
            file.write(b"more")
            file.flush()
            os.fsync(file.fileno())
        (here / "f1").rename(here / "g")
        (here / "l").symlink_to("g")
        (here / "f2").replace(here / "f3")
        os.link(here / "f4", here / "h")
        os.utime(here / "f4", (1, 1))
        os.chmod(here / "f4", 0o600)
        os.truncate(here / "f5", 3)
        with (here / "f7").open("w+b") as file:
            file.write(bytes(8192))
            file.flush()
            with mmap.mmap(file.fileno(), 8192) as view:
                view[5] = 1
                view.flush()
            fcntl.flock(file, fcntl.LOCK_EX)
        assert sorted(os.listdir(here)) == sorted(
            ["f0", "f3", "f4", "f5", "f6", "f7", "g", "h", "l"] + (["f8"] if len(sizes) > 8 else []))
        assert len([os.stat(entry) for entry in os.scandir(here)]) >= 9
        with contextlib.suppress(FileNotFoundError):
            (here / "nothing").unlink()
        # Removed while it is open.
        with (here / "open").open("w+") as file:
            (here / "open").unlink()
            file.write("still")
            file.seek(0)
            assert file.read() == "still"
        shutil.rmtree(here)
        return 60

    def end(self) -> None:
        shutil.rmtree(self.root)


class Crawls(Load):
    """The control tree, as find, grep, tar and indexers meet it."""

    def place(self) -> Path:
        """All of it, as long as that takes a moment: the history of half an hour has thousands of sandboxes."""
        history = self.mnt / ".mount" / "history"
        past = os.listdir(history)
        if len(past) < 300:
            return self.mnt
        return self.dice.choice([*(box.path for box in self.boxes), history / self.dice.choice(past)])

    def turn(self) -> int:
        crawl = self.dice.choice([["find", "."], ["grep", "-rs", "nothing that is there", "."], ["ls", "-lR", "."],
                                  ["tar", "-cf", "/dev/null", "."], ["du", "-a", "."], ["walk"], ["metrics"]])
        if crawl == ["metrics"]:
            Metrics.read(self.mnt)
            return 1
        if crawl != ["walk"]:
            # What goes away meanwhile is complained of.
            subprocess.run(crawl, cwd=self.place(), capture_output=True, check=False, timeout=slack(CRAWL))
            return 1
        seen = 0
        until = time.monotonic() + CRAWL
        for directory, names, files in os.walk(self.mnt):
            if time.monotonic() > until:
                break
            for name in names + files:
                with contextlib.suppress(OSError):
                    os.lstat(os.path.join(directory, name))
                seen += 1
        return seen


class GivenUp(Load):
    """Waits that end by a signal, a limit, a kill, and polls."""

    def turn(self) -> int:
        box = self.dice.choice(self.boxes)
        event = box.run(f"g{self.number}-{self.dice.randrange(1 << 60)}", "sleep 600")
        readers = [subprocess.Popen(["cat", event.path / self.dice.choice(["wait", "follow", "wait.600"])],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
        fd = os.open(event.path / "status", os.O_RDONLY)
        os.read(fd, 100)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(5)
        (event.path / "wait.0").read_text() if self.dice.random() < 0.2 else None
        for reader in readers[:2]:
            reader.send_signal(self.dice.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]))
            reader.wait(10)
        # Who opens `cmd` and is gone before it is closed has submitted nothing.
        (event.path / "ctl").write_text("kill\n")
        readers[2].wait(20)
        said = event.wait()
        assert said.startswith(("killed", "refused")), said  # refused: it had not been started yet
        os.close(fd)
        for attempt in (["rm", "-rf", str(box.path)], ["mv", str(box.path), str(box.path) + "x"]):
            subprocess.run(attempt, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        event.path.resolve().rmdir()
        return 10


KINDS: list[tuple[type[Load], int]] = [(Coming, 1), (Commands, 2), (Files, 3), (Crawls, 1), (GivenUp, 1)]


def work(kind: type[Load], mnt: Path, boxes: list[str], seed: int, until: float, counts: Any, place: int,
         failures: Any) -> None:
    try:
        load = kind(mnt, boxes, seed)
        while time.monotonic() < until and failures.empty():
            counts[place] += load.turn()
        load.end()
    except BaseException:  # pylint: disable=broad-except
        failures.put(f"{kind.__name__} {seed}: {traceback.format_exc()}")


def forget_names(mnt: Path) -> None:
    """The kernel lets go of every name and inode of this mount that nobody uses: what drop_caches does to the whole
    machine. Only root can; others find the numbers as they are."""
    flags = 1 << 5  # MS_REMOUNT
    options = os.statvfs(mnt).f_flag
    for bit in (1, 2, 4, 8):  # ro, nosuid, nodev, noexec: as they are
        flags |= options & bit
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(None, str(mnt).encode(), None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), "remounting")


def settle(mnt: Path, boxes: list[Box]) -> dict[str, float]:
    """What there is when nothing is going on."""
    for box in boxes:
        (box.path / "ctl").write_text("drop_caches\n")
    if os.geteuid() == 0:
        forget_names(mnt)
    now = Metrics.read(mnt)
    found = {}
    for name in (*ZERO, *SAME):
        for (_, labels), value in now.families[name].samples.items():
            # What is destroyed is history for a week.
            found[name + "".join(f"{{{key}={word}}}" for key, word in labels)] = value
    return found


class Soak:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.place = Place()
        self.daemon = Daemon(self.place, config=CONFIG).start()
        self.boxes = [Box.make(self.daemon, name) for name in ("a", "b")]
        self.memory: list[tuple[float, float]] = []  # when, MiB
        self.kept = 0.0  # MiB of what is kept by design
        self.looked: dict[str, float] = {}  # at rest, at the last look
        self.failed: list[str] = []

    def settle(self) -> dict[str, float]:
        return settle(self.daemon.mnt, self.boxes)

    def warm_up(self) -> None:
        """Once through everything, so that what is made once is there."""
        for number, (kind, _) in enumerate(KINDS):
            for box in ("a", "b"):
                load = kind(self.daemon.mnt, [box], 1000 + 2 * number + (box == "b"))
                for _ in range(11 if kind is Files else 2):  # every tenth has a large file
                    load.turn()
                load.end()

    def sample(self, stop: threading.Event) -> None:
        assert self.daemon.process is not None
        statm = Path(f"/proc/{self.daemon.process.pid}/statm")
        forgotten = time.monotonic()
        while not stop.wait(0.2):
            if os.geteuid() == 0 and time.monotonic() > forgotten + 3:
                # The kernel keeps names until memory is short; those are no part of this.
                forget_names(self.daemon.mnt)
                forgotten = time.monotonic()
            with contextlib.suppress(OSError):
                pages = int(statm.read_text().split()[1])
                self.memory.append((time.monotonic(), pages * os.sysconf("SC_PAGESIZE") / MIB))

    def run(self, seconds: float) -> None:
        started = time.monotonic()
        self.warm_up()
        before = wait_until(self.at_rest, "nothing is left of the first round", 30, pause=0.2)
        first, past = Metrics.read(self.daemon.mnt), self.history()
        print(f"soak: before, {time.monotonic() - started:.1f} s: {figures(before)}", flush=True)
        failures = multiprocessing.Queue()
        counts = multiprocessing.Array("q", sum(count for _, count in KINDS))
        processes = []
        until = time.monotonic() + seconds
        for kind, count in KINDS:
            for _ in range(count):
                place = len(processes)
                processes.append(multiprocessing.Process(target=work, args=(
                    kind, self.daemon.mnt, ["a", "b"], self.dice.randrange(1 << 30) * 10 + place, until, counts, place,
                    failures)))
        stop = threading.Event()
        sampler = threading.Thread(target=self.sample, args=(stop,))
        load_started = time.monotonic()
        sampler.start()
        for process in processes:
            process.start()
        for process in processes:
            process.join(until - time.monotonic() + slack(CRAWL) + 10)
            if process.is_alive():
                self.failed.append(f"a process does not end: {processes.index(process)}")
                process.kill()
        stop.set()
        sampler.join()
        while not failures.empty():
            self.failed.append(failures.get())
        took = time.monotonic() - load_started
        by_kind, place = [], 0
        for kind, count in KINDS:
            by_kind.append(f"{kind.__name__} {sum(counts[place:place + count])}")
            place += count
        print(f"soak: {sum(counts)} operations in {took:.1f} s ({', '.join(by_kind)})", flush=True)
        self.memory = [(when, mib) for when, mib in self.memory if when <= until]
        self.check_rest(before)
        self.check_heap(first, past)
        self.check_memory(until - seconds, seconds)
        self.failed.extend(f"log: {line}" for line in self.daemon.complaints(ALLOWED))

    def at_rest(self) -> dict[str, float] | None:
        now = self.settle()
        busy = [name for name, value in now.items() if name.startswith(ZERO) and value != 0]
        busy += [name for name, value in now.items()
                 if name in ("sbxfs_sandboxes{status=destroying}", "sbxfs_sandboxes{status=launching}") and value != 0]
        # Twice the same: a descriptor that is just being closed is no part of what there is.
        steady, self.looked = now == self.looked, now
        return now if steady and not busy else None

    def check_rest(self, before: dict[str, float]) -> None:
        last: dict[str, float] = {}

        def same() -> bool:
            last.update(self.settle())
            return all(abs(last[name] - before[name]) <= tolerance(name) for name in before)
        try:
            wait_until(same, "all is as it was", 40, pause=0.3)
        except AssertionError:
            for name, value in last.items():
                if abs(value - before[name]) > tolerance(name):
                    self.failed.append(f"{name} was {before[name]:g} and is {value:g}")
        print(f"soak: after: {figures(last)}", flush=True)

    def history(self) -> int:
        return len(os.listdir(self.daemon.mnt / ".mount" / "history"))

    def check_heap(self, first: Metrics, past: int) -> None:
        last = Metrics.read(self.daemon.mnt)
        sandboxes = self.history() - past
        events = last.total("sbxfs_commands_accepted_total") - first.total("sbxfs_commands_accepted_total")
        self.kept = sandboxes * SANDBOX + events * EVENT
        before, after = (one.get("sbxfs_heap_bytes") / MIB for one in (first, last))
        most = self.kept + HEAP_NOISE
        print(f"soak: {sandboxes} sandboxes were destroyed, {events:.0f} commands given; allocated {before:.2f} MiB "
              f"before, {after:.2f} after: {after - before:.2f} more, of at most {most:.1f}", flush=True)
        # Nothing is known of it under the address sanitizer, which finds what is lost by itself.
        if after - before > most:
            self.failed.append("more is allocated than before")

    def check_memory(self, start: float, seconds: float) -> None:
        if len(self.memory) <= 10:
            self.failed.append("there was no load to look at the memory of")
            return
        at = [min(self.memory, key=lambda one, share=share: abs(one[0] - start - seconds * share))[1]
              for share in (0.25, 0.5, 0.75, 1)]
        second = [one for one in self.memory if one[0] >= start + seconds / 2]
        slope = slope_of(second)
        grown = slope * seconds / 2 / 60
        sanitized = Metrics.read(self.daemon.mnt).get("sbxfs_heap_bytes") == 0
        most = max(RSS_NOISE, SLOPE * seconds / 2 / 60) + self.kept / 2
        most *= 4 if sanitized else 1
        print("soak: RSS at 25/50/75/100 %: " + ", ".join(f"{mib:.1f}" for mib in at) +
              f" MiB; slope of the second half {slope:.2f} MiB/min, {grown:.2f} MiB of at most {most:.1f}", flush=True)
        if grown > most:
            self.failed.append(f"the memory grows by {slope:.2f} MiB a minute")


def tolerance(name: str) -> float:
    # Connections of its own that come and go: none is kept for what is there no more.
    return 0


def slope_of(points: list[tuple[float, float]]) -> float:
    """MiB a minute, by the median of all pairs (Theil and Sen): a peak or a step says little."""
    step = max(1, len(points) // 200)
    few = points[::step]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for i, a in enumerate(few) for b in few[i + 1:] if b[0] > a[0]]
    return statistics.median(slopes) * 60 if slopes else 0


def figures(found: dict[str, float]) -> str:
    return ", ".join(f"{name.removeprefix('sbxfs_')} {value:g}" for name, value in found.items() if value != 0)


def attended(name: str, load: Any, seconds: float, run: Callable[[], None],
             finish: Optional[Callable[[], list[str]]] = None) -> int:
    """Runs a load with a bound, leaves without a trace, says what went wrong. The exit code."""
    try:
        # What has to be looked at afterwards grows with it.
        with bounded(1.25 * seconds + 230, load.place.end):
            run()
            if load.failed:
                print(load.daemon.tail(40))
            try:
                if not end_without_trace(load.daemon, finish):
                    load.failed.append("something was left behind")
            except (AssertionError, OSError):  # of what has gone wrong before, which is told of first
                load.failed.append(f"it could not be cleared away: {traceback.format_exc()}")
    finally:
        load.place.end()
    for failure in load.failed:
        print(f"{name}: {failure}", flush=True)
    print(f"{name}: " + ("failed" if load.failed else "fine"), flush=True)
    return 1 if load.failed else 0


def main() -> int:
    require()
    isolate()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Ignored where a shell has started this in the background; those that wait here are interrupted by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SBXFS_SEED", "0")))
    parser.add_argument("--only", choices=[kind.__name__ for kind, _ in KINDS], help="one part of the load: what does it cost?")
    options = parser.parse_args()
    KINDS[:] = [one for one in KINDS if options.only in (None, one[0].__name__)]
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    # What was freed stays in the address sanitizer's hands for a while; not for longer than the test.
    os.environ.setdefault("ASAN_OPTIONS", "quarantine_size_mb=8:detect_leaks=1")
    print(f"soak: {options.seconds:g} s, seed {seed}, {sbxfs()}", flush=True)
    soak = Soak(seed)
    return attended("soak", soak, options.seconds, lambda: soak.run(options.seconds))


if __name__ == "__main__":
    sys.exit(main())
