"""One `/metrics` and one `/readyz` for all nodes of a supervisor, whichever of them is asked."""

from __future__ import annotations

import http.client
import json
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any

from tidings_hub import runtime
from tidings_hub.core.relay_stamp import STAMP_HEADER, Stamp, write_stamp
from tidings_hub.engine.relay.relay import Relay
from tidings_hub.engine.relay.upstream import UNIX
from tidings_hub.metrics import merge_texts

logger = logging.getLogger("tidings.together")

_TIMEOUT_S = 2.0
_OK = 200

Answer = tuple[str, list[tuple[str, str]], bytes]
StartResponse = Callable[..., Any]


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of an address."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


class WorkerAggregation:
    """Wraps a node's WSGI application. What another node asks for is answered for this node alone."""

    def __init__(self, app: runtime.WsgiApp, relay: Relay) -> None:
        self._app = app
        self._relay = relay
        self._joins: dict[str, Callable[[Answer, dict[str, tuple[int, bytes]]], Answer]] = {
            "/metrics": self._metrics,
            "/readyz": self._readyz,
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """WSGI."""
        join = self._joins.get(environ["PATH_INFO"])
        if join is None or environ["REQUEST_METHOD"] != "GET" or "HTTP_TIDINGS_RELAYED" in environ:
            return self._app(environ, start_response)
        status, headers, body = join(self._own(environ), self._others(environ))
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def _own(self, environ: dict[str, Any]) -> Answer:
        said: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            said[:] = [status, headers]

        parts = self._app(environ, start)
        try:
            body = b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        return said[0], list(said[1]), body

    def _others(self, environ: dict[str, Any]) -> dict[str, tuple[int, bytes]]:
        """What each node beside this one answers; status 0: nothing in time."""
        tasks = {
            name: runtime.spawn(self._ask, name, path.removeprefix(UNIX), environ)
            for name, path in self._relay.nodes.siblings().items()
        }
        found: dict[str, tuple[int, bytes]] = {name: task.wait() for name, task in tasks.items()}  # type: ignore[misc]
        self._relay.shared.metrics.workers_silent += sum(not status for status, _ in found.values())
        return found

    def _ask(self, name: str, path: str, environ: dict[str, Any]) -> tuple[int, bytes]:
        target = environ["PATH_INFO"]
        client, host = environ.get("REMOTE_ADDR", ""), environ.get("HTTP_HOST", "")
        stamp = Stamp(name, self._relay.unix_s(), client, secure=False, host=host)
        headers = {STAMP_HEADER: write_stamp(self._relay.keys[0], stamp, "GET", target), "Connection": "close"}
        if "HTTP_AUTHORIZATION" in environ:
            headers["Authorization"] = environ["HTTP_AUTHORIZATION"]
        connection = _UnixConnection(path)
        try:
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            logger.warning("node %s did not answer for %s: %s", name, target, type(error).__name__)
            return 0, b""
        finally:
            connection.close()

    def _metrics(self, own: Answer, others: dict[str, tuple[int, bytes]]) -> Answer:
        status, headers, body = own
        if not status.startswith(str(_OK)):
            return own
        return status, headers, merge_texts([body, *(text for code, text in others.values() if code == _OK)])

    def _readyz(self, own: Answer, others: dict[str, tuple[int, bytes]]) -> Answer:
        status, headers, body = own
        found = json.loads(body)
        if "checks" not in found:
            return own
        workers = {self._relay.nodes.own_id: found["ready"]} | {name: code == _OK for name, (code, _) in others.items()}
        found["checks"]["workers"] = dict(sorted(workers.items()))
        if found["ready"] and not all(workers.values()):
            found["ready"], status = False, "503 SERVICE UNAVAILABLE"
        return status, headers, json.dumps(found).encode()
