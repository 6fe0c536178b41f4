"""Cases with real sandboxes: launched with keys of the test's own, reached by ssh, their lines read from the log."""

import os
import subprocess
import tempfile
from pathlib import Path

from frame import AwsCase, wait_until

PORT = 22 if os.geteuid() == 0 else 20022
USER = "root" if os.geteuid() == 0 else "user"
LOG = {"logDriver": "awslogs", "options": {"awslogs-group": "/boxes", "awslogs-region": "us-east-1",
                                           "awslogs-stream-prefix": "box", "awslogs-create-group": "true"}}


class SandboxCase(AwsCase):
    scale = 50.0
    settings = {"rates": {"register": [1e6, 1e6], "logs_read": [1e6, 1e6], "ecs_read": [1e6, 1e6]},
                "delays": {"log": 0.1, "deprovisioning": 0.5}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        place = tempfile.TemporaryDirectory()
        cls.addClassCleanup(place.cleanup)
        cls.place = Path(place.name)
        cls.definition = cls.register("box", container={"logConfiguration": LOG})
        cls.client_key = cls.make_key("client")
        cls.host_key = cls.make_key("host")

    @classmethod
    def make_key(cls, name):
        """The public line; the private one is a file of that name."""
        file = cls.place / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True)
        return file.with_suffix(".pub").read_text().strip()

    def launch(self, environment=None, **request):
        """A task with our keys in its environment."""
        wanted = {"SBXFS_CLIENT_KEY": self.client_key, "SBXFS_HOST_KEY": (self.place / "host").read_text(),
                  "SBXFS_TOKEN": "token-1", "SBXFS_MAX_LIFETIME_S": "90", "SBXFS_SSH_PORT": str(PORT), **(environment or {})}
        arn = self.run_task(environment={name: value for name, value in wanted.items() if value is not None}, **request)
        self.addCleanup(self.ecs.stop_task, cluster="sandboxes", task=arn)
        return arn

    def running(self, environment=None, **request):
        """ARN and private address of a task whose sshd answers."""
        arn = self.launch(environment, **request)
        address = self.address(arn)
        wait_until(lambda: self.ssh(address, "true").returncode == 0, "sshd answers", pause=0.05)
        return arn, address

    def address(self, arn):
        """The private one, of a task that is RUNNING; sshd may not answer yet."""
        task = self.await_status(arn, "RUNNING")
        return task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]

    def ssh(self, address, script, host_key=None, **options):
        known = self.place / f"known-{address}"
        known.write_text(f"[{address}]:{PORT} {host_key or self.host_key}\n{address} {host_key or self.host_key}\n")
        return subprocess.run(["ssh", "-F", "none", "-i", str(self.place / "client"), "-p", str(PORT), "-o", "BatchMode=yes",
                               "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR",
                               f"{USER}@{address}", script], capture_output=True, text=True, timeout=20, check=False, **options)

    def lines(self, arn):
        stream = f"box/main/{arn.rsplit('/', 1)[1]}"
        found = self.client("logs").filter_log_events(logGroupName="/boxes", logStreamNames=[stream])["events"]
        return [event["message"] for event in found]

    def ended(self, arn, limit=20):
        """Stop code, exit code and the last line it printed."""
        task = self.await_status(arn, "STOPPED", limit)
        wait_until(lambda: self.lines(arn), "its lines are there")
        return task["stopCode"], task["containers"][0].get("exitCode"), self.lines(arn)[-1]
