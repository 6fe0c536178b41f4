"""The rules of ECS tags."""

import re
from typing import Any

from aws_emulator.errors import ApiError

_ALLOWED = re.compile(r"[\w\s+\-=._:/@]*$")


def check(tags: list[dict[str, Any]], most: int = 50) -> None:
    if len(tags) > most:
        raise ApiError("InvalidParameterException", f"Tags can not have more than {most} elements.")
    keys = [tag.get("key", "") for tag in tags]
    if len(set(keys)) != len(keys):
        raise ApiError("InvalidParameterException", "Duplicate tag keys found. Please note that Tag keys are case "
                                                    "insensitive.")
    for tag in tags:
        key, value = tag.get("key", ""), tag.get("value", "")
        if not 1 <= len(key) <= 128:
            raise ApiError("InvalidParameterException", "Tag key length must be between 1 and 128 characters.")
        if len(value) > 256:
            raise ApiError("InvalidParameterException", "Tag value length must be at most 256 characters.")
        if key.lower().startswith("aws:"):
            raise ApiError("InvalidParameterException", "Tag keys can not start with 'aws:'.")
        if not _ALLOWED.match(key) or not _ALLOWED.match(value):
            raise ApiError("InvalidParameterException", "Tags can only contain unicode letters, digits, white spaces "
                                                        "and these special characters '_.:/=+-@'.")


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    values = {tag["key"]: tag.get("value", "") for tag in [*old, *new]}
    check([{"key": key, "value": value} for key, value in values.items()])
    return [{"key": key, "value": value} for key, value in values.items()]
