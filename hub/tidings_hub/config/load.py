"""Loads settings from a TOML file, then from `TIDINGS_*` in the environment, then from flags.

The later source wins. An unknown name is an error that suggests the most similar known name.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError

from tidings.errors import BadConfig
from tidings_hub.config.error_texts import error_text
from tidings_hub.config.fields import SettingsModel
from tidings_hub.config.hooks import Hooks
from tidings_hub.config.ingress import FlaskSocketio, Ingress, PusherApp, QueueSource, SocketioEmitter
from tidings_hub.config.notifications import NotificationCategory, Notifications
from tidings_hub.config.security import JwksSource, KeySource, Namespace
from tidings_hub.config.service_links import service_links
from tidings_hub.config.settings import Settings
from tidings_hub.config.web_push import WebPush

ENV_PREFIX = "TIDINGS_"
FILE_NAME = "tidings.toml"
# Variables that are not settings: the settings file, arguments of other commands, and one that the supervisor sets.
OTHER_VARIABLES = frozenset(f"TIDINGS_{name}" for name in ("CONFIG", "URL", "API_KEY", "TOKEN", "WORKER", "OUTBOX_URL"))
# The length of the path to a name in an entry of a table in a group: notifications, categories, the entry, the name.
_IN_ENTRY = 3


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and the origin of each one that is set: `file`, `environment` or `flag`."""

    settings: Settings
    origin: dict[str, str]
    file: Path | None


def load(
    *, file: Path | None = None, env: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> LoadedSettings:
    """Load the settings from all sources.

    Without `file`, the path is `TIDINGS_CONFIG`, or `tidings.toml` in the working directory if it exists. `flags` has
    the values from the command line, by the names of the settings.

    Raises:
        BadConfig: a file that cannot be read, an unknown name, or a value out of bounds. One line lists all errors, and
            no value that might be a secret.
    """
    env = env or {}
    path = file or (Path(env["TIDINGS_CONFIG"]) if env.get("TIDINGS_CONFIG") else None)
    if path is None and Path(FILE_NAME).is_file():
        path = Path(FILE_NAME)
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    from_file = read_file(path) if path else {}
    layers: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("file", from_file),
        ("environment", from_environment(env, allowed=_secret_variables(from_file, env))),
        ("flag", flags or {}),
    )
    for source, values in layers:
        for name, value in values.items():
            _check_name(name, source)
            merged[name] = value
            origin[name] = source
    try:
        return LoadedSettings(Settings(**merged), origin, path)
    except ValidationError as error:
        raise BadConfig(_error_text(error, origin)) from None


def read_file(path: Path) -> dict[str, object]:
    """The settings in a TOML file.

    Raises:
        BadConfig: the file cannot be read, or is not TOML.
    """
    try:
        # Editors on Windows write a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is not TOML: {error}") from error


def from_environment(env: Mapping[str, str], *, allowed: frozenset[str] = frozenset()) -> dict[str, object]:
    """The settings in the environment, such as `TIDINGS_PORT=8000`. Lists use commas, tables use JSON.

    `allowed`: variables that start with `TIDINGS_` but only contain the secret of a key.

    Raises:
        BadConfig: a variable starts with `TIDINGS_` and is not a setting, or a value is not valid JSON.
    """
    settings: dict[str, object] = {}
    ignored = OTHER_VARIABLES | allowed | service_links(env, start=ENV_PREFIX)
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX) or variable in ignored:
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        if variable != ENV_PREFIX + name.upper():
            raise BadConfig(f"unknown variable {variable}; names are in upper case: {ENV_PREFIX}{name.upper()}")
        _check_name(name, "environment")
        settings[name] = _parse(name, text)
    return settings


def _parse(name: str, text: str) -> object:
    annotation = Settings.model_fields[name].annotation
    container = get_origin(annotation)
    if (
        annotation in (Ingress, Hooks, Notifications)
        or container is dict
        or (container is tuple and text.lstrip().startswith("["))
    ):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise BadConfig(f"{ENV_PREFIX}{name.upper()} is not JSON") from None
    if container is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _secret_variables(from_file: Mapping[str, object], env: Mapping[str, str]) -> frozenset[str]:
    """The variables in `secret_env` of the keys. They contain secrets and are not settings."""
    keys = from_file.get("keys")
    entries = list(keys) if isinstance(keys, list) else []
    if "TIDINGS_KEYS" in env:
        env_keys = _parse("keys", env["TIDINGS_KEYS"])
        entries += env_keys if isinstance(env_keys, list) else []
    return frozenset(str(entry["secret_env"]) for entry in entries if isinstance(entry, dict) and "secret_env" in entry)


def _check_name(name: str, source: str) -> None:
    if name in Settings.model_fields:
        return
    displayed = {"environment": ENV_PREFIX + name.upper(), "flag": f"--{name.replace('_', '-')}"}.get(source, name)
    raise BadConfig(f"unknown setting {displayed} ({source}){suggest(name, Settings.model_fields)}")


def suggest(name: str, names: Mapping[str, object]) -> str:
    """`; did you mean x?` with the name most similar to `name`, or an empty string."""
    matches = get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""


def _error_text(error: ValidationError, origin: Mapping[str, str]) -> str:
    parts = []
    for details in error.errors(include_url=False, include_input=False, include_context=True):
        path = ".".join(str(step) for step in details["loc"])
        source = origin.get(str(details["loc"][0]), "") if details["loc"] else ""
        message = error_text(details)
        if details["type"] == "extra_forbidden":
            message = "unknown setting" + _suggest_for_entry(details["loc"])
        parts.append(f"{path}{f' ({source})' if source else ''}: {message}" if path else message)
    return "; ".join(parts)


def _suggest_for_entry(location: tuple[int | str, ...]) -> str:
    entries: dict[str, type[SettingsModel]] = {
        "keys": KeySource,
        "jwks": JwksSource,
        "namespaces": Namespace,
        "hooks": Hooks,
        "notifications": _entry_of_notifications(location),
    }
    formats: dict[str, type[SettingsModel]] = {
        "pusher": PusherApp,
        "socketio_emitter": SocketioEmitter,
        "flask_socketio": FlaskSocketio,
    }
    entry = entries.get(str(location[0]))
    if location[0] == "ingress":
        entry = formats.get(str(location[1]), QueueSource)
        if entry is QueueSource and (hint := suggest(str(location[1]), formats)):
            return hint
    return suggest(str(location[-1]), entry.model_fields) if entry else ""


def _entry_of_notifications(location: tuple[int | str, ...]) -> type[SettingsModel]:
    if len(location) > _IN_ENTRY:
        return NotificationCategory
    return WebPush if location[1:2] == ("web_push",) and len(location) == _IN_ENTRY else Notifications
