"""The settings of an emitter in the configuration of a framework: the names of `Emitter`'s arguments in capitals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidings.emitter import Emitter
from tidings.errors import BadConfig
from tidings.options import read_environment

NAMES = ("URL", "API_KEY", "PREFIX", "TIMEOUT_S", "PUBLICATION_MAX_BYTES", "BATCH_MAX")


def emitter_of(settings: Mapping[str, Any]) -> Emitter:
    """The emitter that these settings describe; without `URL` that of the environment (see `Emitter.from_env`).

    Other names are not looked at, and a setting that is None counts as not given.

    Raises:
        BadConfig, MissingExtra: as `Emitter`.
    """
    given = {name.lower(): settings[name] for name in NAMES if settings.get(name) is not None}
    if "url" not in given:
        url, api_key = read_environment(None)
        given = {"url": url, "api_key": api_key, **given}
    return Emitter(**given)


def reject_unknown(settings: Mapping[str, Any], *more: str) -> None:
    """Refuse names that mean nothing, here or to whom `more` belong.

    Raises:
        BadConfig: it names them.
    """
    if unknown := sorted(settings.keys() - {*NAMES, *more}):
        raise BadConfig(f"unknown settings: {', '.join(unknown)}; there are {', '.join([*NAMES, *more])}")
