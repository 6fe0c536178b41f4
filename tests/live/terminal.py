"""A program on a terminal of its own: typed at, and read, as by a person."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Optional

# Colours, cursor movements and the like: what is left is the text in the order it was drawn.
CONTROL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78MDEHc])|[\x0e\x0f]")


class Terminal:
    """Ends its program when it is left; a program that does not do what is waited for fails with its screen."""

    def __init__(self, argv: list[str], cwd: Path, env: Optional[dict[str, str]] = None) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._drawn = b""
        self._at = 0

        def own_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, cwd=cwd,
                                        preexec_fn=own_terminal, close_fds=True,
                                        env={**os.environ, "TERM": "vt100", **(env or {})})
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self._master)

    def type(self, keys: str) -> None:
        data = keys.encode()
        while data:
            data = data[os.write(self._master, data):]

    def expect(self, text: str, limit: float = 15) -> None:
        """Waits until `text` is drawn, after what was expected before."""
        deadline = time.monotonic() + limit
        while True:
            plain = CONTROL.sub(b"", self._drawn)
            found = plain.find(text.encode(), self._at)
            if found >= 0:
                self._at = found + len(text)
                return
            left = deadline - time.monotonic()
            assert left > 0 and self._read(left), f"no {text!r} on the screen: {plain[self._at:]!r}"

    def end(self, limit: float = 15) -> int:
        """Waits for the program's own end; its exit code."""
        deadline = time.monotonic() + limit
        while self._read(max(0, deadline - time.monotonic())):
            pass
        try:
            return self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            plain = CONTROL.sub(b"", self._drawn)
            raise AssertionError(f"{self.process.args} does not end: {plain[-1500:]!r}") from None

    def _read(self, limit: float) -> bool:
        """More of what is drawn; false when nothing came, or nothing can come any more."""
        if not select.select([self._master], [], [], limit)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False  # EIO: nobody has the other end any more
        self._drawn += data
        return bool(data)
