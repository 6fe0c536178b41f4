"""S3: small objects put, read and deleted, with the bucket in the path. No lists, versions or multipart uploads."""

import hashlib
import re
from urllib.parse import unquote, urlsplit

from aws_emulator.errors import ApiError

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")


class S3:
    """The world's lock is held by whoever calls."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, bytes]] = {"sbxfs-bucket": {}}

    @staticmethod
    def action(method: str, target: str) -> str:
        """The name of what is asked for, as IAM and the counters know it."""
        _, key = _split(target)
        names = {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}
        if not key:
            names = {"PUT": "CreateBucket", "HEAD": "HeadBucket", "GET": "ListObjects", "DELETE": "DeleteBucket"}
        return names.get(method, method)

    @staticmethod
    def resource(target: str) -> str:
        bucket, key = _split(target)
        return f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")

    def find(self, arn: str) -> bytes:
        """An object by its ARN, as environmentFiles name it."""
        bucket, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
        if bucket not in self.buckets:
            raise ApiError("NoSuchBucket", "The specified bucket does not exist", 404)
        if key not in self.buckets[bucket]:
            raise ApiError("NoSuchKey", "The specified key does not exist.", 404)
        return self.buckets[bucket][key]

    def serve(self, method: str, target: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        action = self.action(method, target)
        bucket, key = _split(target)
        if action == "CreateBucket":
            if not _BUCKET.match(bucket):
                raise ApiError("InvalidBucketName", "The specified bucket is not valid.")
            self.buckets.setdefault(bucket, {})
            return 200, {"Location": f"/{bucket}"}, b""
        if bucket not in self.buckets:
            raise ApiError("NoSuchBucket", "The specified bucket does not exist", 404)
        objects = self.buckets[bucket]
        if action == "HeadBucket":
            return 200, {}, b""
        if action == "PutObject":
            objects[key] = body
            return 200, {"ETag": _etag(body)}, b""
        if action == "DeleteObject":
            objects.pop(key, None)
            return 204, {}, b""
        if action in ("GetObject", "HeadObject"):
            if key not in objects:
                raise ApiError("NoSuchKey", "The specified key does not exist.", 404)
            return 200, {"ETag": _etag(objects[key]), "Content-Type": "binary/octet-stream"}, objects[key]
        raise ApiError("NotImplemented", f"the emulator does not know {action}", 501)


def _split(target: str) -> tuple[str, str]:
    bucket, _, key = unquote(urlsplit(target).path).lstrip("/").partition("/")
    return bucket, key


def _etag(body: bytes) -> str:
    return '"' + hashlib.md5(body).hexdigest() + '"'
