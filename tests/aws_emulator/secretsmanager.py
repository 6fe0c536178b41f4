"""Secrets Manager: text under a name."""

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aws_emulator.clock import Clock
from aws_emulator.errors import ApiError
from aws_emulator.identity import ACCOUNT


@dataclass
class Secret:
    name: str
    arn: str
    text: str
    version: str
    made: datetime
    deleted: bool = False


class SecretsManager:
    """The world's lock is held by whoever calls."""

    def __init__(self, region: str) -> None:
        self._region = region
        self.secrets: dict[str, Secret] = {}
        self.actions = {
            "CreateSecret": self.create_secret,
            "DeleteSecret": self.delete_secret,
            "DescribeSecret": self.describe_secret,
            "GetSecretValue": self.get_secret_value,
            "PutSecretValue": self.put_secret_value,
        }

    def find(self, wanted: str) -> Secret:
        """By name, ARN, or ARN without its six last characters."""
        for secret in self.secrets.values():
            if wanted in (secret.name, secret.arn, secret.arn[:-7]):
                if secret.deleted:
                    raise ApiError("InvalidRequestException", "You can't perform this operation on the secret because "
                                                              "it was marked for deletion.")
                return secret
        raise ApiError("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")

    # --- actions

    def create_secret(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["Name"]
        token = request.get("ClientRequestToken") or str(uuid.uuid4())
        if not 32 <= len(token) <= 64:
            raise ApiError("InvalidParameterException", "ClientRequestToken must have 32 to 64 characters")
        old = self.secrets.get(name)
        if old is not None:
            if old.version == token and old.text == request.get("SecretString"):
                return {"ARN": old.arn, "Name": name, "VersionId": token}
            raise ApiError("ResourceExistsException",
                           f"The operation failed because the secret {name} already exists.")
        if "SecretString" not in request:
            raise ApiError("InvalidParameterException", "the emulator keeps text only: give SecretString")
        tail = "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz") for _ in range(6))
        arn = f"arn:aws:secretsmanager:{self._region}:{ACCOUNT}:secret:{name}-{tail}"
        self.secrets[name] = Secret(name, arn, request["SecretString"], token, Clock.date())
        return {"ARN": arn, "Name": name, "VersionId": token}

    def get_secret_value(self, request: dict[str, Any]) -> dict[str, Any]:
        one = self.find(request["SecretId"])
        return {"ARN": one.arn, "Name": one.name, "VersionId": one.version, "SecretString": one.text,
                "VersionStages": ["AWSCURRENT"], "CreatedDate": one.made}

    def put_secret_value(self, request: dict[str, Any]) -> dict[str, Any]:
        one = self.find(request["SecretId"])
        one.text = request["SecretString"]
        one.version = request.get("ClientRequestToken") or str(uuid.uuid4())
        return {"ARN": one.arn, "Name": one.name, "VersionId": one.version, "VersionStages": ["AWSCURRENT"]}

    def describe_secret(self, request: dict[str, Any]) -> dict[str, Any]:
        one = self.find(request["SecretId"])
        return {"ARN": one.arn, "Name": one.name, "CreatedDate": one.made,
                "VersionIdsToStages": {one.version: ["AWSCURRENT"]}}

    def delete_secret(self, request: dict[str, Any]) -> dict[str, Any]:
        one = self.find(request["SecretId"])
        if request.get("ForceDeleteWithoutRecovery"):
            del self.secrets[one.name]
        else:
            one.deleted = True
        return {"ARN": one.arn, "Name": one.name, "DeletionDate": Clock.date()}
