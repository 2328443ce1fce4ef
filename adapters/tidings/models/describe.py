"""What `push_model` publishes about an object: its class, its fields, its version, and in which channels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import Enum
from string import Formatter
from typing import Literal, TypedDict, get_args

from tidings.errors import BadChannel, BadData, BadRequest
from tidings.models.rules import Rule, Version, channel_templates, field_names
from tidings.models.snapshots import Snapshot, snapshot
from tidings.wire.channels import check_channels

Op = Literal["created", "updated", "deleted"]

_OPS: tuple[str, ...] = get_args(Op)
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ModelOptions(TypedDict, total=False):
    """The options of `push_model` that determine what of the object is sent.

    `op`: "created", "updated" (the default) or "deleted". `fields`: only these.
    `exclude`: all but these. `version`: see `describe`. `id`: the publication's id.
    """

    op: Op
    fields: Iterable[str] | None
    exclude: Iterable[str] | None
    version: Version | None
    id: str | None


def describe(
    obj: object, options: ModelOptions, rule: Rule, *, channels: list[str] | None, now_us: int
) -> tuple[dict[str, object], list[str]]:
    """The data of the event `updated_model`, and the channels that it goes to.

    Data: `{"class": str, "model": {field: value}, "op": str, "version": int | float | str}`.
    The version is the first of these that exists: the option, the rule's version, SQLAlchemy's `version_id_col`, an
    integer attribute `version`, an attribute `updated_at`, `now_us`.
    A datetime becomes microseconds since 1970, an integer that compares with the clock's. A naive one counts as UTC.
    A receiver discards the event if it has a higher version.

    Raises:
        BadData: not a model, an attribute that cannot be read without a query, a
            version that cannot be compared.
        BadRequest: an unknown op or field.
        BadChannel: no channels, or a template that the object cannot fill.
        TypeError: an option that does not exist.
    """
    if unknown := options.keys() - ModelOptions.__annotations__.keys():
        raise TypeError(f"push_model() got unexpected options: {', '.join(sorted(unknown))}")
    op = options.get("op", "updated")
    if op not in _OPS:
        raise BadRequest(f"not an op: {op!a:.40}; one of {', '.join(_OPS)}")
    state = snapshot(obj, deleted=op == "deleted")
    fields, exclude = options.get("fields"), options.get("exclude")
    model = state.select_fields(
        rule.fields if fields is None else field_names(fields, "fields"),
        {*(rule.exclude or ()), *(() if exclude is None else field_names(exclude, "exclude"))},
    )
    version = _version(obj, state, options.get("version"), rule, now_us)
    data: dict[str, object] = {"class": state.name, "model": model, "op": op, "version": version}
    return data, _channels(obj, state, rule) if channels is None else channels


def _channels(obj: object, state: Snapshot, rule: Rule) -> list[str]:
    channels = rule.channels
    if channels is None:
        raise BadChannel(
            f"no channel for a {state.name}: give channel=, or set {state.name}.__channels__ = ['name:{{id}}'], "
            "or register it; nothing is ever sent to everyone"
        )
    if callable(channels):
        result = channels(obj)
        return check_channels((result,) if isinstance(result, str) else result)
    return check_channels([_fill(template, state) for template in channel_templates(channels)])


def _fill(template: object, state: Snapshot) -> str:
    """The channel that a template such as "orders:{id}" gives for one object."""
    if not isinstance(template, str):
        raise BadChannel(f"__channels__ of {state.name} holds a {type(template).__name__}; it is a list of templates")
    channel = []
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise BadChannel(f"not a template: {template!a:.60}: {error}") from error
    for text, name, form, conversion in parsed:
        channel.append(text)
        if name is None:
            continue
        # Dots, indices and conversions could load related rows or run code.
        if not name.isidentifier() or form or conversion:
            raise BadChannel(f"not a template: {template!a:.60}; only {{name}} is allowed, or register a function")
        channel.append(_field_text(template, name, state))
    return "".join(channel)


def _field_text(template: str, name: str, state: Snapshot) -> str:
    value = state.read(name)
    value = value.value if isinstance(value, Enum) else value
    text = "" if value is None else str(value)
    if not text:
        raise BadChannel(
            f"{template!a:.60}: {name} of this {state.name} is {value!r}; "
            "push after it was saved and before it was deleted, or give channel="
        )
    return text


def _version(obj: object, state: Snapshot, option: Version | None, rule: Rule, now_us: int) -> int | float | str:
    if option is not None:
        return _comparable(option, "version")
    if callable(rule.version):
        return _comparable(rule.version(obj), f"the version of {state.name}")
    attribute = rule.version or state.version_name
    if attribute is not None:
        return _comparable(state.read(attribute), f"{state.name}.{attribute}")
    version = state.read_if_present("version")
    # A version that is text ("1.10") belongs to the application and may not grow.
    if isinstance(version, int) and not isinstance(version, bool):
        return version
    updated_at = state.read_if_present("updated_at")
    if isinstance(updated_at, datetime) or (isinstance(updated_at, int) and not isinstance(updated_at, bool)):
        return _comparable(updated_at, f"{state.name}.updated_at")
    return now_us


def _comparable(version: object, source: str) -> int | float | str:
    if isinstance(version, datetime):
        at = version.replace(tzinfo=UTC) if version.tzinfo is None else version
        return (at - _UNIX_EPOCH) // _MICROSECOND
    if isinstance(version, int | float | str) and not isinstance(version, bool) and _finite(version):
        return version
    raise BadData(f"{source} is {version!a:.40}; a version is a number, a string or a datetime that grows")


def _finite(version: float | str) -> bool:
    return not isinstance(version, float) or math.isfinite(version)
