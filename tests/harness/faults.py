#!/usr/bin/env python3
"""Faults of links, mixed, for long: sandboxes of providers ssh and local on one mount, each behind a link that breaks by a
seeded schedule while workers run commands, write, save and read.

  of a machine   its sshd is killed, restarted, stopped (SIGSTOP), shows another host key; a stranger's sshd has its address
  of a link      reset every 200 ms under 100 MB of output, silent in both directions or one, half-open, trickling, late
  of this side   the daemon is stopped for a while, as by a laptop that sleeps

Afterwards each command has run at most once, and what is called complete is so to the byte; a refused one has not begun
and names the change that is missing; what was fsynced is there; what was answered ahead is there, or its loss was reported;
no wait outlasts its bound; a killed client is free within its bound; the gauges of .mount/metrics and the kernel's count of
requests are back at 0; a sandbox whose link was never touched has noticed nothing.

--seconds N goes on so long, at least until every fault was tried. SBXFS_SEED repeats a schedule."""

import argparse
import contextlib
import errno
import hashlib
import multiprocessing
import os
import queue
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.ledger import Call, Command, Ledger, Sandbox, digest  # noqa: E402
from harness.relay import IN, OUT, PortRelay, Relay  # noqa: E402
from harness.soak import ZERO, FakeDaemon, attended, settle  # noqa: E402
from live.box import Box  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import Place, isolate, require, sbxfs, slack, wait_until  # noqa: E402
from live.silence import Waiter  # noqa: E402
from live.sshd import Sshd, make_key  # noqa: E402

OP_TIMEOUT = 8.0  # of this mount: shorter than most faults
NAME_CHANGE = 5.0
LOOKS = 1.5 * OP_TIMEOUT  # a path: one name that is answered late, and one that is not
SLACK = 2.0  # seconds, of a machine that is ours
FREED = 1.0  # of the contract: whoever waits for our answer, after a signal
RECOVERY = 60.0  # a link that is whole again, until its sandbox is ready
KEEPALIVE = 45.0  # silence, until a connection is given up: three times 15 s (ssh_attachment.cc)
# What an operation may say while the link is as it is; EACCES: another host key. EIO: only where a loss is reported.
CUT = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EACCES}
CUT_DATA = CUT | {errno.ESTALE, errno.EIO}
BIG = 6_500_000  # lines; with both streams 100 MB
STRANGER = "host key"
ALONE = "waits for an answer"
# Two who look the same name up: the kernel asks once, and the second one waits for the first where no signal reaches it.
BEHIND_A_LOOK = re.compile("d_alloc_parallel|d_wait_lookup|unknown")
UNKNOWN = "may or may not have been made"
# What the daemon is meant to say of all this.
ALLOWED = (r"refused op=", r"outcome", r"sandbox status ", r"a change was lost", r"link", r"attach", r"reconnect")


@dataclass
class Report:
    """What one worker was promised."""

    box: str
    commands: list[Command] = field(default_factory=list)
    durable: dict[str, str] = field(default_factory=dict)  # below work: digest
    answered: dict[str, str] = field(default_factory=dict)  # there too, or reported as lost
    possible: dict[str, set[Optional[str]]] = field(default_factory=dict)  # of names whose last change nobody knows
    said: str = ""  # every text of `error` that was read
    lost: int = 0  # operations that said EIO
    operations: int = 0
    longest: dict[str, float] = field(default_factory=dict)  # seconds, by what waited
    where: dict[str, str] = field(default_factory=dict)  # in the kernel, half a second after its signal
    refusals: dict[str, int] = field(default_factory=dict)
    medians: dict[str, float] = field(default_factory=dict)


class Clock:
    """Time during which the daemon could have answered: shared by all processes."""

    def __init__(self) -> None:
        self._lock = multiprocessing.Lock()
        self._stopped = multiprocessing.Value("d", 0.0)  # in all
        self._since = multiprocessing.Value("d", 0.0)  # 0: it runs

    def now(self) -> float:
        with self._lock:
            return (self._since.value or time.monotonic()) - self._stopped.value

    def stopped(self) -> float:
        """How long the daemon has been stopped, or would have been."""
        with self._lock:
            return self._stopped.value + (time.monotonic() - self._since.value if self._since.value else 0)

    def stop(self) -> None:
        with self._lock:
            self._since.value = time.monotonic()

    def go_on(self) -> None:
        with self._lock:
            self._stopped.value += time.monotonic() - self._since.value
            self._since.value = 0.0


class Worker:
    """A process's part, at one sandbox. `strict`: its link is never touched, and no operation may fail."""

    def __init__(self, mnt: Path, starts: Path, inside: str, name: str, number: int, seed: int, clock: Clock,
                 stop: Any, strict: bool) -> None:
        self.mnt = mnt
        self.box = Box(FakeDaemon(mnt), name)  # type: ignore[arg-type]
        self.dice = random.Random(seed)
        self.number = number
        self.clock = clock
        self.stopped = stop
        self.strict = strict
        self.report = Report(name)
        self.ledger = Ledger(FakeDaemon(mnt), starts, inside)  # type: ignore[arg-type]
        self.sandbox = Sandbox(name, 1)
        self.turns = 0

    def run(self) -> Report:
        while not self.stopped.is_set():
            self.turns += 1
            self.turn()
        self.end()
        self.report.commands = self.sandbox.commands
        return self.report

    def turn(self) -> None: ...
    def end(self) -> None: ...

    def attempt(self, what: str, limit: float, allowed: set[int], call: Callable[[], Any]) -> Any:
        """The call's answer, or None for a refusal; it may not take longer than `limit`."""
        started, stopped = self.clock.now(), self.clock.stopped()
        try:
            answer = call()
            return True if answer is None else answer
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0, "?")
            # A request waits by the clock, also while the daemon cannot hear of its answer.
            slept = error.errno == errno.ETIMEDOUT and self.clock.stopped() - stopped > NAME_CHANGE - SLACK
            assert error.errno in allowed and (slept or not self.strict), f"{what} in {self.box.name}: {error}"
            self.report.refusals[code] = self.report.refusals.get(code, 0) + 1
            if error.errno == errno.EIO:
                self.report.lost += 1
                self.report.said += (self.box.path / "error").read_text()
            return None
        finally:
            took = self.clock.now() - started
            self.report.operations += 1
            self.report.longest[what] = max(took, self.report.longest.get(what, 0))
            assert took < limit + slack(SLACK), f"{what} in {self.box.name} took {took:.1f} s, its bound is {limit} s"


class Commands(Worker):
    """Numbered lines on both streams, serial and parallel, each with a line of its start outside of the sandbox."""

    def turn(self) -> None:
        living = [one for one in self.sandbox.commands if one.submit is Call.ACKNOWLEDGED and one.seen is None]
        if len(living) >= 5 or living and self.dice.random() < 0.4:
            return self.look(self.dice.choice(living))
        lines = self.dice.choice([1, 50, 2000])
        text = "".join(f"{n}\n" for n in range(1, lines + 1)).encode()
        rest = self.dice.choice(["", "sleep 0.3\n"])
        label = f"c{self.number}-{self.turns}"
        command = self.ledger.command(self.sandbox, label, f"seq {lines}\n{rest}seq {lines} >&2", text, stderr=text,
                                      name=label if self.dice.random() < 0.5 else "")
        self.attempt("submit", NAME_CHANGE, {errno.EAGAIN}, lambda: self.ledger.submit(self.sandbox, command))

    def look(self, command: Command) -> None:
        """From memory, whatever the link does; what has ended is compared, and may not change any more."""
        event = self.ledger.event(self.sandbox, command)
        said = self.attempt("wait.1", 1, set(), (event / "wait.1").read_text)
        if said == "exited 0\n":
            self.attempt("read output", 1, set(), lambda: self.ledger.check_output(event, command))


class Files(Worker):
    """A directory of its own: files made and synced, saved by rename, left unsynced, read back."""

    def path(self, name: str) -> Path:
        return self.box.path / "work" / f"w{self.number}" / name

    def key(self, name: str) -> str:
        return f"w{self.number}/{name}"

    def turn(self) -> None:
        kind = self.dice.choices([self.synced, self.saved, self.unsynced, self.read], [3, 3, 3, 4])[0]
        kind()
        if self.dice.random() < 0.1:
            self.report.said += (self.box.path / "error").read_text()

    def data(self) -> bytes:
        return self.dice.randbytes(self.dice.choice([1, 700, 5_000, 70_000, 600_000]))

    def put(self, name: str, data: bytes, sync: bool) -> bool:
        """Made and written; whether every answer that counts was good."""
        path = self.path(name)
        self.report.possible[self.key(name)] = {None, "prefix of " + data.hex()[:64], digest(b""), digest(data)}
        handle = self.attempt("create", LOOKS + NAME_CHANGE, CUT_DATA,
                              lambda: os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        if handle is None:
            return False
        good, rest = True, memoryview(data)
        while rest and good:
            some = self.attempt("write", OP_TIMEOUT, CUT_DATA, lambda: os.write(handle, rest[:1 << 17]))
            good = some is not None
            rest = rest[some:] if good else rest
        if sync and good:
            good = self.attempt("fsync", OP_TIMEOUT, CUT_DATA, lambda: os.fsync(handle)) is not None
        closed = self.attempt("close", OP_TIMEOUT, CUT_DATA, lambda: os.close(handle)) is not None
        good = good and (sync or closed)
        if good:
            self.report.possible.pop(self.key(name))
            (self.report.durable if sync else self.report.answered)[self.key(name)] = digest(data)
        return good

    def synced(self) -> None:
        self.put(f"s{self.turns}", self.data(), True)

    def unsynced(self) -> None:
        self.put(f"u{self.turns}", self.data(), False)

    def saved(self) -> None:
        """As editors do: what is at the name is whole at any time."""
        name, data = self.dice.choice(["doc", "note"]), self.data()
        new, at = f"{name}.{self.turns}", self.key(name)
        if not self.put(new, data, True):
            return
        self.report.durable.pop(self.key(new))
        before = self.report.possible.pop(at, {self.report.answered.pop(at, None)})
        if self.attempt("rename", 2 * LOOKS + NAME_CHANGE, CUT_DATA,
                        lambda: os.rename(self.path(new), self.path(name))):
            self.report.answered[at] = digest(data)
            # Where that is lost later, and reported, both are as they were.
            self.report.possible[self.key(new)] = {None, digest(data)}
            self.before_rename = {**getattr(self, "before_rename", {}), at: before}
        else:
            self.report.possible[at] = before | {digest(data)}
            self.report.possible[self.key(new)] = {None, digest(data)}

    def read(self) -> None:
        known = list(self.report.durable) + [one for one in self.report.answered if not one.endswith(("doc", "note"))]
        if not known:
            return
        key = self.dice.choice(known[-30:])
        got = self.attempt("read", LOOKS + 2 * OP_TIMEOUT, CUT_DATA, (self.box.path / "work" / key).read_bytes)
        want = self.report.durable.get(key) or self.report.answered[key]
        assert got is None or got is True or digest(got) == want, \
            f"{key} in {self.box.name} has {len(got)} bytes, or others than were written"


def where_it_waits(pid: int) -> str:
    """In the kernel, as root may see it."""
    with contextlib.suppress(OSError):
        return " < ".join(line.split()[-1].split("+")[0] for line in Path(f"/proc/{pid}/stack").read_text().splitlines()[:6])
    return "unknown"


class Probes(Worker):
    """Clients that are killed while they wait, and the control tree."""

    def __init__(self, *all_of: Any, boxes: list[str]) -> None:
        super().__init__(*all_of)
        self.boxes = boxes
        self.control: list[float] = []

    def turn(self) -> None:
        where = self.mnt / self.dice.choice(self.boxes)
        here, fresh = where / "work", f"f{self.number}-{self.turns}"
        shared, mine = here / "shared", here / f"p{self.number}"
        own: dict[str, Callable[[], Any]] = {
            "stat": lambda: os.stat(mine / fresh), "list": lambda: os.listdir(mine), "statvfs": lambda: os.statvfs(mine),
            "read": lambda: (mine / "read").read_bytes(), "chmod": lambda: os.chmod(mine / "read", 0o640),
            "write": lambda: self.write(mine / fresh)}
        behind: dict[str, Callable[[], Any]] = {
            "mkdir": lambda: os.mkdir(shared / fresh), "another mkdir": lambda: os.mkdir(shared / f"{fresh}b"),
            "rename": lambda: os.rename(shared / f"{fresh}c", shared / f"{fresh}d")}
        if self.dice.random() < 0.7:
            kind = self.dice.choice(sorted(own))
            self.kill(ALONE, {kind: own[kind]}, FREED)
        else:
            # Each looks its name up while the kernel holds the directory, and makes it.
            self.kill("waits behind others", behind, LOOKS + NAME_CHANGE)
        self.look()

    def write(self, path: Path) -> None:
        with open(path, "wb", buffering=0) as file:
            file.write(b"x" * 5000)
            os.fsync(file.fileno())

    def kill(self, what: str, calls: dict[str, Callable[[], Any]], limit: float) -> None:
        waiters = [Waiter(kind, lambda call=call: call) for kind, call in calls.items()]  # type: ignore[misc]
        try:
            for waiter in waiters:
                waiter.hear(b"r")
            for waiter in waiters:
                waiter.go()
            time.sleep(self.dice.choice([0, 0.05, 0.4]))  # the load's pace; nothing is awaited
            if not any(waiter.waits() for waiter in waiters):
                return
            started, there = self.clock.now(), ""
            for waiter in waiters:
                if not waiter.ended():
                    os.kill(waiter.pid, signal.SIGKILL)
            while not all(waiter.ended() for waiter in waiters):
                took = self.clock.now() - started
                if took > FREED / 2 and not there:
                    there = ", ".join(f"{one.what}: {where_it_waits(one.pid)}" for one in waiters if not one.ended())
                    if what == ALONE and BEHIND_A_LOOK.search(there):
                        what, limit = "waits behind another's look", LOOKS
                assert took < limit + slack(SLACK), f"a killed client that {what} is there after {took:.1f} s: {there}"
                time.sleep(0.001)
            took = self.clock.now() - started
            if took > self.report.longest.get(what, 0):
                self.report.longest[what] = took
                self.report.where[what] = there
            self.report.operations += 1
        finally:
            for waiter in waiters:
                waiter.close()

    def look(self) -> None:
        started = self.clock.now()
        os.listdir(self.mnt)
        for name in self.boxes:
            assert (self.mnt / name / "status").read_text() in ("ready\n", "unreachable\n"), name
        took = self.clock.now() - started
        self.control.append(took)
        self.report.longest["control tree"] = max(self.control)
        assert took < FREED + slack(SLACK), f"ls and {len(self.boxes)} times status took {took:.1f} s"

    def end(self) -> None:
        self.report.medians["control tree"] = statistics.median(self.control or [0])


def work(worker: Worker, go: Any, told: Any) -> None:
    try:
        go.wait()
        told.put(worker.run())
    except BaseException:  # pylint: disable=broad-except
        told.put(f"{type(worker).__name__} in {worker.box.name}: {traceback.format_exc()}")


class Site:
    """A sandbox and the link to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.relay: Any = None
        self.box: Any = None
        self.tried: list[str] = []
        self.recovered = 0.0  # the longest, seconds
        self.noticed = 0.0  # that a connection is half-open, likewise

    def faults(self) -> dict[str, Callable[[float], None]]:
        return {"resets": self.resets, "black hole": lambda s: self.silence(s, (IN, OUT)),
                "one way in": lambda s: self.silence(s, (IN,)), "one way out": lambda s: self.silence(s, (OUT,)),
                "drip": self.drip, "late": self.late, "nobody in": self.nobody_in}

    def resets(self, seconds: float) -> None:
        """Under output that is longer than they last."""
        label = f"big{len(self.tried)}"
        (self.box.path / "run" / label).write_text(f"seq {BIG} & seq {BIG} >&2; wait")
        event = self.box.event(label)
        until = time.monotonic() + max(seconds, 3)
        while time.monotonic() < until:
            self.relay.cut()
            time.sleep(0.2)  # what is asked for: a reset so often
        self.await_ready()
        said = event.wait(120)
        if said.startswith("refused"):
            assert "/" in event.text("error"), event.text("error")
        else:
            assert said == "exited 0", f"{label}: {said}"
            for stream in ("stdout", "stderr"):
                got = hashlib.sha256()
                with (event.path / stream).open("rb") as file:
                    while piece := file.read(1 << 20):
                        got.update(piece)
                assert got.hexdigest() == big_digest(), f"{label}: {stream} has other bytes"
        event.path.resolve().rmdir()

    def silence(self, seconds: float, ways: tuple[str, ...]) -> None:
        self.relay.swallow(True, ways)
        time.sleep(seconds)
        self.relay.swallow(False)

    def drip(self, seconds: float) -> None:
        self.relay.trickle(3000)
        time.sleep(seconds)
        self.relay.trickle(0)

    def late(self, seconds: float) -> None:
        """Nothing is lost, but for now nothing comes."""
        self.relay.hold(True)
        time.sleep(seconds)
        self.relay.hold(False)

    def nobody_in(self, seconds: float) -> None:
        self.relay.refuse(True)
        time.sleep(seconds)
        self.relay.refuse(False)

    def await_ready(self) -> None:
        started = time.monotonic()
        wait_until(lambda: self.box.status == "ready", f"{self.name} is ready again", RECOVERY)
        self.recovered = max(self.recovered, time.monotonic() - started)

    def run(self, dice: random.Random, first: list[str], until: float, stop: threading.Event) -> None:
        """The faults of `first`, then any, until the time is over."""
        every = self.faults()
        while not stop.is_set() and (first or time.monotonic() < until):
            name = first.pop(0) if first else dice.choice(sorted(every))
            self.tried.append(name)
            every[name](dice.uniform(0.5, 4) if dice.random() < 0.8 else OP_TIMEOUT + 3)
            if dice.random() < 0.7:
                self.await_ready()
            stop.wait(dice.uniform(0.1, 1))


class LocalSite(Site):
    def begin(self, daemon: Daemon) -> None:
        self.box = Box.make(daemon, self.name)
        assert daemon.process is not None
        self.relay = Relay(self.box.directory / "ssh.sock", daemon.process.pid)
        self.sshd_killed(0)
        wait_until(self.relay.in_use, "the daemon comes by the relay")

    def faults(self) -> dict[str, Callable[[float], None]]:
        return {**super().faults(), "sshd killed": self.sshd_killed}

    def sshd_killed(self, _: float) -> None:
        """Those of the connections; the sandbox's own starts others."""
        for pid, line in self.box.processes().items():
            if "sshd" in line and pid != self.box.init():
                with contextlib.suppress(ProcessLookupError):  # its parent was faster
                    os.kill(pid, signal.SIGKILL)

    def truth(self) -> Path:
        return self.box.path / "work"

    def end(self) -> None:
        self.relay.stop()


class SshSite(Site):
    def __init__(self, name: str, place: Place, stranger: Sshd) -> None:
        super().__init__(name)
        self.sshd = Sshd(place, name[0])
        self.stranger = stranger
        make_key(self.sshd.path / "host_other")
        (self.sshd.home / "work").mkdir()
        self.relay: PortRelay

    def begin(self, daemon: Daemon) -> None:
        self.box = Box.make(daemon, self.name)

    def faults(self) -> dict[str, Callable[[float], None]]:
        return {**super().faults(), "sshd killed": self.sshd_killed, "sshd restarted": self.sshd_restarted,
                "sshd stopped": self.sshd_stopped, "half-open": self.half_open, "another host key": self.other_key,
                "a stranger": self.a_stranger}

    def sshd_killed(self, seconds: float) -> None:
        self.sshd.stop()
        time.sleep(seconds)
        self.sshd.start()

    def half_open(self, _: float) -> None:
        """The daemon itself has to find out. Not of a socket of this machine: nothing is between its ends."""
        self.relay.lose()
        started = time.monotonic()
        # Whose timers wait while it is stopped itself.
        wait_until(lambda: self.relay.deaf() == 0, f"{self.name}: a half-open connection is given up", 2 * KEEPALIVE)
        self.noticed = max(self.noticed, time.monotonic() - started)

    def sshd_restarted(self, _: float) -> None:
        self.sshd.restart()

    def sshd_stopped(self, seconds: float) -> None:
        assert self.sshd.process is not None
        stopped = [self.sshd.process.pid, *self.sshd.sessions()]
        self.signal(stopped, signal.SIGSTOP)
        time.sleep(seconds)
        self.signal(stopped, signal.SIGCONT)

    def signal(self, pids: list[int], number: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def other_key(self, _: float) -> None:
        self.sshd.stop()
        types, self.sshd.types = self.sshd.types, ("other",)
        self.sshd.start()
        self.await_refusal()
        self.sshd.stop()
        self.sshd.types = types
        self.sshd.start()

    def a_stranger(self, _: float) -> None:
        self.relay.leads_to = self.stranger.port
        self.relay.cut()
        self.await_refusal()
        self.relay.leads_to = self.sshd.port
        self.relay.cut()

    def await_refusal(self) -> None:
        wait_until(lambda: STRANGER in (self.box.path / "error").read_text() and self.box.status == "unreachable",
                   f"{self.name} says whose key it is not", RECOVERY)

    def truth(self) -> Path:
        return self.sshd.home / "work"

    def end(self) -> None:
        self.sshd.stop()
        self.relay.stop()


_big = ""


def big_digest() -> str:
    global _big
    if not _big:
        _big = hashlib.sha256(subprocess.run(["seq", str(BIG)], stdout=subprocess.PIPE, check=True).stdout).hexdigest()
    return _big


class Faults:
    def __init__(self, seed: int, seconds: float) -> None:
        self.dice = random.Random(seed)
        self.seconds = seconds
        self.place = Place()
        self.starts = self.place.path / "starts"
        self.starts.mkdir()
        self.daemon = Daemon(self.place, options=[f"op_timeout={OP_TIMEOUT:g}"])
        self.stranger = Sshd(self.place, "stranger")
        self.alone = SshSite("x@alone", self.place, self.stranger)
        self.shared = SshSite("y@shared", self.place, self.stranger)
        self.local = LocalSite("l")
        self.sites: list[Any] = [self.alone, self.shared, self.local]
        self.clock = Clock()
        self.failed: list[str] = []
        self.suspended = 0

    def configure(self) -> str:
        text = f"""default_template = "local"
[templates.local]
provider = "local"
workdir = "/workspace"
binds = ["{self.starts}:/starts:rw"]
"""
        for site in (self.alone, self.shared):
            kind = site.name.split("@")[1]
            site.sshd.start()
            site.relay = PortRelay(site.sshd.port)
            text += f"""[providers.{kind}]
backend = "ssh"
host = "127.0.0.1"
port = {site.relay.port}
user = "{site.sshd.user}"
identity_file = "{site.sshd.identity}"
agent = false
host_key = "{site.sshd.host_keys[0]}"
[templates.{kind}]
provider = "{kind}"
workdir = "{site.sshd.home}/work"
exclusive = {str(site is self.alone).lower()}
"""
        # Whoever is let in by the stranger has shown it a key; it would let them in.
        self.stranger.authorize((self.alone.sshd.path / "identity.pub").read_text().strip())
        self.stranger.authorize((self.shared.sshd.path / "identity.pub").read_text().strip())
        self.stranger.start()
        return text

    def crew(self, stop: Any) -> list[Worker]:
        made: list[Worker] = []
        boxes = [site.name for site in self.sites]
        for name in (*boxes, "m"):
            inside = str(self.starts) if "@" in name else "/starts"
            for kind in (Commands, Files):
                made.append(kind(self.daemon.mnt, self.starts, inside, name, len(made), self.dice.randrange(1 << 30),
                                 self.clock, stop, name == "m"))
        for _ in range(2):
            made.append(Probes(self.daemon.mnt, self.starts, "/starts", "m", len(made), self.dice.randrange(1 << 30),
                               self.clock, stop, False, boxes=boxes))
        return made

    def run(self) -> None:
        # The workers first: they must not hold what is about to be opened, or a reset would reach nobody.
        go, stop, told = multiprocessing.Event(), multiprocessing.Event(), multiprocessing.Queue()
        crew = self.crew(stop)
        processes = [multiprocessing.Process(target=work, args=(worker, go, told)) for worker in crew]
        for process in processes:
            process.start()
        try:
            self.begin(crew)
            self.reports = self.load(go, stop, told, processes)
        finally:
            stop.set()
            go.set()
            for process in processes:
                process.join(5)
                if process.is_alive():
                    process.kill()
        if not self.failed:
            self.check()
        self.tell()

    def begin(self, crew: list[Worker]) -> None:
        self.daemon.config = self.configure()
        self.daemon.start()
        for site in self.sites:
            site.begin(self.daemon)
        self.untouched = Box.make(self.daemon, "m")
        for worker in crew:
            if isinstance(worker, Files):
                worker.path("").mkdir()
        for site in self.sites:
            (site.box.path / "work" / "shared").mkdir()
            for worker in crew:
                if isinstance(worker, Probes):
                    own = site.box.path / "work" / f"p{worker.number}"
                    own.mkdir()
                    (own / "read").write_bytes(b"r" * 10_000)
            site.box.sh("true")

    def load(self, go: Any, stop: Any, told: Any, processes: list[Any]) -> list[Report]:
        big_digest()
        until = time.monotonic() + self.seconds
        ended = threading.Event()
        threads = []
        for site, first in self.deal():
            threads.append(threading.Thread(target=self.guard, args=(site.name, lambda site=site, first=first, seed=self.dice.randrange(
                1 << 30): site.run(random.Random(seed), first, until, ended), ended)))
        threads.append(threading.Thread(target=self.guard, args=("suspend", lambda: self.suspend(until, ended), ended)))
        go.set()
        for thread in threads:
            thread.start()
        reports: list[Report] = []
        while any(thread.is_alive() for thread in threads):
            self.hear(told, reports, 0.2)
            if reports or self.failed:
                ended.set()
        stop.set()
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 6 * OP_TIMEOUT
        while len(reports) + len(self.failed) < len(processes) and time.monotonic() < deadline:
            self.hear(told, reports, 1)
        if not self.failed and len(reports) < len(processes):
            self.failed.append(f"only {len(reports)} of {len(processes)} workers have ended")
        return reports

    def hear(self, told: Any, reports: list[Report], limit: float) -> None:
        with contextlib.suppress(queue.Empty):
            said = told.get(timeout=limit)
            if isinstance(said, Report):
                reports.append(said)
            else:
                self.failed.append(said)

    def guard(self, name: str, job: Callable[[], None], ended: threading.Event) -> None:
        try:
            job()
        except BaseException:  # pylint: disable=broad-except
            self.failed.append(f"{name}: {traceback.format_exc()}")
            ended.set()

    def deal(self) -> list[tuple[Site, list[str]]]:
        """Each fault is tried at one sandbox at least, before any is tried again."""
        hands: dict[str, list[str]] = {site.name: [] for site in self.sites}
        for fault in self.alone.faults():
            able = [site for site in self.sites if fault in site.faults()]
            hands[min(able, key=lambda site: (len(hands[site.name]), self.dice.random())).name].append(fault)
        for hand in hands.values():
            self.dice.shuffle(hand)
        return [(site, hands[site.name]) for site in self.sites]

    def suspend(self, until: float, ended: threading.Event) -> None:
        assert self.daemon.process is not None
        dice = random.Random(self.dice.randrange(1 << 30))
        while True:
            if ended.wait(dice.uniform(4, 15)) or time.monotonic() > until:
                if self.suspended or ended.is_set():
                    return
            self.clock.stop()
            self.daemon.process.send_signal(signal.SIGSTOP)
            ended.wait(dice.choice([0.5, 2, OP_TIMEOUT + 1]))
            self.daemon.process.send_signal(signal.SIGCONT)
            self.clock.go_on()
            self.suspended += 1

    # --- afterwards

    def check(self) -> None:
        for site in self.sites:
            site.await_ready()
        last_error = (self.daemon.mnt / ".mount" / "last_error").read_text()
        log = self.daemon.log.read_text(errors="replace")
        for report in self.reports:
            said = report.said + last_error + log
            for problem in (*self.wrong_commands(report), *self.wrong_files(report, said)):
                self.failed.append(f"{report.box}: {problem}")
        for site in self.sites:
            # A loss that nobody has heard of yet stops one command.
            (site.box.path / "error").read_text()
            site.box.run("heard", "true").wait()
            if site.box.sh("echo well") != "well\n":
                self.failed.append(f"{site.name} does not work any more")
        if self.stranger.listing():
            self.failed.append(f"something was done on the stranger's machine: {self.stranger.listing()}")
        if not [fault for fault in self.alone.faults()
                if not any(fault in site.tried for site in self.sites)] == []:
            self.failed.append("not every fault was tried")
        wait_until(lambda: self.daemon.waiting() == 0, "the kernel waits for nothing", 40)
        boxes = [site.box for site in self.sites] + [self.untouched]
        busy: list[str] = []

        def idle() -> bool:
            busy[:] = [f"{name} is {value:g}" for name, value in settle(self.daemon.mnt, boxes).items()
                       if name.startswith(ZERO) and value != 0]
            return not busy
        try:
            wait_until(idle, "every gauge is 0 again", 40, pause=0.3)
        except AssertionError:
            self.failed.extend(busy)
        self.failed.extend(f"log: {line}" for line in self.daemon.complaints(ALLOWED))

    def wrong_commands(self, report: Report) -> Iterator[str]:
        ledger = Ledger(self.daemon, self.starts)
        sandbox = Sandbox(report.box, 1)
        self.outcomes = getattr(self, "outcomes", {})
        for command in report.commands:
            count = ledger.started(command)
            if count > 1:
                yield f"{command.token} ran {count} times"
            if command.submit is not Call.ACKNOWLEDGED:
                continue
            event = ledger.event(sandbox, command)
            said = (event / "wait.60").read_text().strip()
            self.outcomes[said] = self.outcomes.get(said, 0) + 1
            if said == "refused":
                why = (event / "error").read_text()
                untouched = report.box == "m" and not any(
                    one.box == "m" and "ETIMEDOUT" in one.refusals for one in self.reports)
                if ledger.started(command) or not any(word in why for word in ("work", UNKNOWN)) or untouched:
                    yield f"{command.token} is refused, was started {ledger.started(command)} times, and says: {why}"
                continue
            try:
                ledger.check_ended(event, command)
            except AssertionError as error:
                yield str(error)

    def wrong_files(self, report: Report, said: str) -> Iterator[str]:
        site = next((one for one in self.sites if one.name == report.box), None)
        truth = site.truth() if site is not None else self.untouched.path / "work"
        for key, want in {**report.durable, **report.answered}.items():
            seen = {where: content(root / key) for where, root in
                    (("the sandbox", truth), ("the mount", self.daemon.mnt / report.box / "work"))}
            for where, got in seen.items():
                if got == want:
                    continue
                if key in report.durable:
                    yield f"{key} was fsynced and is {'gone' if got is None else 'another'} in {where}"
                elif f"/{key}" not in said:
                    yield f"{key} is {'gone' if got is None else 'another'} in {where}, and nobody has said so"
        for key, might in report.possible.items():
            if any(str(one).startswith("prefix") for one in might):
                continue  # torn: nobody has said that it is whole
            got = content(truth / key)
            if got not in might and f"/{key}" not in said:
                yield f"{key} is what it can never have been"

    def tell(self) -> None:
        longest: dict[str, float] = {}
        refusals: dict[str, int] = {}
        for report in getattr(self, "reports", []):
            for what, took in report.longest.items():
                longest[what] = max(took, longest.get(what, 0))
            for code, count in report.refusals.items():
                refusals[code] = refusals.get(code, 0) + count
        reports = getattr(self, "reports", [])
        for report in reports:
            for what, there in report.where.items():
                if there:
                    print(f"faults: {report.longest[what]:.2f} s: {what}: {there}")
        print(f"faults: {sum(len(site.tried) for site in self.sites)} faults, daemon stopped {self.suspended} times; "
              + "; ".join(f"{site.name}: {', '.join(site.tried)}; ready again after at most {site.recovered:.1f} s, "
                          f"half-open for at most {site.noticed:.1f} s"
                          for site in self.sites))
        print(f"faults: {sum(report.operations for report in reports)} operations, refusals {refusals}, "
              f"{sum(len(report.commands) for report in reports)} commands {getattr(self, 'outcomes', {})}, "
              f"{sum(len(report.durable) for report in reports)} files fsynced, "
              f"{sum(len(report.answered) for report in reports)} answered, EIO {sum(report.lost for report in reports)}")
        print("faults: longest, s: " + ", ".join(f"{what} {took:.2f}" for what, took in sorted(longest.items()))
              + "; median of the control tree "
              + f"{max([report.medians.get('control tree', 0) for report in reports] or [0]) * 1000:.1f} ms", flush=True)

    def finish(self) -> list[str]:
        left = [f"supervisor {pid} of {site.name}" for site in (self.alone, self.shared) for pid in site.sshd.supervisors()]
        left += [f"{site.name}: .sbxfs" for site in (self.alone, self.shared) if ".sbxfs" in site.sshd.listing()]
        for site in self.sites:
            site.end()
        self.stranger.stop()
        return left


def content(path: Path) -> Optional[str]:
    try:
        return digest(path.read_bytes())
    except FileNotFoundError:
        return None


def main() -> int:
    require()
    isolate()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SBXFS_SEED", "0")))
    options = parser.parse_args()
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    print(f"faults: {options.seconds:g} s, seed {seed}, {sbxfs()}", flush=True)
    faults = Faults(seed, options.seconds)
    return attended("faults", faults, options.seconds, faults.run, faults.finish)


if __name__ == "__main__":
    sys.exit(main())
