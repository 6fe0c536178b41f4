"""Local sandboxes that are far away: with SBXFS_TEST_LINK=20ms every byte between a daemon under test and a sandbox takes
half of that, from the first connection on. A process of its own, so that a test that waits for the mount with Python's
lock in its hand (a page of a mapped file) does not wait for itself."""

import os
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

CHUNK = 1 << 18
MOST = 16 << 20  # on its way in one direction, before its sender feels it


def round_trip() -> float:
    """Seconds; 0 where the tests run with sandboxes as near as they are."""
    word = os.environ.get("SBXFS_TEST_LINK", "")
    return float(word.removesuffix("ms")) / 1000 if word else 0


def patience() -> int:
    """How much longer a test may take whose steps each ask the sandbox."""
    return 4 if round_trip() else 1


def library() -> str:
    """mount/far_link.cc, as it was built."""
    build = Path(os.environ.get("SBXFS_BINARY", str(Path(__file__).resolve().parents[2] / "build" / "dev" / "sbxfs"))).parent
    return os.environ.get("SBXFS_FAR_LINK", str(build / "tests" / "mount" / "libsbxfs_far_link.so"))


class Far:
    """The relay, and the environment of a daemon that goes by it."""

    _relay: Optional["subprocess.Popen[bytes]"] = None
    _name = ""

    @classmethod
    def environment(cls) -> dict[str, str]:
        assert os.access(library(), os.R_OK), f"there is no {library()} (set SBXFS_FAR_LINK)"
        if cls._relay is None or cls._name != f"sbxfs-far-{os.getpid()}":
            cls._name = f"sbxfs-far-{os.getpid()}"
            cls._relay = subprocess.Popen([sys.executable, __file__, cls._name, str(round_trip() / 2)], cwd="/",
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert cls._relay.stdout is not None and cls._relay.stdout.readline() == b"ready\n"
        return {**os.environ, "LD_PRELOAD": library(), "SBXFS_FAR_RELAY": cls._name}

    @classmethod
    def connections(cls) -> int:
        """That have come by it so far."""
        assert cls._relay is not None and cls._relay.stdin is not None and cls._relay.stdout is not None
        cls._relay.stdin.write(b"?")
        cls._relay.stdin.flush()
        return int(cls._relay.stdout.readline())


# --- the process


@dataclass(eq=False)
class Way:
    """One direction of a connection."""

    source: socket.socket
    target: socket.socket
    later: "deque[tuple[float, bytes]]" = field(default_factory=deque)
    size: int = 0
    ended: bool = False  # its source


class Relay:
    def __init__(self, name: str, delay: float) -> None:
        self._delay = delay
        self._selector = selectors.DefaultSelector()
        self._new = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._new.bind("\0" + name)
        self._selector.register(self._new, selectors.EVENT_READ)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._ways: list[Way] = []
        self._connections = 0

    def run(self) -> None:
        while True:
            now = time.monotonic()
            due = [way.later[0][0] - now for way in self._ways if way.later]
            for key, _ in self._selector.select(max(0.0, min(due)) if due else None):
                if key.fileobj is self._new:
                    self._accept()
                elif key.fileobj == sys.stdin.fileno():
                    if not os.read(sys.stdin.fileno(), 1):
                        return
                    print(self._connections, flush=True)
                elif key.data in self._ways:
                    self._read(key.data)
            for way in list(self._ways):
                if way in self._ways:  # not closed with the one before
                    self._write(way)

    def _accept(self) -> None:
        _, fds, _, _ = socket.recv_fds(self._new, 1, 2)
        self._connections += 1
        near, real = (socket.socket(fileno=fd) for fd in fds)
        for one, other in ((near, real), (real, near)):
            one.setblocking(False)
            way = Way(one, other)
            self._ways.append(way)
            self._selector.register(one, selectors.EVENT_READ, way)

    def _read(self, way: Way) -> None:
        try:
            data = way.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        way.later.append((time.monotonic() + self._delay, data))
        way.size += len(data)
        if not data or way.size > MOST:
            self._selector.unregister(way.source)
            way.ended = not data

    def _write(self, way: Way) -> None:
        now = time.monotonic()
        while way.later and way.later[0][0] <= now:
            due, data = way.later.popleft()
            if not data:
                return self._close(way)
            try:
                sent = way.target.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return self._close(way)
            way.size -= sent
            if sent < len(data):
                # Whoever does not read is asked again soon.
                way.later.appendleft((max(due, now + 0.0005), data[sent:]))
                break
        if way.size <= MOST and not way.ended and way.source not in self._selector.get_map():
            self._selector.register(way.source, selectors.EVENT_READ, way)

    def _close(self, way: Way) -> None:
        """Both ways: a connection has one end."""
        for one in [one for one in self._ways if one.source in (way.source, way.target)]:
            self._ways.remove(one)
            if one.source in self._selector.get_map():
                self._selector.unregister(one.source)
            one.source.close()


if __name__ == "__main__":
    relay = Relay(sys.argv[1], float(sys.argv[2]))
    print("ready", flush=True)
    relay.run()
