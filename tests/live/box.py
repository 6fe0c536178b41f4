"""A sandbox and its events, as a program uses them: through the files of the mount."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

from live.daemon import Daemon
from live.place import wait_until


class Event:
    """events/N of a sandbox."""

    def __init__(self, box: "Box", name: str) -> None:
        self.box = box
        self.path = box.path / "events" / name

    def text(self, file: str) -> str:
        return (self.path / file).read_text()

    def wait(self, limit: float = 30) -> str:
        """What `wait` prints, e.g. "exited 0"; fails when that takes too long."""
        said = self.text(f"wait.{max(1, int(limit))}").rstrip("\n")
        assert not said.startswith(("queued", "running")), f"{self.path} after {limit} s: {said}"
        return said

    @property
    def stdout(self) -> bytes:
        return (self.path / "stdout").read_bytes()

    @property
    def stderr(self) -> bytes:
        return (self.path / "stderr").read_bytes()

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.text("result.json"))


class Box:
    """NAME/ in a mount."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        self.daemon = daemon
        self.name = name
        self.path = daemon.mnt / name

    @staticmethod
    def make(daemon: Daemon, name: str) -> "Box":
        box = Box(daemon, name)
        box.path.mkdir()
        box.await_ready()
        return box

    def await_ready(self) -> None:
        said = (self.path / "ready").read_text()
        assert said == "ready\n", said

    @property
    def status(self) -> str:
        return (self.path / "status").read_text().rstrip("\n")

    @property
    def info(self) -> dict[str, Any]:
        return json.loads((self.path / "info.json").read_text())

    def submit(self, script: str | bytes, file: str = "cmd") -> Event:
        """Writes to `cmd`, and reads the number back from the same handle."""
        fd = os.open(self.path / file, os.O_RDWR)
        try:
            data = script.encode() if isinstance(script, str) else script
            while data:
                data = data[os.write(fd, data):]
            return Event(self, os.read(fd, 64).decode().strip())
        finally:
            os.close(fd)

    def run(self, name: str, script: str) -> Event:
        (self.path / "run" / name).write_text(script)
        return Event(self, name)

    def sh(self, script: str, limit: float = 30) -> str:
        """Runs to a good end; what it printed."""
        event = self.submit(script)
        said = event.wait(limit)
        assert said == "exited 0", f"{script!r}: {said}: {event.stderr!r} {event.text('error')!r}"
        return event.stdout.decode()

    def event(self, name: str | int) -> Event:
        return Event(self, str(name))

    def numbers(self) -> list[int]:
        return sorted(int(n) for n in os.listdir(self.path / "events") if n.isdigit())

    def latest(self) -> int:
        numbers = self.numbers()
        return numbers[-1] if numbers else 0

    # --- beside the mount: the machine's view of a local sandbox

    @property
    def directory(self) -> Path:
        """Where the provider keeps it."""
        return self.daemon.state / "boxes" / self.info["id"]

    def init(self) -> int:
        """The pid of its first process, as seen from here."""
        return int((self.directory / "pid").read_text().split()[0])

    def processes(self) -> dict[int, str]:
        """Living processes in it, pid to command line."""
        namespace = os.readlink(f"/proc/{self.init()}/ns/pid")
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                if os.readlink(f"/proc/{entry}/ns/pid") != namespace:
                    continue
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
                found[int(entry)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue  # gone meanwhile, or a kernel thread
        return found

    def destroy(self, limit: float = 20) -> None:
        """rmdir, and wait until the provider has confirmed."""
        generation = self.info["generation"]
        # Not by this process: it may just have been refused something in there.
        subprocess.run(["rmdir", str(self.path)], check=True)
        past = self.daemon.mnt / ".mount" / "history" / f"{self.name}.{generation}"
        wait_until(lambda: (past / "status").read_text() != "stopping\n", f"{self.name} is gone",
                   limit)


def read_slowly(path: Path, limit: float) -> Optional[str]:
    """The text of a file that may not be there yet."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        try:
            return path.read_text()
        except OSError:
            time.sleep(0.02)
    return None
