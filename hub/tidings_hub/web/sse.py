"""Server-sent events, with the same channels, cursors and recovery as Socket.IO (PROTOCOL.md section 6).

`GET /sse?channels=a:1,b:2` with the token in `Authorization: Bearer …`. EventSource in a browser cannot send headers,
and uses `?token=` instead. `Last-Event-ID` (or `?since=`) is the cursor. A worker greenlet authenticates the client and
subscribes it. After that the pump writes the stream.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from tidings.codes import CODES
from tidings.errors import BadChannel, BadRequest, Full, Internal, TidingsError, from_wire
from tidings.wire.channels import user_channel
from tidings.wire.cursor import Cursor
from tidings_hub.core.frame import OutgoingFrame, closing_frames
from tidings_hub.core.sessions import Session
from tidings_hub.engine.protocols.event_source import retry_ms
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.connect_queue import ConnectQueue
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import go_live, subscribe

logger = logging.getLogger("tidings.sse")


class Stream(Connection, Protocol):
    """The part of the engine's event stream that this layer uses."""

    client: Any

    def accept(self, *, retry_ms: int) -> None:
        """Send the response head with status 200. From then on the stream is writable."""

    def send(self, packet: bytes) -> None:
        """Write bytes of the stream."""

    def establish(self) -> float:
        """Stop the connect timeout. Returns the seconds that were left of it; 0: none."""

    def refuse(self, code: str, message: str) -> None:
        """Respond with an error, in a form that the client understands, and close."""


class StreamRequest(Protocol):
    """The HTTP request that opens a stream."""

    @property
    def query(self) -> Mapping[str, str]:
        """The decoded parameters of the query string."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, with names in lower case."""


class OpeningStream:
    """A stream that was not accepted or rejected yet."""

    __slots__ = ("request", "stream")

    def __init__(self, stream: Stream, request: StreamRequest) -> None:
        self.stream = stream
        self.request = request

    def establish(self) -> float:
        """Stop the connect timeout: the request is complete."""
        return self.stream.establish()

    def await_connect(self, left_s: float) -> None:
        """Do nothing: a stream that is answered is open or closed."""

    def close(self, code: str) -> None:
        """Reject the stream with a code of `tidings.codes`."""
        self.reject(from_wire(code, CODES[code].advice))

    def reject(self, error: TidingsError) -> None:
        """Respond with an error and close."""
        self.stream.refuse(error.code.name, str(error))


class WorkerPool(Protocol):
    """A bounded set of worker greenlets."""

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        """Run `fn` in a worker greenlet. Returns False if the queue is full."""


class EventStreams:
    """The engine's application for `/sse`. The pump calls `on_open` and `on_close`; they must not block."""

    def __init__(self, hub: Hub, pool: WorkerPool, connects: ConnectQueue) -> None:
        self._hub = hub
        self._pool = pool
        self._connects = connects

    def on_open(self, stream: Stream, request: StreamRequest) -> None:
        """Handle a new request in a worker greenlet, or reject it if the queue is full."""
        opening = stream.client = OpeningStream(stream, request)
        if not self._connects.begin(opening):
            opening.reject(Full())
        elif not self._pool.submit(self._start, opening):
            self._hub.metrics.handlers_refused += 1
            opening.reject(Full())

    def on_message(self, stream: Stream, data: str | bytes) -> None:
        """Do nothing: the engine closes a stream whose client sends data."""

    def last_frames(self, _stream: Stream, code: str, message: str | None) -> Sequence[OutgoingFrame]:
        """Return `tidings:close`, the last event of a stream that ends on purpose."""
        return closing_frames(code, message)

    def on_close(self, stream: Stream, reason: str) -> None:
        """Close the session of a stream whose client has disconnected."""
        client: OpeningStream | Session[Connection] | None = stream.client
        stream.client = None
        if isinstance(client, OpeningStream):
            self._connects.discard(client)
        elif client is not None:
            self._hub.close(client, reason)

    def _start(self, opening: OpeningStream) -> None:
        try:
            if not opening.stream.closed:
                self._open(opening)
        finally:
            self._connects.discard(opening)

    def _open(self, opening: OpeningStream) -> None:
        hub, stream, request = self._hub, opening.stream, opening.request
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
            self._fail(opening, error)
            return
        results = map(subscription.answers.get, channels)
        errors = [result["error"] for result in results if result and "error" in result]
        if len(errors) == len(channels):
            self._fail(opening, from_wire(**cast("dict[str, str]", errors[0])))
            go_live(hub, session, subscription)
            return
        stream.accept(retry_ms=retry_ms())
        ready = {
            "user": session.user,
            "connection": session.id,
            "cursor": str(subscription.cursor),
            **subscription.reply(),
        }
        go_live(hub, session, subscription, hub_event("tidings:ready", ready, cursor=str(subscription.cursor)))

    def _fail(self, opening: OpeningStream, error: Exception) -> None:
        session, opening.stream.client = opening.stream.client, None
        if isinstance(session, Session):
            self._hub.close(session)
        if isinstance(error, TidingsError):
            opening.reject(error)
        else:
            self._hub.metrics.handler_errors += 1
            logger.error("unexpected error while opening an event stream", exc_info=error)
            opening.reject(Internal())


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
    return [name for part in request.query.get(parameter, "").split(",") if (name := part.strip())]


def _since(request: StreamRequest) -> Cursor | None:
    text = request.headers.get("last-event-id") or request.query.get("since")
    return Cursor.parse(text) if text else None
