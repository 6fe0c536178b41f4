"""CloudWatch Logs: groups, streams, lines. A line can be read some seconds after it was printed."""

import itertools
import re
from dataclasses import dataclass, field
from typing import Any, Callable

from aws_emulator.clock import Clock
from aws_emulator.errors import ApiError
from aws_emulator.identity import ACCOUNT

_NAME = re.compile(r"[\.\-_/#A-Za-z0-9]{1,512}$")


@dataclass
class Line:
    id: int
    stream: str
    at_ms: int
    text: str
    visible_at: float  # of the services' clock


@dataclass
class Group:
    made_ms: int
    streams: dict[str, int] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)


class Logs:
    """The world's lock is held by whoever calls."""

    def __init__(self, clock: Clock, region: str, empty_pages: Callable[[], int]) -> None:
        self._clock = clock
        self._region = region
        self._empty_pages = empty_pages
        self._numbers = itertools.count(1)
        self.groups: dict[str, Group] = {}
        self.actions = {
            "CreateLogGroup": self.create_log_group,
            "CreateLogStream": self.create_log_stream,
            "DeleteLogGroup": self.delete_log_group,
            "DescribeLogGroups": self.describe_log_groups,
            "FilterLogEvents": self.filter_log_events,
            "GetLogEvents": self.get_log_events,
        }

    def _now_ms(self) -> int:
        return int(self._clock.date().timestamp() * 1000)

    def add(self, group: str, stream: str, text: str, delay: float) -> None:
        """A line of a container."""
        if group in self.groups:
            self.groups[group].streams.setdefault(stream, self._now_ms())
            self.groups[group].lines.append(Line(next(self._numbers), stream, self._now_ms(), text,
                                                 self._clock.now() + delay))

    def _group(self, name: str) -> Group:
        if name not in self.groups:
            raise ApiError("ResourceNotFoundException", "The specified log group does not exist.")
        return self.groups[name]

    # --- actions

    def create_log_group(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["logGroupName"]
        if not _NAME.match(name):
            raise ApiError("InvalidParameterException", f"the log group name '{name}' is not allowed")
        if name in self.groups:
            raise ApiError("ResourceAlreadyExistsException", "The specified log group already exists")
        self.groups[name] = Group(self._now_ms())
        return {}

    def delete_log_group(self, request: dict[str, Any]) -> dict[str, Any]:
        self._group(request["logGroupName"])
        del self.groups[request["logGroupName"]]
        return {}

    def create_log_stream(self, request: dict[str, Any]) -> dict[str, Any]:
        group = self._group(request["logGroupName"])
        if request["logStreamName"] in group.streams:
            raise ApiError("ResourceAlreadyExistsException", "The specified log stream already exists")
        group.streams[request["logStreamName"]] = self._now_ms()
        return {}

    def describe_log_groups(self, request: dict[str, Any]) -> dict[str, Any]:
        prefix = request.get("logGroupNamePrefix", "")
        return {"logGroups": [{"logGroupName": name, "creationTime": group.made_ms, "storedBytes": 0,
                               "arn": f"arn:aws:logs:{self._region}:{ACCOUNT}:log-group:{name}:*"}
                              for name, group in sorted(self.groups.items()) if name.startswith(prefix)]}

    def get_log_events(self, request: dict[str, Any]) -> dict[str, Any]:
        group = self._group(request["logGroupName"])
        stream = request["logStreamName"]
        if stream not in group.streams:
            raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
        lines = [line for line in self._visible(group, request) if line.stream == stream]
        limit = request.get("limit", 10000)
        token = request.get("nextToken", "")
        head = request.get("startFromHead", False)
        start = int(token[2:]) if token[:2] in ("f/", "b/") else (0 if head else max(0, len(lines) - limit))
        if token.startswith("b/"):
            start = max(0, start - limit)
        page = lines[start:start + limit]
        return {"events": [{"timestamp": line.at_ms, "message": line.text, "ingestionTime": line.at_ms} for line in page],
                "nextForwardToken": f"f/{start + len(page)}", "nextBackwardToken": f"b/{start}"}

    def filter_log_events(self, request: dict[str, Any]) -> dict[str, Any]:
        group = self._group(request["logGroupName"])
        if "logStreamNames" in request and "logStreamNamePrefix" in request:
            raise ApiError("InvalidParameterException", "logStreamNames and logStreamNamePrefix exclude each other")
        names = request.get("logStreamNames")
        prefix = request.get("logStreamNamePrefix", "")
        wanted = pattern(request.get("filterPattern", ""))
        found = [line for line in self._visible(group, request)
                 if (names is None or line.stream in names) and line.stream.startswith(prefix) and wanted(line.text)]
        limit = request.get("limit", 10000)
        empty, _, start_text = request.get("nextToken", f"{self._empty_pages()}/0").partition("/")
        if int(empty) > 0:
            return {"events": [], "searchedLogStreams": [], "nextToken": f"{int(empty) - 1}/{start_text}"}
        start = int(start_text)
        answer: dict[str, Any] = {"searchedLogStreams": [], "events": [
            {"logStreamName": line.stream, "timestamp": line.at_ms, "message": line.text, "ingestionTime": line.at_ms,
             "eventId": str(line.id)} for line in found[start:start + limit]]}
        if start + limit < len(found):
            answer["nextToken"] = f"0/{start + limit}"
        return answer

    def _visible(self, group: Group, request: dict[str, Any]) -> list[Line]:
        now = self._clock.now()
        since, until = request.get("startTime", 0), request.get("endTime", 1 << 62)
        return sorted((line for line in group.lines if line.visible_at <= now and since <= line.at_ms < until),
                      key=lambda line: (line.at_ms, line.id))


def pattern(text: str) -> Callable[[str], bool]:
    """CloudWatch's unstructured filter patterns: all of the terms, none of those after `-`, one of those after `?`.
    JSON and space-delimited patterns are not known here."""
    if text.lstrip()[:1] in ("{", "["):
        raise ApiError("InvalidParameterException", "the emulator knows no JSON and no space-delimited patterns")
    every, none, some = [], [], []
    for sign, quoted, bare in re.findall(r'([-?]?)(?:"((?:[^"\\]|\\.)*)"|(\S+))', text):
        if bare and not re.match(r"\w+$", bare):
            raise ApiError("InvalidParameterException", f"Invalid character(s) in term '{bare}'")
        {"": every, "-": none, "?": some}[sign].append(quoted.replace('\\"', '"') or bare)
    return lambda line: (all(term in line for term in every) and not any(term in line for term in none)
                         and (not some or any(term in line for term in some)))
