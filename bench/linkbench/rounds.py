"""Rounds: every workload with every peer, peers alternating, each sample with a fresh mount and fresh state."""

import json
import os
import select
import signal
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from live.place import Place, wait_until

from linkbench.peers import Peer
from linkbench.server import Server
from linkbench.workloads import Sample, Scale, Workload

# What may come from the server between the mount and the first clock: a cold run that has fetched files before
# the clock started would be no cold run.
MOST_BEFORE = 256 << 10


class Failed(Exception):
    pass


def in_child(work: Callable[[], str], limit: float) -> str:
    """What `work` returns, from a process of its own: one that hangs in a mount can be given up."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            answer = "+" + work()
            code = 0
        except BaseException as error:  # pylint: disable=broad-except
            answer = f"-{type(error).__name__}: {error}"
        with os.fdopen(writing, "w") as out:
            out.write(answer)
        os._exit(code)
    os.close(writing)
    said = b""
    deadline = time.monotonic() + limit
    with os.fdopen(reading, "rb", buffering=0) as source:
        while True:
            if not select.select([source], [], [], max(0, deadline - time.monotonic()))[0]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise Failed(f"not done within {limit:.0f} s")
            part = source.read(1 << 16)
            if not part:
                break
            said += part
    os.waitpid(pid, 0)
    if said[:1] != b"+":
        raise Failed(said[1:].decode(errors="replace") or "the process died")
    return said[1:].decode()


def peak_kib(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1])
    return total


@dataclass(frozen=True)
class Situation:
    name: str
    round_trip_ms: float
    busy: bool  # others are at work in the sandbox
    scale: Scale


class Rounds:
    def __init__(self, place: Place, server: Server, loop_program: Path, limit: float) -> None:
        self.place, self.server, self.loop_program, self.limit = place, server, loop_program, limit
        self.samples: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = {}
        self.failures: list[str] = []
        self.taken = 0

    def sample(self, situation: Situation, workload: type[Workload], peer: Peer) -> None:
        label = f"{situation.name} {workload.name} {peer.name}"
        self.taken += 1
        local = self.place.path / f"local{self.taken}"
        local.mkdir()
        work = workload()
        sample = Sample(self.server, peer, situation.scale, local, self.loop_program)
        work.lay_out(sample)
        self.server.relay.set_round_trip(situation.round_trip_ms)
        attached = False
        try:
            wait_until(lambda: self.server.relay.counts().connections == 0, "the last one's connections are closed")
            before = self.server.relay.counts()
            peer.attach(situation.busy)
            attached = True
            fetched = self.server.relay.counts().since(before).from_server
            if fetched > MOST_BEFORE:
                raise Failed(f"{fetched} bytes were fetched before the clock started")

            def run() -> str:
                work.work(sample)
                return sample.answers()

            answers = json.loads(in_child(run, self.limit))
            memory = peak_kib(peer.processes()) / 1024
            for result, measured in answers.items():
                more = measured.pop("more")
                for key, value in {**measured, **more, "peak_mib": memory}.items():
                    self.samples.setdefault(situation.name, {}).setdefault(result, {}).setdefault(peer.name, {}) \
                        .setdefault(key, []).append(value)
            times = ", ".join(f"{name} {measured['seconds']:.4g} s" for name, measured in answers.items())
            print(f"  {label}: {times}", file=sys.stderr, flush=True)
        except (Failed, AssertionError, OSError) as error:
            self.failures.append(f"{label}: {error}")
            print(f"  {label}: FAILED: {error}", file=sys.stderr, flush=True)
        finally:
            self.server.relay.set_round_trip(0)  # taking leave is not measured
            if attached:
                self.detach(peer, label)
            for directory in (sample.here, local):
                self.server.retire(directory)

    def detach(self, peer: Peer, label: str) -> None:
        try:
            peer.detach()
        except Exception as error:  # the next sample may still do  # pylint: disable=broad-except
            self.failures.append(f"{label}: on leaving: {error}")
            print(f"  {label}: on leaving: {error}", file=sys.stderr, flush=True)

    def results(self) -> dict[str, Any]:
        """situation -> result -> peer -> quantity -> median, min, max, values."""
        return {situation: {result: {peer: {key: summary(values) for key, values in quantities.items()}
                                     for peer, quantities in peers.items()}
                            for result, peers in by_result.items()}
                for situation, by_result in self.samples.items()}


def summary(values: list[float]) -> dict[str, Any]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": values}


def with_others(results: dict[str, Any], path: Path) -> dict[str, Any]:
    """The results, and those of another run for whatever this one has not measured."""
    for situation, by_result in json.loads(path.read_text())["results"].items():
        for result, peers in by_result.items():
            for peer, quantities in peers.items():
                results.setdefault(situation, {}).setdefault(result, {}).setdefault(
                    peer, {**quantities, "from": {"median": 0, "file": f"{path.parent.name}/{path.name}"}})
    return results
