"""The user's code in a node: the handlers of an app, a WSGI application, and the authorizers of both app and hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tidings.errors import BadConfig, TidingsError
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
from tidings_hub.supervised_task import WorkerErrors
from tidings_hub.web.path_dispatcher import HubPaths, PathDispatcher

logger = logging.getLogger("tidings")

# By authorized action: the packets that wait for an authorizer.
_AUTHORIZED_PACKETS: Final = {"connect": "connect", "subscribe": "tidings:subscribe", "publish": "tidings:publish"}


class UserCode:
    """Loads the code that the settings name. None of it is called before `attach`.

    `pools`: by packet, pools for the packets that wait for user code, so that no other packet waits behind them.
    `on_app_event`: handles the events of the app; None if it has none.

    Raises:
        BadConfig: the code cannot be loaded.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._app: App | None = load_app(settings.app) if settings.app else None
        self._wsgi: runtime.WsgiApp | None = load_wsgi(settings.wsgi) if settings.wsgi else None
        self._runner = HandlerRunner(metrics, timeout_s=settings.app_timeout_s)
        self.authorizers = Authorizers(self._open_authorizers())
        self.pools = {
            packet: runtime.Pool(settings.app_handlers, settings.handler_queue, on_error=WorkerErrors(packet, metrics))
            for action, packet in _AUTHORIZED_PACKETS.items()
            if action in self.authorizers.handles
        }
        self.on_app_event: Callable[[Client, Packet], bool] | None = None
        if self._app is not None and self._app.events:
            events = self._app.events
            self.on_app_event = AppEvents(
                events,
                {name: self._ordered_pool() for name in events},
                self._runner,
                metrics,
                answer_max_bytes=settings.publication_max_bytes,
            ).try_handle

    def _open_authorizers(self) -> list[Authorizer]:
        authorizers: list[Authorizer] = []
        if self._app is not None:
            authorizers.append(AppAuthorizer(self._app, self._runner, self._ordered_pool(), self._metrics))
        hooks = self._settings.hooks
        if hooks.events:
            authorizers.append(HookAuthorizer(hooks, HookClient(hooks), self._metrics, node_id=self._settings.node_id))
        return authorizers

    def _ordered_pool(self) -> OrderedPool:
        return OrderedPool(self._settings.app_handlers, self._settings.app_handler_queue)

    def with_user_wsgi(self, app: runtime.WsgiApp, hub_paths: HubPaths) -> runtime.WsgiApp:
        """`app`, with the user's WSGI application for all paths that are not among `hub_paths`."""
        return app if self._wsgi is None else PathDispatcher(app, self._wsgi, hub_paths)

    def attach(self, hub: Hub, node: NodeApi, sio: object) -> None:
        """Give the authorizers to the hub, and the node to the app.

        Raises:
            BadConfig: the app's `on_start` failed. The log has the traceback, unless it raised an error of tidings.
        """
        hub.authorizers = self.authorizers
        if self._app is None:
            return
        try:
            self._app.attach(node, sio, publication_max_bytes=self._settings.publication_max_bytes)
        except TidingsError as error:
            raise BadConfig(f"on_start failed: {error}") from error
        except (Exception, SystemExit) as error:
            logger.exception("on_start failed")
            raise BadConfig(f"on_start failed: {type(error).__name__}; the log has the traceback") from error

    def start(self) -> None:
        """Watch for user code that blocks the event loop."""
        if self._app is not None or self._wsgi is not None:
            StallDetector(self._metrics, warn_s=self._settings.stall_warn_s).start()
