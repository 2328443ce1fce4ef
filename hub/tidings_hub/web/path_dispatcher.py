"""A user's own WSGI application on the hub's port: every address that is not the hub's is its."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

# `/socket.io/` and `/sse` never come here: the engine has them. `/static/` is the application's, as Flask
# has it; the hub's own files there belong to the page for trying out, which gives way.
_OWN: Final = frozenset({"/api", "/healthz", "/readyz", "/metrics", "/tidings.js", "/tidings.js.map"})
_OWN_FOLDER: Final = "/api/"


class Beside:
    """A WSGI application of two. What another node of this hub sent on carries a header that only the hub sees."""

    def __init__(self, hub: WsgiApp, other: WsgiApp) -> None:
        self._hub = hub
        self._other = other

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """WSGI."""
        path = environ.get("PATH_INFO", "")
        if path in _OWN or path.startswith(_OWN_FOLDER):
            return self._hub(environ, start_response)
        environ.pop("HTTP_TIDINGS_RELAYED", None)
        return self._other(environ, start_response)
