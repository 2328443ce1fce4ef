"""The client events of PROTOCOL.md section 5: what a client may ask, and what it is answered.

Every answer is the acknowledgement of its event. An error of the whole request is
`{"error": {"code", "message"}}`; errors of single channels stand beside the others' answers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from socketio.exceptions import ConnectionRefusedError as Refused

from tidings.errors import BadChannel, BadRequest, Forbidden, Internal, TidingsError
from tidings.publishers.base import CALLER_ID_S, OWN_ID_S, OutgoingPublication
from tidings.wire.channels import check_channel, check_channels, check_event, user_channel
from tidings.wire.cursor import Cursor
from tidings.wire.ids import new_id
from tidings.wire.payload import encode_data
from tidings.wire.presence import presence_channel
from tidings.wire.publication import encode_body
from tidings_hub.core.sessions import Session
from tidings_hub.services.connect import ConnectRequest, PendingConnect, activate, identify, open_session
from tidings_hub.services.connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.subscribe import go_live, subscribe
from tidings_hub.socketio.client import Client
from tidings_hub.socketio.server import HubServer

logger = logging.getLogger("tidings.socketio")

Answer = dict[str, Any]


class ClientEvents:
    """Registers the events of PROTOCOL.md section 5 on a server and answers them from a hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._server: HubServer
        self._entering: dict[Client, PendingConnect] = {}

    def register(self, server: HubServer) -> None:
        """From now on the server's clients are the hub's."""
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

    def on_connected(self, client: Client, sid: str, namespace: str) -> None:
        """A CONNECT was just answered: say `tidings:ready`, then what was missed, then live."""
        entrance = self._entering.pop(client, None)
        if entrance is None:
            return
        session: Session[Connection] = client.session
        cursor = str(entrance.subscription.cursor)
        ready = {
            "user": session.user,
            "connection": session.id,
            "cursor": cursor,
            "expires_in_s": _rounded(session.expires_in_s(self._hub.wall_s())),
            **entrance.subscription.reply(),
        }
        activate(self._hub, session, entrance, hub_event("tidings:ready", ready, cursor=cursor))

    def on_ack(self, client: Client, number: int) -> bool:
        """A client acknowledged something: a publication, since the hub asks for no other acknowledgement."""
        session: Session[Connection] | None = client.session
        return session is not None and self._hub.deliveries.acknowledge(session.id, number)

    def _connect(self, sid: str, environ: object, auth: object) -> None:
        client = self._server.client(sid)
        hub = self._hub
        try:
            asked = auth if isinstance(auth, Mapping) else {}
            wanted = ConnectRequest(
                asked.get("token"),
                _asked(asked, "channels"),
                _asked(asked, "presence"),
                _since(asked),
                asked.get("pid", ""),
                asked.get("offset"),
            )
            claims, back = identify(hub, wanted, client.connection.remote)
            client.session = hub.open(_connection(client), claims)
            entrance = open_session(hub, client.session, wanted, back)
        except TidingsError as error:
            self._refuse(client, error)
        else:
            self._entering[client] = entrance
            client.answer = entrance.answer
            # The CONNECT answer, `tidings:ready` and what was missed go out in one write (see `HubServer._connect`).
            client.connection.cork()

    def _refuse(self, client: Client, error: TidingsError) -> None:
        if client.session is not None:
            self._hub.close(client.session)
            client.session = None
        if error.code.should_reconnect:
            # A stock client that is answered CONNECT_ERROR gives up for good; one whose
            # transport closes comes back by itself after a back-off.
            client.connection.close(error.code.name)
        raise Refused(str(error), error.to_wire())

    def _disconnect(self, sid: str, reason: object = None) -> None:
        client = self._server.client(sid)
        if client.session is not None:
            entrance = self._entering.pop(client, None)
            self._hub.close(client.session, str(reason))
            if entrance is not None:
                # It went away between its CONNECT and the answer: give the channels back.
                go_live(self._hub, client.session, entrance.subscription)
            client.session = None

    def _handler(self, answer: Callable[[Session[Connection], Mapping[str, Any]], Answer]) -> Callable[..., Answer]:
        def handle(sid: str, *arguments: object) -> Answer:
            try:
                session = self._server.client(sid).session
                return answer(session, _object(arguments))
            except TidingsError as error:
                return {"error": error.to_wire()}
            except Exception:
                self._hub.metrics.handler_errors += 1
                logger.exception("a client event failed")
                return {"error": Internal().to_wire()}

        return handle

    def _subscribe(self, session: Session[Connection], asked: Mapping[str, Any]) -> Answer:
        names, presence = _asked(asked, "channels"), _asked(asked, "presence")
        if not names and not presence:
            raise BadChannel("no channel given; name those that you want")
        joined = subscribe(self._hub, session, names, _since(asked), presence)
        # What was missed goes out before the acknowledgement: a client that is cut off
        # in between has no answer and asks again with the same cursor.
        go_live(self._hub, session, joined)
        return {"cursor": str(joined.position), **joined.reply()}

    def _unsubscribe(self, session: Session[Connection], asked: Mapping[str, Any]) -> Answer:
        presence = [presence_channel(check_channel(name)) for name in _asked(asked, "presence")]
        channels = [] if presence and "channels" not in asked else check_channels(asked.get("channels"))
        if user_channel(session.user) in channels:
            raise BadChannel("a user's own channel cannot be left; it goes with the connection")
        self._hub.unsubscribe(session, [*channels, *presence])
        return {}

    def _publish(self, session: Session[Connection], asked: Mapping[str, Any]) -> Answer:
        hub = self._hub
        channel = check_channel(asked.get("channel"))
        hub.access.check_publish(session.claims, channel)
        given = asked.get("id")
        at_ms = time.time_ns() // 1_000_000
        id_ = new_id(at_ms) if given is None else given
        event, data = check_event(asked.get("event")), asked.get("data")
        data_json = encode_data(data, max_bytes=hub.settings.publication_max_bytes)
        body = encode_body(event, data_json, id=id_, at_ms=at_ms)
        hub.authorizers.publish(session, channel, event, data)
        keep_s = OWN_ID_S if given is None else CALLER_ID_S
        (result,) = hub.publish([OutgoingPublication(channel, body, id_, keep_s)])
        if isinstance(result, TidingsError):
            raise result
        return {"id": result.id, "cursor": result.cursor, "duplicate": result.duplicate}

    def _history(self, session: Session[Connection], asked: Mapping[str, Any]) -> Answer:
        hub = self._hub
        channel = check_channel(asked.get("channel"))
        hub.access.check_read_history(session.claims, channel)
        if "subscribe" in hub.authorizers.handles and channel not in session.channels:
            # Whoever is asked beyond the rules was asked when it subscribed, and is not asked once more.
            raise Forbidden(f"subscribe to {channel} first: whether you may read it is decided there")
        limit = asked.get("limit", 100)
        if type(limit) is not int or not 1 <= limit <= hub.settings.history_page_max:
            hub.metrics.history_limited += 1
            raise BadRequest(f"limit must be a whole number from 1 to {hub.settings.history_page_max}")
        since = _since(asked)
        position, publications = hub.history(channel, since=since, limit=limit, newest=since is None)
        return {"cursor": str(position), "publications": [each.to_wire() for each in publications]}

    def _presence(self, session: Session[Connection], asked: Mapping[str, Any]) -> Answer:
        return self._hub.presence.members_for(session, check_channel(asked.get("channel"))).to_wire()

    def _refresh(self, session: Session[Connection], asked: Mapping[str, Any]) -> Answer:
        left = self._hub.refresh(session, asked.get("token"))
        return {"expires_in_s": _rounded(session.expires_in_s(self._hub.wall_s())), "left": sorted(left)}

    def _unknown(self, event: object, sid: str, *arguments: object) -> Answer:
        error = BadRequest("no such event; publish with tidings:publish, see PROTOCOL.md section 5")
        return {"error": error.to_wire()}


def _connection(client: Client) -> Connection:
    connection: Connection = client.connection
    return connection


def _object(arguments: tuple[object, ...]) -> Mapping[str, Any]:
    if len(arguments) != 1 or not isinstance(arguments[0], Mapping):
        raise BadRequest("send one object as the event's only argument")
    return arguments[0]


def _asked(asked: Mapping[str, Any], what: str) -> list[object]:
    names = asked.get(what)
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadChannel(f"{what} must be a list of strings")
    return list(names)


def _since(asked: Mapping[str, Any]) -> Cursor | None:
    since = asked.get("since")
    return None if since is None else Cursor.parse(since)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
