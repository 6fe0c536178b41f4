"""Who is compared. Each attaches through the relay, is fully connected when attach() returns, and leaves nothing when
detach() does. One at a time: a sandbox with somebody else's connections in it is not quiet."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, Optional

from live.daemon import Daemon
from live.place import Place, sbxfs, wait_until
from live.sshd import free_port

from linkbench.server import Server


class Peer:
    name = ""
    root: Path  # where the server's `files` are seen

    def __init__(self, place: Place, server: Server) -> None:
        self.place = place
        self.server = server

    def attach(self, busy: bool) -> None:
        """`busy`: with others at work in the sandbox, where that makes a difference."""
        raise NotImplementedError

    def barrier(self, directory: Path) -> None:
        """Returns when everything done before has reached the server. syncfs(2) does not reach a FUSE file system;
        what a directory's fsync means is up to each."""
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def processes(self) -> list[int]:
        """Those that do its work on this side."""
        return []

    def detach(self) -> None:
        raise NotImplementedError


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


class Sbxfs(Peer):
    name = "sbxfs"
    options: tuple[str, ...] = ()

    def attach(self, busy: bool) -> None:
        server = self.server
        shutil.rmtree(self.place.path / "state", ignore_errors=True)
        config = f"""default_template = "lab"
[providers.lab]
backend = "ssh"
host = "127.0.0.1"
port = {server.relay.port}
user = "{server.sshd.user}"
identity_file = "{server.sshd.identity}"
agent = false
known_hosts_file = "{server.known_hosts}"
spool_dir = "{server.sshd.home}"
[templates.lab]
provider = "lab"
fs_root = "{server.files}"
workdir = "{server.files}"
exclusive = true
"""
        self.daemon = Daemon(self.place, options=self.options, config=config).start()
        self.box = self.daemon.mnt / "box"
        self.box.mkdir()
        said = (self.box / "ready").read_text()
        assert said == "ready\n", said
        self.root = self.box / "fs"
        if busy:
            script = "sleep 1000 & (while sleep 0.05; do echo line; done >>.log) & true"
        else:
            script = "true"
        # Whoever works here has run something; what is known of the sandbox's processes is of its end.
        assert self.run(script) == "exited 0\n"
        os.listdir(self.root)

    def run(self, script: str) -> str:
        fd = os.open(self.box / "cmd", os.O_RDWR)
        try:
            os.write(fd, script.encode())
            number = os.read(fd, 32).decode().strip()
        finally:
            os.close(fd)
        return (self.box / "events" / number / "wait").read_text()

    def processes(self) -> list[int]:
        assert self.daemon.process is not None
        return [self.daemon.process.pid]

    def detach(self) -> None:
        info = json.loads((self.box / "info.json").read_text())
        past = self.daemon.mnt / ".mount" / "history" / f"box.{info['generation']}" / "status"
        # Background processes belong to the machine and are left alone by rmdir.
        self.run("kill $(jobs -p) 2>/dev/null; true")
        self.box.rmdir()
        wait_until(lambda: past.read_text() != "stopping\n", "the sandbox is gone", limit=40)
        self.daemon.umount()


class SbxfsThrough(Sbxfs):
    """Every operation waits."""

    name = "sbxfs-writeback-off"
    options = ("writeback=off",)


class Sshfs(Peer):
    connections = 1

    def attach(self, busy: bool) -> None:
        config = self.server.ssh_config(self.place.path / "ssh_config")
        self.root = self.place.path / f"mnt-{self.name}"
        self.root.mkdir(exist_ok=True)
        warm = self.server.files / "warm"
        warm.mkdir(exist_ok=True)
        for number in range(16):
            (warm / str(number)).write_bytes(b"x")
        before = self.server.relay.counts().connections
        self.process = subprocess.Popen(
            ["sshfs", "-f", f"127.0.0.1:{self.server.files}", str(self.root), "-F", str(config),
             "-o", f"max_conns={self.connections}"],
            env={**os.environ, "HOME": str(self.server.home)}, stdin=subprocess.DEVNULL)
        wait_until(lambda: os.path.ismount(self.root), "sshfs is mounted")
        # It connects when the connections it has are busy: with files that are held open.
        held = [os.open(self.root / "warm" / str(number), os.O_RDONLY) for number in range(16)]
        wait_until(lambda: self.server.relay.counts().connections - before >= self.connections,
                   f"{self.connections} connections of sshfs")
        for fd in held:
            os.read(fd, 1)
            os.close(fd)

    def processes(self) -> list[int]:
        return [self.process.pid, *children(self.process.pid)]

    def detach(self) -> None:
        subprocess.run(["fusermount3", "-u", str(self.root)], check=True)
        self.process.wait(20)


class Sshfs1(Sshfs):
    name = "sshfs-1"


class Sshfs4(Sshfs):
    name = "sshfs-4"
    connections = 4


class Rclone(Peer):
    name = "rclone"

    def attach(self, busy: bool) -> None:
        self.root = self.place.path / "mnt-rclone"
        self.root.mkdir(exist_ok=True)
        self.control = f"127.0.0.1:{free_port()}"
        cache = self.place.path / "rclone-cache"
        shutil.rmtree(cache, ignore_errors=True)
        sshd = self.server.sshd
        self.log = self.place.path / "rclone.log"
        self.process = subprocess.Popen(
            ["rclone", "mount", f":sftp:{self.server.files}", str(self.root), "--config", "/dev/null",
             "--sftp-host", "127.0.0.1", "--sftp-port", str(self.server.relay.port), "--sftp-user", sshd.user,
             "--sftp-key-file", str(sshd.identity), "--sftp-known-hosts-file", str(self.server.known_hosts),
             "--cache-dir", str(cache), "--vfs-cache-mode", "full", "--vfs-write-back", "10ms", "--transfers", "16",
             "--file-perms", "0644", "--dir-perms", "0755",
             "--rc", "--rc-no-auth", "--rc-addr", self.control, "--log-file", str(self.log)],
            env={**os.environ, "HOME": str(self.server.home)}, stdin=subprocess.DEVNULL)
        wait_until(lambda: os.path.ismount(self.root), "rclone is mounted", limit=40)
        os.listdir(self.root)

    def _stats(self) -> dict[str, Any]:
        order = urllib.request.Request(f"http://{self.control}/vfs/stats", method="POST")
        with urllib.request.urlopen(order) as answer:
            return json.load(answer)["diskCache"]

    def barrier(self, directory: Path) -> None:
        # A file is queued some moments after its close: nothing must be queued several times in a row, which adds 50 ms.
        idle = 0
        while idle < 10:
            stats = self._stats()
            idle = idle + 1 if stats["uploadsInProgress"] + stats["uploadsQueued"] == 0 else 0
            time.sleep(0.005)

    def processes(self) -> list[int]:
        return [self.process.pid]

    def detach(self) -> None:
        subprocess.run(["fusermount3", "-u", str(self.root)], check=True)
        self.process.wait(60)


class Loop(Peer):
    """bench/sftp_loop.cc: nothing to mount."""

    name = "loop"

    def attach(self, busy: bool) -> None:
        self.root = self.server.files

    def command(self, program: Path, what: str, path: Path, size: int) -> dict[str, float]:
        sshd = self.server.sshd
        done = subprocess.run([program, what, str(self.server.relay.port), sshd.identity, sshd.user, path, str(size)],
                              check=True, capture_output=True)
        return json.loads(done.stdout)

    def detach(self) -> None:
        pass


class Ssh(Peer):
    """ssh(1) with a master connection, for commands."""

    name = "ssh"

    def attach(self, busy: bool) -> None:
        self.root = self.server.files
        config = self.server.ssh_config(self.place.path / "ssh_config")
        self.words = ["ssh", "-F", str(config), "-o", "ControlMaster=auto", "-o", "ControlPersist=60",
                      "-o", f"ControlPath={self.server.home}/master", "127.0.0.1"]
        subprocess.run([*self.words, "true"], check=True, stdin=subprocess.DEVNULL)

    def detach(self) -> None:
        subprocess.run([*self.words[:-1], "-O", "exit", self.words[-1]], check=False, capture_output=True)


ALL: list[type[Peer]] = [Sbxfs, SbxfsThrough, Sshfs1, Sshfs4, Rclone, Loop, Ssh]
DEFAULT = ["sbxfs", "sshfs-1", "sshfs-4", "rclone", "loop", "ssh"]


def missing(name: str) -> Optional[str]:
    """The program that is not installed."""
    program = {"sbxfs": sbxfs(), "rclone": "rclone", "sshfs-1": "sshfs", "sshfs-4": "sshfs", "ssh": "ssh"}.get(name)
    return program if program is not None and shutil.which(program) is None else None
