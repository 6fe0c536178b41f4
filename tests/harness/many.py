#!/usr/bin/env python3
"""Many at once on one mount: sandboxes, events of a sandbox, files of a directory. What each costs is printed; what must not
depend on their number is checked: nothing is sent for a crawl, nothing is left at the end.

many.py boxes --count N        N sandboxes of provider `local` are made, used, crawled, left alone and destroyed
many.py events --count N       N commands are given to one sandbox, and their events listed and followed
many.py files --count N        N files in a directory below fs/"""

import argparse
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.soak import SAME, ZERO, FakeDaemon, figures, forget_names  # noqa: E402
from harness.sweep import bounded  # noqa: E402
from live.box import Box  # noqa: E402
from live.case import end_without_trace  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.metrics import Metrics  # noqa: E402
from live.place import Place, isolate, require, wait_until  # noqa: E402

CONFIG = """default_template = "default"
max_sandboxes = 10000
[templates.default]
provider = "local"
workdir = "/workspace"
max_lifetime = "8h"
"""
MIB = 1 << 20
# What a daemon may take of a core while nobody asks for anything, and more for each sandbox.
IDLE, IDLE_EACH = 0.01, 0.0001


@contextlib.contextmanager
def timed(what: str, count: int = 0) -> Iterator[None]:
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    print(f"many: {what}: {took:.2f} s" + (f", {took / count * 1000:.2f} ms each" if count else ""), flush=True)


class Many:
    def __init__(self, place: Place) -> None:
        self.place = place
        self.daemon = Daemon(place, config=CONFIG).start()
        self.mnt = self.daemon.mnt

    def metrics(self) -> Metrics:
        return Metrics.read(self.mnt)

    def gauges(self) -> dict[str, float]:
        if os.geteuid() == 0:
            forget_names(self.mnt)
        now = self.metrics()
        return {name + "".join(f"{{{key}={word}}}" for key, word in labels): value
                for name in (*ZERO, *SAME) for (_, labels), value in now.families[name].samples.items()}

    def sent(self) -> tuple[float, float]:
        now = self.metrics()
        return now.total("sbxfs_sftp_requests_total"), now.total("sbxfs_supervisor_requests_total")

    def say_daemon(self, when: str, count: int = 0) -> None:
        assert self.daemon.process is not None
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        threads = int(status.split("Threads:")[1].split()[0])
        now = self.metrics()
        rss = now.get("sbxfs_process_resident_memory_bytes") / MIB
        each = f" ({rss * 1024 / count:.0f} KiB each)" if count else ""
        print(f"many: {when}: daemon {rss:.1f} MiB resident{each}, {now.get('sbxfs_heap_bytes') / MIB:.1f} MiB allocated, "
              f"{now.get('sbxfs_process_open_fds'):.0f} descriptors of {now.get('sbxfs_process_max_fds'):.0f}, {threads} threads",
              flush=True)

    def everything(self) -> list[int]:
        """The daemon, and every process of every sandbox."""
        return below(os.getpid(), self.place.path)

    def say_all(self, when: str, count: int) -> None:
        """What all processes of the sandboxes have, shared pages counted once."""
        assert self.daemon.process is not None
        words: dict[str, tuple[int, int]] = {}
        for pid in self.everything():
            with contextlib.suppress(OSError, IndexError):
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                pss = int(rollup.split("\nPss:")[1].split()[0])
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                number, sum_ = words.get(name, (0, 0))
                words[name] = (number + 1, sum_ + pss)
        total = sum(sum_ for _, sum_ in words.values())
        print(f"many: {when}: {sum(number for number, _ in words.values())} processes have {total / 1024:.0f} MiB "
              f"({total / count / 1024:.2f} each): " +
              ", ".join(f"{number} {name} {sum_ / 1024:.0f}" for name, (number, sum_) in sorted(words.items())), flush=True)


def below(root: int, place: Path) -> list[int]:
    """All processes that were started by `root`, and those of its sandboxes, which have lost who started them."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
    orphans = {pid for pid, parent in parents.items() if parent == 1 and has(pid, place)}
    found, growing = {root} | orphans, True
    while growing:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        growing = bool(more)
    return sorted(found - {root})


def has(pid: int, place: Path) -> bool:
    """Whether it is of a sandbox that is kept there: what is mounted for it says so."""
    try:
        return f"/{place.name}/" in Path(f"/proc/{pid}/mountinfo").read_text()
    except OSError:
        return False


def crawl(many: Many, directory: Path, count: int) -> None:
    """As find, cat, du and indexers do; nothing is sent for it."""
    before = many.sent()
    for what, argv in (("find", ["find", "."]), ("find -ls, as updatedb", ["find", ".", "-ls"]), ("du -a", ["du", "-a", "."])):
        with timed(f"{what}", count):
            subprocess.run(argv, cwd=directory, stdout=subprocess.DEVNULL, check=True)
    with timed("cat */status", count):
        subprocess.run(["sh", "-c", "find . -maxdepth 2 -name status -exec cat {} +"], cwd=directory, stdout=subprocess.DEVNULL, check=True)
    assert many.sent() == before, f"sent for a crawl: {before}, {many.sent()}"


def boxes(many: Many, count: int, idle: float) -> None:
    before = many.gauges()
    names = [f"m{i}" for i in range(count)]
    fake = FakeDaemon(many.mnt)
    all_ = [Box(fake, name) for name in names]  # type: ignore[arg-type]
    many.say_daemon("at first")
    slowest = 0.0
    with timed(f"{count} times mkdir", count):
        for box in all_:
            started = time.monotonic()
            box.path.mkdir()
            slowest = max(slowest, time.monotonic() - started)
    print(f"many: the slowest mkdir: {slowest * 1000:.1f} ms", flush=True)
    with timed("until all are ready", count):
        for box in all_:
            wait_until(lambda box=box: box.status != "launching", f"{box.name} is launched", 900, 0.05)  # type: ignore[misc]
    bad = {box.name: (box.status, (box.path / "error").read_text()) for box in all_ if box.status != "ready"}
    assert not bad, f"{len(bad)} of {count} are not ready, {list(bad.items())[:2]}"
    many.say_daemon(f"with {count} sandboxes", count)
    many.say_all("everything", count)
    with timed("a command in each", count):
        events = [box.run("one", f"echo in {box.name}; touch made") for box in all_]
        for box, event in zip(all_, events, strict=True):
            assert event.wait(300) == "exited 0" and event.stdout == f"in {box.name}\n".encode(), box.name
    with timed("a file in each", count):
        for box in all_:
            assert sorted(os.listdir(box.path / "fs" / "workspace")) == ["made"]
            (box.path / "fs" / "workspace" / "f").write_text(box.name)
    with timed("a command that goes on in each", count):
        running = [box.run("on", "echo on; sleep 3600") for box in all_]
        for event in running:
            wait_until(lambda event=event: event.stdout == b"on\n", "it runs", 60)  # type: ignore[misc]
    many.say_daemon("after a command in each, another running", count)
    crawl(many, many.mnt, count)
    with timed("df and statfs of each", count):
        for box in all_:
            os.statvfs(box.path)
    idling(many, count, idle)
    with timed(f"{count} times rmdir", count):
        for box in all_:
            box.path.rmdir()
    with timed("until all are gone", count):
        wait_until(lambda: many.metrics().total("sbxfs_sandboxes") == 0, "all are destroyed", 900, 0.2)
    many.say_daemon("at last")
    rest(many, before)


def idling(many: Many, count: int, seconds: float) -> None:
    """Nobody asks for anything."""
    wait_until(lambda: many.metrics().get("sbxfs_dirty_changes") == 0, "all is written", 60)
    before = many.metrics()
    spent = cpu_of(many.everything())
    time.sleep(seconds)
    after = many.metrics()
    others = cpu_of(many.everything())
    by_name: dict[str, float] = {}
    for pid in spent.keys() & others.keys():
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            by_name[name] = by_name.get(name, 0) + others[pid] - spent[pid]
    cpu = after.get("sbxfs_process_cpu_seconds_total") - before.get("sbxfs_process_cpu_seconds_total")
    print(f"many: {seconds:g} s idle: the daemon took {cpu:.2f} s of CPU ({cpu / seconds * 100:.2f} %), everything "
          f"{sum(by_name.values()):.2f} s (" + ", ".join(f"{name} {took:.2f}" for name, took in sorted(by_name.items())) + "); sent "
          f"{after.total('sbxfs_sftp_requests_total') - before.total('sbxfs_sftp_requests_total'):.0f} requests for files, "
          f"{after.total('sbxfs_supervisor_requests_total') - before.total('sbxfs_supervisor_requests_total'):.0f} to supervisors", flush=True)
    assert cpu / seconds <= IDLE + IDLE_EACH * count, f"{cpu} s of CPU in {seconds} s without work"


def cpu_of(pids: list[int]) -> dict[int, float]:
    """Seconds, to the nanosecond: what runs for a moment at a time escapes a count by ticks, or is all that it counts."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            found[pid] = sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
    return found


def rest(many: Many, before: dict[str, float]) -> None:
    """Each gauge as it was."""
    last: dict[str, float] = {}

    def same() -> bool:
        last.clear()
        last.update(many.gauges())
        return last == before
    try:
        wait_until(same, "all is as it was", 60, 0.3)
    except AssertionError:
        wrong = {name: (before.get(name), value) for name, value in last.items() if value != before.get(name)}
        raise AssertionError(f"not as before (was, is): {wrong}") from None
    print(f"many: as before: {figures(last)}", flush=True)


def events(many: Many, count: int, idle: float) -> None:
    box = Box.make(many.daemon, "b")
    many.say_daemon("at first")
    with timed(f"{count} commands", count):
        last = None
        for number in range(count):
            last = submitted(box, "true")
        assert last is not None
        wait_until(lambda: (box.path / "events" / "latest" / "status").read_text() == "exited\n" and
                   os.readlink(box.path / "events" / "latest") == str(last), "the last has ended", 600, 0.2)
    many.say_daemon(f"with {count} events", count)
    with timed("names of events/", count):
        assert len(box.numbers()) == count
    with timed("ls -l events/", count):
        subprocess.run(["ls", "-l", str(box.path / "events")], stdout=subprocess.DEVNULL, check=True)
    with timed("tail of log.jsonl"):
        lines = subprocess.run(["tail", "-n", "5", str(box.path / "events" / "log.jsonl")], capture_output=True, text=True, check=True)
        assert len(lines.stdout.splitlines()) == 5
    with timed("wc -l log.jsonl"):
        counted = subprocess.run(["wc", "-l", str(box.path / "events" / "log.jsonl")], capture_output=True, text=True, check=True)
        assert int(counted.stdout.split()[0]) == count, counted.stdout
    with timed("status of 1,000", 1000):
        for number in range(1, count + 1, max(1, count // 1000)):
            assert (box.path / "events" / str(number) / "status").read_text() == "exited\n"
    with timed("a command and its outcome beside them", 20):
        for _ in range(20):
            assert box.sh("echo on") == "on\n"
    before = many.sent()
    with timed("find events"):
        subprocess.run(["find", str(box.path / "events")], stdout=subprocess.DEVNULL, check=True)
    assert many.sent() == before
    many.say_daemon("after the crawl", count)
    with timed("unmount"):
        many.daemon.umount(limit=120)
    with timed("mount"):
        many.daemon.start(limit=120)
        box.await_ready()
    print(f"many: of it {many.metrics().get('sbxfs_process_cpu_seconds_total'):.2f} s of CPU", flush=True)
    with timed("names of events/ then", count):
        assert len(box.numbers()) == count + 20
    many.say_daemon("after a restart", count)
    with timed("rmdir"):
        box.destroy(limit=120)


def submitted(box: Box, script: str) -> int:
    """Whoever is faster than the queue is told so."""
    while True:
        fd = os.open(box.path / "cmd", os.O_RDWR)
        try:
            os.write(fd, script.encode())
            return int(os.read(fd, 64))
        except BlockingIOError:
            time.sleep(0.01)
        finally:
            os.close(fd)


def files(many: Many, count: int, idle: float) -> None:
    box = Box.make(many.daemon, "b")
    here = box.path / "fs" / "workspace" / "many"
    here.mkdir()
    many.say_daemon("at first")
    with timed(f"{count} files made", count):
        for number in range(count):
            (here / f"f{number}").write_text(str(number))
    with timed("seen by a command"):
        assert box.sh("ls /workspace/many | wc -l", 120).strip() == str(count)
    (box.path / "ctl").write_text("drop_caches\n")
    with timed("listed, nothing known", count):
        assert len(os.listdir(here)) == count
    with timed("ls -l", count):
        subprocess.run(["ls", "-l", str(here)], stdout=subprocess.DEVNULL, check=True)
    with timed("all read", count):
        assert all((here / f"f{number}").read_text() == str(number) for number in range(count))
    many.say_daemon(f"with {count} files", count)
    with timed("all removed", count):
        subprocess.run(["rm", "-r", str(here)], check=True)
    with timed("seen by a command"):
        assert box.sh("ls /workspace", 120) == ""
    many.say_daemon("at last")
    box.destroy()


SESSIONS: dict[str, Callable[[Many, int, float], None]] = {"boxes": boxes, "events": events, "files": files}


def main() -> int:
    require()
    isolate()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("session", choices=SESSIONS)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--idle", type=float, default=5, help="how long nothing is done")
    parser.add_argument("--limit", type=float, default=280)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(f"many: {options.session}, {options.count}; at most {most} descriptors", flush=True)
    place = Place()
    good = False
    try:
        with bounded(options.limit, place.end):
            many = Many(place)
            SESSIONS[options.session](many, options.count, options.idle)
            complaints = many.daemon.complaints(())
            assert not complaints, complaints[:5]
            good = end_without_trace(many.daemon)
    finally:
        if not good and "many" in locals():
            print(many.daemon.tail(20), flush=True)
        place.end()
    print("many: " + ("fine" if good else "failed"), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
