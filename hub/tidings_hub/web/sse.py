"""Server-sent events, with the same channels, cursors and recovery as Socket.IO (PROTOCOL.md section 6).

`GET /sse?channels=a:1,b:2` with the token in `Authorization: Bearer …`. EventSource in a browser cannot send headers,
and uses `?token=` instead. `Last-Event-ID` (or `?since=`) is the cursor. A worker greenlet authenticates the client and
subscribes it. After that the pump writes the stream.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from tidings.errors import BadChannel, BadRequest, Full, Internal, TidingsError, from_wire
from tidings.wire.channels import user_channel
from tidings.wire.cursor import Cursor
from tidings_hub.core.sessions import Session
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import go_live, subscribe

logger = logging.getLogger("tidings.sse")


class Stream(Connection, Protocol):
    """The part of the engine's event stream that this layer uses."""

    client: Any

    def accept(self) -> None:
        """Send the response head with status 200. From then on the stream is writable."""

    def refuse(self, status: int, body: bytes) -> None:
        """Send an error response and close."""


class StreamRequest(Protocol):
    """The HTTP request that opens a stream."""

    @property
    def query(self) -> Mapping[str, str]:
        """The decoded parameters of the query string."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, with names in lower case."""


class WorkerPool(Protocol):
    """A bounded set of worker greenlets."""

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        """Run `fn` in a worker greenlet. Returns False if the queue is full."""


class EventStreams:
    """The engine's application for `/sse`. The pump calls `on_open` and `on_close`; they must not block."""

    def __init__(self, hub: Hub, pool: WorkerPool) -> None:
        self._hub = hub
        self._pool = pool

    def on_open(self, stream: Stream, request: StreamRequest) -> None:
        """Handle a new request in a worker greenlet, or reject it if the queue is full."""
        stream.client = None
        if not self._pool.submit(self._start, stream, request):
            self._hub.metrics.handlers_refused += 1
            _reject(stream, Full())

    def on_message(self, stream: Stream, data: str | bytes) -> None:
        """Do nothing: the engine closes a stream whose client sends data."""

    def on_close(self, stream: Stream, reason: str) -> None:
        """Close the session of a stream whose client has disconnected."""
        session: Session[Connection] | None = stream.client
        if session is not None:
            stream.client = None
            self._hub.close(session, reason)

    def _start(self, stream: Stream, request: StreamRequest) -> None:
        hub = self._hub
        try:
            channels, presence = _channels(request), _names(request, "presence")
            since = _since(request)
            claims = hub.authenticator.authenticate(_token(request), stream.remote)
            if stream.closed:
                return
            stream.client = session = hub.open(stream, claims)
            granted = hub.authorizers.connect(session)
            subscription = subscribe(hub, session, [*channels, *granted, user_channel(claims.sub)], since, presence)
        except Exception as error:  # noqa: BLE001 - the client gets a response after any error
            self._fail(stream, error)
            return
        results = map(subscription.answers.get, channels)
        errors = [result["error"] for result in results if result and "error" in result]
        if len(errors) == len(channels):
            self._fail(stream, from_wire(**cast("dict[str, str]", errors[0])))
            go_live(hub, session, subscription)
            return
        stream.accept()
        ready = {
            "user": session.user,
            "connection": session.id,
            "cursor": str(subscription.cursor),
            **subscription.reply(),
        }
        go_live(hub, session, subscription, hub_event("tidings:ready", ready, cursor=str(subscription.cursor)))

    def _fail(self, stream: Stream, error: Exception) -> None:
        if stream.client is not None:
            session, stream.client = stream.client, None
            self._hub.close(session)
        if isinstance(error, TidingsError):
            _reject(stream, error)
        else:
            self._hub.metrics.handler_errors += 1
            logger.error("unexpected error while opening an event stream", exc_info=error)
            _reject(stream, Internal())


def _reject(stream: Stream, error: TidingsError) -> None:
    body = json.dumps({"error": error.to_wire()}).encode()
    stream.refuse(error.code.http_status, body)


def _token(request: StreamRequest) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if token and scheme.lower() != "bearer":
        raise BadRequest("send the token as `Authorization: Bearer <token>`")
    return token.strip() or request.query.get("token") or None


def _channels(request: StreamRequest) -> list[str]:
    channels = _names(request, "channels")
    if not channels:
        raise BadChannel("no channel given; request /sse?channels=orders:42,news:all")
    return channels


def _names(request: StreamRequest, parameter: str) -> list[str]:
    return [name for name in request.query.get(parameter, "").split(",") if name]


def _since(request: StreamRequest) -> Cursor | None:
    text = request.headers.get("last-event-id") or request.query.get("since")
    return Cursor.parse(text) if text else None
