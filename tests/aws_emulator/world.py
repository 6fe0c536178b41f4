"""One account in one region: its clock, settings, services and tasks, under one lock. A request is served in stages:
faults of the transport, who asks, how often, what, may they, the action itself."""

import random
import shutil
import tempfile
import threading
import traceback
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from aws_emulator import wire
from aws_emulator.clock import Bucket, Clock
from aws_emulator.containers import Containers
from aws_emulator.distance import Distance
from aws_emulator.ecs import Ecs
from aws_emulator.errors import ApiError, Words
from aws_emulator.faults import TRANSPORT, Fault, Faults
from aws_emulator.identity import Identity, Key, read_authorization
from aws_emulator.images import Images
from aws_emulator.logs import Logs
from aws_emulator.models import SERVICES, operation_model, service_model
from aws_emulator.network import Block, Network
from aws_emulator.s3 import S3
from aws_emulator.secretsmanager import SecretsManager
from aws_emulator.settings import Settings
from aws_emulator.sts import Sts

ENTRYPOINT = Path(__file__).resolve().parents[2] / "scripts" / "image" / "entrypoint"
# Which bucket an action draws from.
_BUCKETS = {"ecs:RunTask": "run_task", "ecs:RegisterTaskDefinition": "register", "ecs:StopTask": "stop_task",
            "ecs:DescribeTasks": "ecs_read", "ecs:ListTasks": "ecs_read", "ecs:DescribeTaskDefinition": "ecs_read",
            "ecs:ListTaskDefinitions": "ecs_read", "ec2:DescribeNetworkInterfaces": "ec2_read",
            "logs:FilterLogEvents": "logs_read", "logs:GetLogEvents": "logs_read"}
_TAKEN = ("stall", "truncate")  # faults that there is an answer for
_UNSIGNED = ("sts:AssumeRoleWithWebIdentity",)


@dataclass
class Request:
    method: str
    target: str  # path and query, as they came
    headers: dict[str, str]  # lower-case names
    body: bytes


@dataclass
class Answer:
    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    stall_s: float = 0   # of real time, before it is sent
    reset: bool = False  # the connection is reset instead
    keep: Optional[int] = None  # only so many bytes of it are sent


class World:
    def __init__(self, settings: Settings, scale: float, region: str, block: Optional[int] = None) -> None:
        self.settings = settings
        self.region = region
        self.lock = threading.RLock()
        self.clock = Clock(scale)
        self._block = Block(block)
        self._directory = Path(tempfile.mkdtemp(prefix="sbxfs-aws-"))
        self._random = random.Random(settings.seed)
        self.containers = Containers(self._directory, ENTRYPOINT)
        self.identity = Identity(region)
        self.faults = Faults(settings.seed)
        self.images = Images()
        self.distance = Distance()
        self.network = Network(region, self._block.number)
        self.logs = Logs(self.clock, region, lambda: self.settings.log_empty_pages)
        self.secrets = SecretsManager(region)
        self.s3 = S3()
        self.sts = Sts(self.identity, settings)
        self.ecs = Ecs(self)
        self.calls: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.history: deque[dict[str, Any]] = deque(maxlen=5000)
        self._buckets = {name: Bucket(self.clock, *getattr(settings.rates, name)) for name in set(_BUCKETS.values())}

    def close(self) -> None:
        """Ends every container; nothing stays behind."""
        self.clock.close()
        self.distance.close()
        self.containers.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._block.close()

    # --- for the services

    def later(self, seconds: float, job: Callable[[], Any]) -> None:
        self.clock.after(seconds, self.locked(job))

    def locked(self, job: Callable[..., Any]) -> Callable[..., None]:
        def under_lock(*args: Any) -> None:
            with self.lock:
                job(*args)
        return under_lock

    def draw(self, seconds: Any) -> float:
        """A number, or one between two."""
        return self._random.uniform(*seconds) if isinstance(seconds, (list, tuple)) else float(seconds)

    # --- requests

    def serve(self, request: Request) -> Answer:
        request_id = str(uuid.uuid4())
        service, action = _named(request)
        if not action:
            return Answer(404, "text/plain", b"the emulator knows no such request\n")
        name = f"{service}:{action}"
        with self.lock:
            self.calls[name] += 1
            text = request.body.decode(errors="replace")
            before = self.faults.meet(name, text, TRANSPORT)
            answer = None if before is None else self._disturbed(before, service, request_id)
            if answer is None:
                answer = self._answer(service, action, request, request_id, text)
            after = self.faults.meet(name, text, TRANSPORT, "after")
            for fault in (before if before is not None and before.do in _TAKEN else None, after):
                if fault is not None:
                    answer = self._disturb(answer, fault, service, request_id)
            self.history.append({"time": self.clock.date().isoformat(), "action": name, "status": answer.status,
                                 "reset": answer.reset, "code": answer.headers.get("x-emulator-code", ""),
                                 "key": (read_authorization(request.headers.get("authorization")) or _NOBODY).key})
        answer.headers["x-amzn-requestid"] = request_id
        return answer

    def _answer(self, service: str, action: str, request: Request, request_id: str, text: str) -> Answer:
        try:
            return self._act(service, action, request, request_id, text)
        except ApiError as error:
            return self._refused(service, error, request_id)
        except Exception:  # a mistake of ours: the test shall see it, not hang
            traceback.print_exc()
            return self._refused(service, ApiError("InternalFailure", "the emulator failed: see its stderr", 500), request_id)

    def _act(self, service: str, action: str, request: Request, request_id: str, text: str) -> Answer:
        name, words = f"{service}:{action}", Words(service)
        key = None
        if name not in _UNSIGNED:
            key = self.identity.verify(service, request.method, request.target, request.headers, request.body)
        bucket = _BUCKETS.get(name)
        if bucket is not None and not self._buckets[bucket].take():
            raise words.throttled()
        if service == "s3":
            assert key is not None
            self._allowed(words, key, name, S3.resource(request.target))
            status, headers, body = self.s3.serve(request.method, request.target, request.body)
            return Answer(status, headers.pop("Content-Type", "application/xml"), body, headers)
        operation = operation_model(service, action)
        if operation is None:
            raise ApiError("UnknownOperationException" if service_model(service).protocol == "json" else "InvalidAction",
                           f"there is no action {action}")
        parameters = wire.parse(service, operation, request.body)
        if key is not None:
            self._allowed(words, key, name, _resource(parameters))
        content_type, body = wire.answer(operation, self._do(service, action, key, parameters, text), request_id)
        return Answer(200, content_type, body)

    def _do(self, service: str, action: str, key: Optional[Key], parameters: dict[str, Any], text: str) -> dict[str, Any]:
        if service == "sts" and key is None:
            return self.sts.assume_role_with_web_identity(parameters)
        assert key is not None
        if service == "ecs" and action in self.ecs.actions:
            return self.ecs.actions[action](parameters, key, text)
        if service == "sts" and action == "GetCallerIdentity":
            return self.sts.get_caller_identity(key)
        if service == "sts" and action == "AssumeRole":
            return self.sts.assume_role(key, parameters)
        if service == "iam" and action == "SimulatePrincipalPolicy":
            return self.sts.simulate_principal_policy(parameters)
        others = {"ec2": self.network.actions, "logs": self.logs.actions, "secretsmanager": self.secrets.actions}
        if action in others.get(service, {}):
            return others[service][action](parameters)
        raise ApiError("NotImplemented", f"the emulator does not know {service}:{action}", 501)

    @staticmethod
    def _allowed(words: Words, key: Key, action: str, resource: str) -> None:
        if not key.may(action):
            raise words.denied(key.arn, action, resource)

    def _refused(self, service: str, error: ApiError, request_id: str) -> Answer:
        self.errors[error.code] += 1
        content_type, body = wire.error_answer(service, error, request_id)
        return Answer(error.status, content_type, body, {"x-emulator-code": error.code})

    # --- faults

    def _disturbed(self, fault: Fault, service: str, request_id: str) -> Optional[Answer]:
        """The answer of a call that is not taken at all; None when it is, and something befalls its answer."""
        if fault.do in _TAKEN:
            return None
        return self._disturb(Answer(200, "text/plain", b"{}"), fault, service, request_id)

    def _disturb(self, answer: Answer, fault: Fault, service: str, request_id: str) -> Answer:
        words = Words(service)
        if fault.do == "throttle":
            return self._refused(service, words.throttled(), request_id)
        if fault.do == "unavailable":
            return self._refused(service, words.broken(), request_id)
        if fault.do == "error":
            args = fault.args
            return self._refused(service, ApiError(args["code"], args.get("message", "as the script says"),
                                                   args.get("status", 400)), request_id)
        if fault.do == "stall":
            answer.stall_s = float(fault.args.get("seconds", 3600))
        elif fault.do == "reset":
            answer.reset = True
        elif fault.do == "truncate":
            answer.keep = len(answer.body) // 2
        elif fault.do == "malformed":
            answer.body = str(fault.args.get("body", "<html>not what you asked for</html>")).encode()
        return answer


@dataclass
class _Nobody:
    key: str = ""


_NOBODY = _Nobody()


def _named(request: Request) -> tuple[str, str]:
    """Service and action, as the request itself says."""
    signed = read_authorization(request.headers.get("authorization"))
    service = signed.service if signed else ""
    target = request.headers.get("x-amz-target", "")
    if target:
        prefix, _, action = target.partition(".")
        for one in SERVICES:
            if service_model(one).metadata.get("targetPrefix") == prefix:
                return one, action
        return service, ""
    if service == "s3":
        return service, S3.action(request.method, request.target)
    action = wire.action_of_form(request.body) or ""
    if not signed and action:  # of what may come unsigned there is only this
        service = "sts"
    return service, action if service in SERVICES else ""


def _resource(parameters: dict[str, Any]) -> str:
    """What a call is about, for the words of a refusal."""
    for name in ("taskDefinition", "task", "SecretId", "RoleArn", "logGroupName", "resourceArn", "cluster"):
        if isinstance(parameters.get(name), str):
            return str(parameters[name])
    return "*"
