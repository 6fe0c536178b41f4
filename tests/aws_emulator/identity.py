"""Who asks: access keys, what they may do, and SigV4, which is checked with botocore's own signer."""

import fnmatch
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Optional

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from aws_emulator.errors import Words

ACCOUNT = "123456789012"
UNHASHED = ("UNSIGNED-PAYLOAD", "STREAMING-")
_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 +Credential=([^/, ]+)/(\d{8})/([^/, ]+)/([^/, ]+)/aws4_request, *"
                            r"SignedHeaders=([^, ]+), *Signature=([0-9a-f]{64})$")
TOLERATED = timedelta(minutes=5)


@dataclass
class Key:
    """An access key, and what its owner may and may not do ("ecs:RunTask", "iam:PassRole", "ecs:*")."""

    id: str
    secret: str
    arn: str
    token: str = ""  # of temporary ones, which must be sent with them
    expires: Optional[datetime] = None
    allowed: list[str] = field(default_factory=lambda: ["*"])
    denied: list[str] = field(default_factory=list)

    def may(self, action: str) -> bool:
        """Of resources and conditions nothing is known here."""
        matches = lambda patterns: any(fnmatch.fnmatchcase(action, pattern) for pattern in patterns)
        return matches(self.allowed) and not matches(self.denied)

    @property
    def user_id(self) -> str:
        return "AIDA" + self.id[4:] if not self.token else f"AROAEMULATOR:{self.arn.rsplit('/', 1)[-1]}"


@dataclass
class Signed:
    """What the Authorization header says, before anything of it is believed."""

    key: str
    date: str
    region: str
    service: str
    headers: list[str]
    signature: str


def read_authorization(header: Optional[str]) -> Optional[Signed]:
    found = _AUTHORIZATION.match(header or "")
    if not found:
        return None
    key, date, region, service, headers, signature = found.groups()
    return Signed(key, date, region, service, headers.split(";"), signature)


class _Verifier(SigV4Auth):
    """Signs what was signed there, whatever a client of botocore would have chosen to sign."""

    def headers_to_sign(self, request: AWSRequest):  # type: ignore[no-untyped-def]
        return request.headers


class _S3Verifier(S3SigV4Auth):
    def headers_to_sign(self, request: AWSRequest):  # type: ignore[no-untyped-def]
        return request.headers


class Identity:
    """The keys this account has. The world's lock is held by whoever calls."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.skew_s = 0.0  # how far the services' clock is ahead of this machine's
        self.keys: dict[str, Key] = {}
        self.add(Key("AKIDEMULATOR", "secret", f"arn:aws:iam::{ACCOUNT}:user/emulator"))

    def add(self, key: Key) -> Key:
        self.keys[key.id] = key
        return key

    def session(self, role_arn: str, name: str, seconds: float) -> Key:
        """New credentials of an assumed role."""
        role = role_arn.rsplit("/", 1)[-1]
        account = role_arn.split(":")[4] or ACCOUNT
        return self.add(Key("ASIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30),
                            f"arn:aws:sts::{account}:assumed-role/{role}/{name}", token=secrets.token_urlsafe(120),
                            expires=self.now() + timedelta(seconds=seconds)))

    def now(self) -> datetime:
        return datetime.now(timezone.utc) + timedelta(seconds=self.skew_s)

    def verify(self, service: str, method: str, target: str, headers: dict[str, str], body: bytes) -> Key:
        """The key that signed this request, or the refusal AWS would give. `headers`: lower-case names."""
        words = Words(service)
        signed = read_authorization(headers.get("authorization"))
        if signed is None:
            raise words.unsigned()
        key = self.keys.get(signed.key)
        if key is None or not hmac.compare_digest(headers.get("x-amz-security-token", ""), key.token):
            raise words.unknown_key()
        stamp = headers.get("x-amz-date", "")
        self._check_scope(words, signed, service, stamp)
        missing = [name for name in ("host", "x-amz-date") if name not in signed.headers]
        missing += [name for name in headers if name.startswith("x-amz-") and name not in signed.headers]
        if missing or any(name not in headers for name in signed.headers):
            raise words.wrong_signature(f"'{(missing or signed.headers)[0]}' must be a 'SignedHeader' in the AWS "
                                        "Authorization.")
        said = headers.get("x-amz-content-sha256")
        hashed = hashlib.sha256(body).hexdigest()
        if said is not None and not said.startswith(UNHASHED) and said != hashed:
            raise words.wrong_signature("The provided 'x-amz-content-sha256' header does not match what was computed.")
        if not hmac.compare_digest(self._signature(signed, key, method, target, headers, body), signed.signature):
            raise words.wrong_signature("The request signature we calculated does not match the signature you provided. "
                                        "Check your AWS Secret Access Key and signing method. Consult the service "
                                        "documentation for details.")
        if key.expires is not None and self.now() >= key.expires:
            raise words.expired()
        return key

    def _check_scope(self, words: Words, signed: Signed, service: str, stamp: str) -> None:
        if signed.region != self.region:
            raise words.wrong_signature(f"Credential should be scoped to a valid region, not '{signed.region}'. ")
        if signed.service != service:
            raise words.wrong_signature(f"Credential should be scoped to correct service: '{service}'. ")
        try:
            at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        except ValueError:
            raise words.wrong_signature(f"Date must be in ISO-8601 'basic format'. Got '{stamp}'.") from None
        if not stamp.startswith(signed.date):
            raise words.wrong_signature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
                                        f"from HTTP: '{signed.date}' != '{stamp[:8]}', from '{stamp}'.")
        now = self.now()
        if at < now - TOLERATED:
            raise words.skewed(f"Signature expired: {stamp} is now earlier than {_basic(now - TOLERATED)} "
                               f"({_basic(now)} - 5 min.)")
        if at > now + TOLERATED:
            raise words.skewed(f"Signature not yet current: {stamp} is still later than {_basic(now + TOLERATED)} "
                               f"({_basic(now)} + 5 min.)")

    @staticmethod
    def _signature(signed: Signed, key: Key, method: str, target: str, headers: dict[str, str], body: bytes) -> str:
        request = AWSRequest(method=method, url=f"http://{headers['host']}{target}", data=body,
                             headers={name: headers[name] for name in signed.headers})
        request.context["timestamp"] = headers["x-amz-date"]
        verifier = _S3Verifier if signed.service == "s3" else _Verifier
        signer = verifier(Credentials(key.id, key.secret, key.token or None), signed.service, signed.region)
        return str(signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request))


def _basic(at: datetime) -> str:
    return at.strftime("%Y%m%dT%H%M%SZ")
