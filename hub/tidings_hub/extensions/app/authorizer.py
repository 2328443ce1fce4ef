"""An app's handlers as an `Authorizer`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tidings.errors import Forbidden, TidingsError
from tidings_hub.core.sessions import Session as LiveSession
from tidings_hub.extensions.app.app import App
from tidings_hub.extensions.app.ordered_pool import OrderedPool
from tidings_hub.extensions.app.runner import HandlerRunner
from tidings_hub.extensions.app.session import Session
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.app")


class AppAuthorizer:
    """Consults the handlers that an app declares. A handler that is not declared allows everything."""

    def __init__(self, app: App, runner: HandlerRunner, disconnects: OrderedPool, metrics: Metrics) -> None:
        self._app = app
        self._runner = runner
        self._disconnects = disconnects
        self._metrics = metrics
        declared = {
            "connect": app.connect_handler,
            "subscribe": app.subscribe_handler or app.authorize_handler,
            "publish": app.authorize_handler,
            "disconnect": app.disconnect_handler,
        }
        self.handles = frozenset(name for name, handler in declared.items() if handler is not None)

    def connect(self, live: LiveSession[Any]) -> Sequence[str]:
        """See `Authorizer.connect`."""
        handler = self._app.connect_handler
        if handler is None:
            return ()
        channels: list[str] = self._runner.call("on_connect", partial(_granted_channels, handler), Session.of(live))
        return channels

    def subscribe(self, live: LiveSession[Any], channels: Sequence[str]) -> dict[str, TidingsError]:
        """See `Authorizer.subscribe`."""
        refused: dict[str, TidingsError] = {}
        session = Session.of(live)
        for channel in channels:
            try:
                self._authorize(session, channel, "subscribe")
                if self._app.subscribe_handler is not None:
                    self._runner.call("on_subscribe", self._app.subscribe_handler, session, channel)
            except TidingsError as error:
                refused[channel] = error
        return refused

    def publish(self, live: LiveSession[Any], channel: str, event: str, data: object) -> None:
        """See `Authorizer.publish`."""
        self._authorize(Session.of(live), channel, "publish")

    def _authorize(self, session: Session, channel: str, action: str) -> None:
        handler = self._app.authorize_handler
        if handler is None:
            return
        result = self._runner.call("authorize", handler, session, channel, action)
        if result is True:
            return
        # A handler that returns nothing refuses. Another true value may be a mistake, such as the text "denied".
        if result:
            self._runner.record_wrong_result("authorize", result, "True or False")
        raise Forbidden(f"the application does not let you {action} in {channel}")

    def disconnect(self, live: LiveSession[Any], reason: str) -> None:
        """See `Authorizer.disconnect`."""
        if not self._disconnects.submit(live.id, lambda: self._call_on_disconnect(Session.of(live))):
            self._metrics.app_refused += 1

    def pending(self) -> int:
        """See `Authorizer.pending`."""
        return len(self._disconnects)

    def _call_on_disconnect(self, session: Session) -> None:
        if self._app.disconnect_handler is not None:
            try:
                self._runner.call("on_disconnect", self._app.disconnect_handler, session)
            except TidingsError as error:
                # The client is gone already, so there is nothing to refuse.
                logger.debug("on_disconnect raised %s", error.code.name)


def _granted_channels(handler: Callable[[Session], object], session: Session) -> list[str]:
    """The channels that `on_connect` returns. A generator runs here, as a part of the handler."""
    channels: Any = handler(session)
    names = [] if channels is None else list(channels)
    if isinstance(channels, str) or not all(isinstance(name, str) for name in names):
        raise TypeError("on_connect returns a list of channels, or nothing")
    return names
