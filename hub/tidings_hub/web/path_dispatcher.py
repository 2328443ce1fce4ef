"""Serves the user's own WSGI application (`--wsgi`) on the hub's port, at every path that is not the hub's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from tidings_hub.engine.wsgi_handler import Workload

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# Requests to `/socket.io/` and `/sse` never arrive here: the engine serves them. `/static/` belongs to the user's
# application, because Flask serves its files there. The hub's own files there are only for the `--dev` page.
_HUB_PATHS: Final = frozenset({"/api", "/healthz", "/readyz", "/metrics", "/tidings.js", "/tidings.js.map"})
_HUB_PREFIX: Final = "/api/"


_PROBE_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})


def workload_of(path: str) -> Workload:
    """The workload of a request that the engine does not serve itself."""
    if path in _PROBE_PATHS:
        return Workload.PROBES
    return Workload.BACKENDS if path.startswith(_HUB_PREFIX) else Workload.PAGES


class PathDispatcher:
    """A WSGI application that calls the hub's application or the user's, by path.

    The user's application does not see the header that other nodes of this hub add to relayed requests.
    """

    def __init__(self, hub: WsgiApp, user_app: WsgiApp) -> None:
        self._hub = hub
        self._user_app = user_app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        path = environ.get("PATH_INFO", "")
        if path in _HUB_PATHS or path.startswith(_HUB_PREFIX):
            return self._hub(environ, start_response)
        environ.pop("HTTP_TIDINGS_RELAYED", None)
        return self._user_app(environ, start_response)
