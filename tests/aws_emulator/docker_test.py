"""scripts/image on a real Docker Engine: the image is built from a Debian made by debootstrap, run, logged in to, stopped; a
Debian without sshd installs it at start. Uses the engine that answers, or with SBXFS_TEST_DOCKERD=1 one of its own
(root, dockerd in PATH); takes a minute or two and needs a route to Debian's packages. Otherwise skipped."""

import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from frame import main, skip, wait_until
from image_test import IMAGE, STARTER, compact
from aws_emulator.network import Block

NAME = f"sbxfs-test-{os.getpid()}"


class Engine:
    """Where containers run. Everything made there is called NAME-something and removed at the end."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.environment = dict(os.environ, DOCKER_BUILDKIT="0")
        self.own = None

    def docker(self, *words, check=True, limit=300, **options):
        return subprocess.run(["docker", *words], env=self.environment, capture_output=True, text=True, check=check,
                              timeout=limit, **options)

    def answers(self):
        # A client without its server says so with exit code 0 in some versions.
        return "Server Version" in self.docker("info", check=False).stdout

    def start(self):
        """One of our own, beside any other: no bridge and no rules, so containers share this machine's network."""
        self.environment["DOCKER_HOST"] = f"unix://{self.place}/docker.sock"
        with (self.place / "dockerd.log").open("wb") as log:
            self.own = subprocess.Popen(
                ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", f"--data-root={self.place}/data",
                 f"--exec-root={self.place}/exec", f"--pidfile={self.place}/pid", "-H", self.environment["DOCKER_HOST"]],
                stdout=log, stderr=log, start_new_session=True)
        wait_until(self.answers, "dockerd answers", limit=60, pause=0.2)

    def end(self):
        names = self.docker("ps", "-aq", "--filter", f"name={NAME}", check=False).stdout.split()
        if names:
            self.docker("rm", "-f", *names, check=False)
        self.docker("rmi", "-f", f"{NAME}-image", f"{NAME}-base", check=False)
        if self.own is not None:
            self.own.send_signal(signal.SIGTERM)
            self.own.wait(60)
            for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
                point = line.split()[4]
                if point.startswith(f"{self.place}/"):  # dockerd leaves the network namespace it shared
                    subprocess.run(["umount", point], check=False)


def engine(place: Path) -> Engine:
    """Skips the script where there is none."""
    if shutil.which("docker") is None:
        skip("there is no docker")
    if os.geteuid() != 0:
        skip("debootstrap needs root")
    if shutil.which("debootstrap") is None and "SBXFS_TEST_BASE" not in os.environ:
        skip("debootstrap is missing (or name an image of a Debian without sshd with SBXFS_TEST_BASE)")
    one = Engine(place)
    if not one.answers():
        if os.environ.get("SBXFS_TEST_DOCKERD") != "1" or shutil.which("dockerd") is None:
            skip("no Docker Engine answers (SBXFS_TEST_DOCKERD=1 starts one where dockerd is installed)")
        one.start()
    return one


class Docker(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        place = tempfile.TemporaryDirectory(prefix="sbxfs-docker-", ignore_cleanup_errors=True)
        cls.addClassCleanup(place.cleanup)
        cls.place = Path(place.name)
        cls.engine = engine(cls.place)
        cls.addClassCleanup(cls.engine.end)
        cls.docker = cls.engine.docker
        cls.block = Block()
        cls.addClassCleanup(cls.block.close)
        cls.base = os.environ.get("SBXFS_TEST_BASE") or cls.make_base()
        cls.docker("build", "--network", "host", "--build-arg", f"BASE={cls.base}", "-t", f"{NAME}-image", str(IMAGE))
        for key in ("client", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(cls.place / key)], check=True)
        cls.count = 0

    @classmethod
    def make_base(cls):
        tree = cls.place / "base"
        subprocess.run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(tree)], check=True,
                       stdout=subprocess.DEVNULL, timeout=400)
        with subprocess.Popen(["tar", "-C", str(tree), "-c", "."], stdout=subprocess.PIPE) as tar:
            cls.docker("import", "-", f"{NAME}-base", stdin=tar.stdout)
        shutil.rmtree(tree)
        return f"{NAME}-base"

    def run_box(self, image, *words, **environment):
        """Name and address of a sandbox whose sshd answers."""
        type(self).count += 1
        name, address = f"{NAME}-{self.count}", f"127.{self.block.number}.0.{self.count}"
        wanted = {"SBXFS_CLIENT_KEY": (self.place / "client.pub").read_text().strip(), "SBXFS_SSH_LISTEN": address,
                  "SBXFS_HOST_KEY": (self.place / "host").read_text(), "SBXFS_TOKEN": "token-1",
                  "SBXFS_MAX_LIFETIME_S": "120", **environment}
        pairs = [word for key, value in wanted.items() for word in ("-e", f"{key}={value}")]
        self.docker("run", "-d", "--name", name, "--network", "host", *pairs, *words[:1] and ["--entrypoint", words[0]],
                    image, *words[1:])
        (self.place / f"known-{address}").write_text(f"{address} {(self.place / 'host.pub').read_text()}")
        wait_until(lambda: self.ssh(address, "true").returncode == 0, "sshd answers", limit=120, pause=0.1)
        return name, address

    def ssh(self, address, script):
        return subprocess.run(["ssh", "-F", "none", "-i", str(self.place / "client"), "-o", "BatchMode=yes", "-o",
                               f"UserKnownHostsFile={self.place}/known-{address}", "-o", "LogLevel=ERROR", f"root@{address}",
                               script], capture_output=True, text=True, timeout=20, check=False)

    def ended(self, name):
        """Exit code and last line."""
        code = self.docker("wait", name, limit=30).stdout.strip()
        return code, self.docker("logs", name).stdout.splitlines()[-1]

    def test_the_image_is_a_sandbox(self):
        name, address = self.run_box(f"{NAME}-image")
        self.assertEqual(self.ssh(address, "cat /run/sbxfs/token").stdout, "token-1\n")
        said = self.ssh(address, "git --version; curl --version; tr '\\0' '\\n' </proc/1/environ; readlink /proc/1/cwd").stdout
        for part in ("git version", "curl ", "LANG=C.UTF-8", "/workspace"):
            self.assertIn(part, said)
        self.assertNotIn("PRIVATE", said)
        self.docker("stop", name)
        self.assertEqual(self.ended(name), ("143", "sbxfs: stopped"))

    def test_no_host_key_is_in_the_image(self):
        self.assertEqual(self.docker("run", "--rm", "--name", f"{NAME}-keys", "--entrypoint", "sh", f"{NAME}-image", "-c",
                                     "ls /etc/ssh | grep '^ssh_host'", "--", check=False).stdout, "")

    def test_it_ends_itself(self):
        name, _ = self.run_box(f"{NAME}-image", SBXFS_MAX_LIFETIME_S="3")
        self.assertEqual(self.ended(name), ("120", "sbxfs: expired lifetime"))
        name, _ = self.run_box(f"{NAME}-image", SBXFS_IDLE_TIMEOUT_S="3")
        self.assertEqual(self.ended(name), ("121", "sbxfs: expired idle"))

    def test_a_debian_without_sshd_installs_it(self):
        shell, *arguments = STARTER
        name, address = self.run_box(self.base, shell, *arguments, SBXFS_BOOTSTRAP=compact(), SBXFS_WORKDIR="/w")
        self.assertEqual(self.ssh(address, "cat /run/sbxfs/token; ls -d /w").stdout, "token-1\n/w\n")
        self.docker("stop", name)
        self.assertEqual(self.ended(name)[0], "143")


if __name__ == "__main__":
    main(limit=580)
