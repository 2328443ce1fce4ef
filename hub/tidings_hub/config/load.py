"""Where settings come from: a TOML file, then `TIDINGS_*` in the environment, then flags.

The later wins. An unknown name is refused, with the nearest right one.
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
from tidings_hub.config.fields import SettingsModel
from tidings_hub.config.hooks import Hooks
from tidings_hub.config.ingress import FlaskSocketio, Ingress, PusherApp, QueueSource, SocketioEmitter
from tidings_hub.config.security import JwksSource, KeySource, Namespace
from tidings_hub.config.settings import Settings

ENV_PREFIX = "TIDINGS_"
FILE_NAME = "tidings.toml"
# Names that mean something else than a setting: the file itself, what `publish` and `tail` use, a supervisor's word.
OTHER_VARIABLES = frozenset(f"TIDINGS_{name}" for name in ("CONFIG", "URL", "API_KEY", "TOKEN", "WORKER", "OUTBOX_URL"))


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and for each name that was given, where: `file`, `environment` or `flag`."""

    settings: Settings
    origin: dict[str, str]
    file: Path | None


def load(
    *, file: Path | None = None, env: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> LoadedSettings:
    """The settings from all sources.

    `file` None means `TIDINGS_CONFIG`, or else `tidings.toml` in the working directory if
    there is one. `flags` holds what the command line said, under the settings' own names.

    Raises:
        BadConfig: a file that cannot be read, an unknown name, or a value out of bounds; one
            line says all of it, without any value that might be a secret.
    """
    env = env or {}
    path = file or (Path(env["TIDINGS_CONFIG"]) if env.get("TIDINGS_CONFIG") else None)
    if path is None and Path(FILE_NAME).is_file():
        path = Path(FILE_NAME)
    given: dict[str, Any] = {}
    origin: dict[str, str] = {}
    from_file = read_file(path) if path else {}
    layers: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("file", from_file),
        ("environment", from_environment(env, allowed=_secret_variables(from_file, env))),
        ("flag", flags or {}),
    )
    for where, values in layers:
        for name, value in values.items():
            _check_name(name, where)
            given[name] = value
            origin[name] = where
    try:
        return LoadedSettings(Settings(**given), origin, path)
    except ValidationError as error:
        raise BadConfig(_error_text(error, origin)) from None


def read_file(path: Path) -> dict[str, object]:
    """The settings in a TOML file.

    Raises:
        BadConfig: it cannot be read, or is not TOML.
    """
    try:
        with path.open("rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is not TOML: {error}") from error


def from_environment(env: Mapping[str, str], *, allowed: frozenset[str] = frozenset()) -> dict[str, object]:
    """The settings in the environment: `TIDINGS_PORT=8000`, lists with commas, tables as JSON.

    `allowed` are variables that begin with `TIDINGS_` but only hold a key's secret.

    Raises:
        BadConfig: a variable that begins with `TIDINGS_` and is no setting, or JSON that is none.
    """
    found: dict[str, object] = {}
    for variable, text in env.items():
        if not variable.startswith(ENV_PREFIX) or variable in OTHER_VARIABLES or variable in allowed:
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        if variable != ENV_PREFIX + name.upper():
            raise BadConfig(f"unknown variable {variable}; names are in capitals: {ENV_PREFIX}{name.upper()}")
        _check_name(name, "environment")
        found[name] = _parse(name, text)
    return found


def _parse(name: str, text: str) -> object:
    annotation = Settings.model_fields[name].annotation
    kind = get_origin(annotation)
    if annotation in (Ingress, Hooks) or kind is dict or (kind is tuple and text.lstrip().startswith("[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise BadConfig(f"{ENV_PREFIX}{name.upper()} is not JSON") from None
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _secret_variables(from_file: Mapping[str, object], env: Mapping[str, str]) -> frozenset[str]:
    """The variables that keys name as `secret_env`: they hold secrets and are no settings."""
    found = from_file.get("keys")
    entries = list(found) if isinstance(found, list) else []
    if "TIDINGS_KEYS" in env:
        parsed = _parse("keys", env["TIDINGS_KEYS"])
        entries += parsed if isinstance(parsed, list) else []
    return frozenset(str(entry["secret_env"]) for entry in entries if isinstance(entry, dict) and "secret_env" in entry)


def _check_name(name: str, where: str) -> None:
    if name in Settings.model_fields:
        return
    shown = {"environment": ENV_PREFIX + name.upper(), "flag": f"--{name.replace('_', '-')}"}.get(where, name)
    raise BadConfig(f"unknown setting {shown} ({where}){suggest(name, Settings.model_fields)}")


def suggest(name: str, names: Mapping[str, object]) -> str:
    """`; did you mean x?` for the name most like `name`, or nothing."""
    found = get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""


def _error_text(error: ValidationError, origin: Mapping[str, str]) -> str:
    parts = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(step) for step in each["loc"])
        where = origin.get(str(each["loc"][0]), "") if each["loc"] else ""
        about = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            about = "unknown setting" + _suggest_for_entry(each["loc"])
        parts.append(f"{place}{f' ({where})' if where else ''}: {about}" if place else about)
    return "; ".join(parts)


def _suggest_for_entry(location: tuple[int | str, ...]) -> str:
    entries: dict[str, type[SettingsModel]] = {
        "keys": KeySource,
        "jwks": JwksSource,
        "namespaces": Namespace,
        "hooks": Hooks,
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
