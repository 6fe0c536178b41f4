"""Tries a fault at many positions: every one, a seeded sample, or one to repeat a failure. Shared by the crash
and the link harness: worker processes, time limits, and the figures that docs/RELIABILITY.md holds."""

import argparse
import faulthandler
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, Optional, Sequence


@dataclass
class Tried:
    """What came of one position."""

    position: int
    hit: bool  # the fault happened; else the session was over before that position
    failure: str  # empty when every promise was kept
    seconds: float


@dataclass
class Sweep:
    """One row of figures: a session and how its positions are tried."""

    title: str
    unit: str  # what is counted: "steps", "bytes"
    command: str  # how this file is called for the session
    measure: Callable[[], int]  # the number of positions, from a session without a fault
    attempt: Callable[[int], bool]  # tries one; whether the fault happened; raises for a broken promise
    finish: Callable[[], None] = lambda: None  # at a worker's end


def arguments(description: str, sessions: Iterable[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("session", choices=sorted(sessions))
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--every", action="store_true", help="every position")
    which.add_argument("--sample", type=int, metavar="N", help="N positions drawn with the seed")
    which.add_argument("--at", type=int, metavar="K", help="this position only")
    parser.add_argument("--first", type=int, default=1, help="with --every or --sample: from here on")
    parser.add_argument("--last", type=int, help="with --every or --sample: up to here")
    parser.add_argument("--stride", type=int, default=1, help="with --every: each N-th")
    parser.add_argument("--minutes", type=float, help="begin no further position after that time")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SBXFS_SEED", "0")),
                        help="also SBXFS_SEED; 0: a new one, which is printed")
    parser.add_argument("--jobs", type=int, default=1)
    return parser.parse_args()


def run(sweep: Sweep, options: argparse.Namespace) -> int:
    """The exit code: 0 when no promise was broken."""
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    if options.at is not None:
        positions: Sequence[int] = [options.at]
        total = options.at
    else:
        total = options.last or sweep.measure()
        positions = range(options.first, total + 1, options.stride)
        if options.sample is not None:
            drawn = random.Random(seed)
            positions = drawn.sample(positions, min(options.sample, len(positions)))
            print(f"{sweep.title}: SBXFS_SEED={seed} repeats this sample", flush=True)
    started = time.monotonic()
    until = started + options.minutes * 60 if options.minutes else None
    tried: list[Tried] = []
    try:
        for one in _try_all(sweep, positions, max(1, options.jobs), until):
            tried.append(one)
    finally:  # also when told to end
        _report(sweep, tried, total, time.monotonic() - started)
    return 1 if any(one.failure for one in tried) or not any(one.hit for one in tried) else 0


def _try_all(sweep: Sweep, positions: Sequence[int], jobs: int, until: Optional[float]) -> Iterator[Tried]:
    # Forked, so that a worker has the sweep without it being sent.
    context = multiprocessing.get_context("fork")
    todo: "multiprocessing.SimpleQueue[int]" = context.SimpleQueue()
    done: "multiprocessing.SimpleQueue[Optional[Tried]]" = context.SimpleQueue()
    workers = [context.Process(target=_work, args=(sweep, todo, done)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    waiting = iter(positions)
    busy = 0
    try:
        for _ in range(jobs):
            busy += _give(todo, waiting, None)
        while busy:
            one = done.get()
            assert one is not None
            yield _show(sweep, one)
            busy -= 1
            busy += _give(todo, waiting, until)
        for _ in workers:
            todo.put(END)
        for _ in workers:
            last = done.get()  # what a worker found when it cleaned up, if anything
            if last is not None:
                yield _show(sweep, last)
    except BaseException:
        for worker in workers:
            worker.terminate()  # they clean up
        raise
    finally:
        for worker in workers:
            worker.join(60)


END = -1


def _give(todo: "multiprocessing.SimpleQueue[int]", waiting: Iterator[int], until: Optional[float]) -> int:
    """How many were given, one or none."""
    if until is not None and time.monotonic() > until:
        return 0
    for position in waiting:
        todo.put(position)
        return 1
    return 0


def _work(sweep: Sweep, todo: "multiprocessing.SimpleQueue[int]",
          done: "multiprocessing.SimpleQueue[Optional[Tried]]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    last: Optional[Tried] = None
    try:
        while (position := todo.get()) != END:
            done.put(_try_one(sweep, position))
    finally:  # also when told to end
        try:
            sweep.finish()
        except Exception:
            last = Tried(0, False, traceback.format_exc(), 0)
    done.put(last)


def _try_one(sweep: Sweep, position: int) -> Tried:
    started = time.monotonic()
    failure = ""
    hit = True
    try:
        hit = sweep.attempt(position)
    except Exception:  # whatever broke is this position's failure, and the others go on
        failure = traceback.format_exc()
    return Tried(position, hit, failure, time.monotonic() - started)


def _show(sweep: Sweep, one: Tried) -> Tried:
    if one.failure:
        print(f"\nbroken at {one.position}; repeat with: {sweep.command} --at {one.position}\n"
              f"{one.failure}", flush=True)
    return one


def _report(sweep: Sweep, tried: list[Tried], total: int, seconds: float) -> None:
    hit = sum(one.hit for one in tried)
    slowest = max(tried, key=lambda one: one.seconds, default=None)
    print(f"{sweep.title}: {hit} of {total} {sweep.unit} tried, {sum(bool(one.failure) for one in tried)} broken "
          f"({len(tried) - hit} came after the end; {seconds:.0f} s, slowest "
          f"{slowest.seconds if slowest else 0:.1f} s at {slowest.position if slowest else 0})", flush=True)


@contextmanager
def bounded(seconds: float, end: Callable[[], None]) -> Iterator[None]:
    """Nothing hangs: after `seconds` the stacks are shown and `end` has to free whoever waits."""

    def late() -> None:
        print(f"still running after {seconds} s:", file=sys.stderr)
        faulthandler.dump_traceback(all_threads=True)
        end()

    timer = threading.Timer(seconds, late)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
