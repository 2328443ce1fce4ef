"""Dataclasses for `push_model`, and the data that it publishes for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from tidings.models import ModelOptions, Registry, Rule, describe
from tidings.models.versions import VersionOfKind
from tidings.wire.payload import encode_data

NOW = VersionOfKind(1_790_000_000_123_456, "clock:5f3a90c1")


def described(obj: object, rule: Rule | None = None, **shape: Any) -> tuple[dict[str, Any], list[str]]:
    data, channels = describe(
        obj, cast("ModelOptions", shape), rule or Registry().rule(type(obj)), channels=None, fallback=NOW
    )
    encode_data(data)
    return data, channels


def model_of(obj: object, **shape: Any) -> dict[str, Any]:
    model = described(obj, Rule(channels="any:1").with_defaults(Registry().rule(type(obj))), **shape)[0]["model"]
    assert isinstance(model, dict)
    return model


def version_of(obj: object, rule: Rule | None = None, **shape: Any) -> Any:
    return versioned(obj, rule, **shape).value


def versioned(obj: object, rule: Rule | None = None, **shape: Any) -> VersionOfKind:
    data = described(obj, (rule or Rule()).with_defaults(Rule(channels="any:1")), **shape)[0]
    return VersionOfKind(data["version"], data["version_kind"])


@dataclass
class Line:
    sku: str
    secret: str = "s"
    __push_fields__ = ("sku",)


@dataclass
class Order:
    id: int
    customer: str = "ann"
    lines: list[Line] = field(default_factory=list)
    _private: str = "p"
    __channels__: ClassVar[list[str]] = ["orders:{id}", "user:{customer}"]


class ToDict:
    def __init__(self, **values: Any) -> None:
        self.values = values
        self.id = 7

    def to_dict(self) -> dict[str, Any]:
        return self.values


@dataclass
class Thing:
    id: int
    __channels__ = ("things:{id}", "list:things")


class Note:
    """A class without channels."""

    def to_dict(self) -> dict[str, Any]:
        return {"text": "hello"}
