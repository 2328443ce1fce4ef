"""The Engine.IO server that `socketio.Server` expects, implemented with the engine's connections.

python-socketio prescribes the names (version 5.18.1 calls exactly these). A test fails if an upgrade calls another.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import engineio

from tidings_hub import runtime
from tidings_hub.socketio.client import Client

# 15 bytes are 20 characters without padding, and more than RFC 4122's 122 random bits.
_ID_BYTES = 15


class EngineioAdapter:
    """Sends packets. Its only state is the connected clients."""

    reason = engineio.Server.reason
    async_mode = "eventlet"

    def __init__(self, **options: object) -> None:
        self.options = options
        self.handlers: dict[str, Callable[..., Any]] = {}
        self.clients: dict[str, Client] = {}

    def on(self, event: str, handler: Callable[..., Any]) -> None:
        """Register upstream's own handler for `connect`, `message` or `disconnect`."""
        self.handlers[event] = handler

    def send(self, sid: str, data: str | bytes) -> None:
        """Send one message to a connection. Does nothing if it has ended."""
        client = self.clients.get(sid)
        if client is not None:
            client.connection.send(data)

    def send_packet(self, sid: str, packet: Any) -> None:
        """Send one engineio packet, always a MESSAGE, to a connection."""
        self.send(sid, packet.data)

    def transport(self, sid: str) -> str:
        """`polling` or `websocket`.

        Raises:
            KeyError: no such connection, as upstream does.
        """
        return self.clients[sid].connection.transport

    def get_session(self, sid: str) -> dict[str, object]:
        """The user session of a connection, created at first use."""
        client = self.clients[sid]
        if client.user_session is None:
            client.user_session = {}
        return client.user_session

    def disconnect(self, sid: str | None = None) -> None:
        """Close one connection, or all."""
        for client in list(self.clients.values()) if sid is None else [self.clients[sid]]:
            client.connection.close("disconnected")

    def generate_id(self) -> str:
        """An id that cannot be guessed."""
        return secrets.token_urlsafe(_ID_BYTES)

    def create_event(self) -> threading.Event:
        """An event to wait for. It is green, because the hub patches `threading`."""
        return threading.Event()

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run `target` in a new greenlet."""
        return runtime.spawn(lambda: target(*args, **kwargs))

    def sleep(self, seconds: float = 0) -> None:
        """Let other greenlets run for this time."""
        runtime.sleep(seconds)

    def shutdown(self) -> None:
        """Close every connection."""
        self.disconnect()

    def handle_request(self, environ: object, start_response: object) -> NoReturn:
        """Never called: requests reach the engine, not a WSGI server."""
        raise RuntimeError("tidings' engine reads its own sockets; mount the hub, not a WSGI application")
