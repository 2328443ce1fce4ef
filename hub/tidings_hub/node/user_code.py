"""What a node runs that its users wrote: an app's handlers, a WSGI application, and who is asked beyond the rules."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tidings.errors import BadConfig
from tidings_hub import runtime
from tidings_hub.config.settings import Settings
from tidings_hub.extensions.app.app import App
from tidings_hub.extensions.app.authorizer import AppAuthorizer
from tidings_hub.extensions.app.loader import load_app, load_wsgi
from tidings_hub.extensions.app.ordered_pool import OrderedPool
from tidings_hub.extensions.app.runner import HandlerRunner
from tidings_hub.extensions.hooks.authorizer import HookAuthorizer
from tidings_hub.extensions.hooks.client import HookClient
from tidings_hub.metrics import Metrics
from tidings_hub.node.stall_detector import StallDetector
from tidings_hub.services.api import NodeApi
from tidings_hub.services.authorizers import Authorizer, Authorizers
from tidings_hub.services.hub import Hub
from tidings_hub.socketio.app_events import AppEvents
from tidings_hub.socketio.client import Client
from tidings_hub.socketio.packet import Packet
from tidings_hub.web.path_dispatcher import Beside

logger = logging.getLogger("tidings")

# The packets that wait for whoever is asked, by what it is asked about.
_WAITING: Final = {"connect": "connect", "subscribe": "tidings:subscribe", "publish": "tidings:publish"}


class UserCode:
    """Loads what the settings name; nothing of it is called before `run_by`.

    `lanes`: pools for the packets that wait for a user's code, so that all others do not.

    Raises:
        BadConfig: it cannot be loaded.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._app: App | None = load_app(settings.app) if settings.app else None
        self._wsgi: runtime.WsgiApp | None = load_wsgi(settings.wsgi) if settings.wsgi else None
        self._calls = HandlerRunner(metrics, timeout_s=settings.app_timeout_s)
        self.authorizers = Authorizers(self._asked())
        self.pools = {
            packet: runtime.Pool(settings.app_handlers, settings.handler_queue)
            for what, packet in _WAITING.items()
            if what in self.authorizers.handles
        }
        self.on_app_event: Callable[[Client, Packet], bool] | None = None
        if self._app is not None and self._app.events:
            events = self._app.events
            self.on_app_event = AppEvents(
                events,
                {name: self._line() for name in events},
                self._calls,
                metrics,
                answer_max_bytes=settings.publication_max_bytes,
            ).try_handle

    def _asked(self) -> list[Authorizer]:
        asked: list[Authorizer] = []
        if self._app is not None:
            asked.append(AppAuthorizer(self._app, self._calls, self._line(), self._metrics))
        hooks = self._settings.hooks
        if hooks.events:
            asked.append(HookAuthorizer(hooks, HookClient(hooks), self._metrics, node_id=self._settings.node_id))
        return asked

    def _line(self) -> OrderedPool:
        return OrderedPool(self._settings.app_handlers, self._settings.app_handler_queue)

    def with_user_wsgi(self, app: runtime.WsgiApp) -> runtime.WsgiApp:
        """The hub's own application, and the user's for every address that is not the hub's."""
        return app if self._wsgi is None else Beside(app, self._wsgi)

    def attach(self, hub: Hub, node: NodeApi, sio: object) -> None:
        """From now on the hub asks, and the app publishes through the node.

        Raises:
            BadConfig: the app's `on_start` failed; the log has the traceback.
        """
        hub.authorizers = self.authorizers
        if self._app is None:
            return
        try:
            self._app.attach(node, sio, publication_max_bytes=self._settings.publication_max_bytes)
        except Exception as error:
            logger.exception("on_start failed")
            raise BadConfig(f"on_start failed: {type(error).__name__}; the log has the traceback") from error

    def start(self) -> None:
        """Watch that what was loaded does not keep the loop to itself."""
        if self._app is not None or self._wsgi is not None:
            StallDetector(self._metrics, warn_s=self._settings.stall_warn_s).start()
