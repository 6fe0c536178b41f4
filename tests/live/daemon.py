"""A daemon of our own: started, killed, unmounted, and its log collected."""

import os
import re
import signal
import subprocess
import time
import unittest
from pathlib import Path
from typing import Optional, Sequence

from live.far import Far, round_trip
from live.place import Place, file_system_at, sbxfs, wait_until

# What must not be in the log of a daemon unless a test has said that it may.
BAD = re.compile(r"\berror\b|\bwarning\b|\bcritical\b|Sanitizer|runtime error|CHECK failed")
# Says how long, not that anything is wrong: on a busy machine anything may wait for a second.
SLOW = re.compile(r" warning (a request waits op=|more requests wait count=)")
# Values may hold such words; only level, event and what is not ours count.
QUOTED = re.compile(r'\S+="(?:[^"\\]|\\.)*"|\S+=\S+')


class Daemon:
    """`sbxfs mount -f` on PLACE/mnt with the state in PLACE/state."""

    def __init__(self, place: Place, options: Sequence[str] = (), config: Optional[str] = None,
                 name: str = "") -> None:
        self.place = place
        self.mnt = place.path / f"mnt{name}"
        self.state = place.path / f"state{name}"
        self.log = place.path / f"daemon{name}.log"
        self.options = list(options)
        self.config = config
        self.process: Optional[subprocess.Popen[bytes]] = None
        self._looked_at = 0
        self._said_before = 0
        self.mnt.mkdir(exist_ok=True)
        place.at_end(self.abandon)

    def command(self, *flags: str) -> list[str]:
        command = [sbxfs(), "mount", *flags]
        if self.config is not None:
            file = self.place.path / "config.toml"
            file.write_text(self.config)
            file.chmod(0o600)
            command += ["-c", str(file)]
        # Whole tiers are run in other ways, too: SBXFS_TEST_OPTIONS=writeback=off. The last word counts.
        everywhere = os.environ.get("SBXFS_TEST_OPTIONS", "").split(",")
        options = [f"state_dir={self.state}", *filter(None, everywhere), *self.options]
        return [*command, "-o", ",".join(options), str(self.mnt)]

    def start(self, limit: float = 30) -> "Daemon":
        """Returns when the mount is live."""
        self._said_before = self._said()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command("-f"), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=Far.environment() if round_trip() else None)
        wait_until(self._live, f"the mount on {self.mnt} is live; {self.tail()}", limit=limit,
                   pause=0.005)
        return self

    def _live(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the daemon ended: {self.process.returncode}; {self.tail()}")
        # Its own word: the dead mount of the one before may answer a stat from the kernel's cache.
        if file_system_at(self.mnt) != "fuse.sbxfs" or self._said() <= self._said_before:
            return False
        try:
            os.stat(self.mnt)
        except OSError:
            return False  # a stale one of a killed daemon, about to be healed
        return True

    def _said(self) -> int:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text.count(" info mounted ")

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)
        self.process = None

    def umount(self, limit: float = 30) -> None:
        """`sbxfs umount`, then waits for the daemon's own end."""
        assert self.process is not None
        done = subprocess.run([sbxfs(), "umount", str(self.mnt)], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, f"umount: {done.stderr}"
        code = self.process.wait(limit)
        self.process = None
        assert code == 0, f"the daemon ended with {code}; {self.tail()}"

    def restart(self) -> None:
        self.umount()
        self.start()

    def abandon(self) -> None:
        """However things are: boxes destroyed, daemon ended. For cleaning up after failures."""
        if self.process is not None and self.process.poll() is not None:
            self.process = None
        if self.process is None and any(self._boxes()):
            self.start()
        if self.process is None:
            return
        if any(self._boxes()):
            # A broken daemon must not be asked anything that may hang for ever.
            subprocess.Popen(["sh", "-c", 'cd "$0" && rmdir -- */', str(self.mnt)],
                             stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 10
            while any(self._boxes()) and time.monotonic() < deadline:
                time.sleep(0.05)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)

    def _boxes(self) -> list[Path]:
        try:
            return list((self.state / "boxes").iterdir())
        except FileNotFoundError:
            return []

    # --- what it said

    def tail(self, lines: int = 15) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "its log ends:\n" + "\n".join(text.splitlines()[-lines:])

    def complaints(self, allowed: Sequence[str]) -> list[str]:
        """The bad lines logged since the last call, without those that match something allowed."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        new, self._looked_at = text[self._looked_at:], len(text)
        bad = [line for line in new.splitlines() if BAD.search(QUOTED.sub("", line)) and not SLOW.search(line)]
        return [line for line in bad if not any(re.search(pattern, line) for pattern in allowed)]

    def last_error(self) -> str:
        """The newest refusal."""
        text = (self.mnt / ".mount" / "last_error").read_text()
        return text.split("\n", 1)[0]

    def bytes_moved(self) -> int:
        """What it has read and written so far, to files, pipes, sockets and the kernel."""
        assert self.process is not None
        facts = dict(line.split(": ") for line in Path(f"/proc/{self.process.pid}/io").read_text().splitlines())
        return int(facts["rchar"]) + int(facts["wchar"])

    def waiting(self) -> int:
        """Requests the kernel has sent and not got an answer to. Skips the test where that cannot be
        seen."""
        connections = Path("/sys/fs/fuse/connections")
        if not any(connections.iterdir()):
            connections = self.place.path / "connections"
            if not connections.exists():
                connections.mkdir()
                mounted = subprocess.run(["mount", "-t", "fusectl", "none", str(connections)],
                                         capture_output=True, check=False)
                if mounted.returncode != 0:
                    connections.rmdir()
                    raise unittest.SkipTest("fusectl is not mounted, and we cannot mount it")
        return int((connections / str(self.device()) / "waiting").read_text())

    def device(self) -> int:
        """The number of the mount's connection in fusectl, without asking the mount."""
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            fields = line.split()
            if fields[4] == str(self.mnt):
                return int(fields[2].split(":")[1])
        raise AssertionError(f"nothing is mounted on {self.mnt}")
