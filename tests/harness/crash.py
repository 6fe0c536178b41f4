#!/usr/bin/env python3
"""The crash harness: the daemon is killed just before its k-th step (kill_after.cc says what a step is) of a
scripted session, a new one is started on the same state, and everything the client was promised is checked.

  life      mount, create, submit, run, read back, forget, destroy, create the name again, unmount: killed at k
  recovery  a daemon with finished, running and queued commands, a launch and a destroy under way is killed;
            the one that takes over is killed at k of its own steps, and a third one is checked
  dirty     a daemon that takes over answers changes ahead, over a way of some milliseconds, and commands that need
            them are submitted: killed at k
  launching, destroying
            not the daemon but the helper process it started to launch or to destroy a sandbox is killed at k
"""

import ctypes
import errno
import functools
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Callable, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.ledger import Ledger  # noqa: E402
from harness.relay import Relay  # noqa: E402
from harness.sweep import Sweep, arguments, bounded, run  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.leftovers import left_behind  # noqa: E402
from live.place import Place, isolate, require, sbxfs, wait_until  # noqa: E402

MNT_FORCE = 1
KILLED = 137  # exit code of kill_after
LIMIT = 90.0  # seconds for one k, all waits for a dead link or a slow machine included
# What a call says when the daemon that was to answer it is gone.
DIED = (errno.ENOTCONN, errno.ECONNABORTED)
CONFIG = """default_template = "default"
[templates.default]
provider = "local"
workdir = "/workspace"
binds = ["{starts}:/starts:rw"]
"""
# What a daemon may say whose helper was killed. One that takes over from a killed daemon warns of nothing.
HELPER_KILLED = (r"sandbox status box=a generation=1 status=failed", r"refused op=")
NUMBERS = "".join(f"{n}\n" for n in range(1, 20001)).encode()


def kill_after() -> str:
    return os.environ.get("SBXFS_KILL_AFTER", str(Path(sbxfs()).parent / "tests" / "harness" / "kill_after"))


class TracedDaemon(Daemon):
    """A daemon that dies before its k-th step; 0: never, its steps are only counted."""

    at = -1  # not traced
    of = ""  # not itself, but the first helper it starts for this

    def command(self, *flags: str) -> list[str]:
        command = super().command(*flags)
        if self.at < 0:
            return command
        whose = ["--of", self.of] if self.of else []
        return [kill_after(), "--at", str(self.at), "--steps", str(self.steps), *whose, *command]

    def umount(self, limit: float = 30) -> None:
        ending = self.process
        try:
            super().umount(limit)
        except AssertionError:
            if self.at <= 0 or ending is None or ending.returncode != KILLED:
                raise
            self.process = ending  # on its way out, the mount gone already
            raise OSError(errno.ENOTCONN, "killed while it ended") from None

    @property
    def steps(self) -> Path:
        return self.place.path / "steps"

    def count(self) -> int:
        lines = self.steps.read_text().splitlines()
        return int(lines[-1].split()[0]) if lines else 0


class Session:
    """One k: a place of its own, and what is cleaned up whatever happens."""

    relay: Optional[Relay] = None
    hung = False

    def __init__(self) -> None:
        self.place = Place()
        starts = self.place.path / "starts"
        starts.mkdir()
        self.daemon = TracedDaemon(self.place, config=CONFIG.format(starts=starts))
        self.ledger = Ledger(self.daemon, starts)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            steps = self.daemon.steps
            if steps.exists():
                print("the last steps:\n" + "\n".join(steps.read_text().splitlines()[-8:]))
            print(self.daemon.tail(40), flush=True)
        self.place.end()
        if self.relay is not None:
            self.relay.stop()

    def abandon(self) -> None:
        """Frees whoever waits for the daemon, also if it is never quite dead and nothing guards it: by force."""
        self.hung = True
        if self.daemon.process is not None:
            self.daemon.process.kill()
        ctypes.CDLL(None).umount2(bytes(self.daemon.mnt), MNT_FORCE)

    def until_death(self, client: Callable[["Session"], None], at: int) -> bool:
        """Starts a daemon that dies at `at` and lets the client work on it; whether it died."""
        self.daemon.at = at
        try:
            self.daemon.start()
            client(self)
        except (OSError, AssertionError) as error:
            assert not self.hung, f"who waited for it was not freed in {LIMIT} s"
            died = isinstance(error, OSError) and error.errno in DIED
            if not died and (self.daemon.process is None or not self._ended()):
                raise
        finally:
            self.daemon.at = -1
        if self.daemon.process is None:
            return False  # unmounted: the session was over before
        code = self.daemon.process.wait(10)
        self.daemon.process = None
        assert code in (0, KILLED), f"the daemon ended with {code}"
        return code == KILLED

    def _ended(self) -> bool:
        assert self.daemon.process is not None
        try:
            self.daemon.process.wait(1)
        except subprocess.TimeoutExpired:
            return False
        return True

    def check(self) -> None:
        """A new daemon keeps the promises of the killed one, and leaves nothing when all is destroyed."""
        self.daemon.start()
        (self.place.path / "starts" / "go").touch()
        self.ledger.check_all()
        self.ledger.end()
        self.daemon.umount()
        self.check_traces()

    def check_traces(self, *allowed: str) -> None:
        """The mount is gone, and nothing else is left."""
        bad = self.daemon.complaints(allowed)
        assert not bad, "unexpected lines in the daemon's log:\n" + "\n".join(bad)
        left = left_behind(self.place.path, self.daemon.state, [mount_id(self.daemon.state)])
        assert not left, "left behind:\n" + "\n".join(left)


def mount_id(state: Path) -> str:
    with closing(sqlite3.connect(f"file:{state}/journal.db?mode=ro", uri=True)) as journal:
        return str(journal.execute("select value from meta where key = 'mount_id'").fetchone()[0])


# --- the sessions


def life(session: Session) -> None:
    ledger = session.ledger
    a = ledger.mkdir("a")
    early = ledger.command(a, "early", "seq 20000", NUMBERS)
    ledger.submit(a, early)  # accepted while it is being launched
    named = ledger.command(a, "named", "head -c 100000 /dev/zero | tr '\\0' n; echo err >&2", b"n" * 100000,
                           stderr=b"err\n", name="named")
    ledger.submit(a, named)
    ledger.write(a, "input", NUMBERS[:65536])
    reads = ledger.command(a, "reads", "cat input; rm input", NUMBERS[:65536])
    ledger.submit(a, reads)
    del a.files["input"]
    b = ledger.mkdir("b")
    ledger.rmdir(b)  # in the middle of its launch
    for command in (early, named, reads):
        ledger.finish(a, command)
    ledger.forget(a, early)
    ledger.write(a, "kept", b"kept\n")
    ledger.submit(a, ledger.command(a, "later", "sleep 0.05; echo later", b"later\n"))
    ledger.submit(a, ledger.command(a, "endless", "sleep 1000", b"", name="endless", endless=True))
    ledger.finish(a, a.commands[-2])
    ledger.rmdir(a)
    again = ledger.mkdir("a")
    ledger.submit(again, ledger.command(again, "second", "echo second", b"second\n"))
    ledger.finish(again, again.commands[-1])
    ledger.end()
    session.daemon.umount()


def prepare(session: Session) -> None:
    """A daemon with something of everything, killed."""
    ledger = session.ledger
    session.daemon.start()
    a = ledger.mkdir("a")
    done = ledger.command(a, "done", "seq 20000", NUMBERS)
    ledger.submit(a, done)
    ledger.finish(a, done)
    ledger.write(a, "kept", b"kept\n")
    gone = ledger.mkdir("gone")
    assert (ledger.path(gone) / "ready").read_text() == "ready\n"
    hold = "while [ ! -e /starts/go ]; do sleep 0.02; done; "
    ledger.submit(a, ledger.command(a, "runs", hold + "seq 20000", NUMBERS))
    ledger.submit(a, ledger.command(a, "beside", "seq 20000; " + hold + "echo 0", NUMBERS + b"0\n", name="beside"))
    ledger.submit(a, ledger.command(a, "waits", "echo waited", b"waited\n"))
    wait_until(lambda: (ledger.event(a, a.commands[2]) / "status").read_text() == "running\n", "it runs")
    quick = ledger.command(a, "unread", "seq 20000", NUMBERS, name="unread")
    ledger.submit(a, quick)
    ledger.rmdir(gone)
    ledger.mkdir("young")
    session.daemon.kill()


def recovery(session: Session) -> None:
    ledger = session.ledger
    a = ledger.sandboxes[0]
    (session.place.path / "starts" / "go").touch()
    for command in a.commands:
        ledger.finish(a, command)
    young = ledger.sandboxes[2]
    ledger.submit(young, ledger.command(young, "first", "echo first", b"first\n"))
    ledger.finish(young, young.commands[-1])
    ledger.end()
    session.daemon.umount()


def prepare_quiet(session: Session) -> None:
    """A sandbox with nothing in it but us, from now on some milliseconds away."""
    ledger = session.ledger
    session.daemon.start()
    a = ledger.mkdir("a")
    ledger.submit(a, ledger.command(a, "quiet", "true", b""))
    ledger.finish(a, a.commands[0])
    session.daemon.kill()
    (socket,) = (session.daemon.state / "boxes").glob("*/ssh.sock")
    session.relay = Relay(socket, 0)
    session.relay.delay(0.002)


def dirty(session: Session) -> None:
    ledger = session.ledger
    a = ledger.sandboxes[0]
    work = ledger.path(a) / "work"
    ledger.submit(a, ledger.command(a, "again", "true", b""))
    ledger.finish(a, a.commands[-1])
    for _ in range(2):  # what must be known before a change is answered ahead is asked now
        (work / "x").mkdir()
        os.listdir(work)
        (work / "x").rmdir()
    ledger.write(a, "begun", b"begun\n")  # and has arrived
    for turn in range(3):
        dice = random.Random(turn)
        needs = {f"{turn}.{number}": dice.randbytes(size) for number, size in enumerate((10, 5000, 300_000, 0, 700))}
        for name, data in needs.items():
            ledger.write_unsynced(a, name, data)
        (work / f"{turn}.d").mkdir()
        needs[f"{turn}.d/moved"] = dice.randbytes(40_000)
        ledger.write_unsynced(a, f"{turn}.new", needs[f"{turn}.d/moved"])
        os.rename(work / f"{turn}.new", work / f"{turn}.d" / "moved")
        for number, run_as in enumerate(("", f"run{turn}")):
            seen = "".join(f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {name}\n" for name, data in needs.items())
            ledger.submit(a, ledger.command(a, f"needs{turn}.{number}", "cd /workspace; md5sum " + " ".join(needs),
                                            seen.encode(), name=run_as, needs=needs))
        ledger.write_synced(a, f"{turn}.synced", dice.randbytes(20_000))
        ledger.write(a, f"{turn}.saved", dice.randbytes(20_000))
    # By now everything before it has arrived, and it must run.
    ledger.submit(a, ledger.command(a, "last", "cd /workspace; cat 2.synced", a.files["2.synced"]))
    for command in a.commands:
        ledger.finish(a, command)
    ledger.write_unsynced(a, "unmounted", NUMBERS)
    session.daemon.umount()
    a.files["unmounted"] = NUMBERS


def helped(session: Session) -> None:
    """A launch that succeeds or fails, a destroy that succeeds, and everything once more without a fault."""
    ledger = session.ledger
    box = ledger.mkdir("a")
    ledger.submit(box, ledger.command(box, "early", "echo early", b"early\n"))
    ready = (ledger.path(box) / "ready").read_text()
    if ready == "ready\n":
        ledger.finish(box, box.commands[0])
    else:
        assert ready.startswith("failed: "), ready
        box.failed = True
        said = (ledger.event(box, box.commands[0]) / "wait.20").read_text()
        assert said.startswith("refused"), said
    ledger.rmdir(box)
    again = ledger.mkdir("a")
    ready = (ledger.path(again) / "ready").read_text()
    assert ready == "ready\n", ready
    ledger.submit(again, ledger.command(again, "second", "echo second", b"second\n"))
    ledger.finish(again, again.commands[0])
    ledger.end()
    session.daemon.umount()
    session.check_traces(*HELPER_KILLED)


def attempt_helper(mode: str, at: int) -> bool:
    with Session() as session, bounded(LIMIT, session.abandon):
        session.daemon.at, session.daemon.of = at, mode
        session.daemon.start()
        helped(session)
        return session.daemon.count() == at


def measure_helper(mode: str) -> int:
    with Session() as session, bounded(LIMIT, session.abandon):
        session.daemon.at, session.daemon.of = 0, mode
        session.daemon.start()
        helped(session)
        return session.daemon.count()


def no_preparation(_: Session) -> None:
    pass


SESSIONS = {"life": (no_preparation, life), "recovery": (prepare, recovery), "dirty": (prepare_quiet, dirty)}
HELPERS = {"launching": "launch", "destroying": "destroy"}


def attempt(name: str, at: int) -> bool:
    prepared, client = SESSIONS[name]
    with Session() as session, bounded(LIMIT, session.abandon):
        prepared(session)
        died = session.until_death(client, at)
        session.check()
        return died


def measure(name: str) -> int:
    prepared, client = SESSIONS[name]
    counts = []
    for _ in range(3):  # threads take turns differently each time
        with Session() as session, bounded(LIMIT, session.abandon):
            prepared(session)
            assert not session.until_death(client, 0)
            counts.append(session.daemon.count())
            session.check()
    return max(counts)


def main() -> int:
    require()
    isolate()
    if not os.access(kill_after(), os.X_OK):
        print(f"there is no program {kill_after()} (set SBXFS_KILL_AFTER)", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    options = arguments(__doc__ or "", [*SESSIONS, *HELPERS])
    name = options.session
    if name in HELPERS:
        mode = HELPERS[name]
        tries, counts = functools.partial(attempt_helper, mode), functools.partial(measure_helper, mode)
    else:
        tries, counts = functools.partial(attempt, name), functools.partial(measure, name)
    return run(Sweep(title=f"crash {name}", unit="steps", command=f"tests/harness/crash.py {name}",
                     measure=counts, attempt=tries), options)


if __name__ == "__main__":
    sys.exit(main())
