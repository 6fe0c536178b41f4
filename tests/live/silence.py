"""Sandboxes behind a link that swallows every byte, and processes that wait for them."""

import contextlib
import os
import select
import signal
import time
from pathlib import Path
from typing import Any, Callable, Optional

from harness.relay import Relay
from live.box import Box
from live.case import MountCase
from live.place import wait_until

Call = Callable[[], Any]
MIB = 1 << 20


class Waiter:
    """A process of its own that gets ready, is told to go, and makes one call. It has no file of the mount but its
    own, and SIGINT as most programs have it."""

    def __init__(self, what: str, prepare: Callable[[], Call]) -> None:
        self.what = what
        said, say = os.pipe()
        hear, self._tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.close(self._tell)
                call = prepare()
                os.write(say, b"r")
                os.read(hear, 1)
                os.write(say, b"c")
                call()
                os._exit(0)
            except OSError as error:
                os.write(say, f"{what}: {error}\n".encode())
            finally:
                os._exit(1)
        os.close(say)
        os.close(hear)
        self._said = said
        self.code: Optional[int] = None

    def hear(self, word: bytes) -> None:
        ready, _, _ = select.select([self._said], [], [], 20)
        heard = os.read(self._said, 1) if ready else b"nothing"
        assert heard == word, f"{self.what}: {heard + os.read(self._said, 500) if ready else heard!r}"

    def go(self) -> None:
        os.write(self._tell, b"g")
        self.hear(b"c")

    def ended(self) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def waits(self) -> bool:
        """Asleep, in its call."""
        return not self.ended() and Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "SD"

    def freed(self, since: float, limit: float) -> float:
        while not self.ended() and time.monotonic() - since < limit:
            time.sleep(0.0005)
        return time.monotonic() - since

    def last_words(self) -> str:
        """Of one whose call has failed."""
        return os.read(self._said, 500).decode()

    def close(self) -> None:
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
        os.close(self._tell)
        os.close(self._said)
        if self.code is None:
            os.waitpid(self.pid, 0)


class SilenceCase(MountCase):
    def setUp(self) -> None:
        super().setUp()
        self.allow_log("refused op=", "outcome")

    def relayed(self, name: str) -> tuple[Box, Relay]:
        """A box that the daemon reaches by way of a relay from now on."""
        box = Box.make(self.daemon, name)
        assert self.daemon.process is not None
        relay = Relay(box.directory / "ssh.sock", self.daemon.process.pid)
        self.addCleanup(relay.stop)
        self.addCleanup(relay.swallow, False)
        # What is connected has not come by it.
        for pid, line in box.processes().items():
            if "sshd" in line and pid != box.init():
                with contextlib.suppress(ProcessLookupError):  # its parent was faster
                    os.kill(pid, signal.SIGKILL)
        wait_until(relay.in_use, "the daemon comes by it")
        self.assertEqual(box.sh("echo through"), "through\n")
        return box, relay

    def waiters(self, kinds: dict[str, Callable[[Path], Call]], root: Path) -> dict[str, Waiter]:
        made = {}
        for number, (what, prepare) in enumerate(kinds.items()):
            here = root / str(number)
            made[what] = Waiter(what, lambda prepare=prepare, here=here: prepare(here))  # type: ignore[misc]
            self.addCleanup(made[what].close)
        for waiter in made.values():
            waiter.hear(b"r")
        return made

    def furnish(self, box: Box, name: str, count: int) -> Path:
        box.sh(f"mkdir /workspace/{name}; cd /workspace/{name}; for i in $(seq 0 {count}); do mkdir -p $i/d; "
               f"head -c {MIB} /dev/zero > $i/f; chmod +x $i/f; : > $i/g; done")
        return box.path / "fs" / "workspace" / name
