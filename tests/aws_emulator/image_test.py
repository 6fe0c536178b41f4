"""What a Fargate task is made from: scripts/image/entrypoint in every shell and sent along to images without sshd."""

import json
import shutil
import subprocess
from pathlib import Path

from frame import main, need, skip
from sandbox_case import LOG, PORT, SandboxCase

IMAGE = Path(__file__).resolve().parents[2] / "scripts" / "image"
# How an image is started that has no entrypoint of ours.
STARTER = ["/bin/sh", "-c", 'eval "$SBXFS_BOOTSTRAP"']
# A package manager whose mirror is this machine.
MANAGER = """#!/bin/sh
echo "$(basename "$0") $*" >>/tmp/asked
case " $* " in *" update "*) exit ;; esac
ln -s /srv/mirror-sshd /opt/bin/sshd
"""


def compact() -> str:
    """The entrypoint as the daemon sends it."""
    return subprocess.run(["sed", "-f", str(IMAGE / "compact.sed"), str(IMAGE / "entrypoint")], check=True,
                          capture_output=True, text=True).stdout


class Entrypoint(SandboxCase):
    def test_every_shell_runs_it(self):
        for shell in ("dash", "bash", "busybox", "mksh", "yash"):
            program = shutil.which(shell, path="/usr/bin")
            if program is None:
                continue
            with self.subTest(shell):
                # /bin/sh is a link to dash here; in this image dash is that shell.
                self.control("POST", "images", {f"with-{shell}": {"covers": {"/usr/bin/dash": program}}})
                definition = self.register(f"with-{shell}", container={"image": f"with-{shell}", "logConfiguration": LOG})
                arn, address = self.running({"SBXFS_MAX_LIFETIME_S": "60"}, taskDefinition=definition)
                self.assertEqual(self.ssh(address, f"cmp /proc/1/exe {program}").returncode, 0, "PID 1 is another shell")
                self.ssh(address, "kill -USR1 1")
                self.assertEqual(self.ended(arn), ("EssentialContainerExited", 121, "sbxfs: expired idle"))
                arn = self.launch({"SBXFS_MAX_LIFETIME_S": "1"}, taskDefinition=definition)
                self.assertEqual(self.ended(arn), ("EssentialContainerExited", 120, "sbxfs: expired lifetime"))
                arn, _ = self.running(taskDefinition=definition)
                self.ecs.stop_task(cluster="sandboxes", task=arn)
                self.assertEqual(self.ended(arn)[1:], (143, "sbxfs: stopped"))

    def test_idle_it_is_a_shell_a_sleep_and_sshd(self):
        _, address = self.running()
        said = self.ssh(address, "for pid in /proc/[0-9]*; do read -r _ _ _ parent _ <$pid/stat; [ $parent != 1 ] || cat $pid/comm; done")
        self.assertEqual(sorted(said.stdout.split()), ["sleep", "sshd"])

    def test_it_fits_into_what_a_launch_overrides_with_everything_else(self):
        environment = {"SBXFS_BOOTSTRAP": compact(), "SBXFS_CLIENT_KEY": "ssh-ed25519 " + "A" * 68, "SBXFS_TOKEN": "t" * 64, "SBXFS_MAX_LIFETIME_S": "14400",
                       "SBXFS_IDLE_TIMEOUT_S": "3600", "SBXFS_SSH_PORT": "22", "SBXFS_WORKDIR": "/workspace"}
        override = {"name": "main",
                    "environment": [{"name": name, "value": value} for name, value in environment.items()]}
        size = len(json.dumps({"cpu": "16384", "memory": "122880", "containerOverrides": [override]}, separators=(",", ":")))
        self.assertLess(size, 6500, "too little is left for the user's own environment")

    def test_an_image_without_sshd_installs_it_with_its_own_package_manager(self):
        for manager, asked in (("apt-get", "apt-get install -y -qq --no-install-recommends openssh-server"),
                               ("apk", "apk add -q --no-cache openssh-server openssh-sftp-server openssh-keygen"),
                               ("dnf", "dnf install -y -q openssh-server"), ("yum", "yum install -y -q openssh-server")):
            with self.subTest(manager):
                # None of this machine's programs of those names is seen.
                covers = {f"/usr/bin/{name}": "/dev/null" for name in ("apt-get", "apk", "dnf", "yum")
                          if Path(f"/usr/bin/{name}").exists()}
                self.control("POST", "images", {f"bare-{manager}": {
                    "environment": {"PATH": "/opt/bin:/usr/bin"},
                    "covers": {"/usr/sbin/sshd": "/dev/null", "/srv/mirror-sshd": "/usr/sbin/sshd", **covers},
                    "files": {f"/opt/bin/{manager}": MANAGER, "/srv/mirror-sshd": ""}}})
                definition = self.register(f"bare-{manager}", container={
                    "image": f"bare-{manager}", "logConfiguration": LOG, "entryPoint": STARTER})
                arn, address = self.running({"SBXFS_BOOTSTRAP": compact(), "SBXFS_WORKDIR": "/srv/new/w"}, taskDefinition=definition)
                self.assertEqual(self.ssh(address, "ls -d /srv/new/w").stdout, "/srv/new/w\n")
                self.assertIn(asked, self.ssh(address, "cat /tmp/asked").stdout)
                self.assertIn("sbxfs: installing sshd", self.lines(arn))

    def test_an_image_where_sshd_cannot_be_installed_says_what_to_do(self):
        self.control("POST", "images", {"bare": {
            "covers": {"/usr/sbin/sshd": "/dev/null", "/usr/bin/apt-get": "/dev/null"}}})
        definition = self.register("bare", container={"image": "bare", "logConfiguration": LOG,
                                                      "entryPoint": STARTER})
        stop, code, line = self.ended(self.launch({"SBXFS_BOOTSTRAP": compact()}, taskDefinition=definition))
        self.assertEqual((stop, code), ("EssentialContainerExited", 1))
        self.assertIn("use an image with openssh-server", line)

    def test_the_lifetime_ends_an_installation_that_hangs(self):
        self.control("POST", "images", {"hanging": {
            "environment": {"PATH": "/opt/bin:/usr/bin"}, "covers": {"/usr/sbin/sshd": "/dev/null"},
            "files": {"/opt/bin/apt-get": "#!/bin/sh\nexec sleep 1000\n"}}})
        definition = self.register("hanging", container={"image": "hanging", "logConfiguration": LOG,
                                                         "entryPoint": STARTER})
        arn = self.launch({"SBXFS_BOOTSTRAP": compact(), "SBXFS_MAX_LIFETIME_S": "2"}, taskDefinition=definition)
        self.assertEqual(self.ended(arn)[1:], (120, "sbxfs: expired lifetime"))

    def test_a_program_runs_beside_sshd_and_may_end(self):
        definition = self.register("beside", container={"logConfiguration": LOG, "command": ["sh", "-c", "echo served; exit 3"]})
        arn, address = self.running(taskDefinition=definition)
        self.assertEqual(self.ssh(address, "echo alive").stdout, "alive\n")
        self.assertIn("served", self.lines(arn))

    def test_shellcheck_has_nothing_to_say(self):
        if shutil.which("shellcheck") is None:
            self.skipTest("shellcheck is missing")
        said = subprocess.run(["shellcheck", str(IMAGE / "entrypoint")], capture_output=True, text=True, check=False)
        self.assertEqual(said.stdout, "")


if __name__ == "__main__":
    need("bwrap", "sshd", "ssh", "ssh-keygen")
    if not Path("/bin/sh").resolve().name.startswith("dash"):
        skip("/bin/sh is not dash here")
    main(limit=110)
