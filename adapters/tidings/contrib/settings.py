"""An emitter's settings in a framework's configuration: the names of `Emitter`'s arguments in capitals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidings.emitter import Emitter
from tidings.errors import BadConfig
from tidings.options import read_environment

NAMES = ("URL", "API_KEY", "PREFIX", "TIMEOUT_S", "PUBLICATION_MAX_BYTES", "BATCH_MAX")


def emitter_of(settings: Mapping[str, Any]) -> Emitter:
    """The emitter for these settings. Without `URL` the environment is used (see `Emitter.from_env`).

    Other names are ignored. A setting that is None counts as absent.

    Raises:
        BadConfig, MissingExtra: as `Emitter`.
    """
    arguments = {name.lower(): settings[name] for name in NAMES if settings.get(name) is not None}
    if "url" not in arguments:
        url, api_key = read_environment(None)
        arguments = {"url": url, "api_key": api_key, **arguments}
    return Emitter(**arguments)


def reject_unknown(settings: Mapping[str, Any], *more: str) -> None:
    """Reject settings that are neither in `NAMES` nor in `more`.

    Raises:
        BadConfig: the message lists the unknown names.
    """
    if unknown := sorted(map(str, settings.keys() - {*NAMES, *more})):
        raise BadConfig(f"unknown settings: {', '.join(unknown)}; there are {', '.join([*NAMES, *more])}")
