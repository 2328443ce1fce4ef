"""Server-sent events: the same channels, cursors and recovery as over Socket.IO, for anything that reads HTTP.

`GET /sse?channels=a:1,b:2` with the token in `Authorization: Bearer …` or, for a browser's
EventSource, which cannot send headers, in `?token=`; `Last-Event-ID` (or `?since=`) is the cursor.
The stream lives in the pump; only its beginning runs in a worker greenlet (PROTOCOL.md section 6).
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
    """What this layer needs of an engine's event stream."""

    client: Any

    def accept(self) -> None:
        """Answer 200; from now on the stream may be written to."""

    def refuse(self, status: int, body: bytes) -> None:
        """Answer an error and close."""


class Opening(Protocol):
    """The request of a stream."""

    @property
    def query(self) -> Mapping[str, str]:
        """The query's parameters, decoded."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, names in lower case."""


class Pool(Protocol):
    """A bounded set of worker greenlets."""

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        """Run `fn` soon; False if too many wait already."""


class EventStreams:
    """The engine's application for `/sse`. `on_open` and `on_close` are called from the pump and return at once."""

    def __init__(self, hub: Hub, pool: Pool) -> None:
        self._hub = hub
        self._pool = pool

    def on_open(self, stream: Stream, opening: Opening) -> None:
        """A request for a stream; it is answered from a worker greenlet."""
        stream.client = None
        if not self._pool.submit(self._begin, stream, opening):
            self._hub.metrics.handlers_refused += 1
            _refuse(stream, Full())

    def on_message(self, stream: Stream, data: str | bytes) -> None:
        """A stream's client says nothing; the engine closes it if it does."""

    def on_close(self, stream: Stream, reason: str) -> None:
        """The client has gone."""
        session: Session[Connection] | None = stream.client
        if session is not None:
            stream.client = None
            self._hub.close(session, reason)

    def _begin(self, stream: Stream, opening: Opening) -> None:
        hub = self._hub
        try:
            channels, presence = _channels(opening), _listed(opening, "presence")
            since = _since(opening)
            claims = hub.authenticator.authenticate(_token(opening), stream.remote)
            if stream.closed:
                return
            stream.client = session = hub.open(stream, claims)
            given = hub.authorizers.connect(session)
            joined = subscribe(hub, session, [*channels, *given, user_channel(claims.sub)], since, presence)
        except Exception as error:  # noqa: BLE001 - whatever it was, the client gets an answer
            self._fail(stream, error)
            return
        refused = [answer["error"] for answer in map(joined.answers.get, channels) if answer and "error" in answer]
        if len(refused) == len(channels):
            self._fail(stream, from_wire(**cast("dict[str, str]", refused[0])))
            go_live(hub, session, joined)
            return
        stream.accept()
        ready = {
            "user": session.user,
            "connection": session.id,
            "cursor": str(joined.cursor),
            **joined.reply(),
        }
        go_live(hub, session, joined, hub_event("tidings:ready", ready, cursor=str(joined.cursor)))

    def _fail(self, stream: Stream, error: Exception) -> None:
        if stream.client is not None:
            session, stream.client = stream.client, None
            self._hub.close(session)
        if isinstance(error, TidingsError):
            _refuse(stream, error)
        else:
            self._hub.metrics.handler_errors += 1
            logger.error("an event stream could not begin", exc_info=error)
            _refuse(stream, Internal())


def _refuse(stream: Stream, error: TidingsError) -> None:
    body = json.dumps({"error": error.to_wire()}).encode()
    stream.refuse(error.code.http_status, body)


def _token(opening: Opening) -> str | None:
    scheme, _, given = opening.headers.get("authorization", "").partition(" ")
    if given and scheme.lower() != "bearer":
        raise BadRequest("send the token as `Authorization: Bearer <token>`")
    return given.strip() or opening.query.get("token") or None


def _channels(opening: Opening) -> list[str]:
    channels = _listed(opening, "channels")
    if not channels:
        raise BadChannel("no channel given; ask for /sse?channels=orders:42,news:all")
    return channels


def _listed(opening: Opening, what: str) -> list[str]:
    return [name for name in opening.query.get(what, "").split(",") if name]


def _since(opening: Opening) -> Cursor | None:
    text = opening.headers.get("last-event-id") or opening.query.get("since")
    return Cursor.parse(text) if text else None
