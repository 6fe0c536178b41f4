"""The environment a container starts with, and what of it comes from elsewhere: secrets and files in S3."""

import json
from typing import Any

from aws_emulator.errors import ApiError
from aws_emulator.identity import ACCOUNT
from aws_emulator.images import PATH, Image
from aws_emulator.rootfs import HOME
from aws_emulator.s3 import S3
from aws_emulator.secretsmanager import SecretsManager


def container_environment(image: Image, defined: dict[str, Any], override: dict[str, Any], secrets: SecretsManager,
                          s3: S3, region: str, task_id: str) -> dict[str, str]:
    """Later ones win: image, files, definition, secrets, override. Raises ApiError with ECS's reason for not starting."""
    found = {"PATH": PATH, **image.environment}
    for file in [*defined.get("environmentFiles", []), *override.get("environmentFiles", [])]:
        found.update(_read_file(s3, file["value"]))
    found.update((pair["name"], pair.get("value", "")) for pair in defined.get("environment", []))
    for secret in defined.get("secrets", []):
        found[secret["name"]] = _read_secret(secrets, secret["valueFrom"])
    found.update((pair["name"], pair.get("value", "")) for pair in override.get("environment", []))
    found.update({"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE", "AWS_REGION": region, "AWS_DEFAULT_REGION": region,
                  "HOSTNAME": hostname(task_id)})
    found.setdefault("HOME", HOME)
    return found


def hostname(task_id: str) -> str:
    return "ip-" + task_id[:12]


def _read_file(s3: S3, arn: str) -> dict[str, str]:
    try:
        text = s3.find(arn).decode()
    except ApiError as error:
        raise ApiError("", "ResourceInitializationError: failed to download env files: file download command: non empty "
                           f"error stream: service call has been retried 1 time(s): {error.code}: {error.message}") from None
    lines = (line.strip("\r") for line in text.split("\n"))
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _read_secret(secrets: SecretsManager, wanted: str) -> str:
    """NAME, or ARN[:JSON-KEY:STAGE:VERSION]."""
    parts = wanted.split(":")
    name, key = (":".join(parts[:7]), parts[7] if len(parts) > 7 else "") if wanted.startswith("arn:") else (wanted, "")
    try:
        text = secrets.find(name).text
        return str(json.loads(text)[key]) if key else text
    except ApiError as error:
        raise ApiError("", "ResourceInitializationError: unable to pull secrets or registry auth: execution resource "
                           "retrieval failed: unable to retrieve secret from asm: service call has been retried 1 "
                           f"time(s): failed to fetch secret {wanted} from secrets manager: {error.code}: "
                           f"{error.message}") from None
    except (ValueError, KeyError, TypeError):
        raise ApiError("", "ResourceInitializationError: unable to pull secrets or registry auth: execution resource "
                           f"retrieval failed: unable to retrieve secret from asm: the secret of account {ACCOUNT} does "
                           f"not contain json key {key}") from None
