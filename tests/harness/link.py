#!/usr/bin/env python3
"""The link harness: the connection to a sandbox is cut after the k-th byte of a scripted session, and the daemon
reconnects by itself. Commands accepted meanwhile start exactly once and their output is whole; each change of a
file either is made or is answered with an error that says so; nothing hangs.

  launch_in, launch_out    from the first byte of a new sandbox: login, the supervisor's upload, then the script
  steady_in, steady_out    from the first byte of the script, over a connection that is there
  again_in, again_out      from the first byte of a new connection to a sandbox that lives: login, attach, the script
  big_in, big_out          like steady, with megabytes of output and of a file
  script_in, script_out    200 changes of names and files, answered ahead, over a way of some milliseconds: none is lost
                           or made twice, and none is said to be (changes.py)

_in counts the bytes to the sandbox, _out those from it.
"""

import errno
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Callable, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.changes import DELAY, Changes  # noqa: E402
from harness.crash import CONFIG  # noqa: E402
from harness.ledger import Ledger, Sandbox  # noqa: E402
from harness.relay import IN, OUT, Relay  # noqa: E402
from harness.sweep import Sweep, arguments, bounded, run  # noqa: E402
from harness.worlds import RelayedWorld  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.place import Place, isolate, require, wait_until  # noqa: E402

LIMIT = 60.0  # seconds for one k
OP_TIMEOUT = 30.0  # of the contract, for one request; name changes have less
NAME_CHANGE = 5.0
SLACK = 2.0
# What a file operation may say when the link was cut under it. EIO: only where data was lost.
CUT = {errno.ETIMEDOUT, errno.EHOSTUNREACH}
CUT_HANDLE = CUT | {errno.ESTALE}
CUT_DATA = CUT_HANDLE | {errno.EIO}
BOX_LIFE = 250  # attempts; after that events and journal are begun anew


class Script:
    """One pass over a sandbox: two commands, and every kind of change of a file while they run."""

    def __init__(self, ledger: Ledger, box: Sandbox, label: str, size: int) -> None:
        self.ledger = ledger
        self.label = label
        self.box = box
        self.work = ledger.path(box) / "work"
        self.data = random.Random(label).randbytes(max(1000, size // 4))
        self.first, self.second = self.work / f"{label}.1", self.work / f"{label}.2"
        # What may be there: None is nothing. Kept as pairs, for a rename moves both at once.
        self.possible: set[tuple[Optional[bytes], Optional[bytes]]] = {(None, None)}
        self.unknown = False  # what became of a change
        self.partial = False  # of `first`: any beginning of the data
        lines = max(100, size // 8)
        text = "".join(f"{n}\n" for n in range(1, lines + 1)).encode()
        both = f"seq {lines}; seq {lines} >&2"
        self.commands = [ledger.command(box, label, both, text, stderr=text),
                         ledger.command(box, f"{label}p", both, text, stderr=text, name=label)]

    def run(self) -> None:
        for command in self.commands:
            # Accepted here, whatever the link does.
            self.bound(NAME_CHANGE, lambda: self.ledger.submit(self.box, command))
        self.change_files()
        for command in self.commands:
            self.ledger.finish(self.box, command)

    def change_files(self) -> None:
        if self.create():
            self.partial = False
            self.possible = {(self.data, None)}
            self.attempt(OP_TIMEOUT, CUT_HANDLE, self.read_back)
        else:
            self.partial = True
        self.attempt(OP_TIMEOUT, CUT, lambda: os.listdir(self.work))
        done = self.rename()
        moved = {(None, one) for one, _ in self.possible}
        self.possible = moved if done else self.possible | moved
        if self.attempt(NAME_CHANGE, CUT, lambda: os.mkdir(self.work / f"{self.label}.d")):
            self.attempt(OP_TIMEOUT, CUT, lambda: os.listdir(self.work / f"{self.label}.d"))
            self.attempt(NAME_CHANGE, CUT, lambda: os.rmdir(self.work / f"{self.label}.d"))

    def create(self) -> bool:
        """Made and written, and every answer was good."""
        handle = -1

        def make() -> None:
            nonlocal handle
            handle = os.open(self.first, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)

        self.possible |= {(b"", None)}
        if not self.attempt(NAME_CHANGE, CUT, make):
            return False
        good = True
        view = memoryview(self.data)
        while view and good:
            def write() -> None:
                nonlocal view
                view = view[os.write(handle, view[:1 << 18]):]
            good = self.attempt(OP_TIMEOUT, CUT_DATA, write)
        good = self.attempt(OP_TIMEOUT, CUT_DATA, lambda: os.fsync(handle)) and good
        # Also after an error: the descriptor is ours to give back.
        return self.attempt(OP_TIMEOUT, CUT_DATA, lambda: os.close(handle)) and good

    def read_back(self) -> None:
        got = self.first.read_bytes()
        assert got == self.data, f"{self.first} has {len(got)} bytes instead of {len(self.data)}, or others"

    def rename(self) -> bool:
        """A source that may never have been made may be missing; nothing else is new."""
        missing = any(one is None for one, _ in self.possible)
        return self.attempt(NAME_CHANGE, CUT | ({errno.ENOENT} if missing else set()),
                            lambda: os.rename(self.first, self.second))

    def attempt(self, limit: float, allowed: set[int], call: Callable[[], object]) -> bool:
        try:
            self.bound(limit, call)
        except OSError as error:
            if error.errno not in allowed:
                raise
            self.unknown = self.unknown or error.errno == errno.ETIMEDOUT
            return False
        return True

    def be_refused(self) -> None:
        """A change of which nobody could tell has stopped the next command, and no other."""
        (self.ledger.path(self.box) / "run" / f"{self.label}.q").write_text("true\n")
        said = (self.ledger.path(self.box) / "events" / f"{self.label}.q" / "wait.30").read_text()
        assert said in ("refused\n", "exited 0\n"), said

    def bound(self, limit: float, call: Callable[[], object]) -> None:
        started = time.monotonic()
        try:
            call()
        finally:
            took = time.monotonic() - started
            assert took < limit + SLACK, f"it took {took:.1f} s, its bound is {limit} s"

    def check(self) -> None:
        """With the link up again for good."""
        status = self.ledger.path(self.box) / "status"
        wait_until(lambda: status.read_text() == "ready\n", f"{self.box.name} is ready again: {status.read_text()}")
        if self.unknown:
            self.be_refused()
        found = tuple(self.content(file) for file in (self.first, self.second))
        if self.partial:
            found = tuple(self.data if one is not None and self.data.startswith(one) else one for one in found)
            self.possible |= {(self.data, None), (None, self.data)}
        sizes = tuple(None if one is None else len(one) for one in found)
        assert found in self.possible, f"the files have {sizes} bytes, which cannot be"
        for command in self.commands:
            self.ledger.check_ended(self.ledger.event(self.box, command), command)

    def content(self, file: Path) -> Optional[bytes]:
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None

    def clean(self) -> None:
        for file in (self.first, self.second):
            file.unlink(missing_ok=True)
        if (self.work / f"{self.label}.d").exists():
            os.rmdir(self.work / f"{self.label}.d")
        for command in self.commands:
            os.rmdir(os.path.realpath(self.ledger.event(self.box, command)))
            self.box.commands.remove(command)


class World(RelayedWorld):
    """One sandbox, or a new one for each k."""

    def __init__(self) -> None:
        self.place = Place()
        starts = self.place.path / "starts"
        starts.mkdir()
        self.daemon = Daemon(self.place, config=CONFIG.format(starts=starts))
        self.ledger = Ledger(self.daemon, starts)
        self.daemon.start()
        self.box: Optional[Sandbox] = None
        self.attempts = 0

    def launch(self) -> Sandbox:
        """A sandbox with the relay in the place of its socket, before the daemon has connected."""
        self.drop()
        name = f"b{len(self.ledger.sandboxes) + 1}"
        self.box = self.ledger.mkdir(name)
        pattern = f"sbxfs-*-{self.box.generation}/ssh.sock"
        deadline = time.monotonic() + 10
        while not (found := list((self.daemon.state / "boxes").glob(pattern))):
            assert time.monotonic() < deadline, f"no {pattern}"
            time.sleep(0.0005)
        assert self.daemon.process is not None
        self.relay = Relay(found[0], self.daemon.process.pid)
        return self.box

    def launch_ready(self) -> Sandbox:
        """One whose connection goes by the relay: on a busy machine the daemon may have connected before that was there."""
        while True:
            box = self.launch()
            ready = (self.ledger.path(box) / "ready").read_text()
            assert ready == "ready\n", ready
            assert self.relay is not None
            if self.relay.in_use():
                return box

    def drop(self) -> None:
        if self.box is not None:
            box, self.box = self.box, None
            self.ledger.rmdir(box)
            box.commands.clear()
        if self.relay is not None:
            self.relay.stop()
            self.relay = None

    def leave(self) -> None:
        self.drop()
        self.ledger.end()


_world: Optional[World] = None


def world() -> World:
    global _world
    if _world is None:
        _world = World()
    return _world


def finish() -> None:
    global _world
    if _world is not None:
        ending, _world = _world, None
        ending.end()


class Link:
    """A kind of session."""

    def __init__(self, name: str) -> None:
        self.kind, self.direction = name.split("_")
        self.size = 4 << 20 if self.kind == "big" else 0
        self.counted = 0

    def attempt(self, at: int) -> bool:
        global _world
        here = world()
        try:
            with bounded(LIMIT, here.abandon):
                return self.session(here, at, f"k{here.attempts}")
        except BaseException:
            if _world is here:
                _world = None
                here.abandon()
            raise

    def session(self, here: World, at: int, label: str) -> bool:
        here.attempts += 1
        if self.kind == "script":
            return self.changes(here, at, label)
        if self.kind == "launch":
            here.launch()
            assert here.relay is not None and here.box is not None
            here.relay.arm(self.direction, at)
        else:
            if here.box is None or here.attempts % BOX_LIFE == 0:
                here.launch_ready()
            assert here.relay is not None and here.box is not None
            if self.kind == "again":
                here.relay.arm(self.direction, at)
                here.relay.cut()
            else:
                here.relay.arm_now(self.direction, at)
        script = Script(here.ledger, here.box, label, self.size)
        if self.kind == "launch":
            ready = (here.ledger.path(here.box) / "ready").read_text()
            assert ready == "ready\n", ready
            if not here.relay.in_use():
                return self.session(here, at, label)  # as in launch_ready
        script.run()
        self.counted = here.relay.disarm()[self.direction]
        hit = here.relay.has_cut.is_set()
        script.check()
        script.clean()
        return hit

    def changes(self, here: World, at: int, label: str) -> bool:
        if here.box is None or here.attempts % BOX_LIFE == 0:
            here.launch_ready()
        assert here.relay is not None and here.box is not None
        changes = Changes(here.ledger, here.box, label, here.place.path)
        changes.prepare()
        here.relay.delay(DELAY)
        here.relay.arm_now(self.direction, at)
        changes.run(here.relay.has_cut.is_set)
        self.counted = here.relay.disarm()[self.direction]
        hit = here.relay.has_cut.is_set()
        here.relay.delay(0)
        changes.check()
        changes.clean()
        return hit

    def measure(self) -> int:
        longest = []
        for _ in range(3):
            self.attempt(0)
            longest.append(self.counted)
        finish()
        return max(longest)


SESSIONS = [f"{kind}_{way}" for kind in ("launch", "again", "steady", "big", "script") for way in (IN, OUT)]


def main() -> int:
    require()
    isolate()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = arguments(__doc__ or "", SESSIONS)
    link = Link(options.session)
    return run(Sweep(title=f"link {options.session}", unit="bytes", command=f"tests/harness/link.py {options.session}",
                     measure=link.measure, attempt=link.attempt, finish=finish), options)


if __name__ == "__main__":
    sys.exit(main())
