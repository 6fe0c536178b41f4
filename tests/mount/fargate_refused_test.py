#!/usr/bin/env python3
"""Provider fargate and what it is not given as it should be: settings, answers of AWS, tasks that end early, and copies of a
state directory. Each is told with its errno and a sentence, and nothing is left to pay for. docs/fargate.md."""

import errno
import json
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.aws import KEY, Aws, provider, table  # noqa: E402
from live.box import Box  # noqa: E402
from live.case import Live  # noqa: E402
from live.daemon import Daemon  # noqa: E402
from live.fargate import FargateCase, run  # noqa: E402
from live.place import sbxfs, wait_until  # noqa: E402

IMAGE = {"provider": "cloud", "image": "sbxfs:latest", "host_key": "override"}
# What is asked of AWS and refused there: a template, and what `error` says of it.
REFUSED_THERE = {
    "nosubnet": ({"subnets": ["subnet-0badbadbad"]}, "subnet-0badbadbad"),
    "nogroup": ({"security_groups": ["sg-0badbadbad"]}, "sg-0badbadbad"),
    "nobase": ({"task_definition": "no-such-family"}, "reading the task definition no-such-family"),
    "nosecret": ({"host_key": "shared", "host_key_secret":
                  "arn:aws:secretsmanager:us-east-1:123456789012:secret:none-AbCdEf"}, "reading the host key"),
    "nobucket": ({"host_key": "s3", "host_key_bucket": "no-such-bucket"}, "NoSuchBucket"),
    "noprovider": ({"capacity_provider": "NO_SUCH_PROVIDER"}, "capacity provider was not found"),
    "noprofile": ({"aws_profile": "nobody"}, "nobody"),
    "nowhere": ({"aws_endpoint_url": "http://127.0.0.1:1"}, "127.0.0.1"),
}
# What is refused at once, by `.mount/new`: the words that its sentence has.
REFUSED_HERE = {
    "cpu=512 memory=400000": ("Fargate has no task with cpu = 512", "512: 1024..4096"),
    "cpu=999999": ("Fargate has no task with cpu = 999999",),
    "memory=-1": ("memory",),
    "ephemeral_storage_gib=500": ("`ephemeral_storage_gib`", "1 to 200"),
    "ssh_port=70000": ("`ssh_port`", "1 to 65535"),
    "subnets=vpc-1": ("subnets", "subnet-0123456789abcdef0"),
    "host_key=none": ("`host_key` must be shared, s3, logs or override",),
    "host_key=s3": ("needs host_key_bucket",),
    "address=public": ("needs assign_public_ip = true",),
    "tags=aws:x=1": ("cannot be a tag",),
    "secrets=A=b": ("must be VARIABLE=ARN",),
    "price_vcpu_hour=cheap": ("`price_vcpu_hour` must be a price in US dollars",),
    "ecs_clutser=x": ("ecs_cluster",),
    "startup_timeout=0": ("`startup_timeout`",),
}
# Answers to RunTask that are none. "after": the task was started all the same.
NO_ANSWERS = {
    "cut short": {"do": "truncate", "when": "after"},
    "a page of HTML": {"do": "malformed", "when": "after"},
    "nothing": {"do": "malformed", "when": "after", "body": ""},
    "wrong types": {"do": "malformed", "when": "after", "body": '{"tasks": [{"taskArn": 7}], "failures": 1}'},
    "an empty list": {"do": "malformed", "when": "after", "body": '{"tasks": [], "failures": []}'},
    "deep nesting": {"do": "malformed", "when": "after", "body": "[" * 100000},
}
# Ways a task ends before it is ready, and what is said of each.
ENDINGS = {
    "cannot_pull": "CannotPullContainerError",
    "registry_auth": "ResourceInitializationError",
    "eni_timeout": "Timeout waiting for network interface",
    "out_of_memory": "OutOfMemoryError",
    "exited": "exit code 1",
    "spot": "SpotInterruption",
    "termination_notice": "TerminationNotice",
    "scheduler": "ServiceSchedulerInitiated",
}


def configuration(aws: Aws) -> str:
    text = 'default_template = "default"\n' + table("providers.cloud", provider(aws.url))
    text += table("templates.default", IMAGE)
    for name, (keys, _) in REFUSED_THERE.items():
        text += table(f"templates.{name}", {**IMAGE, **keys})
    return text


class Refused(FargateCase):
    def setUp(self) -> None:
        super().setUp()
        self.allow_log("refused op=", "aws credentials cannot be renewed")

    # --- told here, at once

    def test_what_can_be_told_at_once_is_refused_before_aws_is_asked(self) -> None:
        before = self.aws.calls()
        for text, words in REFUSED_HERE.items():
            with self.subTest(text):
                with self.refused(errno.EINVAL):
                    (self.mnt / ".mount" / "new").write_text(f"name=bad template=default {text}\n")
                for word in words:
                    self.assertIn(word, self.daemon.last_error())
                self.assertFalse((self.mnt / "bad").exists())
        for action in ("ecs:RunTask", "ecs:RegisterTaskDefinition"):
            self.assertEqual(self.aws.calls().get(action, 0), before.get(action, 0))

    # --- told by AWS

    def test_what_aws_refuses_is_told_in_its_words_and_starts_nothing(self) -> None:
        for template, (_, word) in REFUSED_THERE.items():
            with self.subTest(template):
                name = f"x@{template}"
                self.assertIn(word, self.failure(name))
                self.assertEqual(self.aws.tasks(name), [])
                self.remove(name)

    def test_an_answer_that_is_none_starts_no_second_task_and_leaves_none(self) -> None:
        for number, (what, fault) in enumerate(NO_ANSWERS.items()):
            with self.subTest(what):
                name = f"answer{number}"
                self.aws.fault("ecs:RunTask", **fault)
                (self.mnt / name).mkdir()
                said = (self.mnt / name / "ready").read_text()
                # Asked once more with the same token, ECS names the same task.
                self.assertEqual(said, "ready\n", (self.mnt / name / "error").read_text())
                self.assertEqual(len(self.aws.tasks(name)), 1)
                self.remove(name)

    def test_a_clock_that_is_off_is_no_reason_to_fail(self) -> None:
        self.aws.control("clock", {"skew_s": 1200})
        self.addCleanup(self.aws.control, "clock", {"skew_s": 0})
        Box.make(self.daemon, "skew").destroy()

    # --- ended early

    def test_a_task_that_ends_early_is_explained_and_gone(self) -> None:
        for ending, words in ENDINGS.items():
            with self.subTest(ending):
                name = ending.replace("_", "-")
                self.aws.fault("ecs:RunTask", "task", end=ending, delays={"sshd": 600})
                self.assertIn(words, self.failure(name))
                self.remove(name)

    def test_an_address_that_another_task_took_over_is_not_used(self) -> None:
        first = Box.make(self.daemon, "first")
        address = self.aws.tasks("first")[0]["private"]
        self.aws.fault("ecs:RunTask", "task", address=address, delays={"sshd": 600})
        self.allow_log("attach", "link")
        (self.mnt / "second").mkdir()
        second = Box(self.daemon, "second")
        wait_until(lambda: "host key" in (second.path / "error").read_text(), "the other's key is refused")
        self.assertEqual(first.sh("echo mine"), "mine\n")
        self.remove("second")
        first.destroy()

    # --- what it costs

    def test_info_json_estimates_what_it_costs(self) -> None:
        (self.mnt / ".mount" / "new").write_text("name=cost template=default cpu=1024 memory=2048\n")
        box = Box(self.daemon, "cost")
        cost = box.info["cost"]
        self.assertIs(cost["estimated"], True)
        self.assertEqual(cost["currency"], "USD")
        self.assertAlmostEqual(cost["per_hour"], 0.04048 + 2 * 0.004445, 6)
        self.assertAlmostEqual(cost["so_far"], cost["per_hour"] / 60, 5, "a minute at least")
        self.assertIn("list price", cost["assumes"])
        box.await_ready()
        box.destroy()
        (self.mnt / ".mount" / "new").write_text(
            "name=own template=default cpu=256 memory=512 price_vcpu_hour=1 price_gb_hour=2\n")
        own = Box(self.daemon, "own")
        self.assertAlmostEqual(own.info["cost"]["per_hour"], 0.25 + 1, 6)
        self.assertIn("as configured", own.info["cost"]["assumes"])
        own.await_ready()
        own.destroy()

    # --- strangers

    def test_list_paid_names_the_tasks_of_a_copied_state_directory_and_leaves_them_alone(self) -> None:
        before = Box.make(self.daemon, "before")
        self.daemon.umount()
        shutil.copytree(self.daemon.state, Live.place.path / "statecopy")
        self.daemon.start()
        before.await_ready()
        after = Box.make(self.daemon, "after")  # the copy has never heard of it
        copy = Daemon(Live.place, config=self.daemon.config, name="copy")
        copy.start()
        try:
            Box(copy, "before").await_ready()  # known to both
            task = self.aws.living("after")[0]
            info = copy.mnt / ".mount" / "info.json"
            wait_until(lambda: json.loads(info.read_text())["strangers"], "it is noticed")
            said = subprocess.run([sbxfs(), "list", "--paid", "-m", str(copy.mnt)], capture_output=True, text=True,
                                  check=True).stdout
            self.assertIn(f"aws ecs stop-task --region us-east-1 --cluster sandboxes --task {task}", said)
            self.assertIn(f"{copy.mnt}/before ", said)
            rows = json.loads(subprocess.run([sbxfs(), "list", "--paid", "--json", "-m", str(copy.mnt)],
                                             capture_output=True, text=True, check=True).stdout)
            self.assertEqual([(row["id"], row["name"]) for row in rows if row["status"] == "stranger"],
                             [(task, "after")])
            # The next generation of both is the same number, and two sandboxes.
            twin = Box.make(copy, "twin")
            self.assertEqual(twin.info["generation"], after.info["generation"])
            twin.destroy()
            self.assertEqual(after.sh("echo lives"), "lives\n")
            copy.umount()
        finally:
            allowed = ("that its journal does not know", "sandbox status", "link", "attach")
            self.assertEqual(copy.complaints(allowed), [])
        self.assertEqual(self.aws.living("after"), [task])
        after.destroy()
        before.destroy()

    # --- doctor

    def test_doctor_looks_at_all_that_a_launch_needs(self) -> None:
        config = Live.place.path / "config.toml"
        done = subprocess.run([sbxfs(), "doctor", "-c", str(config), "fargate"], capture_output=True, text=True,
                              check=False, timeout=60)
        for word in ("credentials", "cluster", "subnets", "route", "host key"):
            self.assertIn(word, done.stdout)
        self.aws.control("keys", {"id": KEY, "denied": ["ecs:RunTask"]})
        self.addCleanup(self.aws.control, "keys", {"id": KEY, "denied": []})
        done = subprocess.run([sbxfs(), "doctor", "-c", str(config), "fargate"], capture_output=True, text=True,
                              check=False, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("ecs:RunTask", done.stdout)


if __name__ == "__main__":
    run(configuration)
