"""`tidings conformance --port 3000`: a server for the official Engine.IO v4 and Socket.IO v5 test suites.

It runs the same engine and Socket.IO server as `tidings serve`, with the handlers and the timing that the suites
expect. The suites are in the folders `test-suite` of socketio/engine.io-protocol and socketio/socket.io-protocol. Not
for production: every origin may connect, without authentication.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tidings.errors import BadConfig
from tidings_hub import runtime
from tidings_hub.config.settings import Settings
from tidings_hub.core.frame import OutgoingFrame
from tidings_hub.engine.application import HandshakeRequest
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.limits import AnyOrigin, EngineOptions
from tidings_hub.engine.server import EngineServer
from tidings_hub.metrics import Metrics
from tidings_hub.node.limits import engine_limits
from tidings_hub.node.queues import connect_queue, inbox_bounds
from tidings_hub.socketio.server import HubServer
from tidings_hub.supervised_task import WorkerErrors

logger = logging.getLogger("tidings.engine")

# The suites expect exactly these intervals and timeouts.
OPTIONS = EngineOptions(
    ping_interval_ms=300,
    ping_timeout_ms=200,
    max_payload_bytes=1_000_000,
    connect_timeout_ms=1_000,
    origins=AnyOrigin(),
)
# The Socket.IO suite first waits for the CONNECT response and then for `auth`. It misses `auth` if both arrive in one
# read. The official JavaScript server has the same problem.
AUTH_AFTER_S = 0.05


class Echo:
    """An Engine.IO application that sends every message back."""

    def on_open(self, connection: Connection, request: HandshakeRequest) -> None:
        """Accept the connection at once: Engine.IO alone has no namespaces."""
        connection.establish()
        connection.trust()

    def on_message(self, connection: Connection, data: str | bytes) -> None:
        """Send the message back, text as text and binary as binary."""
        connection.send(data)

    def last_frames(self, connection: Connection, code: str, message: str | None) -> Sequence[OutgoingFrame]:
        """Return nothing: the client gets the close frame or packet alone."""
        return ()

    def on_close(self, connection: Connection, reason: str) -> None:
        """Do nothing: the application has no state per connection."""


def register(server: HubServer) -> None:
    """Register the handlers of the Socket.IO v5 suite: `auth`, `message`, `message-with-ack` and `/custom`."""

    def greet(sid: str, auth: object, namespace: str) -> None:
        runtime.sleep(AUTH_AFTER_S)
        server.emit("auth", auth or {}, to=sid, namespace=namespace)

    def connect(sid: str, _environ: object, auth: object, namespace: str = "/") -> None:
        runtime.spawn(greet, sid, auth, namespace)

    def message(sid: str, *data: Any) -> None:
        server.emit("message-back", data, to=sid)

    def message_with_ack(_sid: str, *data: Any) -> tuple[Any, ...]:
        return data

    server.on("connect", connect)
    server.on("connect", lambda sid, environ, auth: connect(sid, environ, auth, "/custom"), namespace="/custom")
    server.on("message", message)
    server.on("message-with-ack", message_with_ack)


def run(host: str, port: int) -> int:
    """Serve the test target until SIGTERM or SIGINT. Call it after `runtime.patch()`.

    Raises:
        BadConfig: nothing can listen at this address.
    """
    metrics = Metrics()
    settings = Settings(dev=True)
    limits = replace(engine_limits(settings), inbound_rate_per_s=100.0, inbound_burst=100_000)
    engine = EngineServer(limits, metrics=metrics, log=logger, node_id="c")
    server = HubServer(
        pool=runtime.Pool(64, 10_000, on_error=WorkerErrors("events", metrics)),
        spawn=runtime.spawn,
        metrics=metrics,
        max_attachment_bytes=OPTIONS.max_payload_bytes,
        # A test target: it accepts every CONNECT at once.
        connects=connect_queue(settings, metrics),
        inboxes=inbox_bounds(settings, metrics),
        namespaces=["/", "/custom"],
    )
    register(server)
    engine.mount("/engine.io/", Echo(), OPTIONS)
    engine.mount("/socket.io/", server, OPTIONS)
    try:
        bound_port = engine.listen(host, port)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a port, 0 to 65535"
        raise BadConfig(f"cannot listen on {host}:{port}: {reason}") from error
    engine.start()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.call_soon(stopped.set))
    sys.stdout.write(f"tidings conformance: http://{host}:{bound_port}/engine.io/ and /socket.io/\n")
    sys.stdout.flush()
    stopped.wait()
    engine.stop()
    return 0
