"""The frame of the emulator's own tests: one emulator for a script's cases, driven with botocore's clients, which
are boto3's, as AWS would be. Without botocore the script is skipped."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request
from typing import Any, Callable, NoReturn, Optional, TypeVar

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

SKIPPED = 77  # ctest's SKIP_RETURN_CODE of these tests


def skip(reason: str) -> NoReturn:
    print(f"skipped: {reason}", flush=True)
    os._exit(SKIPPED)


try:
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import ClientError
except ImportError as missing:
    skip(f"{missing} (apt-get install python3-botocore)")

from aws_emulator.models import CompletedLoader  # noqa: E402
from aws_emulator.server import Emulator  # noqa: E402
from aws_emulator.settings import Settings  # noqa: E402

T = TypeVar("T")
_session = botocore.session.Session()
_session.register_component("data_loader", CompletedLoader())
ROLE = "arn:aws:iam::123456789012:role/tasks"
NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}}


def wait_until(true: Callable[[], T], what: str, limit: float = 20, pause: float = 0.005) -> T:
    """Waits for `true()` and returns it; a deadline says what did not come true, and its last value."""
    deadline = time.monotonic() + limit
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s: {what} (last: {value!r})")
        time.sleep(pause)


class AwsCase(unittest.TestCase):
    """A case with the script's emulator. `scale` and `settings` are the class's own."""

    scale = 200.0
    settings: dict[str, Any] = {"real": False}
    maxDiff = 2000

    @classmethod
    def setUpClass(cls) -> None:
        settings = Settings()
        settings.change(cls.settings)
        cls.aws = Emulator(settings, cls.scale)
        cls.addClassCleanup(cls.aws.close)
        cls.ecs = cls.client("ecs")
        cls.definition = cls.register("f")

    def setUp(self) -> None:
        self.control("DELETE", "faults")
        self.control("DELETE", "calls")

    @classmethod
    def client(cls, service: str, key: str = "AKIDEMULATOR", secret: str = "secret", token: Optional[str] = None,
               region: str = "us-east-1", **config: Any) -> Any:
        """A client that asks once."""
        config = {"retries": {"total_max_attempts": 1}, "read_timeout": 20, **config}
        return _session.create_client(service, region, endpoint_url=cls.aws.url, config=Config(**config),
                                      aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token)

    @classmethod
    def control(cls, method: str, path: str, said: Any = None) -> Any:
        request = urllib.request.Request(f"{cls.aws.url}/_control/{path}", method=method,
                                         data=None if said is None else json.dumps(said).encode())
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def set(self, **settings: Any) -> None:
        """For this case only."""
        before = self.control("GET", "settings")
        self.addCleanup(self.control, "POST", "settings", {name: before[name] for name in settings})
        self.control("POST", "settings", settings)

    def fault(self, **rule: Any) -> None:
        self.control("POST", "faults", rule)

    @classmethod
    def register(cls, family: str, client: Any = None, container: Optional[dict[str, Any]] = None,
                 **changes: Any) -> str:
        """A definition's ARN."""
        one = {"name": "main", "image": "debian", **(container or {})}
        request = {"family": family, "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256",
                   "memory": "512", "executionRoleArn": ROLE, "containerDefinitions": [one], **changes}
        said = (client or cls.ecs).register_task_definition(**request)
        return str(said["taskDefinition"]["taskDefinitionArn"])

    def ask(self, environment: Optional[dict[str, str]] = None, client: Any = None, **changes: Any) -> dict[str, Any]:
        """RunTask's whole answer."""
        request = {"cluster": "sandboxes", "taskDefinition": self.definition, "launchType": "FARGATE",
                   "networkConfiguration": NETWORK, **changes}
        if environment is not None:
            pairs = [{"name": name, "value": value} for name, value in environment.items()]
            request["overrides"] = {"containerOverrides": [{"name": "main", "environment": pairs}]}
        request = {name: value for name, value in request.items() if value is not None}
        return dict((client or self.ecs).run_task(**request))

    def run_task(self, **request: Any) -> str:
        said = self.ask(**request)
        self.assertEqual(said["failures"], [])
        return str(said["tasks"][0]["taskArn"])

    def describe(self, arn: str, **more: Any) -> dict[str, Any]:
        """The task, or nothing while it is MISSING."""
        said = self.ecs.describe_tasks(cluster="sandboxes", tasks=[arn], **more)
        return dict(said["tasks"][0]) if said["tasks"] else {}

    def await_status(self, arn: str, status: str, limit: float = 20) -> dict[str, Any]:
        def there() -> dict[str, Any]:
            task = self.describe(arn)
            if task.get("lastStatus") == "STOPPED" and status != "STOPPED":
                raise AssertionError(f"STOPPED instead of {status}: {task.get('stopCode')} {task.get('stoppedReason')}")
            return task if task.get("lastStatus") == status else {}
        return wait_until(there, f"{arn} is {status}", limit)

    def refused(self, code: str, words: str, call: Callable[..., Any], *args: Any, **parameters: Any) -> ClientError:
        with self.assertRaises(ClientError) as caught:
            call(*args, **parameters)
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], code, error["Message"])
        self.assertIn(words, error["Message"])
        return caught.exception


def main(limit: float = 100) -> None:
    """Runs the calling script's cases; ends the process when they take too long."""
    watch = threading.Timer(limit, lambda: (print(f"still running after {limit} s", file=sys.stderr), os._exit(1)))
    watch.daemon = True
    watch.start()
    unittest.main(module="__main__", warnings="ignore")  # clients close their sockets when they are collected


def need(*programs: str) -> None:
    """Skips the script where one of them is missing."""
    for program in programs:
        if shutil.which(program, path="/usr/sbin:/usr/bin:/usr/local/bin:/sbin:/bin") is None:
            skip(f"{program} is missing")
    tried = subprocess.run(["bwrap", "--unshare-pid", "--ro-bind", "/", "/", "true"], capture_output=True, text=True,
                           check=False)
    if tried.returncode != 0:
        skip("no namespaces here: " + tried.stderr.strip())


__all__ = ["AwsCase", "ClientError", "Emulator", "NETWORK", "ROLE", "Settings", "main", "need", "skip",
           "wait_until"]
