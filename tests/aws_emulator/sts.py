"""STS: who somebody is, and other roles' credentials. IAM: what somebody may do."""

import re
from typing import Any

from aws_emulator.errors import ApiError
from aws_emulator.identity import ACCOUNT, Identity, Key
from aws_emulator.settings import Settings

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$")
_SESSION = re.compile(r"[\w+=,.@-]{2,64}$")


class Sts:
    """The world's lock is held by whoever calls."""

    def __init__(self, identity: Identity, settings: Settings) -> None:
        self._identity = identity
        self._settings = settings
        self.web_tokens = {"web-identity-token"}

    def get_caller_identity(self, key: Key) -> dict[str, Any]:
        return {"UserId": key.user_id, "Account": ACCOUNT, "Arn": key.arn}

    def assume_role(self, key: Key, request: dict[str, Any]) -> dict[str, Any]:
        if self._settings.external_id and request.get("ExternalId") != self._settings.external_id:
            raise ApiError("AccessDenied", f"User: {key.arn} is not authorized to perform: sts:AssumeRole on resource: "
                                           f"{request['RoleArn']}", 403)
        return self._session(request)

    def assume_role_with_web_identity(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["WebIdentityToken"] not in self.web_tokens:
            raise ApiError("InvalidIdentityToken", "The ID Token provided is not a valid JWT.")
        return {**self._session(request), "SubjectFromWebIdentityToken": "emulator"}

    def _session(self, request: dict[str, Any]) -> dict[str, Any]:
        role, name = request["RoleArn"], request["RoleSessionName"]
        if not _ROLE.match(role):
            raise ApiError("ValidationError", f"{role} is invalid")
        if not _SESSION.match(name):
            raise ApiError("ValidationError", f"1 validation error detected: Value '{name}' at 'roleSessionName' failed "
                                              "to satisfy constraint")
        asked = request.get("DurationSeconds", 3600)
        if not 900 <= asked <= 43200:
            raise ApiError("ValidationError", f"Value '{asked}' at 'durationSeconds' failed to satisfy constraint")
        key = self._identity.session(role, name, min(asked, self._settings.session_s or asked))
        return {"Credentials": {"AccessKeyId": key.id, "SecretAccessKey": key.secret, "SessionToken": key.token,
                                "Expiration": key.expires},
                "AssumedRoleUser": {"AssumedRoleId": key.user_id, "Arn": key.arn}}

    # --- IAM

    def simulate_principal_policy(self, request: dict[str, Any]) -> dict[str, Any]:
        arn = request["PolicySourceArn"]
        owned = [key for key in self._identity.keys.values() if _principal(key.arn) == _principal(arn)]
        if not owned:
            raise ApiError("NoSuchEntity", f"{arn} cannot be found.", 404)
        return {"EvaluationResults": [
            {"EvalActionName": action, "EvalResourceName": resource,
             "EvalDecision": "allowed" if owned[-1].may(action) else "implicitDeny"}
            for action in request["ActionNames"] for resource in request.get("ResourceArns", ["*"])]}


def _principal(arn: str) -> str:
    """Role sessions are simulated as their role."""
    found = re.match(r"arn:aws[a-z-]*:sts::(\d+):assumed-role/([^/]+)/", arn)
    return f"arn:aws:iam::{found[1]}:role/{found[2]}" if found else arn
