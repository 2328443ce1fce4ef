"""Handle the polls and POSTs of polling sessions, including those that a proxy or a browser sends again.

`protocols/request_history.py` decides. This module reads the state of the sockets for it, and does what it decided.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from tidings.errors import BadPacket
from tidings_hub import runtime
from tidings_hub.engine.protocols import engineio, http_response, websocket
from tidings_hub.engine.protocols.engineio import TRANSPORT_CLOSE, UpgradeState
from tidings_hub.engine.protocols.http_query import parse_query
from tidings_hub.engine.protocols.request_history import PollDecision
from tidings_hub.engine.protocols.request_id import TIME_ID_DELAY_S, request_id
from tidings_hub.log import log_rate_limited

if TYPE_CHECKING:
    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.connection_input import ResponseWriter
    from tidings_hub.engine.http_connection import HttpConnection
    from tidings_hub.engine.mount import Mount
    from tidings_hub.engine.protocols.http_request import RequestHead
    from tidings_hub.engine.protocols.request_history import RequestHistory

_OK = b"ok"
# A client sends its pong at the same time as its next poll. On a slow network the two arrive seconds apart. If
# `ping_timeout_s` is shorter, it applies.
_PONG_WAIT_S: Final = 3.0
# By how much the refusal of a POST follows the last packets of its session.
_LAST_PACKETS_S: Final = 0.25
# Header fields that show that a proxy forwarded a request. Envoy and Istio send only the last ones by default.
_PROXY_FIELDS: Final = frozenset(
    {
        *("x-forwarded-for", "forwarded", "via", "x-real-ip", "x-forwarded-host", "x-forwarded-port"),
        *("x-forwarded-proto", "x-request-id", "x-envoy-expected-rq-timeout-ms", "x-envoy-attempt-count"),
    }
)


def poll_id_of(head: RequestHead) -> int:
    """Return the `request_id` of a request."""
    return request_id((parse_query(head) or {}).get("t"))


def is_proxied(http_connection: HttpConnection, head: RequestHead) -> bool:
    """Whether a proxy or another node forwarded a request. nginx sends HTTP/1.0 and no such field by default."""
    return http_connection.is_relayed or head.version == "1.0" or not _PROXY_FIELDS.isdisjoint(head.headers)


class PollHandler:
    """Handles the polls and POSTs of one mount's sessions."""

    __slots__ = ("mount",)

    def __init__(self, mount: Mount) -> None:
        self.mount = mount

    # --- polls ---

    def accept_next(self, http_connection: HttpConnection, connection: Connection, t: bytes | None) -> bool:
        """Handle a poll that is certainly the next one. Return False, and change nothing, if it may be a repeat.

        The session is not upgrading, and no poll of it waits.

        `t`: the poll's query field of this name.
        """
        poll_id = request_id(t.decode()) if t else 0
        if not connection.history.accept_certain(poll_id, http_connection):
            return False
        connection.mark_alive()
        connection.poll = http_connection
        http_connection.wait_for(connection)
        if not self.mount.pace(connection):
            connection.flush()
        return True

    def poll(self, http_connection: HttpConnection, connection: Connection, head: RequestHead) -> None:
        """Handle any poll of an open session."""
        history = connection.history
        history.is_proxied = history.is_proxied or is_proxied(http_connection, head)
        decision = _decide(history, poll_id_of(head), http_connection, is_waiting=connection.poll is not None)
        if decision is PollDecision.ACCEPT:
            self._start(http_connection, connection)
        elif decision is PollDecision.REPLAY:
            self.mount.metrics.polls_repeated += 1
            http_connection.respond(history.replay())
        elif decision is PollDecision.REPLACE:
            self._replace(http_connection, connection)
        elif decision is PollDecision.AWAIT_PONG:
            self._hold(http_connection, connection)
        elif decision is PollDecision.REFUSE_OUTDATED:
            self._refuse(http_connection, engineio.BAD_REQUEST)
        elif decision is PollDecision.END_SESSION:
            # A poll that still waits gets the same response.
            self._end_unproven(connection)
            self._refuse(http_connection, engineio.UNKNOWN_SESSION)
        else:
            connection.end("bad_packet", websocket.PROTOCOL_ERROR)
            self._refuse(http_connection, engineio.BAD_REQUEST, "bad_packet")

    def _start(self, http_connection: HttpConnection, connection: Connection) -> None:
        _let_wait(http_connection, connection)
        if connection.out is None and connection.upgrade_state is UpgradeState.PROBED:
            connection.respond_to_poll(engineio.NOOP)
        elif not self.mount.pace(connection):
            connection.flush()

    def _replace(self, http_connection: HttpConnection, connection: Connection) -> None:
        self.mount.metrics.polls_repeated += 1
        if http_connection.is_closed_by_client():
            # The repeat was read first, and this is the original: its client waits on the other connection.
            http_connection.abort()
            return
        if connection.poll is not None:
            _supersede(connection.poll)
        _let_wait(http_connection, connection)

    def _hold(self, http_connection: HttpConnection, connection: Connection) -> None:
        _let_wait(http_connection, connection)
        wait_s = min(_PONG_WAIT_S, self.mount.options.ping_timeout_ms / 1000)
        until_s = runtime.now_s() + wait_s
        connection.hold_poll(until_s)
        runtime.call_later(wait_s, self._on_pong_overdue, connection, until_s)

    def _on_pong_overdue(self, connection: Connection, until_s: float) -> None:
        # A later poll of the session may be held by now, even on the same connection. That one has time left.
        if connection.history.held_until_s == until_s:
            self._end_unproven(connection)

    def _end_unproven(self, connection: Connection) -> None:
        """End a session whose client may not have the last response. A held poll gets "unknown session"."""
        self.mount.metrics.polls_unproven += 1
        log_rate_limited(
            self.mount.context.log,
            logging.INFO,
            "unproven poll",
            "session of %s ended: its poll may be a repeat, and the last response may be lost; the client reconnects",
            connection.remote,
        )
        connection.end(TRANSPORT_CLOSE, 0)

    # --- polls of closed sessions ---

    def respond_after_close(self, http_connection: HttpConnection, head: RequestHead, sid: str) -> bool:
        """Respond to a poll of a closed session with its next final payload. Return False if there is none."""
        closed = self.mount.close_payloads.find(sid) if head.method == "GET" else None
        if closed is None:
            return False
        history = closed.history
        decision = _decide(history, poll_id_of(head), http_connection, is_waiting=False)
        if decision is PollDecision.REPLAY:
            self.mount.metrics.polls_repeated += 1
            http_connection.respond(history.replay())
            return True
        payload = self.mount.close_payloads.pop(sid)
        # A close packet hides no loss: the session has ended for good.
        is_last = decision is PollDecision.AWAIT_PONG and payload == engineio.CLOSE
        if payload is None or not (is_last or decision is PollDecision.ACCEPT):
            # The client reconnects and recovers. Later packets would hide that it missed the last response.
            self.mount.close_payloads.discard(sid)
            if closed.error:
                self._refuse(http_connection, engineio.UNKNOWN_SESSION, closed.error)
            return bool(closed.error)
        history.carry(http_connection)
        response = http_response.render(200, payload, extra_headers=http_connection.extra_headers)
        http_connection.respond(history.keep_final(response))
        return True

    # --- POSTs ---

    def refuse_concurrent_post(
        self, http_connection: HttpConnection, connection: Connection, head: RequestHead, first: ResponseWriter
    ) -> None:
        """Refuse a POST that arrives while the body of the `first` one is incomplete, and end the session.

        The order of the packets of two concurrent POSTs is unknown (Engine.IO v4, HTTP long-polling). The client is not
        at fault if a proxy, or its HTTP library after the connection broke, may have sent the first one again.
        """
        if connection.history.is_proxied or is_proxied(http_connection, head) or first.is_closed_by_client():
            connection.end(TRANSPORT_CLOSE, 0)
            self._refuse(http_connection, engineio.UNKNOWN_SESSION)
        else:
            connection.end("bad_packet", websocket.PROTOCOL_ERROR)
            self.refuse_post(http_connection, engineio.BAD_REQUEST, "bad_packet")

    def refuse_post(self, http_connection: HttpConnection, error: engineio.EngineioError, code: str) -> None:
        """Refuse a POST that has ended its session with `code`.

        The session's last packets are on their way to its poll. A client that receives the refusal first drops them.
        """
        http_connection.pause(_LAST_PACKETS_S, self._refuse, http_connection, error, code)

    def post(self, http_connection: HttpConnection, connection: Connection, head: RequestHead, body: bytes) -> None:
        """Handle a POST: pass its packets to the application, unless it is a repeat."""
        if connection.history.is_repeated_post(poll_id_of(head), hash(body)):
            self.mount.metrics.posts_repeated += 1
            connection.count_packet()
            self._respond_ok(http_connection)
            return
        if not connection.count_input(len(body)):
            self._respond_ok(http_connection)
            return
        is_malformed = False
        connection.cork()
        try:
            for kind, content in engineio.decode_payload(body):
                if connection.closed or not connection.count_packet():
                    break
                connection.on_packet(kind, content)
        except BadPacket:
            is_malformed = not connection.closed
        connection.uncork()
        if is_malformed:
            connection.end("bad_packet", websocket.PROTOCOL_ERROR)
            self.refuse_post(http_connection, engineio.BAD_REQUEST, "bad_packet")
        elif connection.history.has_time_ids and poll_id_of(head):
            http_connection.pause(TIME_ID_DELAY_S, self._respond_ok, http_connection)
        else:
            self._respond_ok(http_connection)

    def _respond_ok(self, http_connection: HttpConnection) -> None:
        extra_headers = http_connection.extra_headers
        http_connection.respond(http_response.render(200, _OK, content_type=b"text/html", extra_headers=extra_headers))

    def refuse_closed(self, http_connection: HttpConnection, sid: str) -> None:
        """Refuse a request of a closed session, with the code of the close if it is still known."""
        closed = self.mount.close_payloads.find(sid)
        self._refuse(http_connection, engineio.UNKNOWN_SESSION, "" if closed is None else closed.code)

    def _refuse(self, http_connection: HttpConnection, error: engineio.EngineioError, name: str = "") -> None:
        self.mount.metrics.http_refused += 1
        http_connection.refuse(error.status, error.body(name))


def _decide(
    history: RequestHistory, poll_id: int, http_connection: HttpConnection, *, is_waiting: bool
) -> PollDecision:
    is_intact, carrier = True, history.carrier
    if is_waiting and carrier is not None:
        is_intact = not carrier.is_closed_by_client()
    elif carrier is not http_connection and history.lacks_proof(poll_id):
        is_intact = history.is_carrier_intact(http_connection.remote)
    return history.decide(poll_id, is_waiting=is_waiting, is_carrier_intact=is_intact)


def _let_wait(http_connection: HttpConnection, connection: Connection) -> None:
    connection.poll = http_connection
    connection.history.carry(http_connection)
    http_connection.wait_for(connection)


def _supersede(waiting: ResponseWriter) -> None:
    """Refuse a waiting poll whose repeat takes its place. Its session continues."""
    waiting.stop_waiting()
    waiting.refuse(engineio.BAD_REQUEST.status, engineio.BAD_REQUEST.body(), close=True)
