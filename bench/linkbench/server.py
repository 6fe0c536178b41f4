"""The machine at the other end: an sshd with its default limits in a pid namespace of its own, so that the rest of this
machine's processes are not its own, and a directory on a real disk that everybody works in."""

import os
from contextlib import suppress
from pathlib import Path

from live.place import Place
from live.sshd import Sshd

from linkbench.relay import Relay


class Server:
    def __init__(self, place: Place, relay_program: Path) -> None:
        # All of this machine's files, but its own processes. As an ordinary user in a user namespace with the same uid.
        inside = ["bwrap", "--dev-bind", "/", "/", "--proc", "/proc", "--unshare-pid", "--die-with-parent"]
        self.sshd = Sshd(place, inside=inside).start()
        self.files = self.sshd.home / "work"
        self.files.mkdir()
        self.relay = Relay(relay_program, self.sshd.port)
        place.at_end(self.relay.stop)
        self.known_hosts = place.path / "known_hosts"
        self.known_hosts.write_text("".join(f"[127.0.0.1]:{self.relay.port} {key}\n" for key in self.sshd.host_keys))
        self.home = place.path / "home"  # of the clients: nothing in it
        self.home.mkdir()
        self._number = 0

    def ssh_config(self, path: Path) -> Path:
        """For ssh(1), whatever is in the user's own."""
        path.write_text(f"""Host *
HostName 127.0.0.1
Port {self.relay.port}
User {self.sshd.user}
IdentityFile {self.sshd.identity}
IdentitiesOnly yes
UserKnownHostsFile {self.known_hosts}
StrictHostKeyChecking yes
Ciphers aes128-gcm@openssh.com
Compression no
""")
        return path

    def fresh(self) -> Path:
        """An empty directory below `files`."""
        self._number += 1
        directory = self.files / f"s{self._number}"
        directory.mkdir()
        return directory

    @staticmethod
    def retire(directory: Path) -> None:
        """Done with. Small files stay until the end: for some minutes ext4 takes no inode that was deleted, and looks through
        all of them for one that was not (recently_deleted), so that each sample would pay for the ones before it."""
        for parent, _, names in os.walk(directory):
            for name in names:
                with suppress(OSError):  # what was given up may still be at work there
                    if os.lstat(os.path.join(parent, name)).st_size > 1 << 20:
                        os.unlink(os.path.join(parent, name))
