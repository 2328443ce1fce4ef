"""What clients send over Socket.IO: CONNECT and the events `tidings:…` of PROTOCOL.md section 5.

The acknowledgement answers every event. An error of the whole request is `{"error": {"code", "message"}}`.
Errors of single channels are listed beside the answers for the other channels.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from socketio.exceptions import ConnectionRefusedError as Refused

from tidings.errors import BadChannel, BadRequest, Expired, Forbidden, Internal, TidingsError, TooFast
from tidings.publishers.base import CALLER_ID_S, OWN_ID_S, OutgoingPublication
from tidings.wire.channels import check_channel, check_channels, check_event, user_channel
from tidings.wire.cursor import Cursor
from tidings.wire.ids import new_id
from tidings.wire.payload import encode_data
from tidings.wire.presence import presence_channel
from tidings.wire.publication import encode_body, history_json
from tidings_hub.core.sessions import Session
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.connect import ConnectRequest, activate, identify, open_session
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.permissions import (
    check_name_count,
    check_publish_rate,
    refused_new_channels,
    too_many_new_channels,
)
from tidings_hub.services.subscribe import abandon, go_live, subscribe
from tidings_hub.socketio.client import Client
from tidings_hub.socketio.packet import EncodedJson
from tidings_hub.socketio.server import HubServer

logger = logging.getLogger("tidings.socketio")

Answer = dict[str, Any]
# Values of a rejected publication among which the path of the error is searched: about a millisecond.
_SEARCHED_MAX = 1_000


class ClientEvents:
    """Registers the handlers on a server and answers the events from a hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._server: HubServer

    def register(self, server: HubServer) -> None:
        """Make the hub handle the clients of this server."""
        self._server = server
        server.on_ack = self.on_ack
        server.on("connect", self._connect)
        server.on("disconnect", self._disconnect)
        for name, answer in (
            ("subscribe", self._subscribe),
            ("unsubscribe", self._unsubscribe),
            ("publish", self._publish),
            ("history", self._history),
            ("presence", self._presence),
            ("refresh", self._refresh),
        ):
            server.on(f"tidings:{name}", self._handler(answer))
        server.on("*", self._unknown)

    # CONNECT: `_connect` waits for the broker; python-socketio then sends the CONNECT packet; `on_connected` goes live

    def _connect(self, sid: str, environ: object, auth: object) -> None:
        client = self._server.client(sid)
        request: ConnectRequest | None = None
        try:
            request = _connect_request(auth)
            claims, resume = identify(self._hub, request, client.connection.remote)
            client.session = self._hub.open(_connection(client), claims)
            session = open_session(self._hub, client.session, request, resume)
        except TidingsError as error:
            raise self._refusal(client, error, request) from error
        # `HubServer` sets `pending` before it calls this handler.
        if client.pending is not None:
            client.pending.session, client.pending.answer = session, session.answer

    def on_connected(self, client: Client) -> None:
        """The CONNECT packet was just sent: write `tidings:ready` and what was missed, and make the session live."""
        pending = client.pending
        if pending is None or pending.session is None:
            # A namespace of an app.
            return
        session: Session[Connection] = client.session
        opened, pending.session = pending.session, None
        cursor = str(opened.subscription.cursor)
        ready = {
            "user": session.user,
            "connection": session.id,
            "cursor": cursor,
            "expires_in_s": _rounded(session.expires_in_s(self._hub.wall_s())),
            **opened.subscription.reply(),
        }
        activate(self._hub, session, opened, hub_event("tidings:ready", ready, cursor=cursor))

    def _refusal(self, client: Client, error: TidingsError, request: ConnectRequest | None) -> Refused:
        # Without a session the token was refused. A stock client would send the same one every second, without end.
        needs_new_token = client.session is None and isinstance(error, Expired | TooFast)
        if client.session is not None:
            self._hub.close(client.session)
            client.session = None
        if error.code.should_reconnect and not needs_new_token:
            # A stock client that receives CONNECT_ERROR gives up for good. If its transport closes, it reconnects by
            # itself. Its back-off starts again with each transport that opens, so the hub makes the pause.
            if request is not None and request.pid is None:
                client.connection.close(error.code.name)
            else:
                self._server.hold(client, error.code.name)
        elif client.pending is not None:
            client.pending.refusal = error.code.name
        return Refused(str(error), error.to_wire())

    def _disconnect(self, sid: str, reason: object = None) -> None:
        client = self._server.client(sid)
        if client.session is None:
            return
        self._hub.close(client.session, str(reason))
        client.session = None
        if client.pending is not None and client.pending.session is not None:
            # The CONNECT failed between `_connect` and `on_connected`.
            abandon(self._hub, client.pending.session.subscription)
            client.pending = None

    def on_ack(self, client: Client, number: int) -> bool:
        """Count the acknowledgement of a publication. False: the hub did not request it."""
        session: Session[Connection] | None = client.session
        return session is not None and self._hub.deliveries.acknowledge(session.id, number)

    # Events

    def _handler(
        self, answer: Callable[[Session[Connection], Mapping[str, Any]], Answer | EncodedJson]
    ) -> Callable[..., Answer | EncodedJson]:
        def handle(sid: str, *arguments: object) -> Answer | EncodedJson:
            try:
                session = self._server.client(sid).session
                return answer(session, _object(arguments))
            except TidingsError as error:
                return {"error": error.to_wire()}
            except Exception:
                self._hub.metrics.handler_errors += 1
                logger.exception("unexpected error in the handler of a client event")
                return {"error": Internal().to_wire()}

        return handle

    def _subscribe(self, session: Session[Connection], request: Mapping[str, Any]) -> Answer:
        names, presence = _names(request, "channels"), _names(request, "presence")
        if not names and not presence:
            raise BadChannel("no channel given; list the channels to subscribe to")
        pending = subscribe(self._hub, session, names, _since(request), presence)
        # What was missed goes out before the acknowledgement: a client that is cut off in between has no answer, and
        # repeats the request with the same cursor.
        go_live(self._hub, session, pending)
        return {"cursor": str(pending.position), **pending.reply()}

    def _unsubscribe(self, session: Session[Connection], request: Mapping[str, Any]) -> Answer:
        names, presence_names = _names(request, "channels"), _names(request, "presence")
        check_name_count(self._hub, names)
        check_name_count(self._hub, presence_names)
        presence = [presence_channel(check_channel(name)) for name in presence_names]
        channels = [] if presence and "channels" not in request else check_channels(names)
        if user_channel(session.user) in channels:
            raise BadChannel("a user's own channel cannot be left; it ends with the connection")
        self._hub.unsubscribe(session, [*channels, *presence])
        return {}

    def _publish(self, session: Session[Connection], request: Mapping[str, Any]) -> Answer:
        hub = self._hub
        channel = check_channel(request.get("channel"))
        rule = hub.access.check_publish(session.claims, channel)
        if refused_new_channels(hub, session.user, [channel]):
            raise too_many_new_channels(hub)
        client_id = request.get("id")
        at_ms = time.time_ns() // 1_000_000
        id_ = new_id(at_ms) if client_id is None else client_id
        event, data = check_event(request.get("event")), request.get("data")
        data_json = encode_data(data, max_bytes=hub.settings.publication_max_bytes, searched_max=_SEARCHED_MAX)
        body = encode_body(event, data_json, id=id_, at_ms=at_ms)
        if rule.history:
            check_publish_rate(hub, session.user, channel, len(body))
        hub.authorizers.publish(session, channel, event, data)
        keep_s = OWN_ID_S if client_id is None else CALLER_ID_S
        (result,) = hub.publish([OutgoingPublication(channel, body, id_, keep_s, user=session.user)])
        if isinstance(result, TidingsError):
            raise result
        return {"id": result.id, "cursor": result.cursor, "duplicate": result.duplicate}

    def _history(self, session: Session[Connection], request: Mapping[str, Any]) -> EncodedJson:
        hub = self._hub
        channel = check_channel(request.get("channel"))
        hub.access.check_read_history(session.claims, channel)
        if "subscribe" in hub.authorizers.handles and channel not in session.channels:
            # Authorizers decide on subscriptions. They are not consulted again for the history of a subscribed channel.
            raise Forbidden(f"subscribe to {channel} first: the subscription decides whether you may read its history")
        limit = request.get("limit", 100)
        if type(limit) is not int or not 1 <= limit <= hub.settings.history_page_max:
            hub.metrics.history_limited += 1
            raise BadRequest(f"limit must be a whole number from 1 to {hub.settings.history_page_max}")
        since = _since(request)
        position, publications = hub.history(channel, since=since, limit=limit, newest=since is None)
        return EncodedJson(history_json(position, publications).decode())

    def _presence(self, session: Session[Connection], request: Mapping[str, Any]) -> Answer:
        return self._hub.presence.members_for(session, check_channel(request.get("channel"))).to_wire()

    def _refresh(self, session: Session[Connection], request: Mapping[str, Any]) -> Answer:
        left = self._hub.refresh(session, request.get("token"))
        return {"expires_in_s": _rounded(session.expires_in_s(self._hub.wall_s())), "left": sorted(left)}

    def _unknown(self, event: object, sid: str, *arguments: object) -> Answer:
        error = BadRequest("no such event; publish with tidings:publish, see PROTOCOL.md section 5")
        return {"error": error.to_wire()}


def _connection(client: Client) -> Connection:
    connection: Connection = client.connection
    return connection


def _connect_request(auth: object) -> ConnectRequest:
    fields: Mapping[str, Any] = auth if isinstance(auth, Mapping) else {}
    return ConnectRequest(
        fields.get("token"),
        _names(fields, "channels"),
        _names(fields, "presence"),
        _since(fields),
        fields.get("pid", ""),
        fields.get("offset"),
    )


def _object(arguments: tuple[object, ...]) -> Mapping[str, Any]:
    if len(arguments) != 1 or not isinstance(arguments[0], Mapping):
        raise BadRequest("send one object as the event's only argument")
    return arguments[0]


def _names(request: Mapping[str, Any], field: str) -> list[object]:
    """A list of names, or one string of names with commas. The `auth` of a Java client can hold only strings."""
    names = request.get(field)
    if names is None:
        return []
    if isinstance(names, str):
        return [name for part in names.split(",") if (name := part.strip())]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadChannel(f'{field} must be a list of strings, or one string such as "orders:42,news:all"')
    return list(names)


def _since(request: Mapping[str, Any]) -> Cursor | None:
    """The cursor. A Java client that has none yet can only send an empty string."""
    since = request.get("since")
    return None if since is None or since == "" else Cursor.parse(since)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
