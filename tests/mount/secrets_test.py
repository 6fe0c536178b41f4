#!/usr/bin/env python3
"""Canaries in everything that is secret, and a search for them everywhere else: logs, arguments and environments of
processes, messages, what the mount shows, state files. docs/SECURITY.md says where secrets may be."""

import os
import stat
import subprocess
import sys
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.case import Live, MountCase, main  # noqa: E402
from live.place import Place, sbxfs  # noqa: E402

TEMPLATE = "canary-template-" + uuid.uuid4().hex
VARIABLE = "canary-variable-" + uuid.uuid4().hex
COMMAND = "canary-command-" + uuid.uuid4().hex
AWS = "canary-aws-" + uuid.uuid4().hex
SESSION = "canary-aws-session-" + uuid.uuid4().hex
CANARIES = {"template": TEMPLATE, "config/env": VARIABLE, "env of a command": COMMAND, "AWS": AWS, "AWS session": SESSION}
# The daemon's own environment.
ENVIRONMENT = {"AWS_SECRET_ACCESS_KEY": AWS, "AWS_SESSION_TOKEN": SESSION, "SBXFS_TEST_SECRET": TEMPLATE}


def configure(_: Place) -> str:
    os.environ.update(ENVIRONMENT)
    return ('[templates.default]\nprovider = "local"\nworkdir = "/workspace"\n'
            'env = { TEMPLATE_SECRET = "${SBXFS_TEST_SECRET}" }\n')


def forget_environment() -> None:
    """The daemon has it; what this script starts from here on shall not."""
    for name in ENVIRONMENT:
        os.environ.pop(name, None)


def namespaces(pid: str) -> int:
    """How many pid namespaces a process is in."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return len(line.split()) - 1
    return 0


class Secrets(MountCase):
    @classmethod
    def setUpClass(cls) -> None:
        forget_environment()
        box = Live.box
        (box.path / "config" / "env" / "KEY").write_text(VARIABLE + "\n")
        box.submit('{"cmd": "true", "env": {"COMMAND_SECRET": "' + COMMAND + '"}}', "cmd.json").wait()
        assert box.sh("echo ${#KEY} ${#TEMPLATE_SECRET}").split() == [str(len(VARIABLE)), str(len(TEMPLATE))]
        # Refusals, failures, and an outcome that is lost: what is said of those holds no values either.
        for attempt in ('{"cmd": "true", "env": {"COMMAND_SECRET": "' + COMMAND + '", "1bad=": "' + COMMAND + '"}}',
                        '{"cmd": 5, "env": {"A": "' + COMMAND + '"}}'):
            try:
                (box.path / "cmd.json").write_text(attempt)
            except OSError:
                pass
        try:
            (box.path / "config" / "env" / "BAD").write_bytes(VARIABLE.encode() + b"\0")
        except OSError:
            pass
        cls.private_key = (box.path / "ssh" / "key").read_text().splitlines()[2]

    def secrets(self) -> dict[str, str]:
        return {**CANARIES, "client key": self.private_key}

    def expect_none(self, where: str, text: str | bytes) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        for name, canary in self.secrets().items():
            self.assertNotIn(canary.encode(), data, f"{name} in {where}")

    def is_anothers(self, _: str) -> bool:
        """A process that no part of sbxfs has made."""
        return False

    def test_what_the_mount_shows(self) -> None:
        """All files but the key itself, and the sandbox's own."""
        looked = 0
        for top, directories, files in os.walk(self.mnt):
            directories[:] = [name for name in directories if name not in ("fs", "work")]
            for name in files:
                path = Path(top) / name
                if name in ("wait", "follow", "ready") or path.is_symlink():
                    continue
                try:
                    data = path.read_bytes()
                except OSError:
                    continue
                looked += 1
                # The script that was submitted is shown as it was; the values of env are no part of it.
                self.expect_none(str(path), data)
        self.assertGreater(looked, 30)
        if os.geteuid() == 0:  # 0200
            self.assertEqual((self.box.path / "config" / "env" / "KEY").read_text(), "<set>\n")
        self.assertEqual(stat.S_IMODE((self.box.path / "ssh" / "key").stat().st_mode), 0o600)
        self.assertNotIn("key", os.listdir(self.box.path / "ssh"))

    def test_what_programs_print_and_log(self) -> None:
        self.expect_none("the log", self.daemon.log.read_bytes())
        config = str(Live.place.path / "config.toml")
        os.environ["SBXFS_TEST_SECRET"] = TEMPLATE
        try:
            shown = subprocess.run([sbxfs(), "config", "show", "-c", config], capture_output=True, check=False)
        finally:
            forget_environment()
        self.expect_none("config show", shown.stdout + shown.stderr)
        for words in (["status", str(self.mnt)], ["list"], ["list", "--json"]):
            done = subprocess.run([sbxfs(), *words], capture_output=True, check=False)
            self.expect_none(" ".join(words), done.stdout + done.stderr)

    def test_arguments_and_environments_of_processes(self) -> None:
        """Of every process that may be looked into, but the sandbox's own commands, whose environment it is."""
        assert self.daemon.process is not None
        depth = namespaces("self")
        looked = 0
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in (os.getpid(), self.daemon.process.pid):
                continue
            try:
                if self.is_anothers(entry):
                    continue
                self.expect_none(f"cmdline of {entry}", Path(f"/proc/{entry}/cmdline").read_bytes())
                environment = Path(f"/proc/{entry}/environ").read_bytes()
                inside = namespaces(entry) > depth
            except OSError:
                continue
            looked += 1
            if inside:  # what the daemon was started with and what it knows for itself is none of the sandbox's
                for canary in (AWS, SESSION):
                    self.assertNotIn(canary.encode(), environment, f"the daemon's environment in {entry}")
                self.assertNotIn(self.private_key.encode(), environment)
            else:
                self.expect_none(f"environment of {entry}", environment)
        self.assertGreater(looked, 2)
        self.expect_none("the daemon's arguments", Path(f"/proc/{self.daemon.process.pid}/cmdline").read_bytes())
        # Counted there: what it printed would be a copy of its environment.
        found = self.box.sh("(env; cat /proc/*/environ 2>/dev/null) | grep -ac canary-aws; true")
        self.assertEqual(found, "0\n")

    def test_state_files(self) -> None:
        """Only where they must be kept, and there for the owner alone."""
        self.assertEqual(stat.S_IMODE(self.daemon.state.stat().st_mode), 0o700)
        holders = set()
        for top, directories, files in os.walk(self.daemon.state):
            directories[:] = [name for name in directories if name != "layer"]  # the sandbox's own disk
            for name in files:
                path = Path(top) / name
                try:
                    info = path.lstat()
                    data = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
                except OSError:
                    continue
                for canary in self.secrets().values():
                    if canary.encode() in data:
                        holders.add(path)
        for path in holders:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode) & 0o077, 0, f"{path} is for its owner alone")
            self.assertTrue(path.name.startswith("journal"), f"{path} holds a secret")

    def test_nobody_else_looks_into_the_daemon(self) -> None:
        """PR_SET_DUMPABLE 0: its memory and environment are root's, whoever started it; and it leaves no core."""
        assert self.daemon.process is not None
        pid = self.daemon.process.pid
        self.assertEqual(os.stat(f"/proc/{pid}/environ").st_uid, 0)
        if os.geteuid() != 0:
            with self.assertRaises(PermissionError):
                Path(f"/proc/{pid}/environ").read_bytes()
            with self.assertRaises(PermissionError):
                with open(f"/proc/{pid}/mem", "rb") as memory:
                    memory.read(1)


if __name__ == "__main__":
    main(limit=80, configure=configure)
