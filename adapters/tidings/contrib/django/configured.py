"""What `settings.TIDINGS` says: `{"URL": …, "API_KEY": …, …}`, all of it optional.

Beside the arguments of `Emitter`, in capitals: `ON_ERROR`, a function or its dotted path (see `delivery`), and
`CHANGES_MAX`, the publications that one transaction may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from tidings.contrib.delivery import OnError, log_error
from tidings.contrib.settings import emitter_of, reject_unknown
from tidings.emitter import Emitter
from tidings.errors import BadConfig

CHANGES_MAX = 10_000


@cache
def emitter() -> Emitter:
    """The emitter of this project, made at the first call: `emitter().emit(…)` sends at once, and returns a receipt.

    Raises:
        BadConfig, MissingExtra: as `Emitter`, and for a setting that is unknown.
    """
    found = _settings()
    reject_unknown(found, "ON_ERROR", "CHANGES_MAX")
    return emitter_of(found)


@cache
def on_error() -> OnError:
    """Who gets what could not be sent after the commit.

    Raises:
        ImportError: there is nothing at the dotted path.
    """
    found = _settings().get("ON_ERROR", log_error)
    return cast("OnError", import_string(found) if isinstance(found, str) else found)


def changes_max() -> int:
    """How many publications a transaction may hold."""
    return int(_settings().get("CHANGES_MAX", CHANGES_MAX))


def _settings() -> Mapping[str, Any]:
    found = getattr(settings, "TIDINGS", {})
    if not isinstance(found, Mapping):
        raise BadConfig("settings.TIDINGS is not a dict")
    return found


def _forget(*, setting: str, **_: Any) -> None:
    """Tests override settings."""
    if setting == "TIDINGS":
        emitter.cache_clear()
        on_error.cache_clear()


setting_changed.connect(_forget)
