#!/usr/bin/env python3
"""A link that swallows every byte: whoever waits for an answer is free within a second of a signal, whoever waits for
another's change of a name in the same directory when that one is, and what is known here is answered at once.
Contract 1.3 and 5. Every change waits here; write_behind_test.py has those that need not."""

import contextlib
import mmap
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.box import Box  # noqa: E402
from live.case import main  # noqa: E402
from live.place import Place, sbxfs, wait_until  # noqa: E402
from live.silence import MIB, Call, SilenceCase, Waiter  # noqa: E402

SIGNALS = (signal.SIGINT, signal.SIGKILL)
# These need not wait where the directory's listing was fetched ahead of the walk.
FETCHED_AHEAD = ("stat", "opendir")


def at(path: Path, flags: int = os.O_PATH) -> int:
    return os.open(path, flags)


def again(fd: int) -> str:
    """Opens what an O_PATH descriptor is of, without looking its name up once more."""
    return f"/proc/self/fd/{fd}"


# Each gets a directory of its own, with a file f of 1 MiB that nobody has read, a file g and an empty directory d. What
# it prepares is done while the link is there, and is known here then, so that it waits for its own request and for
# none on the way there.
def files() -> dict[str, Callable[[Path], Call]]:
    def on_dir(call: Callable[[int], Any]) -> Callable[[Path], Call]:
        def prepare(here: Path) -> Call:
            fd = at(here)
            for name in ("f", "d", "new", "other"):
                with contextlib.suppress(FileNotFoundError):
                    os.stat(name, dir_fd=fd)
            return lambda: call(fd)
        return prepare

    def on_file(flags: int, call: Callable[[int], Any], before: Callable[[int], Any] = id) -> Callable[[Path], Call]:
        def prepare(here: Path) -> Call:
            fd = at(here / "f", flags)
            before(fd)
            return lambda: call(fd)
        return prepare

    def mapped(here: Path) -> Call:
        view = mmap.mmap(at(here / "f", os.O_RDONLY), MIB, access=mmap.ACCESS_READ)
        return lambda: view[MIB // 2]

    def executed(here: Path) -> Call:
        fd = at(here / "f")
        return lambda: os.execv(again(fd), ["f"])

    def copied(here: Path) -> Call:
        one, other = at(here / "f", os.O_RDONLY), at(here / "g", os.O_WRONLY)
        return lambda: os.copy_file_range(one, other, 4096)

    return {
        "stat": on_dir(lambda fd: os.stat("never", dir_fd=fd)),
        "open": lambda here: (lambda fd: lambda: os.open(again(fd), os.O_RDONLY))(at(here / "f")),
        "create": on_dir(lambda fd: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=fd)),
        "O_EXCL": on_dir(lambda fd: os.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=fd)),
        "opendir": lambda here: (lambda fd: lambda: os.open(again(fd), os.O_RDONLY | os.O_DIRECTORY))(at(here)),
        "read": on_file(os.O_RDONLY, lambda fd: os.pread(fd, 4096, MIB // 2)),
        "read for more": on_file(os.O_RDONLY, lambda fd: os.pread(fd, MIB, 0)),
        "write": on_file(os.O_WRONLY, lambda fd: os.pwrite(fd, b"x", 0)),
        "write much": on_file(os.O_WRONLY, lambda fd: os.pwrite(fd, bytes(4 * MIB), 0)),
        "append": on_file(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"x")),
        "ftruncate": on_file(os.O_WRONLY, lambda fd: os.ftruncate(fd, 1)),
        "fsync": on_file(os.O_WRONLY, os.fsync, lambda fd: os.pwrite(fd, b"x", 0)),
        "chmod": on_file(os.O_RDONLY, lambda fd: os.fchmod(fd, 0o600)),
        "utime": on_file(os.O_RDONLY, lambda fd: os.utime(fd, (1, 1))),
        "copy_file_range": copied,
        "mkdir": on_dir(lambda fd: os.mkdir("new", dir_fd=fd)),
        "rmdir": on_dir(lambda fd: os.rmdir("d", dir_fd=fd)),
        "unlink": on_dir(lambda fd: os.unlink("f", dir_fd=fd)),
        "rename": on_dir(lambda fd: os.rename("f", "new", src_dir_fd=fd, dst_dir_fd=fd)),
        "link": on_dir(lambda fd: os.link("f", "new", src_dir_fd=fd, dst_dir_fd=fd)),
        "symlink": on_dir(lambda fd: os.symlink("x", "new", dir_fd=fd)),
        "page fault": mapped,
        "execve": executed,
    }


# What has no need of the sandbox is answered by memory or the journal, whatever the link does.
def answered(box: Box) -> dict[str, Callable[[Path], Call]]:
    def written(file: str) -> Callable[[Path], Call]:
        def prepare(here: Path) -> Call:
            fd = os.open(box.path / file.format(here.name, os.getpid()), os.O_WRONLY | os.O_CREAT)
            os.write(fd, b"true\n")
            return lambda: os.close(fd)
        return prepare

    def closed(here: Path) -> Call:
        fd = at(here / "f", os.O_WRONLY)
        os.pwrite(fd, b"x", 0)
        return lambda: os.close(fd)

    def statfs(here: Path) -> Call:
        fd = at(here, os.O_RDONLY)
        os.fstatvfs(fd)
        return lambda: os.fstatvfs(fd)

    return {"close of run/": written("run/silent-{}-{}"), "close of cmd": written("cmd"), "close": closed,
            "statfs": statfs}


def read_all(path: Path) -> Callable[[Path], Call]:
    return lambda _: (lambda: path.read_bytes())


def polls(path: Path) -> Callable[[Path], Call]:
    def prepare(_: Path) -> Call:
        fd = os.open(path, os.O_RDONLY)
        os.pread(fd, MIB, 0)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return lambda: [(poll.poll(), os.pread(fd, MIB, 0)) for _ in range(3)]
    return prepare


def writes(path: Path, text: bytes, then_close: bool = False) -> Callable[[Path], Call]:
    def prepare(_: Path) -> Call:
        fd = os.open(path, os.O_WRONLY)

        def call() -> None:
            os.write(fd, text)
            if then_close:
                os.close(fd)
        return call
    return prepare


class Waiters(SilenceCase):
    def test_a_signal_frees_each_kind_of_waiter_within_a_second(self) -> None:
        # One where nothing runs, whose files are known for long, and one where a command does.
        still, first = self.relayed("still")
        busy, second = self.relayed("busy")
        event = busy.run("endless", "echo up; sleep 600")
        wait_until(lambda: event.stdout == b"up\n", "it runs")
        hole = Box(self.daemon, "hole@hole")
        hole.path.mkdir()

        def listed_again(here: Path) -> Call:
            fd = at(busy.path / "fs" / "workspace" / here.parent.name / here.name, os.O_RDONLY | os.O_DIRECTORY)
            os.listdir(fd)
            return lambda: os.listdir(fd)

        control = {
            "readdir": listed_again,
            "wait": read_all(event.path / "wait"), "wait.60": read_all(event.path / "wait.60"),
            "follow": read_all(event.path / "follow"), "poll status": polls(event.path / "status"),
            "poll stdout": polls(event.path / "stdout"), "poll log": polls(busy.path / "events" / "log.jsonl"),
            "ttl": writes(busy.path / "ttl", b"3600\n"), "close of ttl": writes(still.path / "ttl", b"3600", True),
            "ready": read_all(hole.path / "ready"), "fs of a launch": read_all(hole.path / "fs" / "etc" / "hostname"),
            # Who reads holds the pages that are to be dropped.
            "drop_caches": writes(still.path / "ctl", b"drop_caches\n"),
        }
        waiting = {**files(), **control}
        at_once = answered(still)
        longest: dict[str, tuple[float, str]] = {}
        for number in SIGNALS:
            self.furnish(busy, number.name, len(waiting) + len(at_once))
            root = self.furnish(still, number.name, len(waiting) + len(at_once))
            made = self.waiters({**waiting, **at_once}, root)
            (busy.path / "ctl").write_text("drop_caches\n")
            first.swallow(True)
            second.swallow(True)
            for what in [*at_once, *waiting]:
                made[what].go()
            for what in at_once:
                took = made[what].freed(time.monotonic(), 1)
                self.assertEqual((made[what].code, took < 1), (0, True), f"{what}: answered at once")
            wait_until(lambda: all(made[what].waits() for what in waiting if not made[what].ended()), "all wait", 10)
            for what in waiting:
                if what in FETCHED_AHEAD and made[what].ended():
                    continue
                with self.subTest(what, signal=number.name):
                    self.assertFalse(made[what].ended(), f"{what} has not waited: {made[what].code}")
                    since = time.monotonic()
                    os.kill(made[what].pid, number)
                    took = made[what].freed(since, 40)
                    longest[number.name] = max(longest.get(number.name, (0.0, "")), (took, what))
                    self.assertLess(took, 1, f"{what}, {number.name}")
                    self.assertEqual(made[what].code, -number, what)
            first.swallow(False)
            second.swallow(False)
            wait_until(lambda: self.daemon.waiting() == 0, "nothing is left of them", 40)
            for box in (still, busy):
                box.submit("true").wait()  # what was interrupted may have been made: the next command is told
                self.assertEqual(box.sh("echo on"), "on\n")
        print("freed after at most " + ", ".join(f"{took * 1000:.0f} ms ({what}, {name})"
                                                 for name, (took, what) in longest.items()), file=sys.stderr)
        Hole.listener.close()  # nobody is there any more
        hole.destroy(40)
        still.destroy()
        busy.destroy()

    def test_who_waits_behind_a_change_of_a_name_is_free_when_that_is(self) -> None:
        box, relay = self.relayed("behind")
        kinds = files()
        behind: dict[str, Callable[[Path], Call]] = {
            "mkdir": lambda here: (lambda fd: lambda: os.mkdir("other", dir_fd=fd))(at(here)),
            "stat": lambda here: (lambda fd: lambda: os.stat("never", dir_fd=fd))(at(here)),
            "unlink": kinds["unlink"], "rename": kinds["rename"], "opendir": kinds["opendir"]}
        root = self.furnish(box, "names", len(behind) * 2)
        pairs = [(what, number) for what in behind for number in SIGNALS]
        makers = self.waiters({f"{what} {number.name}": kinds["mkdir"] for what, number in pairs}, root)
        others = self.waiters({f"{what} {number.name}": behind[what] for what, number in pairs}, root)
        relay.swallow(True)
        started = time.monotonic()
        for maker in makers.values():
            maker.go()
        wait_until(lambda: all(maker.waits() for maker in makers.values()), "the changes wait")
        for other in others.values():
            other.go()
        wait_until(lambda: all(other.waits() or (what.split()[0] in FETCHED_AHEAD and other.ended())
                               for what, other in others.items()),
                   "those behind wait: " + ", ".join(what for what, other in others.items() if other.ended()))
        for what, number in pairs:
            if not others[f"{what} {number.name}"].ended():
                os.kill(others[f"{what} {number.name}"].pid, number)
        longest = max((other.freed(started, 10), name) for name, other in others.items())
        self.assertLess(longest[0], 6, longest[1])
        for name, maker in makers.items():
            self.assertLess(maker.freed(started, 10), 6, name)
            self.assertEqual(maker.code, 1, "a change of a name has an end of its own")
        relay.swallow(False)
        wait_until(lambda: self.daemon.waiting() == 0, "nothing is left of them", 40)
        print(f"those behind a change of a name were free after {longest[0]:.2f} s ({longest[1]})", file=sys.stderr)
        box.submit("true").wait()
        box.destroy()

    def test_exec_is_free_at_a_kill_and_at_a_second_interrupt(self) -> None:
        box, relay = self.relayed("executing")
        for signals in ((signal.SIGKILL,), (signal.SIGINT, signal.SIGINT)):
            client = subprocess.Popen([sbxfs(), "exec", "-m", str(self.mnt), box.name, "--", "echo up; sleep 600"],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.addCleanup(client.kill)
            assert client.stdout is not None and client.stderr is not None
            self.assertEqual(client.stdout.readline(), b"up\n")
            relay.swallow(True)
            since = time.monotonic()
            for turn, number in enumerate(signals):
                time.sleep(0.2 * turn)  # two at once are one
                since = time.monotonic()
                client.send_signal(number)
            code = client.wait(20)
            took = time.monotonic() - since
            self.assertLess(took, 1)
            if signals[0] == signal.SIGINT:
                self.assertEqual(code, 130)
                self.assertIn(b"may still run", client.stderr.read())
            client.stdout.close()
            client.stderr.close()
            relay.swallow(False)
            wait_until(lambda: box.status == "unreachable", "the cut is noticed")
            wait_until(lambda: box.status == "ready", "it is back", 40)
            box.event(box.latest()).path.joinpath("ctl").write_text("kill\n")
            box.event(box.latest()).wait()
        box.destroy()


class Known(SilenceCase):
    def test_what_is_known_here_is_answered_within_ten_milliseconds(self) -> None:
        box, relay = self.relayed("known")
        work = os.open(box.path / "fs" / "workspace", os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, work)
        os.fstatvfs(work)
        asked: dict[str, Call] = {
            "ls MNT": lambda: os.listdir(self.mnt), "ls -l MNT": lambda: [os.stat(e) for e in os.scandir(self.mnt)],
            "ls BOX": lambda: [os.lstat(e.path) for e in os.scandir(box.path)],
            "df MNT": lambda: os.statvfs(self.mnt), "df BOX": lambda: os.statvfs(box.path),
            "cat status": (box.path / "status").read_text, "cat error": (box.path / "error").read_text,
            "cat info.json": (box.path / "info.json").read_text,
            "cat last_error": (self.mnt / ".mount" / "last_error").read_text}

        def measure(which: str) -> None:
            figures = []
            for what, call in asked.items():
                took = []
                for _ in range(15):
                    started = time.monotonic()
                    call()
                    took.append((time.monotonic() - started) * 1000)
                # Others use this machine, too: the median.
                self.assertLess(statistics.median(took), 10, f"{what}, {which}: {took}")
                figures.append(f"{what} {statistics.median(took):.2f}")
            print(f"{which}, ms: {', '.join(figures)}", file=sys.stderr)

        relay.swallow(True)
        # Asked for, and waited for a quarter of a second; then memory answers.
        started = time.monotonic()
        os.fstatvfs(work)
        self.assertLess(time.monotonic() - started, 2)
        asked["df BOX/fs"] = lambda: os.fstatvfs(work)
        self.assertGreater(os.fstatvfs(work).f_blocks, 0)
        measure("silent")
        relay.swallow(False)
        relay.refuse(True)
        wait_until(lambda: box.status == "unreachable", "it is known to be down", 30)
        measure("down")
        relay.refuse(False)
        wait_until(lambda: box.status == "ready", "it is back", 40)
        box.destroy()


class Hole:
    listener: socket.socket


def configuration(place: Place) -> str:
    """With a machine that takes connections and says nothing."""
    listener = Hole.listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    place.at_end(listener.close)
    key = place.path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    return f"""default_template = "default"
[templates.default]
provider = "local"
workdir = "/workspace"
[providers.silent]
backend = "ssh"
host = "127.0.0.1"
port = {listener.getsockname()[1]}
user = "nobody"
identity_file = "{key}"
agent = false
host_key = "{public}"
[templates.hole]
provider = "silent"
workdir = "/tmp"
"""


if __name__ == "__main__":
    main(limit=110, box=None, configure=configuration, options=["exec", "writeback=off"])
