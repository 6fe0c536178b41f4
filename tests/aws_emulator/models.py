"""The services' own models, as botocore carries them, completed where an older botocore lacks what sbxfs uses. What a
request must look like and what an answer must look like is decided here and nowhere else."""

import copy
from functools import lru_cache
from typing import Any, Optional

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.validate import ParamValidator

SERVICES = ("ecs", "ec2", "iam", "logs", "s3", "secretsmanager", "sts")

# RunTask's clientToken and its conflict came with botocore 1.31.
_CONFLICT = {
    "type": "structure",
    "members": {"resourceIds": {"shape": "ResourceIds"}, "message": {"shape": "String"}},
    "exception": True,
}


def _complete_ecs(model: dict[str, Any]) -> None:
    shapes = model["shapes"]
    shapes.setdefault("ResourceIds", {"type": "list", "member": {"shape": "String"}})
    shapes.setdefault("ConflictException", _CONFLICT)
    shapes["RunTaskRequest"]["members"].setdefault("clientToken", {"shape": "String", "idempotencyToken": True})
    errors = model["operations"]["RunTask"].setdefault("errors", [])
    if {"shape": "ConflictException"} not in errors:
        errors.append({"shape": "ConflictException"})


class CompletedLoader(Loader):
    """botocore's loader, for clients too: `session.register_component("data_loader", CompletedLoader())`."""

    def __init__(self) -> None:
        super().__init__()
        self._completed: dict[tuple[str, Optional[str]], Any] = {}

    def load_service_model(self, service_name: str, type_name: str, api_version: Optional[str] = None) -> Any:
        model = super().load_service_model(service_name, type_name, api_version)
        if (service_name, type_name) != ("ecs", "service-2"):
            return model
        key = (service_name, api_version)
        if key not in self._completed:
            self._completed[key] = copy.deepcopy(model)
            _complete_ecs(self._completed[key])
        return self._completed[key]


_loader = CompletedLoader()


@lru_cache(maxsize=None)
def service_model(service: str) -> ServiceModel:
    return ServiceModel(_loader.load_service_model(service, "service-2"), service)


@lru_cache(maxsize=None)
def operation_model(service: str, name: str) -> Optional[OperationModel]:
    model = service_model(service)
    return model.operation_model(name) if name in model.operation_names else None


def complaints(value: Any, shape: Optional[Shape], words: bool = True) -> str:
    """What of `value` is not as the shape says: a missing or unknown member, a wrong type, with `words` also a word that
    is not among those allowed. Empty when all is well. Unknown members are complained about although AWS ignores most
    of them: somebody meant something by them."""
    if shape is None:
        return "" if not value else "no parameters are expected"
    report = ParamValidator().validate(value, shape)
    if report.has_errors():
        return str(report.generate_report())
    return "; ".join(_wrong_words(value, shape, shape.name)) if words else ""


def _wrong_words(value: Any, shape: Shape, path: str) -> list[str]:
    if shape.type_name == "structure":
        return [wrong for name, member in value.items()
                for wrong in _wrong_words(member, shape.members[name], f"{path}.{name}")]
    if shape.type_name == "list":
        return [wrong for index, member in enumerate(value)
                for wrong in _wrong_words(member, shape.member, f"{path}[{index}]")]
    if shape.type_name == "string" and shape.enum and value not in shape.enum:
        return [f"{path}: '{value}' is not one of {', '.join(shape.enum)}"]
    return []
