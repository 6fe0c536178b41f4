"""Where a task's sshd is and how far away: when it first answers, to the millisecond, and a way to its public address that
takes a while. For measurements; both are off unless a setting asks for them."""

import asyncio
import concurrent.futures
import socket
import threading
import time
from typing import Callable

_KNOCK_S = 0.003  # between two looks at an sshd that is starting


class Distance:
    """One thread with an event loop, started when it is first needed. Callbacks come on that thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="distance", daemon=True)
        self._started = False
        self._jobs: "set[concurrent.futures.Future[None]]" = set()

    def close(self) -> None:
        if self._started:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def watch(self, address: str, port: int, answered: Callable[[float], None]) -> None:
        """Tells the time (of time.time) at which a server there first says who it is."""
        self._run(self._knock(address, port, answered))

    def serve(self, near: str, far: str, port: int, round_trip_s: float) -> None:
        """Whoever connects to NEAR reaches FAR, half of the round trip later in each direction. A connection is there
        after one round trip, as through a network."""
        self._run(self._listen(near, far, port, round_trip_s))

    def _run(self, job: "asyncio.coroutines.Coroutine[None, None, None]") -> None:
        if not self._started:
            self._started = True
            self._thread.start()
        done = asyncio.run_coroutine_threadsafe(job, self._loop)
        # The loop itself knows what it runs by weak references only.
        self._jobs.add(done)
        done.add_done_callback(self._jobs.discard)

    async def _knock(self, address: str, port: int, answered: Callable[[float], None]) -> None:
        for _ in range(20000):
            try:
                reader, writer = await asyncio.open_connection(address, port)
                line = await reader.readline()
                writer.close()
                if line.startswith(b"SSH-"):
                    return answered(time.time())
            except OSError:
                pass
            await asyncio.sleep(_KNOCK_S)
        return None

    async def _listen(self, near: str, far: str, port: int, round_trip_s: float) -> None:
        async def pass_on(here: asyncio.StreamReader, here_out: asyncio.StreamWriter) -> None:
            try:
                there, there_out = await asyncio.open_connection(far, port)
            except OSError:
                here_out.transport.abort()
                return
            for one in (here_out, there_out):
                one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The handshake that the kernel made at once: here it is over after one round trip, there half of one later.
            opened = self._loop.time() + round_trip_s
            await asyncio.gather(self._pump(here, there_out, opened, round_trip_s / 2),
                                 self._pump(there, here_out, opened + round_trip_s / 2, round_trip_s / 2))

        await asyncio.start_server(pass_on, near, port)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, opened: float,
                    delay_s: float) -> None:
        try:
            while data := await source.read(1 << 16):
                self._loop.call_at(max(self._loop.time(), opened) + delay_s, target.write, data)
        except OSError:
            pass
        self._loop.call_at(max(self._loop.time(), opened) + delay_s, target.close)
