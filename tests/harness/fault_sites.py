"""Sandboxes with a link that can be given every fault (faults.py): a thread each, which follows a drawn schedule."""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable

from harness.fault_workers import OP_TIMEOUT
from harness.relay import IN, OUT, PortRelay, Relay
from live.box import Box, Event
from live.daemon import Daemon
from live.place import Place, wait_until
from live.sshd import Sshd, make_key

RECOVERY = 60.0  # a link that is whole again, until its sandbox is ready
KEEPALIVE = 45.0  # silence, until a connection is given up: three times 15 s (ssh_attachment.cc)
BIG = 6_500_000  # lines; with both streams 100 MB
STRANGER = "host key"


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
        said = self.await_end(event)
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

    def await_end(self, event: Event) -> str:
        """However slow the machine is: as long as output comes."""
        came = -1
        while True:
            try:
                return event.wait(60)
            except AssertionError as error:
                before, came = came, sum((event.path / stream).stat().st_size for stream in ("stdout", "stderr"))
                if came <= before:
                    raise AssertionError(f"{error}; {came} bytes have come, none for 60 s") from None

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
