"""Task definitions: what Fargate accepts, revisions, what is active. Also the sizes that Fargate has."""

import copy
import re
from typing import Any

from aws_emulator import tags
from aws_emulator.clock import Clock
from aws_emulator.errors import ApiError
from aws_emulator.identity import ACCOUNT

_FAMILY = re.compile(r"[a-zA-Z0-9_-]{1,255}$")
_GIB = 1024
# cpu: the memory sizes in MiB that go with it.
SIZES: dict[int, set[int]] = {
    256: {512, 1024, 2048},
    512: set(range(1024, 4097, 1024)),
    1024: set(range(2048, 8193, 1024)),
    2048: set(range(4096, 16385, 1024)),
    4096: set(range(8192, 30721, 1024)),
    8192: set(range(16 * _GIB, 60 * _GIB + 1, 4 * _GIB)),
    16384: set(range(32 * _GIB, 120 * _GIB + 1, 8 * _GIB)),
}
# Of RegisterTaskDefinition's parameters those that the answer repeats as they are.
_REPEATED = ("containerDefinitions", "family", "taskRoleArn", "executionRoleArn", "networkMode", "volumes",
             "placementConstraints", "requiresCompatibilities", "cpu", "memory", "pidMode", "ipcMode",
             "proxyConfiguration", "inferenceAccelerators", "ephemeralStorage", "runtimePlatform")


def client(text: str) -> ApiError:
    return ApiError("ClientException", text)


def check_size(cpu: str, memory: str) -> None:
    if not re.match(r"\d+$", cpu) or not re.match(r"\d+$", memory):
        raise client(f"Invalid 'cpu' or 'memory' setting: '{cpu}', '{memory}'.")
    if int(memory) not in SIZES.get(int(cpu), set()):
        raise client(f"No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. See the Amazon ECS "
                     "documentation for the valid values.")


def check_storage(gib: int) -> None:
    if not 21 <= gib <= 200:
        raise client(f"Ephemeral storage size must be between 21 and 200 GiB, not {gib}.")


class Definitions:
    """The world's lock is held by whoever calls."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._families: dict[str, list[dict[str, Any]]] = {}
        self.tags: dict[str, list[dict[str, Any]]] = {}

    def register(self, request: dict[str, Any], by: str) -> dict[str, Any]:
        self._check(request)
        revisions = self._families.setdefault(request["family"], [])
        made = {name: copy.deepcopy(request[name]) for name in _REPEATED if name in request}
        made.setdefault("volumes", [])
        made.setdefault("placementConstraints", [])
        for container in made["containerDefinitions"]:
            for name, value in (("cpu", 0), ("essential", True), ("environment", []), ("mountPoints", []),
                                ("portMappings", []), ("volumesFrom", [])):
                container.setdefault(name, value)
        revision = len(revisions) + 1
        arn = f"arn:aws:ecs:{self._region}:{ACCOUNT}:task-definition/{request['family']}:{revision}"
        made.update(taskDefinitionArn=arn, revision=revision, status="ACTIVE", compatibilities=["EC2", "FARGATE"],
                    registeredAt=Clock.date(), registeredBy=by)
        revisions.append(made)
        self.tags[arn] = request.get("tags", [])
        return made

    def find(self, name: str) -> dict[str, Any]:
        """By family, family:revision or ARN; without a revision the newest active one."""
        family, _, revision = name.rsplit("/", 1)[-1].partition(":")
        if name.startswith("arn:") and f":{ACCOUNT}:task-definition/" not in name:
            raise client(f"Unable to describe task definition {name}.")
        for one in reversed(self._families.get(family, [])):
            if (str(one["revision"]) == revision) or (not revision and one["status"] == "ACTIVE"):
                return one
        raise client("Unable to describe task definition.")

    def to_run(self, name: str) -> dict[str, Any]:
        try:
            one = self.find(name)
        except ApiError:
            raise client("TaskDefinition not found.") from None
        if one["status"] != "ACTIVE":
            raise client("TaskDefinition is inactive")
        return one

    def arns(self, prefix: str, status: str, newest_first: bool) -> list[str]:
        found = [(family, one["revision"], one["taskDefinitionArn"]) for family, all_of in self._families.items()
                 for one in all_of if (not prefix or family == prefix) and one["status"] == status]
        return [arn for _, _, arn in sorted(found, reverse=newest_first)]

    def families(self, prefix: str, status: str) -> list[str]:
        return sorted(family for family, all_of in self._families.items() if family.startswith(prefix)
                      and (status == "ALL" or any(one["status"] == status for one in all_of)))

    def deregister(self, name: str) -> dict[str, Any]:
        if ":" not in name.rsplit("/", 1)[-1]:
            raise client("Invalid revision number. Number: ")
        one = self.find(name)
        one["status"] = "INACTIVE"
        one["deregisteredAt"] = Clock.date()
        return one

    def delete(self, name: str) -> dict[str, Any]:
        one = self.find(name)
        if one["status"] != "INACTIVE":
            raise client("The specified task definition is still in ACTIVE status. Please deregister the target and try "
                         "again.")
        self._families[one["family"]].remove(one)
        return {**one, "status": "DELETE_IN_PROGRESS"}

    @staticmethod
    def _check(request: dict[str, Any]) -> None:
        if not _FAMILY.match(request["family"]):
            raise client("Family contains invalid characters.")
        tags.check(request.get("tags", []))
        containers = request["containerDefinitions"]
        if not containers:
            raise client("Container list cannot be empty.")
        names = [one.get("name", "") for one in containers]
        if len(set(names)) != len(names):
            raise client("Container names must be unique.")
        for one in containers:
            _check_container(one, names, request)
        if not any(one.get("essential", True) for one in containers):
            raise client("Task definition does not have any essential containers.")
        if "FARGATE" not in request.get("requiresCompatibilities", []):
            return
        if request.get("networkMode") != "awsvpc":
            raise client("Fargate only supports network mode 'awsvpc'.")
        if "cpu" not in request or "memory" not in request:
            raise client("Fargate requires that 'cpu' and 'memory' be defined at the task level.")
        check_size(request["cpu"], request["memory"])
        if "ephemeralStorage" in request:
            check_storage(request["ephemeralStorage"]["sizeInGiB"])
        if request.get("pidMode", "task") != "task":
            raise client("Fargate only supports pidMode 'task'.")


def _check_container(one: dict[str, Any], names: list[str], request: dict[str, Any]) -> None:
    name = one.get("name", "")
    if not _FAMILY.match(name):
        raise client(f"Container.name '{name}' contains invalid characters or is empty.")
    if not one.get("image"):
        raise client("Container.image should not be null or empty.")
    if one.get("privileged"):
        raise client("Privileged mode is not supported on Fargate.")
    added = one.get("linuxParameters", {}).get("capabilities", {}).get("add", [])
    if set(added) - {"SYS_PTRACE"}:
        raise client(f"Fargate does not support adding capabilities other than SYS_PTRACE: {', '.join(added)}.")
    if one.get("stopTimeout", 0) > 120:
        raise client("Fargate supports a stopTimeout of at most 120 seconds.")
    for other in one.get("dependsOn", []):
        if other["containerName"] not in names:
            raise client(f"Invalid dependsOn: there is no container {other['containerName']}.")
    keys = [pair.get("name") for pair in one.get("environment", [])]
    twice = set(keys) & {secret["name"] for secret in one.get("secrets", [])}
    if twice:
        raise client(f"The secret name must be unique and not shared with any new or existing environment variables set "
                     f"on the container, such as '{twice.pop()}'.")
    log = one.get("logConfiguration", {})
    if log.get("logDriver") == "awslogs":
        missing = [option for option in ("awslogs-group", "awslogs-region", "awslogs-stream-prefix")
                   if not log.get("options", {}).get(option)]
        if missing:
            raise client(f"Log driver awslogs requires options: {', '.join(missing)}.")
    needs = "secrets" if one.get("secrets") else "environmentFiles" if one.get("environmentFiles") else \
        "log driver awslogs" if log.get("logDriver") == "awslogs" else ""
    if needs and not request.get("executionRoleArn"):
        raise client(f"Fargate requires task definition to have execution role ARN to support {needs}.")
