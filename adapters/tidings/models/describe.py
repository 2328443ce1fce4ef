"""What `push_model` publishes about an object: its class, its fields, its version, and in which channels."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from string import Formatter
from typing import Literal, TypedDict, get_args

from tidings.errors import BadChannel, BadRequest
from tidings.models.rules import Rule, Version, channel_templates, field_names
from tidings.models.snapshots import Snapshot, snapshot
from tidings.models.versions import VersionOfKind, version_of
from tidings.wire.channels import check_channels

Op = Literal["created", "updated", "deleted"]

_OPS: tuple[str, ...] = get_args(Op)


class ModelOptions(TypedDict, total=False):
    """The options of `push_model` that determine what of the object is sent.

    `op`: "created", "updated" (the default) or "deleted". `fields`: only these.
    `exclude`: all but these. `version`: see `versions`. `id`: the publication's id.
    """

    op: Op
    fields: Iterable[str] | None
    exclude: Iterable[str] | None
    version: Version | None
    id: str | None


def describe_departure(
    previous: object, present: object, rule: Rule, *, channels: list[str], fallback: VersionOfKind
) -> dict[str, object]:
    """The data of `updated_model` in channels that an object has left: deleted, with the fields that it had there.

    The version is that of the object as it is now. `fallback`: as for `describe`.
    """
    data, _ = describe(previous, {"op": "deleted"}, rule, channels=channels, fallback=fallback)
    version = version_of(present, snapshot(present, deleted=True), None, rule, fallback)
    return data | {"version": version.value, "version_kind": version.kind}


def describe(
    obj: object, options: ModelOptions, rule: Rule, *, channels: list[str] | None, fallback: VersionOfKind
) -> tuple[dict[str, object], list[str]]:
    """The data of the event `updated_model`, and the channels that it goes to.

    Data: `{"class": str, "model": {field: value}, "op": str, "version": int | float | str, "version_kind": str}`.
    `versions` decides the version; `fallback` is that of an object without one. A receiver discards the event if it
    has a higher version of the same kind.

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
    version = version_of(obj, state, options.get("version"), rule, fallback)
    data: dict[str, object] = {
        "class": state.name,
        "model": model,
        "op": op,
        "version": version.value,
        "version_kind": version.kind,
    }
    return data, _channels(obj, state, rule) if channels is None else channels


def template_channels(obj: object, rule: Rule) -> list[str]:
    """The channels that the templates or the function of a rule give for an object, whether it is deleted or not.

    Raises:
        BadChannel, BadData: as `describe`.
    """
    return _channels(obj, snapshot(obj, deleted=True), rule)


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
