#!/usr/bin/env python3
"""Provider fargate against an emulator of AWS whose tasks are real sandboxes: what is started, what is
said when that fails, and that nothing is left to pay for. Contract 3, 6, 8, 9; docs/fargate.md."""

import errno
import os
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.aws import KEY, Aws, provider, table  # noqa: E402
from live.box import Box  # noqa: E402
from live.case import Live  # noqa: E402
from live.fargate import FargateCase, run  # noqa: E402
from live.place import sbxfs, wait_until  # noqa: E402


def configuration(aws: Aws) -> str:
    aws.control("images", {"nowhere:1": {"error": "CannotPullContainerError: nowhere:1: not found"}})
    url = aws.url
    text = 'default_template = "default"\n' + table("providers.cloud", provider(url))
    text += table("providers.expiring", provider(url, aws_role_session_name="another-account"))
    text += table("providers.lost", provider(url, ecs_cluster="no-such-cluster"))
    image = {"provider": "cloud", "image": "sbxfs:latest"}
    text += table("templates.default", {**image, "host_key": "override"})
    text += table("templates.shared", {**image, "host_key": "shared", "host_key_secret": "sbxfs/test/host-key"})
    text += table("templates.s3", {**image, "host_key": "s3", "host_key_bucket": "sbxfs-bucket"})
    text += table("templates.logs", {**image, "host_key": "logs"})
    text += table("templates.public", {**image, "host_key": "override", "assign_public_ip": True})
    text += table("templates.nowhere", {"provider": "cloud", "image": "nowhere:1", "host_key": "override"})
    text += table("templates.lost", {"provider": "lost", "image": "sbxfs:latest", "host_key": "override"})
    text += table("templates.expiring", {"provider": "expiring", "image": "sbxfs:latest", "host_key": "override"})
    text += table("templates.short", {**image, "host_key": "override", "max_lifetime": "3s"})
    text += table("templates.huge", {**image, "host_key": "override", "workdir": "/" + "x" * 9000})
    return text


class Fargate(FargateCase):
    def launch(self, name: str) -> Box:
        return Box.make(self.daemon, name)

    # --- what a sandbox is

    def test_a_sandbox_is_a_task_until_rmdir(self) -> None:
        box = self.launch("life")
        self.assertEqual(len(self.aws.living("life")), 1)
        self.assertEqual(box.sh("echo hello; pwd"), "hello\n/workspace\n")
        (box.path / "work" / "a").write_text("from here\n")
        self.assertEqual(box.sh("cat a"), "from here\n")
        info = box.info
        self.assertEqual(info["id"], self.aws.living("life")[0])
        self.assertEqual(info["host_key_mode"], "override")
        tags = self.aws.tasks("life")[0]["tags"]
        self.assertEqual(tags["sbxfs:generation"], str(info["generation"]))
        self.assertEqual(tags["sbxfs:expires"], info["expires"])
        box.destroy()
        self.assertEqual(self.aws.living("life"), [])
        self.assertEqual([path.name for path in (self.daemon.state / "fargate").glob("*.json")], [])

    def test_its_host_key_is_known_before_the_first_connection_in_each_mode(self) -> None:
        for mode in ("shared", "s3", "logs"):
            with self.subTest(mode):
                box = self.launch(f"key@{mode}")
                self.assertEqual(box.info["host_key_mode"], mode)
                self.assertEqual(box.sh("echo $((6 * 7))"), "42\n")
                box.destroy()

    def test_the_public_address_is_used_where_there_is_one(self) -> None:
        box = self.launch("public@public")
        self.assertEqual(box.info["address"], self.aws.tasks("public@public")[0]["public"] + ":22")
        box.destroy()

    def test_many_share_one_definition_and_few_calls(self) -> None:
        self.launch("first").destroy()
        before = self.aws.calls()
        names = [f"many{n}" for n in range(10)]
        for name in names:
            (self.mnt / name).mkdir()
        for name in names:
            self.assertEqual((self.mnt / name / "ready").read_text(), "ready\n")
        after = self.aws.calls()
        made = {action: count - before.get(action, 0) for action, count in after.items()}
        self.assertEqual(made["ecs:RunTask"], 10)
        self.assertEqual(made.get("ecs:RegisterTaskDefinition", 0), 0)
        self.assertLessEqual(sum(made.values()), 30, made)
        for name in names:
            os.rmdir(self.mnt / name)
        for name in names:
            self.none_left(name)

    # --- what must never cost

    def test_a_killed_daemon_finds_its_task_again_and_starts_no_second_one(self) -> None:
        (self.mnt / "again").mkdir()
        wait_until(lambda: self.aws.tasks("again"), "the task was asked for")
        self.daemon.kill()
        self.daemon.start()
        box = Box(self.daemon, "again")
        box.await_ready()
        self.assertEqual(len(self.aws.tasks("again")), 1)
        box.destroy()

    def test_a_lost_answer_starts_no_second_task(self) -> None:
        self.aws.fault("ecs:RunTask", "reset", when="after")
        box = self.launch("reset")
        self.assertEqual(len(self.aws.tasks("reset")), 1)
        box.destroy()

    def test_rmdir_during_the_launch_leaves_no_task(self) -> None:
        self.aws.fault("ecs:RunTask", "stall", when="after", seconds=3)
        (self.mnt / "early").mkdir()
        wait_until(lambda: self.aws.tasks("early"), "the task was asked for")
        self.remove("early")

    def test_rmdir_before_a_crash_is_carried_out_after_it(self) -> None:
        box = self.launch("crash")
        self.aws.fault("ecs:StopTask", "unavailable", times=-1)
        self.allow_log("destroy", "not destroyed", "provider")
        os.rmdir(box.path)
        self.daemon.kill()
        self.aws.no_faults()
        self.daemon.start()
        self.none_left("crash")

    def test_a_task_whose_daemon_never_comes_back_ends_itself(self) -> None:
        (self.mnt / "alone@short").mkdir()
        wait_until(lambda: self.aws.living("alone@short"), "the task was asked for")
        self.daemon.kill()
        self.none_left("alone@short")
        self.assertEqual(list(self.aws.tasks("alone@short")[0]["exit_codes"].values()), [120])
        self.allow_log("sandbox status", "not attached", "timer")
        self.daemon.start()
        box = Box(self.daemon, "alone@short")
        wait_until(lambda: box.status == "expired", "it is known to have expired")
        self.remove("alone@short")

    def test_a_failed_launch_leaves_nothing(self) -> None:
        text = self.failure("pull@nowhere")
        self.assertIn("CannotPullContainerError: nowhere:1: not found", text)
        self.assertIn("What helps: check the image's name", text)
        self.none_left("pull@nowhere")  # though nobody has removed it yet
        self.remove("pull@nowhere")

    # --- trouble that passes

    def test_throttling_and_server_trouble_are_waited_out(self) -> None:
        self.aws.fault("ecs:RunTask", "throttle", times=2)
        self.aws.fault("ecs:DescribeTasks", "unavailable", times=1)
        self.launch("slow").destroy()

    def test_missing_just_after_the_start_is_not_death(self) -> None:
        self.aws.fault("ecs:DescribeTasks", "missing", times=2)
        self.launch("missing").destroy()

    def test_no_capacity_is_waited_for(self) -> None:
        self.aws.fault("ecs:RunTask", "capacity")
        self.launch("capacity").destroy()

    # --- trouble that stays

    def test_a_denied_call_is_named(self) -> None:
        self.aws.control("keys", {"id": KEY, "denied": ["ecs:RunTask"]})
        try:
            text = self.failure("denied")
        finally:
            self.aws.control("keys", {"id": KEY, "denied": []})
        self.assertIn("ecs:RunTask", text)
        self.assertIn("sbxfs iam-policy", text)
        self.assertEqual(self.aws.tasks("denied"), [])
        self.remove("denied")

    def test_expired_credentials_are_told_by_the_next_mkdir(self) -> None:
        self.aws.fault("ecs:*", "error", times=-1, code="ExpiredTokenException", message="expired", status=400)
        text = self.failure("expired@expiring")
        self.assertIn("renew the credentials", text)
        self.allow_log("refused", "after a failed launch")
        self.refuse(errno.EKEYEXPIRED, (self.mnt / "more@expiring").mkdir, sentence="renew the credentials")
        self.aws.no_faults()
        self.remove("expired@expiring")

    def test_an_unknown_cluster_is_named(self) -> None:
        text = self.failure("where@lost")
        self.assertIn("ClusterNotFoundException", text)
        self.remove("where@lost")

    def test_settings_that_do_not_fit_are_told_with_their_length(self) -> None:
        self.assertIn("ECS takes 8192", self.failure("big@huge"))
        self.assertEqual(self.aws.tasks("big@huge"), [])
        self.remove("big@huge")

    def test_a_task_that_dies_says_why(self) -> None:
        box = self.launch("spot")
        self.allow_log("sandbox status", "link", "attach")
        task = self.aws.tasks("spot")[0]["id"]
        self.aws.control(f"tasks/{task}", {"end": "spot"})
        wait_until(lambda: box.status in ("failed", "lost"), "its end is noticed")
        self.assertIn("SpotInterruption", (box.path / "error").read_text())
        self.remove("spot")

    # --- strangers

    def test_a_wrong_host_key_is_not_spoken_to(self) -> None:
        self.aws.fault("ecs:RunTask", "task", host_key="wrong")
        self.allow_log("sandbox status", "attach", "link")
        (self.mnt / "wrong").mkdir()
        box = Box(self.daemon, "wrong")
        wait_until(lambda: "host key" in (box.path / "error").read_text(), "the key is refused")
        self.remove("wrong")

    def test_another_sandbox_with_the_shared_key_is_not_used(self) -> None:
        self.aws.fault("ecs:RunTask", "task", token="other")
        self.allow_log("sandbox status", "attach", "link")
        (self.mnt / "other@shared").mkdir()
        box = Box(self.daemon, "other@shared")
        wait_until(lambda: "another sandbox answers" in (box.path / "error").read_text(), "it is found out")
        self.remove("other@shared")


class BadConfiguration(unittest.TestCase):
    """Told before anything is mounted."""

    def refused(self, text: str, *words: str) -> None:
        place = Live.place.path
        file = place / "bad.toml"
        file.write_text(text)
        file.chmod(0o600)
        done = subprocess.run([sbxfs(), "mount", "-c", str(file), str(Live.daemon.mnt)], capture_output=True,
                              text=True, check=False, timeout=20)
        self.assertNotEqual(done.returncode, 0)
        for word in words:
            self.assertIn(word, done.stderr)

    def with_template(self, provider_keys: dict[str, Any], **template_keys: object) -> str:
        whole = {"provider": "cloud", "image": "i", "host_key": "override", **template_keys}
        return ('default_template = "t"\n' + table("providers.cloud", provider("http://127.0.0.1:1", **provider_keys))
                + table("templates.t", whole))

    def test_sizes_that_fargate_does_not_have(self) -> None:
        self.refused(self.with_template({}, cpu=512, memory=400000), "Fargate has no task", "512: 1024..4096")

    def test_an_id_that_is_none(self) -> None:
        self.refused(self.with_template({"subnets": ["vpc-1"]}), "subnets", "subnet-0123456789abcdef0")

    def test_a_misspelt_option(self) -> None:
        self.refused(self.with_template({"ecs_clutser": "x"}), "ecs_cluster")

    def test_a_host_key_without_its_place(self) -> None:
        self.refused(self.with_template({}, host_key="s3"), "host_key_bucket")


if __name__ == "__main__":
    run(configuration)
