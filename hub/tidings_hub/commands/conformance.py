"""The engine as a public test target: `tidings conformance --port 3000`.

Runs exactly the engine and the Socket.IO server that serve users, with the handlers and the
timing that the official Engine.IO v4 and Socket.IO v5 test suites expect of a server
(socketio/engine.io-protocol and socketio/socket.io-protocol, folders `test-suite`). Not for
production: every origin may connect and nobody is authenticated.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from dataclasses import replace
from typing import Any

from tidings_hub import runtime
from tidings_hub.config.settings import Settings
from tidings_hub.engine.application import HandshakeRequest
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.limits import AnyOrigin, EngineOptions
from tidings_hub.engine.server import EngineServer
from tidings_hub.metrics import Metrics
from tidings_hub.node.limits import engine_limits
from tidings_hub.socketio.server import HubServer

logger = logging.getLogger("tidings.engine")

# The suites wait for pings and timeouts of just this length.
OPTIONS = EngineOptions(
    ping_interval_ms=300,
    ping_timeout_ms=200,
    max_payload_bytes=1_000_000,
    connect_timeout_ms=1_000,
    origins=AnyOrigin(),
)
# The Socket.IO suite listens for the CONNECT answer and for `auth` one after the other, and misses
# whichever comes in the same read as the one before. (The JavaScript server fails on that, too.)
AUTH_AFTER_S = 0.05


class Echo:
    """An Engine.IO application that sends back every message."""

    def on_open(self, connection: Connection, request: HandshakeRequest) -> None:
        """Nobody has to connect a namespace here."""
        connection.establish()

    def on_message(self, connection: Connection, data: str | bytes) -> None:
        """The same back, text as text and binary as binary."""
        connection.send(data)

    def on_close(self, connection: Connection, reason: str) -> None:
        """Nothing was kept."""


def register(server: HubServer) -> None:
    """The handlers of the Socket.IO v5 suite: `auth`, `message`, `message-with-ack` and `/custom`."""

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
    """Serve the test target until SIGTERM or SIGINT. Call it after `runtime.patch()`."""
    metrics = Metrics()
    limits = replace(engine_limits(Settings(dev=True)), inbound_rate_per_s=100.0, inbound_burst=100_000)
    engine = EngineServer(limits, metrics=metrics, log=logger, node_id="c")
    server = HubServer(
        pool=runtime.Pool(64, 10_000),
        spawn=runtime.spawn,
        metrics=metrics,
        max_attachment_bytes=OPTIONS.max_payload_bytes,
        namespaces=["/", "/custom"],
    )
    register(server)
    engine.mount("/engine.io/", Echo(), OPTIONS)
    engine.mount("/socket.io/", server, OPTIONS)
    bound = engine.listen(host, port)
    engine.start()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runtime.call_soon(stopped.set))
    sys.stdout.write(f"tidings conformance: http://{host}:{bound}/engine.io/ and /socket.io/\n")
    sys.stdout.flush()
    stopped.wait()
    engine.stop()
    return 0
