"""The protocols: requests into the parameters of an action, results into bytes. JSON 1.1 (ECS, Logs, Secrets Manager),
Query and EC2 (STS, IAM, EC2), all by the shapes of the models. S3, which has a protocol of its own, is in s3.py."""

import base64
import json
from datetime import datetime, timezone
from typing import Any, Optional
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.model import OperationModel, Shape

from aws_emulator.errors import ApiError, Words
from aws_emulator.models import complaints


def parse(service: str, operation: OperationModel, body: bytes) -> dict[str, Any]:
    """The request's parameters, checked against the model."""
    if operation.service_model.protocol == "json":
        parameters = _parse_json(body)
    else:
        parameters = _QueryReader(operation, body).read()
    wrong = complaints(parameters, operation.input_shape)
    if wrong:
        if "Invalid type for parameter" in wrong and operation.service_model.protocol == "json":
            raise ApiError("SerializationException", wrong)
        raise Words(service).invalid(wrong, missing="Missing required parameter" in wrong)
    return parameters


def answer(operation: OperationModel, result: dict[str, Any], request_id: str) -> tuple[str, bytes]:
    """Content type and body. A result that the model does not know is our own mistake."""
    wrong = complaints(result, operation.output_shape, words=False)  # a script may have made up a stopCode
    assert not wrong, f"the emulator's answer to {operation.name} is not as the model says: {wrong}"
    protocol = operation.service_model.protocol
    if protocol == "json":
        return "application/x-amz-json-1.1", json.dumps(_plain(result)).encode()
    inner = "".join(_xml_members(result, operation.output_shape, protocol)) if operation.output_shape else ""
    space = operation.metadata.get("xmlNamespace", f"http://amazonaws.com/doc/{operation.service_model.api_version}/")
    name = f"{operation.name}Response"
    if protocol == "ec2":
        text = f'<{name} xmlns="{space}"><requestId>{request_id}</requestId>{inner}</{name}>'
    else:
        text = (f'<{name} xmlns="{space}"><{operation.name}Result>{inner}</{operation.name}Result>'
                f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}>")
    return "text/xml;charset=UTF-8", ('<?xml version="1.0" encoding="UTF-8"?>\n' + text).encode()


def error_answer(service: str, error: ApiError, request_id: str) -> tuple[str, bytes]:
    if service in ("ecs", "logs", "secretsmanager"):
        said = {"__type": error.code, "message": error.message, **error.members}
        return "application/x-amz-json-1.1", json.dumps(said).encode()
    code, message = escape(error.code), escape(error.message)
    if service == "ec2":
        text = (f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
                f"<RequestID>{request_id}</RequestID></Response>")
    elif service == "s3":
        text = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request_id}</RequestId></Error>"
    else:
        kind = "Receiver" if error.status >= 500 else "Sender"
        text = (f"<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>"
                f"<RequestId>{request_id}</RequestId></ErrorResponse>")
    return "text/xml;charset=UTF-8", ('<?xml version="1.0" encoding="UTF-8"?>\n' + text).encode()


def _parse_json(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body or b"{}")
    except ValueError as error:
        raise ApiError("SerializationException", f"the request is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ApiError("SerializationException", "the request is not a JSON object")
    return parsed


def _plain(value: Any) -> Any:
    """Times as JSON 1.1 has them: seconds since 1970, with milliseconds."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if isinstance(value, datetime):
        return round(value.timestamp(), 3)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


class _QueryReader:
    """Form fields such as Filter.1.Value.2, by the operation's input shape. Each field must be meant by something."""

    def __init__(self, operation: OperationModel, body: bytes) -> None:
        try:
            self._fields = dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, strict_parsing=True))
        except ValueError as error:
            raise ApiError("MalformedQueryString", str(error)) from error
        self._operation = operation
        self._ec2 = operation.service_model.protocol == "ec2"
        self._read = {"Action", "Version"}

    def read(self) -> dict[str, Any]:
        version = self._operation.service_model.api_version
        if self._fields.get("Version") != version:
            raise ApiError("InvalidAction", f"Could not find operation {self._operation.name} for version "
                                            f"{self._fields.get('Version', 'NO_VERSION_SPECIFIED')}")
        shape = self._operation.input_shape
        parameters = self._value(shape, "") if shape is not None else {}
        unknown = sorted(set(self._fields) - self._read)
        if unknown:
            code = "UnknownParameter" if self._ec2 else "ValidationError"
            raise ApiError(code, f"The parameter {unknown[0]} is not recognized")
        return parameters

    def _has(self, prefix: str) -> bool:
        return any(field == prefix or field.startswith(prefix + ".") for field in self._fields)

    def _value(self, shape: Shape, prefix: str) -> Any:
        if shape.type_name == "structure":
            return self._structure(shape, prefix)
        if shape.type_name == "list":
            return self._list(shape, prefix)
        self._read.add(prefix)
        return _scalar(shape, prefix, self._fields.get(prefix, ""))

    def _structure(self, shape: Shape, prefix: str) -> dict[str, Any]:
        found = {}
        for name, member in shape.members.items():
            key = self._name(name, member)
            key = f"{prefix}.{key}" if prefix else key
            if self._has(key):
                found[name] = self._value(member, key)
        return found

    def _list(self, shape: Shape, prefix: str) -> list[Any]:
        if not self._ec2 and not shape.serialization.get("flattened"):
            prefix += "." + shape.member.serialization.get("name", "member")
        found: list[Any] = []
        while self._has(f"{prefix}.{len(found) + 1}"):
            found.append(self._value(shape.member, f"{prefix}.{len(found) + 1}"))
        return found

    def _name(self, name: str, shape: Shape) -> str:
        words = shape.serialization
        if not self._ec2:
            return str(words.get("name", name))
        if "queryName" in words:
            return str(words["queryName"])
        own = str(words.get("name", name))
        return own[0].upper() + own[1:]


def _scalar(shape: Shape, name: str, text: str) -> Any:
    try:
        if shape.type_name in ("integer", "long"):
            return int(text)
        if shape.type_name in ("float", "double"):
            return float(text)
        if shape.type_name == "boolean":
            return {"true": True, "false": False}[text.lower()]
        if shape.type_name == "timestamp":
            return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, KeyError) as error:
        raise ApiError("InvalidParameterValue", f"{name}: '{text}' is no {shape.type_name}") from error
    return text


def _xml_members(value: dict[str, Any], shape: Shape, protocol: str) -> list[str]:
    parts = []
    for name, member in value.items():
        own = shape.members[name]
        parts += _xml(member, own, own.serialization.get("name", name), protocol)
    return parts


def _xml(value: Any, shape: Shape, name: str, protocol: str) -> list[str]:
    if shape.type_name == "structure":
        return [f"<{name}>", *_xml_members(value, shape, protocol), f"</{name}>"]
    if shape.type_name == "list":
        item = shape.member.serialization.get("name", "member")
        inner = [part for member in value for part in _xml(member, shape.member, item, protocol)]
        return [f"<{name}>", *inner, f"</{name}>"]
    return [f"<{name}>{escape(_text(value))}</{name}>"]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def action_of_form(body: bytes) -> Optional[str]:
    """The Action of a request in the Query or EC2 protocol."""
    try:
        return dict(parse_qsl(body.decode("utf-8"))).get("Action")
    except ValueError:
        return None
