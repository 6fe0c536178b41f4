#!/usr/bin/env python3
"""The canaries of secrets_test.py where sandboxes are tasks of an emulator of AWS: besides all that is searched there, what AWS
is told and tells everybody in the account (tasks, definitions, logs). Temporary credentials, a secret by reference, and a
shared host key are canaries too."""

import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from live.aws import Aws, provider, table, without_account  # noqa: E402
from live.case import Live, main  # noqa: E402
from live.fargate import DELAYS  # noqa: E402
from live.place import Place, skip, wait_until  # noqa: E402
from mount import secrets_test  # noqa: E402

REFERENCE = "canary-reference-" + uuid.uuid4().hex
KEY = "AKIDTEMPORARY"
HOST_KEY = "sbxfs/test/canary"


class Cloud:
    aws: Aws

    @classmethod
    def client(cls, service: str) -> Any:
        """With keys of its own, that are no secret."""
        import botocore.session
        session = botocore.session.Session()
        return session.create_client(service, region_name="us-east-1", endpoint_url=cls.aws.url,
                                     aws_access_key_id="AKIDEMULATOR", aws_secret_access_key="secret")


def configure(place: Place) -> str:
    without_account()
    Cloud.aws = Aws(place, settings=DELAYS)
    Cloud.aws.control("keys", {"id": KEY, "secret": secrets_test.AWS, "token": secrets_test.SESSION})
    arn = Cloud.client("secretsmanager").create_secret(Name="reference", SecretString=REFERENCE)["ARN"]
    os.environ.update(secrets_test.ENVIRONMENT, AWS_ACCESS_KEY_ID=KEY)
    return ('default_template = "default"\n' + table("providers.cloud", provider(Cloud.aws.url))
            + table("templates.default", {"provider": "cloud", "image": "sbxfs:latest", "host_key": "shared",
                                          "host_key_secret": HOST_KEY, "secrets": [f"REFERENCE={arn}"]})
            + 'env = { TEMPLATE_SECRET = "${SBXFS_TEST_SECRET}" }\n')


class FargateSecrets(secrets_test.Secrets):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        assert Live.box.sh("echo $REFERENCE | cksum") == Live.box.sh(f"echo {REFERENCE[:7]}\"{REFERENCE[7:]}\" | cksum")
        key = Cloud.client("secretsmanager").get_secret_value(SecretId=HOST_KEY)["SecretString"]
        cls.host_key = next(line for line in key.replace("\\n", "\n").splitlines() if len(line) > 40 and "--" not in line)
        # A launch that fails says why, and nothing else.
        Cloud.aws.fault("ecs:RunTask", "error", code="AccessDeniedException", message="no", status=400)
        os.mkdir(Live.daemon.mnt / "refused")
        assert (Live.daemon.mnt / "refused" / "ready").read_text().startswith("failed")

    def setUp(self) -> None:
        super().setUp()
        self.allow_log("sandbox status", "after a failed launch")

    def secrets(self) -> dict[str, str]:
        return {**super().secrets(), "reference": REFERENCE, "host key": self.host_key}

    def is_anothers(self, pid: str) -> bool:
        """ECS itself: what makes the containers, and has their environments as arguments."""
        return Path(f"/proc/{pid}/comm").read_text() == "bwrap\n"

    def test_what_aws_is_told_and_tells(self) -> None:
        ecs, logs = Cloud.client("ecs"), Cloud.client("logs")
        arns = ecs.list_tasks(cluster="sandboxes")["taskArns"]
        tasks = ecs.describe_tasks(cluster="sandboxes", tasks=arns, include=["TAGS"])["tasks"]
        definitions = [ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
                       for arn in ecs.list_task_definitions()["taskDefinitionArns"]]
        said = json.dumps([tasks, definitions], default=str)
        self.assertIn(self.box.info["id"], said)
        self.assertIn("SBXFS_MAX_LIFETIME_S", said)
        self.expect_none("tasks and their definitions", said)
        lines = logs.filter_log_events(logGroupName="/sbxfs")["events"]
        self.expect_none("the log group", json.dumps(lines))
        for what in ("tasks", "history", "calls", "faults"):
            self.expect_none(f"the emulator's {what}", json.dumps(Cloud.aws.control(what)))
        wait_until(lambda: logs.filter_log_events(logGroupName="/sbxfs")["events"], "its entrypoint has said something")


if __name__ == "__main__":
    if reason := Aws.missing():
        skip(reason)
    main(limit=150, configure=configure)
