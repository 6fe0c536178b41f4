"""What a client of sbxfs was promised, and whether it was kept: the oracle of the crash harness. Every call
is noted before it is made and again when it has succeeded; between the two, anything may have become of it."""

import hashlib
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from live.daemon import Daemon
from live.place import wait_until

WAIT = 20  # seconds within which everything has to come to its end


class Call(Enum):
    NOT_MADE = 0
    MADE = 1  # its answer was never heard
    ACKNOWLEDGED = 2


@dataclass
class Command:
    """A command whose start leaves a line outside of the sandbox, with output known beforehand."""

    token: str
    script: str
    stdout: bytes
    stderr: bytes = b""
    name: str = ""
    endless: bool = False  # ends with its sandbox only
    # Files it must see that nobody has waited for: where a daemon dies with them it may be refused, and names one.
    needs: dict[str, bytes] = field(default_factory=dict)
    submit: Call = Call.NOT_MADE
    forget: Call = Call.NOT_MADE
    number: Optional[int] = None
    seen: Optional[dict[str, Any]] = None  # its result.json, once it had ended


@dataclass
class Sandbox:
    """One generation of a name."""

    name: str
    generation: int
    make: Call = Call.NOT_MADE
    remove: Call = Call.NOT_MADE
    failed: bool = False  # its launch, and that was shown
    commands: list[Command] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)  # acknowledged, below the working directory


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Ledger:
    """Makes the calls of a scripted client and knows what must be true afterwards."""

    def __init__(self, daemon: Daemon, starts: Path, inside: str = "/starts") -> None:
        self.daemon = daemon
        self.starts = starts / "log"  # bound into every sandbox, where it is below `inside`
        self.inside = inside
        self.starts.touch()
        self.starts.chmod(0o666)
        self.sandboxes: list[Sandbox] = []
        self._counted: tuple[int, Counter[str]] = (-1, Counter())

    # --- the client's calls

    def path(self, box: Sandbox) -> Path:
        return self.daemon.mnt / box.name

    def mkdir(self, name: str) -> Sandbox:
        box = Sandbox(name, 1 + len(self.sandboxes))
        self.sandboxes.append(box)
        box.make = Call.MADE
        os.mkdir(self.path(box))
        box.make = Call.ACKNOWLEDGED
        return box

    def rmdir(self, box: Sandbox) -> None:
        box.remove = Call.MADE
        os.rmdir(self.path(box))
        box.remove = Call.ACKNOWLEDGED

    def command(self, box: Sandbox, label: str, body: str, stdout: bytes, **more: Any) -> Command:
        token = f"{box.name}.{box.generation}.{label}"
        script = f"echo {token} >> {self.inside}/log\n{body}\n"
        command = Command(token, script, stdout, **more)
        box.commands.append(command)
        return command

    def submit(self, box: Sandbox, command: Command) -> None:
        """By `cmd`, the number read back; by run/NAME when it has a name."""
        command.submit = Call.MADE
        if command.name:
            fd = os.open(self.path(box) / "run" / command.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        else:
            fd = os.open(self.path(box) / "cmd", os.O_RDWR)
        try:
            os.write(fd, command.script.encode())
            if not command.name:
                command.number = int(os.read(fd, 32))
                command.submit = Call.ACKNOWLEDGED
        finally:
            os.close(fd)  # its answer is the promise, where no number was read
        command.submit = Call.ACKNOWLEDGED

    def write(self, box: Sandbox, name: str, data: bytes) -> None:
        """To another name, then renamed, as editors do, and durable: a daemon that is killed takes with it what it had
        answered ahead, as a power cut does."""
        temporary = self.path(box) / "work" / f".{name}.new"
        with open(temporary, "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
        os.rename(temporary, self.path(box) / "work" / name)
        directory = os.open(self.path(box) / "work", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        box.files[name] = data

    def write_synced(self, box: Sandbox, name: str, data: bytes) -> None:
        """To the name itself; fsync(2) of the file is all there is."""
        with open(self.path(box) / "work" / name, "wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())
            box.files[name] = data

    def write_unsynced(self, box: Sandbox, name: str, data: bytes) -> None:
        """Nobody has promised anything but to a command that comes after it."""
        (self.path(box) / "work" / name).write_bytes(data)

    def event(self, box: Sandbox, command: Command) -> Path:
        return self.path(box) / "events" / (command.name or str(command.number))

    def finish(self, box: Sandbox, command: Command) -> None:
        """Waits for its end and reads everything back."""
        self.check_ended(self.event(box, command), command)

    def forget(self, box: Sandbox, command: Command) -> None:
        command.forget = Call.MADE
        os.rmdir(self.event(box, command))
        command.forget = Call.ACKNOWLEDGED

    # --- the promises

    def started(self, command: Command) -> int:
        # Lines are only ever added: read again when there are more. An hour of commands asks for each of them.
        size = self.starts.stat().st_size
        if size != self._counted[0]:
            self._counted = size, Counter(self.starts.read_text().split())
        return self._counted[1][command.token]

    def check_ended(self, event: Path, command: Command) -> None:
        """It has run exactly once, and what is shown of it is what it did."""
        said = (event / f"wait.{WAIT}").read_text()
        assert said == "exited 0\n", f"{command.token}: {said!r}, {(event / 'error').read_text()!r}, " \
            f"{(event / 'stderr').read_bytes()[:300]!r}"
        self.check_output(event, command)
        assert self.started(command) == 1, f"{command.token} started {self.started(command)} times"

    def check_ran_or_refused(self, box: Sandbox, event: Path, command: Command) -> None:
        """It has seen every file it needs, and they are there; or it has not begun, and says what it would have missed."""
        said = (event / f"wait.{WAIT}").read_text()
        if said != "refused\n":
            self.check_ended(event, command)
            for name, data in command.needs.items():
                found = (self.path(box) / "work" / name).read_bytes()
                assert found == data, f"{command.token} has run, and {name} has {len(found)} bytes of {len(data)}, or others"
            return
        why = (event / "error").read_text()
        # The change may be one of its name: a directory above, or a rename of another one with the same beginning.
        assert any(f"/{name.split('.')[0]}." in why for name in command.needs), \
            f"{command.token} is refused and names none of its files: {why}"
        assert self.started(command) == 0, f"{command.token} ran and is called refused"

    def check_output(self, event: Path, command: Command) -> None:
        result = json.loads((event / "result.json").read_text())
        if command.seen is not None:
            assert result == command.seen, f"{command.token}: an outcome changed: {command.seen} to {result}"
        command.seen = result
        for stream in ("stdout", "stderr"):
            want, got = getattr(command, stream), (event / stream).read_bytes()
            assert digest(got) == digest(want), \
                f"{command.token}: {stream} has {len(got)} bytes instead of {len(want)}, or others"
        assert (event / "cmd").read_text() == command.script, f"{command.token}: its script changed"

    def check_all(self) -> None:
        """With a daemon started anew on the state of one that was killed."""
        listed = {name for name in os.listdir(self.daemon.mnt) if name not in ("README.md", ".mount")}
        expected = set()
        for box in self.sandboxes:
            here = box.name in listed and self._generation(box) == box.generation
            if here:
                expected.add(box.name)
                assert box.remove is not Call.ACKNOWLEDGED, f"{box} came back after rmdir"
                self.check_living(box)
            elif box.remove is not Call.NOT_MADE:
                self.check_past(box)
            else:
                assert box.make is not Call.ACKNOWLEDGED, f"{box} is gone"
        assert listed == expected, f"unexpected: {listed - expected}"

    def _generation(self, box: Sandbox) -> int:
        return int(json.loads((self.path(box) / "info.json").read_text())["generation"])

    def check_living(self, box: Sandbox) -> None:
        ready = (self.path(box) / "ready").read_text()
        assert ready == "ready\n", f"{box.name}: {ready}"
        for name, data in box.files.items():
            assert (self.path(box) / "work" / name).read_bytes() == data, f"{box.name}: {name} changed"
        highest = 0
        for command in box.commands:
            self._adopt(box, command)
            if command.submit is not Call.ACKNOWLEDGED or self._forgotten(box, command):
                continue
            highest = max(highest, command.number or 0)
            if command.needs:
                self.check_ran_or_refused(box, self.event(box, command), command)
            elif not command.endless:
                self.check_ended(self.event(box, command), command)
        self._check_names(box)
        # It works on, and numbers go up.
        last = self.command(box, "afterwards", "echo well", b"well\n")
        self.submit(box, last)
        assert last.number is not None and last.number > highest, f"{last.number} after {highest}"
        self.check_ended(self.event(box, last), last)
        for command in box.commands:
            assert self.started(command) <= 1, f"{command.token} started {self.started(command)} times"
            if command.submit is not Call.ACKNOWLEDGED:
                assert self.started(command) == 0, f"{command.token} ran and has no event"

    def _adopt(self, box: Sandbox, command: Command) -> None:
        """A submission whose answer was not heard: it was accepted, or it never happened. By name it is
        repeated, as a client would; that cannot run it twice."""
        if command.submit is not Call.MADE:
            return
        if command.name and command.needs:
            # Repeated by whoever has not made its files again, it would do without them.
            if self.event(box, command).exists():
                command.submit = Call.ACKNOWLEDGED
            return
        if command.name:
            try:
                self.submit(box, command)
            except FileExistsError:
                command.submit = Call.ACKNOWLEDGED
            return
        taken = {other.number for other in box.commands}
        for entry in sorted((self.path(box) / "events").iterdir()):
            if entry.name.isdigit() and int(entry.name) not in taken and \
                    (entry / "cmd").read_text() == command.script:
                command.number = int(entry.name)
                command.submit = Call.ACKNOWLEDGED

    def _forgotten(self, box: Sandbox, command: Command) -> bool:
        if command.forget is Call.NOT_MADE:
            return False
        there = self.event(box, command).exists()
        assert not (there and command.forget is Call.ACKNOWLEDGED), f"{command.token} is not forgotten"
        return not there

    def _check_names(self, box: Sandbox) -> None:
        for command in box.commands:
            if command.name and command.submit is Call.ACKNOWLEDGED:
                try:
                    os.open(self.path(box) / "run" / command.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                except FileExistsError:
                    continue
                raise AssertionError(f"run/{command.name} could be used twice")

    def past(self, box: Sandbox) -> Path:
        return self.daemon.mnt / ".mount" / "history" / f"{box.name}.{box.generation}"

    def check_past(self, box: Sandbox) -> None:
        """Destroyed, by a call that was acknowledged or was on its way: it ends as such, and nothing that was known
        of its commands is lost or invented."""
        status = self.past(box) / "status"
        if not status.exists():
            assert box.make is not Call.ACKNOWLEDGED, f"{box.name}.{box.generation} left no history"
            return
        end = "failed\n" if box.failed else "stopped\n"
        wait_until(lambda: status.read_text() == end, f"{status}: {status.read_text()}", WAIT)
        for command in box.commands:
            assert self.started(command) <= 1, f"{command.token} started {self.started(command)} times"
            if command.number is None and not command.name:
                continue
            event = self.past(box) / "events" / (command.name or str(command.number))
            if not event.exists():
                assert command.submit is not Call.ACKNOWLEDGED or command.forget is not Call.NOT_MADE, \
                    f"{command.token} is gone from history"
                continue
            outcome = (event / "status").read_text().strip()
            if command.seen is not None or outcome == "exited":
                self.check_output(event, command)
                assert self.started(command) == 1, f"{command.token} exited and did not start"
            elif outcome == "refused":
                assert self.started(command) == 0, f"{command.token} ran and is called refused"
            else:
                assert outcome == "lost", f"{command.token}: {outcome}"

    def end(self) -> None:
        """rmdir of everything, confirmed."""
        for box in self.sandboxes:
            if self.path(box).exists() and self._generation(box) == box.generation:
                self.rmdir(box)
        deadline = time.monotonic() + WAIT
        for past in (self.daemon.mnt / ".mount" / "history").iterdir():
            while (past / "status").read_text() == "stopping\n":
                assert time.monotonic() < deadline, f"{past}: {(past / 'error').read_text()}"
                time.sleep(0.01)
        for box in self.sandboxes:
            self.check_past(box)
