"""A task: its way from PROVISIONING to STOPPED, the containers it runs, and what DescribeTasks says of it.

    PROVISIONING ── interface attached ──► PENDING ── secrets, image ──► containers start ──► RUNNING
         └──────────────┴──────────────────────┴── something ends it ───────────┘
                   DEACTIVATING ── TERM, KILL ──► STOPPING ── all gone ──► DEPROVISIONING ──► STOPPED

Every method is called with the world's lock held. What was planned for a task that is on its way out does nothing."""

import secrets as randomness
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

from aws_emulator.containers import Container, Plan
from aws_emulator.endings import Ending, read_ending
from aws_emulator.environment import container_environment, hostname
from aws_emulator.errors import ApiError
from aws_emulator.identity import ACCOUNT
from aws_emulator.images import Image
from aws_emulator.network import Interface

if TYPE_CHECKING:
    from aws_emulator.world import World


@dataclass
class Order:
    """What RunTask asked for, checked, the same for each task of the call."""

    cluster: str  # ARN
    definition: dict[str, Any]
    overrides: dict[str, Any]
    cpu: str
    memory: str
    storage_gib: Optional[int]
    subnet: str
    groups: list[str]
    public: bool
    tags: list[dict[str, Any]]
    started_by: str
    group: str
    capacity_provider: str
    platform_version: str
    execute_command: bool


@dataclass
class Part:
    """A container of the task."""

    name: str
    defined: dict[str, Any]
    override: dict[str, Any]
    image: Image
    digest: str
    runtime_id: str
    status: str = "PENDING"
    exit_code: Optional[int] = None
    reason: str = ""
    process: Optional[Container] = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def image_name(self) -> str:
        return str(self.defined["image"])

    @property
    def essential(self) -> bool:
        return bool(self.defined.get("essential", True))


class Task:
    """`script`: what a fault of kind "task" makes different with this one."""

    def __init__(self, world: "World", order: Order, script: dict[str, Any]) -> None:
        self._world = world
        self.order = order
        self._script = script
        self.id = randomness.token_hex(16)
        cluster = order.cluster.rsplit("/", 1)[-1]
        self.arn = f"arn:aws:ecs:{world.region}:{ACCOUNT}:task/{cluster}/{self.id}"
        self.tags = list(order.tags)
        self.last_status = "PROVISIONING"
        self.desired_status = "RUNNING"
        self.stop_code = ""
        self.stopped_reason = ""
        self.times: dict[str, datetime] = {"createdAt": world.clock.date()}
        self.real = bool(script.get("real", world.settings.real))
        self.interface: Optional[Interface] = None
        self.sshd_at = 0.0  # of time.time; 0: not known
        self._attachment = {"id": f"{randomness.token_hex(4)}-eni", "status": "PRECREATED"}
        self._details = [{"name": "subnetId", "value": order.subnet}]
        self._private = ""
        self._version = 1
        self._ending = read_ending(script["end"]) if "end" in script else None
        named = {one["name"]: one for one in order.overrides.get("containerOverrides", [])}
        self.parts = [Part(one["name"], one, named.get(one["name"], {}), world.images.find(one["image"]),
                           "sha256:" + randomness.token_hex(32), f"{self.id}-{randomness.randbelow(10**10)}")
                      for one in order.definition["containerDefinitions"]]
        self.known_at = world.clock.now() + self._draw("missing")
        self.listed_at = world.clock.now() + self._draw("listed")

    # --- the way up

    def begin(self) -> None:
        self._later(self._draw("eni"), self._attach)
        self._pending_at = self._world.clock.now() + self._draw("provisioning")
        self._end_if_scripted("provisioning")

    def _attach(self) -> None:
        order = self.order
        self.interface = self._world.network.attach(self.id, order.subnet, order.groups, order.public,
                                                    self._world.settings.reuse, self._script.get("address", ""))
        self._private = self.interface.private
        self._attachment["status"] = "ATTACHED"
        self._details = [
            {"name": "subnetId", "value": order.subnet},
            {"name": "networkInterfaceId", "value": self.interface.id},
            {"name": "macAddress", "value": self.interface.mac},
            {"name": "privateDnsName", "value": f"ip-{self._private.replace('.', '-')}.ec2.internal"},
            {"name": "privateIPv4Address", "value": self._private},
        ]
        self._mark("connectivityAt")
        self._later(max(0.0, self._pending_at - self._world.clock.now()), self._pull)

    def _pull(self) -> None:
        self._move("PENDING")
        try:
            self._prepare()
        except ApiError as error:
            return self.end(Ending("pull", "TaskFailedToStart", error.message))
        self._mark("pullStartedAt")
        broken = [part for part in self.parts if part.image.error]
        if broken:
            text = broken[0].image.error
            return self._later(self._draw("pull"), lambda: self.end(Ending("pull", "TaskFailedToStart", text, text)))
        self._later(self._draw("pull"), self._start)
        self._end_if_scripted("pull")
        return None

    def _prepare(self) -> None:
        world = self._world
        for part in self.parts:
            log = part.defined.get("logConfiguration", {})
            options = log.get("options", {})
            if log.get("logDriver") == "awslogs" and options["awslogs-group"] not in world.logs.groups:
                if options.get("awslogs-create-group") != "true":
                    raise ApiError("", "ResourceInitializationError: failed to validate logger args: create stream has "
                                       "been retried 1 times: failed to create Cloudwatch log stream: "
                                       "ResourceNotFoundException: The specified log group does not exist. : exit status 1")
                world.logs.create_log_group({"logGroupName": options["awslogs-group"]})
            part.environment = container_environment(part.image, part.defined, part.override, world.secrets, world.s3,
                                                     world.region, self.id)
            self._disturb(part.environment)

    def _disturb(self, environment: dict[str, str]) -> None:
        """Another sandbox than the one that was meant answers there."""
        if self._script.get("host_key") == "wrong":
            environment["SBXFS_HOST_KEY"] = _new_host_key()
        if self._script.get("token") == "other":
            environment["SBXFS_TOKEN"] = randomness.token_hex(16)

    def _start(self) -> None:
        self._mark("pullStoppedAt")
        self._mark("startedAt")
        delay = self._draw("sshd")
        for part in self.parts:
            part.status = "RUNNING"
            if self.real and delay == 0:
                self._start_process(part)
            elif self.real:
                self._later(delay, lambda part=part: self._start_process(part))
        self._later(self._draw("running"), lambda: self._move("RUNNING"))
        self._end_if_scripted("running")

    def _start_process(self, part: Part) -> None:
        assert self.interface is not None
        environment = dict(part.environment)
        addresses = [self.interface.private, *([self.interface.public] if self.interface.public else [])]
        if self._world.settings.round_trip_s > 0:
            addresses = addresses[:1]  # the other is reached through the distance
        environment.setdefault("SBXFS_SSH_LISTEN", " ".join(addresses))
        entry = part.defined.get("entryPoint")
        command = part.override.get("command") or part.defined.get("command") or ([] if entry else part.image.command)
        part.process = self._world.containers.start(Plan(
            name=f"{hostname(self.id)}-{part.name}"[:63],
            argv=[*(entry or part.image.entrypoint), *command],
            environment=environment,
            workdir=part.defined.get("workingDirectory", part.image.workdir),
            files=part.image.files,
            covers=part.image.covers,
            printed=self._world.locked(lambda line: self._printed(part, line)),
            ended=self._world.locked(lambda code: self._part_ended(part, code)),
            started=lambda: None,
            failed=self._world.locked(lambda why: self._part_failed(part, why))))

    def _printed(self, part: Part, line: str) -> None:
        settings = self._world.settings
        if line.startswith("sbxfs-host-key") and (settings.time_sshd or settings.round_trip_s > 0):
            assert self.interface is not None
            port = int(part.environment.get("SBXFS_SSH_PORT", 22))
            self._world.distance.watch(self.interface.private, port, self._world.locked(self._sshd_answered(port)))
        log = part.defined.get("logConfiguration", {})
        if log.get("logDriver") == "awslogs":
            options = log["options"]
            self._world.logs.add(options["awslogs-group"], f"{options['awslogs-stream-prefix']}/{part.name}/{self.id}",
                                 line, self._draw("log"))

    def _sshd_answered(self, port: int) -> Callable[[float], None]:
        def answered(when: float) -> None:
            self.sshd_at = when
            far = self._world.settings.round_trip_s
            if far > 0 and self.interface is not None and self.interface.public:
                self._world.distance.serve(self.interface.public, self.interface.private, port, far)
        return answered

    # --- the way down

    def stop(self, reason: str) -> None:
        self.end(Ending("", "UserInitiated", reason))

    def end(self, ending: Ending) -> None:
        """Ends it for that reason, unless it is ending already."""
        if self.desired_status == "STOPPED":
            return
        self.desired_status = "STOPPED"
        self.stop_code = ending.stop_code
        self.stopped_reason = ending.reason.format(image=self.parts[0].image_name) if ending.at == "pull" else ending.reason
        self._mark("stoppingAt")
        for part in self.parts:
            if ending.container_reason:
                part.reason = ending.container_reason.format(image=part.image_name)
        if not any(part.status == "RUNNING" for part in self.parts):
            return self._deprovision()
        if ending.exit_code >= 0:  # they ended; nobody stopped them
            for part in self.parts:
                self._kill(part, signal.SIGKILL, ending.exit_code)
            return None
        self._move("DEACTIVATING")
        self._after(self._draw("deactivating"), self._signal)
        return None

    def _signal(self) -> None:
        if self.last_status == "DEACTIVATING":
            self._move("STOPPING")
            self._terminate()

    def _terminate(self) -> None:
        for part in self.parts:
            if part.status == "RUNNING":
                self._kill(part, signal.SIGTERM, 143)
                self._after(part.defined.get("stopTimeout", 30),
                            lambda part=part: self._kill(part, signal.SIGKILL, 137))

    def _kill(self, part: Part, number: int, pretended: int) -> None:
        """`pretended`: the exit code where there is no process, or where the signal stands for another death."""
        if part.status != "RUNNING":
            return
        if part.process is None and number == signal.SIGTERM:
            self._after(self._draw("stopping"), lambda: self._kill(part, signal.SIGKILL, pretended))
        elif part.process is None or part.process.ended:
            self._part_ended(part, pretended)
        else:
            if number == signal.SIGKILL and pretended != 137:
                part.exit_code = pretended
            part.process.kill(number)

    def _part_failed(self, part: Part, why: str) -> None:
        part.reason = f"CannotStartContainerError: {why}"
        self._part_ended(part, 128)

    def _part_ended(self, part: Part, code: int) -> None:
        if self._script.get("silent_death") and self.desired_status != "STOPPED":
            return  # ECS has not noticed
        part.status = "STOPPED"
        if part.exit_code is None:
            part.exit_code = code
        self._version += 1
        if part.essential and self.desired_status != "STOPPED":
            self.desired_status = "STOPPED"
            self.stop_code = "EssentialContainerExited"
            self.stopped_reason = "Essential container in task exited"
            self._mark("stoppingAt")
            self._move("STOPPING")
            self._terminate()
        if self.desired_status == "STOPPED" and all(one.status != "RUNNING" for one in self.parts) \
                and "executionStoppedAt" not in self.times:
            self._deprovision()

    def _deprovision(self) -> None:
        self._mark("executionStoppedAt")
        self._move("DEPROVISIONING")
        self._attachment["status"] = "DETACHING" if self.interface else "DELETED"
        self._after(self._draw("deprovisioning"), self._stopped)

    def _stopped(self) -> None:
        if self.interface is not None:
            self._world.network.detach(self.interface)
            self.interface = None
        self._attachment["status"] = "DELETED"
        for part in self.parts:
            part.status = "STOPPED"
        self._mark("stoppedAt")
        self._move("STOPPED")
        self._after(self._world.settings.forget_s, lambda: self._world.ecs.forget(self))

    # --- small things

    def _later(self, seconds: float, job: Callable[[], None]) -> None:
        """Does it then, if the task still lives."""
        self._after(seconds, lambda: job() if self.desired_status != "STOPPED" else None)

    def _after(self, seconds: float, job: Callable[[], None]) -> None:
        self._world.later(seconds, job)

    def _end_if_scripted(self, step: str) -> None:
        ending = self._ending
        if ending is not None and ending.at == step:
            self._later(ending.after, lambda: self.end(ending))

    def _draw(self, delay: str) -> float:
        own = self._script.get("delays", {})
        return self._world.draw(own[delay] if delay in own else getattr(self._world.settings.delays, delay))

    def _move(self, status: str) -> None:
        self.last_status = status
        self._version += 1

    def _mark(self, name: str) -> None:
        self.times.setdefault(name, self._world.clock.date())
        self._version += 1

    def kill_process(self, number: int) -> None:
        """From inside, as it were: ECS finds out by itself."""
        for part in self.parts:
            if part.process is not None:
                part.process.kill(number)

    @property
    def alive(self) -> bool:
        return any(part.process is not None and not part.process.ended for part in self.parts)

    # --- what is said of it

    def view(self, with_tags: bool) -> dict[str, Any]:
        order = self.order
        said: dict[str, Any] = {
            "taskArn": self.arn, "clusterArn": order.cluster, "taskDefinitionArn": order.definition["taskDefinitionArn"],
            "lastStatus": self.last_status, "desiredStatus": self.desired_status, "cpu": order.cpu,
            "memory": order.memory, "group": order.group, "platformVersion": order.platform_version,
            "platformFamily": "Linux", "availabilityZone": self._world.network.subnets[order.subnet],
            "healthStatus": "UNKNOWN", "enableExecuteCommand": order.execute_command, "version": self._version,
            "ephemeralStorage": {"sizeInGiB": order.storage_gib or 20}, "overrides": order.overrides,
            "attachments": [{"id": self._attachment["id"], "type": "ElasticNetworkInterface",
                             "status": self._attachment["status"], "details": self._details}],
            "containers": [self._part_view(part) for part in self.parts],
            "tags": self.tags if with_tags else [],
            **self.times,
        }
        if "connectivityAt" in self.times:
            said["connectivity"] = "CONNECTED"
        if order.capacity_provider:
            said["capacityProviderName"] = order.capacity_provider
        said["launchType"] = "FARGATE"
        if order.started_by:
            said["startedBy"] = order.started_by
        if self.stop_code:
            said["stopCode"] = self.stop_code
        if self.stopped_reason:
            said["stoppedReason"] = self.stopped_reason
        return said

    def _part_view(self, part: Part) -> dict[str, Any]:
        said: dict[str, Any] = {
            "containerArn": f"{self.arn.replace(':task/', ':container/')}/{part.runtime_id}", "taskArn": self.arn,
            "name": part.name, "image": part.image_name, "lastStatus": part.status, "healthStatus": "UNKNOWN",
            "networkBindings": [], "cpu": str(part.override.get("cpu", part.defined.get("cpu", 0))),
            "networkInterfaces": [{"attachmentId": self._attachment["id"], "privateIpv4Address": self._private}]
            if self._private else [],
        }
        if "pullStoppedAt" in self.times:
            said.update(imageDigest=part.digest, runtimeId=part.runtime_id)
        if part.exit_code is not None and part.status == "STOPPED":
            said["exitCode"] = part.exit_code
        if part.reason:
            said["reason"] = part.reason
        return said

    def summary(self) -> dict[str, Any]:
        """For /_control/tasks."""
        return {"arn": self.arn, "id": self.id, "status": self.last_status, "desired": self.desired_status,
                "stop_code": self.stop_code, "reason": self.stopped_reason, "process": self.alive,
                "sshd_at": self.sshd_at, "times": {name: when.timestamp() for name, when in self.times.items()},
                "private": self._private, "public": self.interface.public if self.interface else "",
                "started_by": self.order.started_by, "definition": self.order.definition["taskDefinitionArn"],
                "tags": {tag["key"]: tag.get("value", "") for tag in self.tags},
                "exit_codes": {part.name: part.exit_code for part in self.parts}}


def _new_host_key() -> str:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True)
        return file.read_text()
