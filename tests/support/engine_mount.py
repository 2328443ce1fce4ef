"""A mount of the engine that does not serve: for tests of single connections."""

from __future__ import annotations

import logging

from support.limits import engine_limits, engine_options
from tidings_hub.engine.limits import EngineLimits, EngineOptions
from tidings_hub.engine.mount import Mount
from tidings_hub.engine.server import EngineServer
from tidings_hub.metrics import Metrics


class SilentApplication:
    """An application that does nothing."""

    def on_open(self, connection: object, request: object) -> None:
        """Do nothing."""

    def on_message(self, connection: object, data: object) -> None:
        """Do nothing."""

    def last_frames(self, connection: object, code: str, message: str | None) -> tuple[()]:
        """Return nothing: the client gets the close frame or packet alone."""
        return ()

    def on_close(self, connection: object, reason: str) -> None:
        """Do nothing."""


def engine_mount(*, limits: EngineLimits | None = None, options: EngineOptions | None = None) -> Mount:
    """A mount of an engine that was not started."""
    log = logging.getLogger("tests.engine")
    engine = EngineServer(limits or engine_limits(), metrics=Metrics(), log=log, node_id="n")
    return Mount(engine._context, SilentApplication(), options or engine_options())
