"""Renders settings as text: the settings in force as TOML without secrets, and docs/settings.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tidings_hub.config.fields import SettingsModel
from tidings_hub.config.hooks import Hooks
from tidings_hub.config.ingress import FlaskSocketio, Ingress, PusherApp, QueueSource, SocketioEmitter
from tidings_hub.config.load import LoadedSettings
from tidings_hub.config.notifications import NotificationCategory, Notifications
from tidings_hub.config.security import JwksSource, KeySource, Namespace
from tidings_hub.config.settings import Settings
from tidings_hub.config.web_push import WebPush
from tidings_hub.log import mask_secrets

_MASK = "***"


def as_toml(loaded: LoadedSettings) -> str:
    """The settings in force as TOML, each with its origin. Secrets and passwords are masked."""
    settings = loaded.settings
    lines = [f"# file: {loaded.file or 'none'}"]
    for name in Settings.model_fields:
        value = getattr(settings, name)
        source = loaded.origin.get(name, "default")
        if value is None:
            lines.append(f"# {name} is not set")
        elif not isinstance(value, dict | Ingress):
            lines.append(f"{name} = {_toml(value)}  # {source}")
    tables: dict[str, Mapping[str, SettingsModel]] = {
        "namespaces": settings.namespaces,
        "ingress": settings.ingress.tables(),
    }
    for table, entries in tables.items():
        for name, values in entries.items():
            lines += ["", f"[{table}.{name}]  # {loaded.origin.get(table, 'default')}"]
            lines += [f"{field} = {_toml(getattr(values, field))}" for field in type(values).model_fields]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, SecretStr):
        return json.dumps(_MASK)
    if isinstance(value, SettingsModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return (
            "{ "
            + ", ".join(f"{name} = {_toml(item)}" for name, item in fields.items() if item not in (None, "", {}))
            + " }"
        )
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, Enum):
        return json.dumps(value.value)
    if isinstance(value, str):
        # A JSON string is also a TOML basic string, except for DEL, which no setting may contain.
        return json.dumps(mask_secrets(value), ensure_ascii=False)
    return json.dumps(value)


def as_markdown() -> str:
    """The text of docs/settings.md: every setting, from the models."""
    parts = [_PREAMBLE]
    for group in reversed(Settings.__mro__):
        if group is not Settings and group is not SettingsModel and issubclass(group, SettingsModel):
            description = (group.__doc__ or "").strip()
            names = [name for name in group.model_fields if name in group.__annotations__]
            parts.append(f"## {description.partition('.')[0]}\n\n{description}\n\n{_table(group, names)}")
    entries = (
        *((Namespace, "namespaces.<name>"), (KeySource, "keys"), (JwksSource, "jwks"), (Hooks, "hooks")),
        (Notifications, "notifications"),
        (WebPush, "notifications.web_push"),
        (NotificationCategory, "notifications.categories.<name>"),
    )
    ingress = (
        (QueueSource, "ingress.<name>"),
        (PusherApp, "ingress.pusher"),
        (SocketioEmitter, "ingress.socketio_emitter"),
        (FlaskSocketio, "ingress.flask_socketio"),
    )
    for entry, title in (*entries, *ingress):
        parts.append(f"## `{title}`\n\n{(entry.__doc__ or '').strip()}\n\n{_table(entry, list(entry.model_fields))}")
    return "\n\n".join(parts) + "\n"


_PREAMBLE = """# Settings

Generated from `hub/tidings_hub/config` by `make docs`; a test compares the two.

The hub reads settings from `tidings.toml` (or the file in `--config` or `TIDINGS_CONFIG`), from the environment, and
from flags of `tidings serve`. The later source wins. In the environment a setting is `TIDINGS_` and its name in
capitals; lists use commas, tables JSON. A later source replaces a list or a table as a whole, so
`TIDINGS_NOTIFICATIONS` also names the database and all categories. An unknown name is an error. `tidings print-config`
prints the settings in force. A bound has a policy (what happens at the bound) and a metric that counts it
(`tidings_<name>_total` at `/metrics`).

The times by which a node divides its work are no settings. A handler runs for 5 ms until others have their turn,
waiting handlers run for 10 ms together, and the node reads sockets for 10 ms. These times refuse nothing. Longer turns
would delay the probes and publications of any application, and shorter ones would cost more switches."""


def _table(model: type[SettingsModel], names: list[str]) -> str:
    rows = ["| setting | default | bounds | meaning | at the bound | metric |", "|---|---|---|---|---|---|"]
    for name in names:
        field = model.model_fields[name]
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        metric = f"`{extra['metric']}`" if extra.get("metric") else ""
        cells = [f"`{name}`", _default(field), _bounds(field), field.description, extra.get("policy", ""), metric]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "random"
    if isinstance(default, SecretStr):
        return "none"
    if (
        default is None
        or default in ("", (), {})
        or (isinstance(default, SettingsModel) and default == type(default)())
    ):
        return "none"
    return f"`{_toml(default)}`"


def _bounds(field: FieldInfo) -> str:
    limits = {
        bound: limit
        for item in field.metadata
        for bound in ("ge", "le")
        if (limit := getattr(item, bound, None)) is not None
    }
    if not limits:
        return ""
    minimum = f"{limits.get('ge', 0):,.10g}"
    return f"{minimum} to {limits['le']:,.10g}" if "le" in limits else f"from {minimum}"
