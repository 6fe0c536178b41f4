"""Programs that use sandboxes while their links have faults (faults.py), and what each was told: a process each. Any number of
them; the clock that leaves out the times when the daemon was stopped is theirs in common."""

import contextlib
import errno
import multiprocessing
import os
import random
import re
import signal
import statistics
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from harness.ledger import Call, Command, Ledger, Sandbox, digest
from harness.soak import FakeDaemon
from live.box import Box
from live.place import slack
from live.silence import Waiter

OP_TIMEOUT = 8.0  # of this mount: shorter than most faults
NAME_CHANGE = 5.0
LOOKS = 1.5 * OP_TIMEOUT  # a path: one name that is answered late, and one that is not
SLACK = 2.0  # seconds, of a machine that is ours
FREED = 1.0  # of the contract: whoever waits for our answer, after a signal
# What an operation may say while the link is as it is; EACCES: another host key. EIO: only where a loss is reported.
CUT = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EACCES}
CUT_DATA = CUT | {errno.ESTALE, errno.EIO}
ALONE = "waits for an answer"
# Two who look the same name up: the kernel asks once, and the second one waits for the first where no signal reaches it.
BEHIND_A_LOOK = re.compile("d_alloc_parallel|d_wait_lookup|unknown")


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
