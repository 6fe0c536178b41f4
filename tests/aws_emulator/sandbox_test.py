"""Tasks that are real: scripts/image/entrypoint as PID 1 of a bubblewrap root, sshd, timers, logs, TERM and KILL."""

import base64
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from frame import AwsCase, main, need, wait_until
from sandbox_case import LOG, PORT, USER, SandboxCase


class Sandboxes(SandboxCase):
    # --- in it

    def test_it_is_logged_in_to_with_the_keys_it_was_given_and_shows_its_token(self):
        _, address = self.running()
        token = "/run/sbxfs/token" if USER == "root" else "~/.sbxfs-token"
        self.assertEqual(self.ssh(address, f"cat {token}").stdout, "token-1\n")
        sftp = subprocess.run(["sftp", "-F", "none", "-i", str(self.place / "client"), "-P", str(PORT), "-q", "-b", "-", "-o",
                               f"UserKnownHostsFile={self.place}/known-{address}", f"{USER}@{address}"],
                              input="put /etc/hostname /tmp/there\nls /tmp\n", capture_output=True, text=True, check=False)
        self.assertIn("there", sftp.stdout)

    def test_commands_get_the_images_environment_and_no_keys(self):
        self.control("POST", "images", {"withenv": {"environment": {"IMAGE": "i", "BOTH": "image"}, "workdir": "/srv/w"}})
        definition = self.register("withenv", container={"image": "withenv", "environment": [
            {"name": "BOTH", "value": "definition"}, {"name": "DEFINED", "value": "d"}]})
        _, address = self.running({"GIVEN": "g"}, taskDefinition=definition)
        said = self.ssh(address, "tr '\\0' '\\n' </proc/1/environ; readlink /proc/1/cwd").stdout.splitlines()
        for line in ("IMAGE=i", "BOTH=definition", "DEFINED=d", "GIVEN=g", "/srv/w"):
            self.assertIn(line, said)
        for secret in ("SBXFS_HOST_KEY", "SBXFS_TOKEN", "SBXFS_CLIENT_KEY", "PRIVATE"):
            self.assertNotIn(secret, "\n".join(said))

    def test_secrets_and_environment_files_arrive_and_overrides_win(self):
        secret = self.client("secretsmanager").create_secret(
            Name="host", SecretString=base64.b64encode((self.place / "host").read_bytes()).decode())["ARN"]
        self.client("s3").put_object(Bucket="sbxfs-bucket", Key="b1.env", Body=b"# mine\nFROM_FILE=a=b\nTWICE=file\n")
        definition = self.register("sourced", container={"secrets": [{"name": "SBXFS_HOST_KEY", "valueFrom": secret}]})
        overrides = {"containerOverrides": [{"name": "main", "environmentFiles": [
            {"type": "s3", "value": "arn:aws:s3:::sbxfs-bucket/b1.env"}], "environment": [
            {"name": "SBXFS_CLIENT_KEY", "value": self.client_key}, {"name": "SBXFS_SSH_PORT", "value": str(PORT)},
            {"name": "TWICE", "value": "override"}]}]}
        arn = self.run_task(taskDefinition=definition, overrides=overrides)
        self.addCleanup(self.ecs.stop_task, cluster="sandboxes", task=arn)
        address = self.address(arn)
        wait_until(lambda: self.ssh(address, "true").returncode == 0, "sshd answers with the secret's key", pause=0.05)
        said = self.ssh(address, "tr '\\0' '\\n' </proc/1/environ").stdout.splitlines()
        self.assertIn("FROM_FILE=a=b", said)
        self.assertIn("TWICE=override", said)

    def test_without_a_host_key_one_is_made_and_printed(self):
        arn = self.launch({"SBXFS_HOST_KEY": None})
        address = self.address(arn)
        line = wait_until(lambda: [line for line in self.lines(arn) if line.startswith("sbxfs-host-key ")], "it is printed")[0]
        key = line.removeprefix("sbxfs-host-key ")
        self.assertNotEqual(key, self.host_key)
        wait_until(lambda: self.ssh(address, "true", host_key=key).returncode == 0, "that key answers", pause=0.05)

    def test_two_sandboxes_see_nothing_of_each_other(self):
        (_, first), (_, second) = self.running(), self.running()
        self.ssh(first, "echo mine >/tmp/file; exec -a marked sleep 20 >/dev/null 2>&1 </dev/null &")
        said = self.ssh(second, "cat /tmp/file; ps ax; hostname").stdout
        self.assertNotIn("mine", said)
        self.assertNotIn("marked", said)
        self.assertNotEqual(self.ssh(first, "hostname").stdout, self.ssh(second, "hostname").stdout)

    def test_the_public_address_answers_too(self):
        network = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}}
        arn, _ = self.running(networkConfiguration=network)
        interface = self.describe(arn)["attachments"][0]["details"][1]["value"]
        found = self.client("ec2").describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"]
        self.assertEqual(self.ssh(found[0]["Association"]["PublicIp"], "echo here").stdout, "here\n")

    # --- how it ends

    def test_stop_is_term_and_ends_it_with_143(self):
        arn, _ = self.running()
        self.ecs.stop_task(cluster="sandboxes", task=arn, reason="done")
        self.assertEqual(self.ended(arn), ("UserInitiated", 143, "sbxfs: stopped"))

    def test_what_ignores_term_is_killed_after_its_stop_timeout(self):
        definition = self.register("stubborn", container={"stopTimeout": 5, "logConfiguration": LOG, "entryPoint": ["sh", "-c"],
                                                          "command": ["trap '' TERM; echo up; while :; do sleep 1; done"]})
        arn = self.launch(taskDefinition=definition)
        self.await_status(arn, "RUNNING")
        wait_until(lambda: self.lines(arn) == ["up"], "it is up")
        self.ecs.stop_task(cluster="sandboxes", task=arn)
        self.assertEqual(self.ended(arn)[:2], ("UserInitiated", 137))

    def test_a_program_that_ends_ends_the_task(self):
        definition = self.register("short", container={"logConfiguration": LOG, "entryPoint": ["sh", "-c"],
                                                       "command": ["echo out; echo err >&2; exit 7"]})
        arn = self.launch(taskDefinition=definition)
        self.assertEqual(self.ended(arn)[:2], ("EssentialContainerExited", 7))
        self.assertEqual(self.lines(arn), ["out", "err"])

    def test_it_ends_itself_when_its_lifetime_is_over(self):
        arn = self.launch({"SBXFS_MAX_LIFETIME_S": "2"})
        self.assertEqual(self.ended(arn), ("EssentialContainerExited", 120, "sbxfs: expired lifetime"))

    def test_it_ends_itself_when_nobody_uses_it(self):
        arn = self.launch({"SBXFS_IDLE_TIMEOUT_S": "2"})
        self.assertEqual(self.ended(arn), ("EssentialContainerExited", 121, "sbxfs: expired idle"))

    def test_a_connection_keeps_it_from_being_idle_and_a_supervisor_does_so_too(self):
        arn, address = self.running({"SBXFS_IDLE_TIMEOUT_S": "4"})
        self.ssh(address, "sleep 5")
        self.assertEqual(self.describe(arn)["lastStatus"], "RUNNING")
        # Known by its name, and detached from the connection that started it.
        self.ssh(address, "cp /bin/sleep /tmp/sbxfs-supervisor; setsid /tmp/sbxfs-supervisor 5 >/dev/null 2>&1 </dev/null &")
        began = time.monotonic()
        self.assertEqual(self.ended(arn)[1], 121)
        self.assertGreater(time.monotonic() - began, 4.5)

    def test_signals_from_inside_end_it_with_their_own_codes(self):
        for name, code, line in (("USR1", 121, "sbxfs: expired idle"), ("USR2", 120, "sbxfs: expired lifetime")):
            arn, address = self.running()
            self.ssh(address, f"kill -{name} 1")
            self.assertEqual(self.ended(arn), ("EssentialContainerExited", code, line))

    def test_neither_a_killed_nor_a_frozen_timer_keeps_it_alive(self):
        arn, address = self.running({"SBXFS_MAX_LIFETIME_S": "5"})
        self.ssh(address, "kill -STOP 1; pkill -STOP -x sleep; pkill -STOP -x sleep; pkill -KILL -x sleep")
        self.assertEqual(self.ended(arn)[1], 120)

    def test_a_killed_sshd_is_started_again(self):
        _, address = self.running()
        self.ssh(address, "pkill -KILL -P 1 -x sshd")
        wait_until(lambda: self.ssh(address, "true").returncode == 0, "sshd answers again", pause=0.1)

    def test_without_a_client_key_it_says_so_and_ends(self):
        arn = self.launch({"SBXFS_CLIENT_KEY": None})
        stop, code, line = self.ended(arn)
        self.assertEqual((stop, code), ("EssentialContainerExited", 1))
        self.assertIn("SBXFS_CLIENT_KEY is not set", line)

    def test_a_host_key_that_is_none_is_refused(self):
        self.assertIn("SBXFS_HOST_KEY is not a private key", self.ended(self.launch({"SBXFS_HOST_KEY": "bm90aGluZw=="}))[2])

    # --- what is made to go wrong

    def test_a_wrong_host_key_and_anothers_token(self):
        self.fault(on="ecs:RunTask", do="task", host_key="wrong", token="other")
        arn = self.launch()
        address = self.address(arn)
        wait_until(lambda: "Host key verification failed" in self.ssh(address, "true").stderr, "another key is shown", pause=0.05)

    def test_another_sandbox_at_the_address_has_another_token(self):
        self.fault(on="ecs:RunTask", do="task", token="other")
        _, address = self.running()
        token = "/run/sbxfs/token" if USER == "root" else "~/.sbxfs-token"
        said = self.ssh(address, f"cat {token}").stdout
        self.assertTrue(said and said != "token-1\n", said)

    def test_sshd_may_be_later_than_running(self):
        self.fault(on="ecs:RunTask", do="task", delays={"sshd": 50})
        arn = self.launch()
        address = self.address(arn)
        self.assertIn("refused", self.ssh(address, "true").stderr)
        wait_until(lambda: self.ssh(address, "true").returncode == 0, "sshd answers", pause=0.05)

    def test_a_death_that_ecs_does_not_notice(self):
        self.fault(on="ecs:RunTask", do="task", silent_death=True)
        arn, address = self.running()
        self.control("POST", f"tasks/{arn.rsplit('/', 1)[1]}", {"signal": "KILL"})
        wait_until(lambda: "refused" in self.ssh(address, "true").stderr, "nobody answers", pause=0.05)
        self.assertEqual(self.describe(arn)["lastStatus"], "RUNNING")
        self.ecs.stop_task(cluster="sandboxes", task=arn)
        self.await_status(arn, "STOPPED")


class LeavesNothing(AwsCase):
    """The program itself, ended in every way."""

    def ended_by(self, number):
        read, write = os.pipe()
        program = Path(__file__).resolve().parent
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        aws = subprocess.Popen([sys.executable, str(program), "--ready-fd", str(write), "--scale", "100"],
                               stdout=subprocess.DEVNULL, pass_fds=(write,), env=dict(os.environ, TMPDIR=place.name))
        self.addCleanup(aws.kill)
        os.close(write)
        with os.fdopen(read) as ready:
            url = ready.read().strip()
        other = type("Other", (AwsCase,), {})
        other.aws = type("At", (), {"url": url})
        other.ecs = other.client("ecs")
        arn = other.ecs.register_task_definition(
            family="f", requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
            containerDefinitions=[{"name": "main", "image": "x", "entryPoint": ["sleep"], "command": ["987654"]}],
        )["taskDefinition"]["taskDefinitionArn"]
        other.ecs.run_task(cluster="sandboxes", taskDefinition=arn, launchType="FARGATE",
                           networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}}, count=3)
        mine = lambda: [pid for pid in _descendants(aws.pid) if _comm(pid) == "sleep"]
        pids = wait_until(lambda: mine() if len(mine()) == 3 else [], "three containers run")
        aws.send_signal(number)
        aws.wait(20)
        wait_until(lambda: not any(_comm(pid) == "sleep" for pid in pids), "they are gone")
        return aws.returncode, os.listdir(place.name)

    def test_terminated(self):
        self.assertEqual(self.ended_by(signal.SIGTERM), (0, []))

    def test_killed(self):
        self.ended_by(signal.SIGKILL)


def _comm(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _descendants(pid):
    try:
        children = [int(word) for task in Path(f"/proc/{pid}/task").iterdir()
                    for word in (task / "children").read_text().split()]
    except OSError:
        return []
    return children + [one for child in children for one in _descendants(child)]


if __name__ == "__main__":
    need("bwrap", "sshd", "ssh", "ssh-keygen", "sftp")
    main()
