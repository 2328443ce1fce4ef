"""The setting `TIDINGS`: `{"URL": …, "API_KEY": …, …}`. All keys are optional.

Besides the arguments of `Emitter`, in capitals: `ON_ERROR`, a function or its dotted path (see `delivery`), and
`CHANGES_MAX`, the maximum of publications per transaction; `BACKGROUND`, the options of background jobs.
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
from tidings.number_checks import check_count

CHANGES_MAX = 10_000


def emitter() -> Emitter:
    """The emitter of this project, made at the first call. `emitter().emit(…)` sends immediately and returns a receipt.

    Raises:
        BadConfig, MissingExtra: as `Emitter`, and for an unknown setting.
    """
    current = _emitters.get(_CURRENT)
    if current is not None:
        return current
    values = tidings_settings()
    reject_unknown(values, "ON_ERROR", "CHANGES_MAX", "BACKGROUND")
    # Of several threads at the first call, all get the emitter of the first one. The others have not connected.
    return _emitters.setdefault(_CURRENT, emitter_of(values))


_CURRENT = "emitter"
_emitters: dict[str, Emitter] = {}


@cache
def on_error() -> OnError:
    """The function that is called if a batch cannot be sent after the commit.

    Raises:
        ImportError: the dotted path does not exist. BadConfig: it is not a function.
    """
    handler = tidings_settings().get("ON_ERROR", log_error)
    function = import_string(handler) if isinstance(handler, str) else handler
    if not callable(function):
        raise BadConfig("TIDINGS['ON_ERROR'] must be a function or its dotted path")
    return cast("OnError", function)


def changes_max() -> int:
    """The maximum of publications per transaction.

    Raises:
        BadConfig: not a number above 0.
    """
    return check_count(tidings_settings().get("CHANGES_MAX", CHANGES_MAX), "TIDINGS['CHANGES_MAX']")


def tidings_settings() -> Mapping[str, Any]:
    """The setting `TIDINGS`.

    Raises:
        BadConfig: it is not a dict.
    """
    values = getattr(settings, "TIDINGS", {})
    if not isinstance(values, Mapping):
        raise BadConfig("settings.TIDINGS must be a dict")
    return values


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    """Clear the caches when a test overrides the setting."""
    if setting == "TIDINGS":
        _emitters.clear()
        on_error.cache_clear()


setting_changed.connect(_on_setting_changed)
