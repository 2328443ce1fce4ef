"""What `socketio.Server` uses of an Engine.IO server, in terms of our engine's connections.

The names are upstream's (python-socketio 5.18.1 calls just these); a test fails when an
upgrade calls another.
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
    """Sends packets, keeps no state of its own but who is connected."""

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
        """One message to a connection; to one that is gone, nothing."""
        client = self.clients.get(sid)
        if client is not None:
            client.connection.send(data)

    def send_packet(self, sid: str, packet: Any) -> None:
        """One engineio packet (always a MESSAGE) to a connection."""
        self.send(sid, packet.data)

    def transport(self, sid: str) -> str:
        """`polling` or `websocket`.

        Raises:
            KeyError: no such connection, as upstream does.
        """
        return self.clients[sid].connection.transport

    def get_session(self, sid: str) -> dict[str, object]:
        """The user session of a connection, made when first asked for."""
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
        """An event to wait for; green under the hub's patching."""
        return threading.Event()

    def start_background_task(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run `target` in a greenlet of its own."""
        return runtime.spawn(lambda: target(*args, **kwargs))

    def sleep(self, seconds: float = 0) -> None:
        """Let others run."""
        runtime.sleep(seconds)

    def shutdown(self) -> None:
        """Close every connection."""
        self.disconnect()

    def handle_request(self, environ: object, start_response: object) -> NoReturn:
        """Requests reach our engine before any WSGI server; there is nothing to handle here."""
        raise RuntimeError("tidings' engine reads its own sockets; mount the hub, not a WSGI application")
