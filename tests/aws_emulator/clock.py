"""Time as the emulated services see it. A scale of 10 makes their seconds pass ten times as fast, so that tests of slow
things are quick; what containers do themselves runs in real time."""

import heapq
import itertools
import threading
import time
import traceback
from datetime import datetime, timezone
from typing import Callable


class Clock:
    """Seconds of the services since an arbitrary start, and jobs to be done at their time, on one thread."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self._start = time.monotonic()
        self._jobs: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self._thread.start()

    def now(self) -> float:
        return (time.monotonic() - self._start) * self.scale

    def real(self, seconds: float) -> float:
        """How long that takes here."""
        return seconds / self.scale

    @staticmethod
    def date() -> datetime:
        return datetime.now(timezone.utc)

    def after(self, seconds: float, job: Callable[[], None]) -> None:
        """Does `job` that many seconds of the services from now. Jobs check for themselves whether they still matter."""
        with self._changed:
            heapq.heappush(self._jobs, (self.now() + max(0.0, seconds), next(self._count), job))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closing:
                    wait = self.real(self._jobs[0][0] - self.now()) if self._jobs else None
                    if wait is not None and wait <= 0:
                        break
                    self._changed.wait(wait)
                if self._closing:
                    return
                job = heapq.heappop(self._jobs)[2]
            try:
                job()
            except Exception:  # an error in one task must not stop time for the others
                traceback.print_exc()


class Bucket:
    """A token bucket, `rate` a second, at most `burst`."""

    def __init__(self, clock: Clock, rate: float, burst: float) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = clock.now()

    def take(self, count: int = 1) -> bool:
        """All or nothing. The caller serialises."""
        now = self._clock.now()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < count:
            return False
        self._left -= count
        return True
