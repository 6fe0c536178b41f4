"""ECS with Fargate: what RunTask accepts, how often, and every other action on tasks and definitions."""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional

from aws_emulator import tags
from aws_emulator.clock import Bucket
from aws_emulator.definitions import Definitions, check_size, check_storage, client
from aws_emulator.errors import ApiError, Words
from aws_emulator.faults import OUTCOME, TASK
from aws_emulator.identity import ACCOUNT, Key
from aws_emulator.tasks import Order, Task

if TYPE_CHECKING:
    from aws_emulator.world import World

LARGEST_OVERRIDES = 8192
CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
_TOKEN = re.compile(r"[!-~]{1,64}$")
_STARTED_BY = re.compile(r"[A-Za-z0-9/_-]{1,128}$")
_TOKENS_KEPT_S = 24 * 3600


def invalid(text: str) -> ApiError:
    return ApiError("InvalidParameterException", text)


@dataclass
class Launch:
    """What a clientToken stands for."""

    parameters: str
    tasks: list[Task]


class Ecs:
    """The world's lock is held by whoever calls. `key` is who asks, `body` the request as it came."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.definitions = Definitions(world.region)
        self.clusters: dict[str, str] = {}     # ARNs by name
        for name in ("sandboxes", "default"):
            self.add_cluster(name)
        self.tasks: dict[str, Task] = {}       # by ARN, those ECS has not forgotten
        self.everything: list[Task] = []       # ever started
        self._launches: dict[str, Launch] = {}
        rates = world.settings.rates
        self._launch_bucket = Bucket(world.clock, *rates.launch)
        self._start_number = 0
        self.actions: dict[str, Callable[[dict[str, Any], Key, str], dict[str, Any]]] = {
            "DeleteTaskDefinitions": self.delete_task_definitions,
            "DeregisterTaskDefinition": self.deregister_task_definition,
            "DescribeClusters": self.describe_clusters,
            "DescribeTaskDefinition": self.describe_task_definition,
            "DescribeTasks": self.describe_tasks,
            "ListTagsForResource": self.list_tags,
            "ListTaskDefinitionFamilies": self.list_families,
            "ListTaskDefinitions": self.list_task_definitions,
            "ListTasks": self.list_tasks,
            "RegisterTaskDefinition": self.register_task_definition,
            "RunTask": self.run_task,
            "StopTask": self.stop_task,
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
        }

    # --- RunTask

    def run_task(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        token = request.get("clientToken", "")
        if token and not _TOKEN.match(token):
            raise invalid("clientToken must have 1 to 64 characters in the range of 33-126.")
        parameters = json.dumps({**request, "cluster": self._find_cluster(request)}, sort_keys=True)
        old = self._launches.get(token) if token else None
        if old is not None:
            if old.parameters != parameters:
                raise ApiError("ConflictException", "The request could not be processed because the clientToken was used "
                                                    "with other parameters.", 400,
                               resourceIds=[task.arn for task in old.tasks])
            return {"tasks": [task.view(with_tags=True) for task in old.tasks], "failures": []}
        count = request.get("count", 1)
        if not 1 <= count <= 10:
            raise invalid("Count must be between 1 and 10.")
        order = self._order(request, key)
        self._check_quota(order, count)
        if not self._launch_bucket.take(count):
            raise Words("ecs").throttled()
        fault = self._world.faults.meet("ecs:RunTask", body, OUTCOME)
        if fault is not None:
            reason = CAPACITY if fault.do == "capacity" else str(fault.args.get("reason", "RESOURCE:MEMORY"))
            return {"tasks": [], "failures": [{"arn": order.cluster, "reason": reason,
                                               **({"detail": fault.args["detail"]} if "detail" in fault.args else {})}]}
        made = []
        for _ in range(count):
            script = self._world.faults.meet("ecs:RunTask", body, TASK)
            task = Task(self._world, order, script.args if script else {})
            self.tasks[task.arn] = task
            self.everything.append(task)
            made.append(task)
            task.begin()
        if token:
            self._launches[token] = Launch(parameters, made)
            self._world.later(_TOKENS_KEPT_S, lambda: self._launches.pop(token, None))
        return {"tasks": [task.view(with_tags=True) for task in made], "failures": []}

    def _order(self, request: dict[str, Any], key: Key) -> Order:
        world = self._world
        definition = self.definitions.to_run(request["taskDefinition"])
        overrides = request.get("overrides", {})
        if len(json.dumps(overrides, separators=(",", ":"), ensure_ascii=False)) > LARGEST_OVERRIDES:
            raise invalid(f"Container Overrides length must be at most {LARGEST_OVERRIDES}")
        names = {one["name"] for one in definition["containerDefinitions"]}
        for one in overrides.get("containerOverrides", []):
            if one.get("name") not in names:
                raise invalid(f"Override for container named {one.get('name')} is not a container in the TaskDefinition.")
        provider = self._capacity_provider(request)
        platform = self._platform(request)
        cpu, memory, storage = self._size(definition, overrides, platform)
        tags.check(request.get("tags", []))
        if request.get("tags"):
            self._allowed(key, "ecs:TagResource", f"arn:aws:ecs:{world.region}:{ACCOUNT}:task/*")
        started_by = request.get("startedBy", "")
        if started_by and not _STARTED_BY.match(started_by):
            raise invalid("startedBy can only contain up to 128 letters, numbers, hyphens, slashes and underscores.")
        self._check_roles(definition, overrides, request, key)
        subnet, groups, public = self._network(request)
        return Order(self._find_cluster(request), definition, overrides, cpu, memory, storage, subnet, groups, public,
                     request.get("tags", []), started_by, request.get("group", f"family:{definition['family']}"), provider,
                     platform, bool(request.get("enableExecuteCommand")))

    @staticmethod
    def _capacity_provider(request: dict[str, Any]) -> str:
        strategy = request.get("capacityProviderStrategy", [])
        if strategy and "launchType" in request:
            raise invalid("Specifying both a launch type and capacity provider strategy is not supported. Remove one and "
                          "try again.")
        if not strategy and request.get("launchType") != "FARGATE":
            raise invalid("No Container Instances were found in your cluster.")
        for one in strategy:
            if one["capacityProvider"] not in ("FARGATE", "FARGATE_SPOT"):
                raise invalid("The specified capacity provider was not found. Specify a valid name or ARN and try again.")
        return str(strategy[0]["capacityProvider"]) if strategy else ""

    @staticmethod
    def _platform(request: dict[str, Any]) -> str:
        version = request.get("platformVersion", "LATEST")
        if version not in ("LATEST", "1.4.0", "1.3.0"):
            raise ApiError("PlatformUnknownException", "The specified platform does not exist.")
        return "1.4.0" if version == "LATEST" else str(version)

    @staticmethod
    def _size(definition: dict[str, Any], overrides: dict[str, Any], platform: str) -> tuple[str, str, Optional[int]]:
        cpu = overrides.get("cpu", definition.get("cpu", ""))
        memory = overrides.get("memory", definition.get("memory", ""))
        try:
            check_size(cpu, memory)
            storage = overrides.get("ephemeralStorage", definition.get("ephemeralStorage", {})).get("sizeInGiB")
            if storage is not None:
                check_storage(storage)
        except ApiError as error:
            raise invalid(error.message) from None
        if platform == "1.3.0" and (storage is not None or int(cpu) > 4096):
            raise ApiError("PlatformTaskDefinitionIncompatibilityException",
                           "The specified platform does not satisfy the task definition's required capabilities.")
        return cpu, memory, storage

    def _check_roles(self, definition: dict[str, Any], overrides: dict[str, Any], request: dict[str, Any],
                     key: Key) -> None:
        roles = {name: overrides.get(name, definition.get(name)) for name in ("taskRoleArn", "executionRoleArn")}
        for name, role in roles.items():
            if role and name in overrides:
                self._allowed(key, "iam:PassRole", role)
            if role in self._world.settings.roles_not_assumable:
                raise client(f"ECS was unable to assume the role '{role}' that was provided for this task. Please verify "
                             "that the role being passed has the proper trust relationship and permissions and that your "
                             "IAM user has permissions to pass this role.")
        if request.get("enableExecuteCommand") and not roles["taskRoleArn"]:
            raise invalid("The service couldn't be created because a valid taskRoleArn is not being used. Specify a valid "
                          "task role in your task definition and try again.")

    def _network(self, request: dict[str, Any]) -> tuple[str, list[str], bool]:
        config = request.get("networkConfiguration", {}).get("awsvpcConfiguration")
        if config is None:
            raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
        network = self._world.network
        subnets, groups = config.get("subnets", []), config.get("securityGroups", [])
        if not 1 <= len(subnets) <= 16:
            raise invalid("subnets can have between 1 and 16 items.")
        if len(groups) > 5:
            raise invalid("securityGroups can have at most 5 items.")
        for subnet in subnets:
            if subnet not in network.subnets:
                raise invalid(f"Error retrieving subnet information for {subnets}: The subnet ID '{subnet}' does not exist "
                              "(ErrorCode: InvalidSubnetID.NotFound)")
        for group in groups:
            if group not in network.groups:
                raise invalid(f"Error retrieving security group information for {groups}: The security group '{group}' "
                              "does not exist (ErrorCode: InvalidGroup.NotFound)")
        self._start_number += 1
        return subnets[self._start_number % len(subnets)], groups or ["sg-1"], config.get("assignPublicIp") == "ENABLED"

    def _check_quota(self, order: Order, count: int) -> None:
        limit = self._world.settings.vcpus
        used = sum(int(task.order.cpu) for task in self.tasks.values() if task.last_status != "STOPPED")
        if limit and used + count * int(order.cpu) > limit * 1024:
            raise client("You've reached the limit on the number of vCPUs you can run concurrently")

    # --- tasks

    def describe_tasks(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        cluster = self._find_cluster(request)
        if not request["tasks"]:
            raise invalid("Tasks cannot be empty.")
        if len(request["tasks"]) > 100:
            raise invalid("You can only describe up to 100 tasks at a time.")
        hidden = self._world.faults.meet("ecs:DescribeTasks", body, OUTCOME)
        found, failures = [], []
        for wanted in request["tasks"]:
            task = self._find_task(wanted, cluster)
            if task is None or task.known_at > self._world.clock.now() or hidden is not None:
                arn = wanted if wanted.startswith("arn:") else f"{cluster.replace(':cluster/', ':task/')}/{wanted}"
                failures.append({"arn": arn, "reason": "MISSING"})
            else:
                found.append(task.view("TAGS" in request.get("include", [])))
        return {"tasks": found, "failures": failures}

    def stop_task(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        task = self._find_task(request["task"], self._find_cluster(request))
        if task is None:
            raise invalid("The referenced task was not found.")
        if len(request.get("reason", "")) > 1024:
            raise invalid("The reason can have at most 1024 characters.")
        task.stop(request.get("reason") or "Task stopped by user")
        return {"task": task.view(with_tags=False)}

    def list_tasks(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        cluster = self._find_cluster(request)
        if "startedBy" in request and any(other in request for other in ("family", "serviceName", "containerInstance")):
            raise invalid("startedBy must be the only filter.")
        if not 1 <= request.get("maxResults", 100) <= 100:
            raise invalid("maxResults must be between 1 and 100.")
        wanted = request.get("desiredStatus", "RUNNING")
        now = self._world.clock.now()
        arns = [task.arn for task in self.tasks.values()
                if task.order.cluster == cluster and task.desired_status == wanted and task.listed_at <= now
                and request.get("startedBy", task.order.started_by) == task.order.started_by
                and request.get("family", task.order.definition["family"]) == task.order.definition["family"]]
        return _page("taskArns", arns, request)

    def forget(self, task: Task) -> None:
        self.tasks.pop(task.arn, None)

    # --- definitions

    def register_task_definition(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        for name in ("taskRoleArn", "executionRoleArn"):
            if request.get(name):
                self._allowed(key, "iam:PassRole", request[name])
        if request.get("tags"):
            self._allowed(key, "ecs:TagResource", f"arn:aws:ecs:{self._world.region}:{ACCOUNT}:task-definition/*")
        made = self.definitions.register(request, key.arn)
        return {"taskDefinition": made, "tags": self.definitions.tags[made["taskDefinitionArn"]]}

    def describe_task_definition(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        one = self.definitions.find(request["taskDefinition"])
        said: dict[str, Any] = {"taskDefinition": one}
        if "TAGS" in request.get("include", []):
            said["tags"] = self.definitions.tags[one["taskDefinitionArn"]]
        return said

    def list_task_definitions(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        return _page("taskDefinitionArns", self.definitions.arns(
            request.get("familyPrefix", ""), request.get("status", "ACTIVE"), request.get("sort") == "DESC"), request)

    def list_families(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        return _page("families", self.definitions.families(request.get("familyPrefix", ""), request.get("status", "ALL")),
                     request)

    def deregister_task_definition(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        return {"taskDefinition": self.definitions.deregister(request["taskDefinition"])}

    def delete_task_definitions(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        if not 1 <= len(request["taskDefinitions"]) <= 10:
            raise invalid("You can delete between 1 and 10 task definitions.")
        deleted, failures = [], []
        for name in request["taskDefinitions"]:
            try:
                deleted.append(self.definitions.delete(name))
            except ApiError as error:
                failures.append({"arn": name, "reason": error.message})
        return {"taskDefinitions": deleted, "failures": failures}

    # --- clusters and tags

    def describe_clusters(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        found, failures = [], []
        for wanted in request.get("clusters") or ["default"]:
            name = wanted.rsplit("/", 1)[-1]
            if name not in self.clusters:
                arn = wanted if wanted.startswith("arn:") else self._cluster(name)
                failures.append({"arn": arn, "reason": "MISSING"})
                continue
            arn = self.clusters[name]
            statuses = [task.last_status for task in self.tasks.values() if task.order.cluster == arn]
            found.append({"clusterArn": arn, "clusterName": name, "status": "ACTIVE", "activeServicesCount": 0,
                          "registeredContainerInstancesCount": 0, "runningTasksCount": statuses.count("RUNNING"),
                          "pendingTasksCount": statuses.count("PENDING") + statuses.count("PROVISIONING"),
                          "capacityProviders": ["FARGATE", "FARGATE_SPOT"], "tags": []})
        return {"clusters": found, "failures": failures}

    def tag_resource(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        self._retag(request["resourceArn"], lambda old: tags.merged(old, request["tags"]))
        return {}

    def untag_resource(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        self._retag(request["resourceArn"], lambda old: [tag for tag in old if tag["key"] not in request["tagKeys"]])
        return {}

    def list_tags(self, request: dict[str, Any], key: Key, body: str) -> dict[str, Any]:
        found: list[list[dict[str, Any]]] = []
        self._retag(request["resourceArn"], lambda old: found.append(old) or old)  # type: ignore[func-returns-value]
        return {"tags": found[0]}

    def _retag(self, arn: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        if arn in self.tasks:
            self.tasks[arn].tags = change(self.tasks[arn].tags)
        elif arn in self.definitions.tags:
            self.definitions.tags[arn] = change(self.definitions.tags[arn])
        else:
            raise invalid("The specified resource could not be found.")

    # --- small things

    def add_cluster(self, name: str) -> None:
        self.clusters[name] = self._cluster(name)

    def _cluster(self, name: str) -> str:
        return f"arn:aws:ecs:{self._world.region}:{ACCOUNT}:cluster/{name}"

    def _find_cluster(self, request: dict[str, Any]) -> str:
        name = request.get("cluster", "default")
        known = self.clusters.get(name.rsplit("/", 1)[-1])
        if known is None or (name.startswith("arn:") and name != known):
            raise ApiError("ClusterNotFoundException", "Cluster not found.")
        return known

    def _find_task(self, wanted: str, cluster: str) -> Optional[Task]:
        """By ARN or id."""
        arn = wanted if wanted.startswith("arn:") else f"{cluster.replace(':cluster/', ':task/')}/{wanted}"
        task = self.tasks.get(arn)
        return task if task is not None and task.order.cluster == cluster else None

    def _allowed(self, key: Key, action: str, resource: str) -> None:
        if not key.may(action):
            raise Words("ecs").denied(key.arn, action, resource)


def _page(member: str, rows: list[str], request: dict[str, Any]) -> dict[str, Any]:
    start, most = int(request.get("nextToken", "0")), request.get("maxResults", 100)
    said: dict[str, Any] = {member: rows[start:start + most]}
    if start + most < len(rows):
        said["nextToken"] = str(start + most)
    return said
