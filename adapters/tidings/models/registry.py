"""What `push_model` says about an object: its class, its fields, its version, and to whom.

Rules for a class come, nearest first, from the emitter's own registry, from the
registry of the whole process (`register`), and from the class itself
(`__channels__`, `__push_fields__`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from string import Formatter
from typing import Any, Literal, TypedDict, get_args

from tidings.errors import BadChannel, BadData, BadRequest
from tidings.models.snapshots import Snapshot, snapshot
from tidings.wire.channels import check_channels

Op = Literal["created", "updated", "deleted"]
Version = int | float | str | datetime
# Any: the caller's own class; a registered function is only ever called with an instance of it.
Channels = str | Iterable[str] | Callable[[Any], str | Iterable[str]]

_OPS: tuple[str, ...] = get_args(Op)
_START = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ModelOptions(TypedDict, total=False):
    """The options of `push_model` that say what of the object is sent.

    `op`: "created", "updated" (the default) or "deleted". `fields`: only these.
    `exclude`: all but these. `version`: see `describe`. `id`: the publication's id.
    """

    op: Op
    fields: Iterable[str] | None
    exclude: Iterable[str] | None
    version: Version | None
    id: str | None


@dataclass(frozen=True, slots=True)
class Rule:
    """How objects of one class are pushed; None: not said here."""

    channels: Channels | None = None
    fields: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    version: str | Callable[[Any], Version] | None = None

    def with_defaults(self, other: Rule) -> Rule:
        """This rule, completed by `other` where it says nothing."""
        return Rule(
            other.channels if self.channels is None else self.channels,
            other.fields if self.fields is None else self.fields,
            other.exclude if self.exclude is None else self.exclude,
            other.version if self.version is None else self.version,
        )


class Registry:
    """Rules by class; a subclass inherits. Rules of `parent` count after all of its own."""

    def __init__(self, parent: Registry | None = None) -> None:
        self._parent = parent
        self._rules: dict[type, Rule] = {}

    def register(
        self,
        cls: type,
        *,
        channels: Channels | None = None,
        fields: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        version: str | Callable[[Any], Version] | None = None,
    ) -> None:
        """Say how objects of `cls` and of its subclasses are pushed.

        `channels`: templates such as "orders:{id}", or a function of the object that
        returns channels. `fields` and `exclude`: names of fields. `version`: the name of
        an attribute, or a function of the object. Registering again replaces.

        Raises:
            BadRequest: `cls` is not a class.
        """
        if not isinstance(cls, type):
            raise BadRequest(f"not a class: {type(cls).__name__}; register(Order, channels=…)")
        self._rules[cls] = Rule(
            channels if channels is None or callable(channels) else _templates(channels),
            None if fields is None else _names(fields, "fields"),
            None if exclude is None else _names(exclude, "exclude"),
            version,
        )

    def rule(self, cls: type) -> Rule:
        """The rule for one class, from all places that say something about it."""
        own = getattr(cls, "__push_fields__", None)
        said = Rule(
            channels=getattr(cls, "__channels__", None),
            fields=None if own is None else _names(own, "__push_fields__"),
        )
        return self._registered(cls).with_defaults(said)

    def _registered(self, cls: type) -> Rule:
        rule = Rule()
        for ancestor in cls.__mro__:
            if found := self._rules.get(ancestor):
                rule = rule.with_defaults(found)
        return rule if self._parent is None else rule.with_defaults(self._parent._registered(cls))  # noqa: SLF001


SHARED = Registry()
register = SHARED.register


def describe(
    obj: object, shape: ModelOptions, rule: Rule, *, channels: list[str] | None, now_us: int
) -> tuple[dict[str, object], list[str]]:
    """The data of the event `updated_model`, and the channels that it goes to.

    Data: `{"class": str, "model": {field: value}, "op": str, "version": int | float | str}`.
    The version is, first found: the option; what the rule names; SQLAlchemy's
    `version_id_col`; an integer attribute `version`; an attribute `updated_at`; `now_us`.
    A datetime becomes an integer, microseconds since 1970 (a naive one counts as UTC), so that it
    compares with the clock's. Whoever receives it keeps what it has if that is of a higher version.

    Raises:
        BadData: not a model, an attribute that cannot be read without a query, a
            version that cannot be compared.
        BadRequest: an unknown op or field.
        BadChannel: no channels, or a template that the object cannot fill.
        TypeError: an option that does not exist.
    """
    if unknown := shape.keys() - ModelOptions.__annotations__.keys():
        raise TypeError(f"push_model() got unexpected options: {', '.join(sorted(unknown))}")
    op = shape.get("op", "updated")
    if op not in _OPS:
        raise BadRequest(f"not an op: {op!a:.40}; one of {', '.join(_OPS)}")
    found = snapshot(obj, deleted=op == "deleted")
    fields, exclude = shape.get("fields"), shape.get("exclude")
    model = found.select_fields(
        rule.fields if fields is None else _names(fields, "fields"),
        {*(rule.exclude or ()), *(() if exclude is None else _names(exclude, "exclude"))},
    )
    version = _version(obj, found, shape.get("version"), rule, now_us)
    data: dict[str, object] = {"class": found.name, "model": model, "op": op, "version": version}
    return data, _channels(obj, found, rule) if channels is None else channels


def _names(names: Iterable[str], what: str) -> tuple[str, ...]:
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise BadRequest(f"{what} must be a list of names of fields")
    found = tuple(names)
    if not all(isinstance(name, str) for name in found):
        raise BadRequest(f"{what} must be a list of names of fields")
    return found


def _templates(templates: str | Iterable[str]) -> tuple[str, ...]:
    return (templates,) if isinstance(templates, str) else tuple(templates)


def _channels(obj: object, found: Snapshot, rule: Rule) -> list[str]:
    said = rule.channels
    if said is None:
        raise BadChannel(
            f"no channel for a {found.name}: give channel=, or set {found.name}.__channels__ = ['name:{{id}}'], "
            "or register it; nothing is ever sent to everyone"
        )
    if callable(said):
        answer = said(obj)
        return check_channels((answer,) if isinstance(answer, str) else answer)
    return check_channels([_filled(template, found) for template in _templates(said)])


def _filled(template: object, found: Snapshot) -> str:
    """The channel that a template such as "orders:{id}" gives for one object."""
    if not isinstance(template, str):
        raise BadChannel(f"__channels__ of {found.name} holds a {type(template).__name__}; it is a list of templates")
    channel = []
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise BadChannel(f"not a template: {template!a:.60}: {error}") from error
    for text, name, form, conversion in parsed:
        channel.append(text)
        if name is None:
            continue
        # Dots, indices and conversions could load related rows or call code in silence.
        if not name.isidentifier() or form or conversion:
            raise BadChannel(f"not a template: {template!a:.60}; only {{name}} is allowed, or register a function")
        channel.append(_part(template, name, found))
    return "".join(channel)


def _part(template: str, name: str, found: Snapshot) -> str:
    value = found.read(name)
    value = value.value if isinstance(value, Enum) else value
    text = "" if value is None else str(value)
    if not text:
        raise BadChannel(
            f"{template!a:.60}: {name} of this {found.name} is {value!r}; "
            "push after it was saved and before it was deleted, or give channel="
        )
    return text


def _version(obj: object, found: Snapshot, given: Version | None, rule: Rule, now_us: int) -> int | float | str:
    if given is not None:
        return _comparable(given, "version")
    if callable(rule.version):
        return _comparable(rule.version(obj), f"the version of {found.name}")
    named = rule.version or found.version_name
    if named is not None:
        return _comparable(found.read(named), f"{found.name}.{named}")
    version = found.read_if_present("version")
    # A version that is text ("1.10") belongs to the application and need not grow.
    if isinstance(version, int) and not isinstance(version, bool):
        return version
    updated_at = found.read_if_present("updated_at")
    if isinstance(updated_at, datetime) or (isinstance(updated_at, int) and not isinstance(updated_at, bool)):
        return _comparable(updated_at, f"{found.name}.updated_at")
    return now_us


def _comparable(version: object, what: str) -> int | float | str:
    if isinstance(version, datetime):
        at = version.replace(tzinfo=UTC) if version.tzinfo is None else version
        return (at - _START) // _MICROSECOND
    if isinstance(version, int | float | str) and not isinstance(version, bool) and _finite(version):
        return version
    raise BadData(f"{what} is {version!a:.40}; a version is a number, a string or a datetime that grows")


def _finite(version: float | str) -> bool:
    return not isinstance(version, float) or math.isfinite(version)
