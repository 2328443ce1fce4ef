"""One `/metrics` and one `/readyz` for all workers of a supervisor, whichever worker gets the request.

The machine is ready while at least one worker is. The state of each worker is in the response and in the metrics.
"""

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
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import merge_texts

logger = logging.getLogger("tidings.together")

# How long a worker that does not respond delays the response for all. Prometheus waits 10 s by default. The probe of a
# balancer may wait only 1 s, and must not fail because one of several workers hangs.
_METRICS_WAIT_S = 2.0
_READINESS_WAIT_S = 0.4
_OK = 200
# Any other status is the same for all workers: a wrong key, or an unknown query. Then the siblings get no request. So
# clients without a key cannot use up the greenlets of probes while a sibling hangs.
_MERGED_STATUSES = ("200 ", "503 ")

Response = tuple[str, list[tuple[str, str]], bytes]
# By node id: status and body; status 0: no response in time.
SiblingResponses = dict[str, tuple[int, bytes]]
StartResponse = Callable[..., Any]


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, wait_s: float) -> None:
        super().__init__("localhost", timeout=wait_s)
        self._path = path
        self._wait_s = wait_s

    def connect(self) -> None:
        """Connect to the unix socket instead of a TCP address."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self._wait_s)
        self.sock.connect(self._path)


class WorkerAggregation:
    """Wraps a node's WSGI application. A request that a sibling relays gets the response of this node alone."""

    def __init__(self, app: runtime.WsgiApp, relay: Relay) -> None:
        self._app = app
        self._relay = relay
        self._merges: dict[str, Callable[[Response, SiblingResponses], Response]] = {
            "/metrics": self._merge_metrics,
            "/readyz": self._merge_readiness,
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """The WSGI call (PEP 3333)."""
        merge, method = self._merges.get(environ["PATH_INFO"]), environ["REQUEST_METHOD"]
        if merge is None or method not in {"GET", "HEAD"} or "HTTP_TIDINGS_RELAYED" in environ:
            return self._app(environ, start_response)
        wait_s = _READINESS_WAIT_S if environ["PATH_INFO"] == "/readyz" else _METRICS_WAIT_S
        own = self._own_response({**environ, "REQUEST_METHOD": "GET"})
        if own[0].startswith(_MERGED_STATUSES):
            own = merge(own, self._sibling_responses(environ, wait_s))
        status, headers, body = own
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if method == "HEAD" else [body]

    def _own_response(self, environ: dict[str, Any]) -> Response:
        head: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            head[:] = [status, headers]

        parts = self._app(environ, start)
        try:
            body = b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        return head[0], list(head[1]), body

    def _sibling_responses(self, environ: dict[str, Any], wait_s: float) -> SiblingResponses:
        tasks = {
            name: runtime.spawn(self._request, name, path.removeprefix(UNIX), environ, wait_s)
            for name, path in self._relay.nodes.siblings().items()
        }
        responses: SiblingResponses = {name: task.wait() for name, task in tasks.items()}  # type: ignore[misc]
        self._relay.context.metrics.workers_silent += sum(not status for status, _ in responses.values())
        return responses

    def _request(self, name: str, path: str, environ: dict[str, Any], wait_s: float) -> tuple[int, bytes]:
        target = environ["PATH_INFO"]
        client, host = environ.get("REMOTE_ADDR", ""), environ.get("HTTP_HOST", "")
        stamp = Stamp(name, self._relay.cluster_time_s(), client, secure=False, host=host)
        headers = {STAMP_HEADER: write_stamp(self._relay.keys[0], stamp, "GET", target), "Connection": "close"}
        if "HTTP_AUTHORIZATION" in environ:
            headers["Authorization"] = environ["HTTP_AUTHORIZATION"]
        connection = _UnixConnection(path, wait_s)
        try:
            # The timeout of the socket limits each read only.
            response: tuple[int, bytes] = runtime.call_with_timeout(wait_s, _get, connection, target, headers)
        except (OSError, http.client.HTTPException, runtime.CallTimeout) as error:
            log_rate_limited(
                *(logger, logging.WARNING, f"silent {name}"),
                *("node %s did not answer for %s: %s", name, target, type(error).__name__),
            )
            return 0, b""
        else:
            return response
        finally:
            connection.close()

    def _merge_metrics(self, own: Response, siblings: SiblingResponses) -> Response:
        status, headers, body = own
        if not status.startswith(str(_OK)):
            return own
        return status, headers, merge_texts([body, *(text for code, text in siblings.values() if code == _OK)])

    def _merge_readiness(self, own: Response, siblings: SiblingResponses) -> Response:
        status, headers, body = own
        state = json.loads(body)
        if "checks" not in state:
            return own
        workers = {self._relay.nodes.own_id: state["ready"]} | {
            name: code == _OK for name, (code, _) in siblings.items()
        }
        state["checks"]["workers"] = dict(sorted(workers.items()))
        if not state["ready"] and any(workers.values()):
            # The kernel gives no new client to a worker that has ended, and the supervisor restarts one that hangs.
            state["ready"], status = True, "200 OK"
        return status, headers, json.dumps(state).encode()


def _get(connection: _UnixConnection, target: str, headers: dict[str, str]) -> tuple[int, bytes]:
    connection.request("GET", target, headers=headers)
    response = connection.getresponse()
    return response.status, response.read()
