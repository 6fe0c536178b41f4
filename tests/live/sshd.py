"""A real sshd on 127.0.0.1 for tests of provider ssh: its own port, keys and home directory, all below
the test's place or beside it. Started in front, so it is ours to stop and start again."""

import contextlib
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Optional, Sequence

from live.place import Place, wait_until


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> str:
    """The public line, without a comment."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "", "-f", str(path)],
                   check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def free_port(address: str = "127.0.0.1") -> int:
    """None of those that connections are given: it is still free when a server that was stopped comes back."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest // 2, lowest)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind((address, port))
            return port


class Sshd:
    """One machine somebody already has."""

    def __init__(self, place: Place, name: str = "lab", types: tuple[str, ...] = ("ed25519",),
                 inside: Sequence[str] = (), sftp: str = "") -> None:
        """`inside`: a command that runs another, such as one that makes namespaces first. `sftp`: a file server in place of sshd's."""
        self.inside = list(inside)
        self.path = place.path / f"sshd-{name}"
        self.path.mkdir(mode=0o755)
        # Not in the place, which may lie below /dev: that is not shown in fs/.
        self.home = Path(tempfile.mkdtemp(prefix="sbxfs-home-"))
        place.at_end(lambda: shutil.rmtree(self.home, ignore_errors=True))
        place.at_end(self.end_supervisors)  # a test that has failed leaves them
        self.port = free_port()
        self.user = getpass.getuser()
        self.host_keys = [make_key(self.path / f"host_{kind}", kind) for kind in types]
        self.identity = self.path / "identity"
        self.authorize(make_key(self.identity))
        self.types = types
        self.sftp = sftp or f"internal-sftp -d {self.home}"
        self.process: Optional[subprocess.Popen[bytes]] = None
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        place.at_end(self.stop)

    def authorize(self, line: str) -> None:
        with (self.path / "authorized").open("a") as file:
            file.write(line + "\n")

    def start(self) -> "Sshd":
        config = self.path / "config"
        keys = "".join(f"HostKey {self.path}/host_{kind}\n" for kind in self.types)
        # The user's home is this directory as far as sessions can tell.
        config.write_text(f"""Port {self.port}
ListenAddress 127.0.0.1
{keys}AuthorizedKeysFile {self.path}/authorized
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
PidFile none
LogLevel ERROR
SetEnv HOME={self.home}
Subsystem sftp {self.sftp}
""")
        with (self.path / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.inside, shutil.which("sshd", path="/usr/sbin:/usr/bin") or "sshd", "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(self._answers, f"sshd on port {self.port} answers", limit=20)
        except AssertionError as error:
            raise AssertionError(f"{error}; {(self.path / 'log').read_text(errors='replace')[-500:]}") from None
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as one:
                return one.recv(4) == b"SSH-"
        except OSError:
            return False

    def sessions(self) -> list[int]:
        """The processes that serve connections: children of the listening one, and theirs."""
        assert self.process is not None
        mine = {self.process.pid}
        for _ in range(3):
            for entry in os.listdir("/proc"):
                try:
                    if entry.isdigit():
                        stat = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)
                        name = stat[0].split("(", 1)[1]
                        if int(stat[1].split()[1]) in mine and name.startswith("sshd"):
                            mine.add(int(entry))
                except OSError:
                    continue
        return sorted(mine - {self.process.pid})

    def stop(self) -> None:
        """The listening one and every connection; what runs detached goes on."""
        if self.process is None:
            return
        sessions = self.sessions()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.process = None
        for pid in sessions:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def restart(self) -> None:
        self.stop()
        time.sleep(0.05)
        self.start()

    def known_hosts(self, file: Path, hashed: bool = False, name: str = "127.0.0.1") -> Path:
        with file.open("a") as out:
            for key in self.host_keys:
                out.write(f"[{name}]:{self.port} {key}\n")
        if hashed:
            subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return file

    def end_supervisors(self) -> None:
        for pid in self.supervisors():
            os.kill(pid, signal.SIGKILL)

    def listing(self) -> list[str]:
        """Everything in the home directory."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))

    def supervisors(self) -> list[int]:
        """Living supervisors with a spool in this home."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                comm = Path(f"/proc/{entry}/comm").read_text().strip()
                if not comm.startswith("sbxfs-superviso"):
                    continue
                for fd in os.listdir(f"/proc/{entry}/fd"):
                    if os.readlink(f"/proc/{entry}/fd/{fd}").startswith(str(self.home)):
                        found.append(int(entry))
                        break
            except OSError:
                continue
        return found
