"""AWS of a test's own: the emulator as a process, and what it says of tasks and calls."""

import json
import os
import subprocess
import sys
import urllib.request
from typing import Any, Optional, Sequence

from live.place import SOURCE, Place, slack

KEY = "AKIDEMULATOR"


class Aws:
    """tests/aws_emulator on a free port of 127.0.0.1. Ends with the place."""

    def __init__(self, place: Place, scale: float = 20, settings: Sequence[str] = ()) -> None:
        ready, written = os.pipe()
        command = [sys.executable, str(SOURCE / "tests" / "aws_emulator"), "--ready-fd", str(written),
                   "--scale", str(scale)]
        for setting in settings:
            command += ["--set", setting]
        with (place.path / "aws.log").open("wb") as log:
            self.process = subprocess.Popen(command, pass_fds=[written], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        place.at_end(self.end)
        os.close(written)
        with os.fdopen(ready) as said:
            self.url = said.readline().strip()
        if not self.url:
            raise AssertionError("the emulator did not start: " + (place.path / "aws.log").read_text())

    @staticmethod
    def missing() -> str:
        """Why it cannot run here; empty when it can."""
        try:
            import botocore  # noqa: F401
        except ImportError:
            return "python3-botocore is missing"
        return "" if os.geteuid() == 0 else "tasks with sshd on port 22 need root"

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def control(self, path: str, body: Any = None, method: Optional[str] = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_control/{path}", data, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=slack(10)) as answer:
            return json.loads(answer.read() or b"null")

    def fault(self, on: str, do: str, **more: Any) -> None:
        self.control("faults", {"on": on, "do": do, **more})

    def no_faults(self) -> None:
        self.control("faults", method="DELETE")

    def tasks(self, name: str = "") -> list[dict[str, Any]]:
        """All that were ever started, of one sandbox or of all."""
        every = self.control("tasks")
        found = every["tasks"] if isinstance(every, dict) else every
        return [task for task in found if not name or task["tags"].get("sbxfs:name") == name]

    def living(self, name: str = "") -> list[str]:
        return [task["arn"] for task in self.tasks(name) if task["status"] != "STOPPED"]

    def calls(self) -> dict[str, int]:
        return dict(self.control("calls")["calls"])


def without_account() -> None:
    """From here on nothing of this machine's AWS configuration is used, but the emulator's key."""
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY="secret", AWS_CONFIG_FILE="/dev/null",
                      AWS_SHARED_CREDENTIALS_FILE="/dev/null")


def provider(url: str, **keys: object) -> dict[str, object]:
    """[providers.NAME] of the emulator."""
    settings: dict[str, object] = {
        "backend": "fargate", "aws_region": "us-east-1", "aws_endpoint_url": url, "ecs_cluster": "sandboxes",
        "subnets": ["subnet-1"], "security_groups": ["sg-1"], "assign_public_ip": False,
        "execution_role_arn": "arn:aws:iam::123456789012:role/exec", "log_group": "/sbxfs"}
    settings.update(keys)
    return settings


def table(name: str, settings: dict[str, object]) -> str:
    def toml(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            return "[" + ", ".join(toml(one) for one in value) + "]"
        return str(value) if isinstance(value, int) else f'"{value}"'

    return "\n".join([f"[{name}]"] + [f"{key} = {toml(value)}" for key, value in settings.items()]) + "\n\n"
