"""A relay in the place of a local sandbox's ssh socket, or before a machine's port: it passes bytes on, counts those of one
connection in one direction, and cuts that connection at an exact byte, or lets something else happen there. Connections of
others than the daemon are not counted. It can also let bytes take their time, trickle, wait, swallow those of one or both
directions, as a dead network does, lose one end without the other being told, and let nobody in."""

import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

IN, OUT = "in", "out"  # to the sandbox, from it
CHUNK = 1 << 18
DROP = 512  # bytes that trickle at once


@dataclass
class Connection:
    """The daemon's end, the sandbox's end, and what still has to be written to each."""

    ends: dict[str, socket.socket]  # by the direction whose bytes are written to it
    waiting: dict[str, bytes] = field(default_factory=lambda: {IN: b"", OUT: b""})
    closing: bool = False  # one side has ended: the rest is passed on first
    daemons: bool = False
    counted: bool = False
    passed: dict[str, int] = field(default_factory=lambda: {IN: 0, OUT: 0})
    later: "deque[tuple[float, str, bytes]]" = field(default_factory=deque)  # on a long way: when it is over
    lost: bool = False  # the sandbox's end is gone, and nobody has told the daemon


class Relay:
    """Owns a thread. `real` is another name of the sandbox's own socket, `path` becomes ours."""

    def __init__(self, path: Path, daemon: int) -> None:
        self._daemon = daemon
        self._real = path.with_name("ssh.real")
        os.link(path, self._real)
        new = path.with_name("ssh.relay")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(new))
        self._listener.listen(64)
        os.rename(new, path)  # in one step: the daemon may be about to connect
        self._begin()

    def _begin(self) -> None:
        """With a listener that is there."""
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._wake, waker = socket.socketpair()
        self._waker = waker
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._lock = threading.Lock()
        self._armed: Optional[tuple[str, int]] = None  # for the next connection of the daemon
        self._limit: Optional[tuple[str, int]] = None  # of the counted connection
        self._cut_now = False
        self._then: Optional[Callable[[], None]] = None
        self._delay = 0.0
        self._rate = 0.0  # bytes a second; 0: as many as there are
        self._holds = False
        self._hurry = False
        self._swallows: frozenset[str] = frozenset()  # directions
        self._lose = False
        self._lost = threading.Event()
        self._refuses = False
        self._stopped = False
        self._connections: list[Connection] = []
        self.has_cut = threading.Event()
        self.longest = {IN: 0, OUT: 0}  # of a counted connection
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # --- the harness's thread

    def arm(self, direction: str, at: int) -> None:
        """The daemon's next connection is counted, and cut after that many bytes; 0: only counted."""
        with self._lock:
            self.has_cut.clear()
            self.longest = {IN: 0, OUT: 0}
            self._armed = (direction, at)

    def arm_now(self, direction: str, at: int, then: Optional[Callable[[], None]] = None) -> None:
        """The same for the connection that is there, counted from here on. With `then` that happens in place of the cut, by
        the relay's thread: the bytes behind it wait meanwhile."""
        with self._lock:
            self.has_cut.clear()
            self.longest = {IN: 0, OUT: 0}
            self._limit, self._then = (direction, at), then
            for connection in self._connections:
                connection.counted = connection.daemons
                connection.passed = {IN: 0, OUT: 0}

    def disarm(self) -> dict[str, int]:
        """No cut from now on; how many bytes were counted in each direction."""
        with self._lock:
            self._armed = self._limit = self._then = None
            return dict(self.longest)

    def delay(self, seconds: float) -> None:
        """How long each byte is on its way, in either direction, from now on."""
        self._delay = seconds

    def cut(self) -> None:
        """Whatever is connected now is cut."""
        with self._lock:
            self._cut_now = True
        self._waker.send(b"x")

    def in_use(self) -> bool:
        """The daemon is connected by it."""
        return any(connection.daemons for connection in list(self._connections))

    def swallow(self, on: bool, ways: tuple[str, ...] = (IN, OUT)) -> None:
        """Bytes of any connection in these directions go nowhere, and nobody is told; what was on its way is lost, so the
        connections are cut when that ends."""
        with self._lock:
            was, self._swallows = self._swallows, frozenset(ways) if on else frozenset()
        if was and not on:
            self.cut()

    def trickle(self, rate: float) -> None:
        """So many bytes a second for both directions together; 0 ends that, and what was waiting goes on at once."""
        self._rate = rate
        self._hurry = not rate
        self._waker.send(b"x")

    def hold(self, on: bool) -> None:
        """Bytes wait here and none is lost, as while somebody retransmits into a dead network; then they go on."""
        self._holds = on
        self._hurry = not on
        self._waker.send(b"x")

    def lose(self) -> None:
        """Half-open: the sandbox's ends of what is connected now are closed, the daemon's stay, and are deaf."""
        with self._lock:
            self._lose = True
            self._lost.clear()
        self._waker.send(b"x")
        assert self._lost.wait(10), "the relay's thread has ended"

    def deaf(self) -> int:
        """Connections that only the daemon believes in."""
        return sum(connection.lost for connection in list(self._connections))

    def refuse(self, on: bool) -> None:
        """Whatever is connected is cut, and whoever connects is turned away."""
        with self._lock:
            self._refuses = on
        self.cut()

    def stop(self) -> None:
        self._stopped = True
        self._waker.send(b"x")  # ours to close: the thread may have ended already
        self._thread.join(10)
        self._waker.close()
        self._wake.close()

    # --- its own

    def _run(self) -> None:
        while not self._stopped:
            for key, events in self._selector.select(self._arrive()):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj is self._wake:
                    self._wake.recv(64)
                else:
                    connection, direction = key.data
                    if connection in self._connections:
                        self._ready(connection, direction, events)
            with self._lock:
                cut, self._cut_now = self._cut_now, False
                lose, self._lose = self._lose, False
            if lose:
                for connection in list(self._connections):
                    if not connection.lost:
                        self._lose_end(connection)
                self._lost.set()
            if cut:
                for connection in list(self._connections):
                    self._close(connection, cut=True)
        for connection in list(self._connections):
            self._close(connection)
        self._listener.close()
        self._selector.close()

    def _arrive(self) -> float:
        """Hands over what has been on its way for long enough; how soon there is more, at most 5 s."""
        now, soon = time.monotonic(), 5.0
        if self._holds:
            return soon
        hurry, self._hurry = self._hurry, False
        for connection in list(self._connections):
            if hurry:
                connection.later = deque((now, direction, data) for _, direction, data in connection.later)
            while connection.later and connection.later[0][0] <= now:
                _, direction, data = connection.later.popleft()
                connection.waiting[direction] += data
                self._flush(connection, direction)
            if connection.closing and not connection.later:
                self._flush(connection, IN)
            if connection.later:
                soon = min(soon, connection.later[0][0] - now)
        return soon

    def _accept(self) -> None:
        try:
            ours, _ = self._listener.accept()
        except OSError:
            return
        with self._lock:
            refuses = self._refuses
        if refuses:
            ours.close()
            return
        try:
            theirs = self._reach()
        except OSError:  # the sandbox has ended
            ours.close()
            return
        connection = Connection({IN: theirs, OUT: ours})
        with self._lock:
            connection.daemons = self._is_daemons(ours)
            if connection.daemons and self._armed is not None:
                connection.counted = True
                self._limit, self._armed = self._armed, None
        self._connections.append(connection)
        for direction, end in connection.ends.items():
            end.setblocking(False)
            self._selector.register(end, selectors.EVENT_READ, (connection, direction))

    def _is_daemons(self, ours: socket.socket) -> bool:
        pid = struct.unpack("3i", ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return bool(pid == self._daemon)

    def _reach(self) -> socket.socket:
        theirs = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            theirs.connect(str(self._real))
        except OSError:
            theirs.close()
            raise
        return theirs

    def _lose_end(self, connection: Connection) -> None:
        connection.lost = True
        connection.later.clear()
        connection.waiting = {IN: b"", OUT: b""}
        self._watch(connection.ends[IN], 0, (connection, IN))
        connection.ends[IN].close()
        self._watch(connection.ends[OUT], selectors.EVENT_READ, (connection, OUT))

    def _ready(self, connection: Connection, direction: str, events: int) -> None:
        """`direction` names the end: bytes of that direction are written to it, those of the other come from it."""
        if events & selectors.EVENT_WRITE:
            self._flush(connection, direction)
        if not events & selectors.EVENT_READ or connection not in self._connections:
            return
        other = OUT if direction == IN else IN
        try:
            data = connection.ends[direction].recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if connection.lost:
            return None if data else self._close(connection)
        if not data:
            connection.closing = True
            if not connection.waiting[other] and not connection.later:
                self._close(connection)
            elif connection.later:
                self._watch(connection.ends[direction], 0, (connection, direction))
            return
        over, rest = False, b""
        with self._lock:
            if other in self._swallows:
                return
            if connection.counted and self._limit is not None:
                way, at = self._limit
                if way == other and at > 0 and not (self._then is not None and self.has_cut.is_set()):
                    room = at - connection.passed[other]
                    over = len(data) >= room
                    if over and self._then is not None:
                        data, rest = data[:room], data[room:]
                    elif over:
                        data = data[:room]
                self.longest[other] += len(data) + len(rest)
            connection.passed[other] += len(data) + len(rest)
            then = self._then
        if not over:
            return self._pass(connection, other, data)
        if then is None:
            self.has_cut.set()
        # The last bytes before it do arrive.
        self._pass(connection, other, data)
        while connection.later:
            _, direction, data = connection.later.popleft()
            connection.waiting[direction] += data
        deadline = time.monotonic() + 5
        while connection in self._connections and connection.waiting[other] and time.monotonic() < deadline:
            self._flush(connection, other)
            time.sleep(0.001)
        if then is None:
            return self._close(connection, cut=True)
        then()
        self.has_cut.set()
        for way in (IN, OUT):
            if connection in self._connections:
                self._pass(connection, way, rest if way == other else b"")

    def _pass(self, connection: Connection, direction: str, data: bytes) -> None:
        if self._rate > 0 or self._holds:
            at = max(time.monotonic(), connection.later[-1][0] if connection.later else 0)
            for start in range(0, len(data), DROP):
                at += DROP / self._rate if self._rate > 0 else 0
                connection.later.append((at, direction, data[start:start + DROP]))
            return
        if self._delay > 0 or connection.later:
            connection.later.append((time.monotonic() + self._delay, direction, data))
            return
        connection.waiting[direction] += data
        self._flush(connection, direction)

    def _flush(self, connection: Connection, direction: str) -> None:
        waiting = connection.waiting[direction]
        try:
            if waiting:
                waiting = waiting[connection.ends[direction].send(waiting):]
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        connection.waiting[direction] = waiting
        if connection.closing and not waiting and not connection.later:
            self._close(connection)
            return
        # While there is a backlog no more is read from the other side.
        writing = selectors.EVENT_WRITE if waiting else 0
        end, other = connection.ends[direction], OUT if direction == IN else IN
        reading_back = 0 if connection.waiting[other] else selectors.EVENT_READ
        self._watch(end, writing | reading_back, (connection, direction))
        source = connection.ends[other]
        back = selectors.EVENT_WRITE if connection.waiting[other] else 0
        self._watch(source, back | (0 if waiting else selectors.EVENT_READ), (connection, other))

    def _watch(self, end: socket.socket, events: int, data: tuple[Connection, str]) -> None:
        known = end in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(end)
        elif known:
            if self._selector.get_key(end).events != events:
                self._selector.modify(end, events, data)
        else:
            self._selector.register(end, events, data)

    def _close(self, connection: Connection, cut: bool = False) -> None:
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        for end in connection.ends.values():
            if end.fileno() >= 0 and end in self._selector.get_map():
                self._selector.unregister(end)
            self._end(end, cut)

    def _end(self, end: socket.socket, cut: bool) -> None:
        end.close()


class PortRelay(Relay):
    """A port of 127.0.0.1 that leads to another, which may change. All connections are the daemon's, and a cut is a reset."""

    def __init__(self, port: int) -> None:
        self.leads_to = port
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._begin()

    def _is_daemons(self, ours: socket.socket) -> bool:
        return True

    def _reach(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.leads_to), timeout=5)

    def _end(self, end: socket.socket, cut: bool) -> None:
        if cut and end.fileno() >= 0:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()
