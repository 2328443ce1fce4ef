"""Which paths the hub serves itself. All others are the user's own WSGI application's (`--wsgi`), on the same port."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from tidings_hub.engine.requests.wsgi_handler import Workload
from tidings_hub.web.inbox_views import INBOX_PATHS
from tidings_hub.web.pusher import pusher_paths
from tidings_hub.web.sdk import NAMES

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# Requests to `/socket.io/` and `/sse` never arrive here: the engine serves them. `/static/` belongs to the user's
# application, because Flask serves its files there. The hub's own files there are only for the `--dev` page.
_HUB_PATHS: Final = frozenset({"/api", "/healthz", "/readyz", "/metrics", *(f"/{name}" for name in NAMES)})
_HUB_PREFIX: Final = "/api/"
_NOTIFICATIONS: Final = "/api/notifications"
_DELETION: Final = "/notifications/delete"


_PROBE_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class HubPaths:
    """The paths of the hub. `pusher_app_id`: of `[ingress.pusher]`; empty: there is none.

    `has_inbox`: the inboxes of users. Without them their paths are the user's own application's.
    """

    def __init__(self, pusher_app_id: str = "", *, has_inbox: bool = False) -> None:
        self._pusher_paths = pusher_paths(pusher_app_id) if pusher_app_id else frozenset()
        self._inbox_paths = INBOX_PATHS if has_inbox else frozenset()

    def __contains__(self, path: str) -> bool:
        """Whether the hub serves `path` itself."""
        return path in _HUB_PATHS or path in self._inbox_paths or self._is_for_backends(path)

    def workload_of(self, path: str) -> Workload:
        """The workload of a request that the engine does not serve itself."""
        if path in _PROBE_PATHS:
            return Workload.PROBES
        if path in self._inbox_paths:
            return Workload.INBOX
        if path == _NOTIFICATIONS or (path.startswith(_HUB_PREFIX) and path.endswith(_DELETION)):
            return Workload.NOTIFICATIONS
        return Workload.BACKENDS if self._is_for_backends(path) else Workload.PAGES

    def _is_for_backends(self, path: str) -> bool:
        return path.startswith(_HUB_PREFIX) or path in self._pusher_paths


class PathDispatcher:
    """A WSGI application that calls the hub's application or the user's, by path.

    The user's application does not see the header that other nodes of this hub add to relayed requests.
    """

    def __init__(self, hub: WsgiApp, user_app: WsgiApp, hub_paths: HubPaths) -> None:
        self._hub = hub
        self._user_app = user_app
        self._hub_paths = hub_paths

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        if environ.get("PATH_INFO", "") in self._hub_paths:
            return self._hub(environ, start_response)
        environ.pop("HTTP_TIDINGS_RELAYED", None)
        return self._user_app(environ, start_response)
