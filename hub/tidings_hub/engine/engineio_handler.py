"""Handle Engine.IO requests over HTTP: handshakes, polls, POSTs and the start of upgrades."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Protocol

from tidings.errors import BadPacket
from tidings_hub import runtime
from tidings_hub.core.frame import text_frame
from tidings_hub.engine.application import HandshakeRequest
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.poll_handler import PollHandler, is_proxied
from tidings_hub.engine.protocols import engineio, websocket
from tidings_hub.engine.protocols.engineio import EngineioError, RequestAction, TransportKind, UpgradeState
from tidings_hub.engine.protocols.http_query import parse_query
from tidings_hub.engine.protocols.request_history import UNLIMITED, RequestHistory
from tidings_hub.engine.protocols.request_id import TIME_ID_DELAY_S, is_time_id, request_id
from tidings_hub.engine.upgrade import UpgradeProbe, log_missing_upgrade

if TYPE_CHECKING:
    from tidings_hub.engine.http_connection import HttpConnection
    from tidings_hub.engine.mount import Mount
    from tidings_hub.engine.protocols.http_request import RequestHead

# python-engineio (4.15.1) rejects a payload of more than 16 packets with "Too many packets in payload"
# (`Payload.max_decode_packets`). Its clients use requests or aiohttp, so these User-Agent headers identify them. A
# wrong guess only changes the number of packets per response.
_PYTHON_CLIENTS = ("python-requests/", "Python/")
_PYTHON_PACKETS_MAX = 16


class SessionRelay(Protocol):
    """Forwards requests of sessions that other nodes own."""

    def owner_elsewhere(self, http_connection: HttpConnection, head: RequestHead, sid: str) -> str:
        """Return the id of the other node that owns `sid`, or an empty string if the request must not be forwarded."""

    def forward(
        self, http_connection: HttpConnection, head: RequestHead, body: bytes, sid: str, *, wait_s: float
    ) -> bool:
        """Forward a request to the owner of `sid`. Return False if there is no other owner."""


class EngineioHandler:
    """Handles the Engine.IO requests of one mount."""

    __slots__ = ("_match_repeated_poll", "_polls", "is_draining", "mount", "relay")

    def __init__(self, mount: Mount, path: str, relay: SessionRelay | None = None) -> None:
        self.mount = mount
        self._polls = PollHandler(mount)
        # Matches the request line of a poll as all known clients send it: without escapes or repeated fields.
        self._match_repeated_poll = re.compile(
            rb"GET %b/?\?EIO=%b&transport=polling(?:&t=([\w.-]+))?&sid=([\w-]+) HTTP/1\.1\r\n"
            % (re.escape(path.rstrip("/").encode()), engineio.VERSION.encode())
        ).fullmatch
        # While true, existing sessions continue and new ones are refused.
        self.is_draining = False
        # None: there are no other nodes, so an unknown session id is an error.
        self.relay = relay

    # --- the interface of `RequestHandler` ---

    def accept_body(self, http_connection: HttpConnection, head: RequestHead) -> int | None:
        """Decide on a request whose body follows: return the body's limit in bytes, or None if it was refused."""
        connection, action = self._decide(head)
        if action is engineio.UNKNOWN_SESSION and self._is_owned_elsewhere(http_connection, head):
            return self.mount.options.max_payload_bytes
        if action is not RequestAction.POST or connection is None:
            self._refuse(http_connection, action if isinstance(action, EngineioError) else engineio.BAD_REQUEST)
            return None
        if connection.post is not None:
            self._polls.refuse_concurrent_post(http_connection, connection, head, connection.post)
            return None
        connection.mark_alive()
        connection.post = http_connection
        http_connection.post_target = connection
        return self.mount.options.max_payload_bytes

    def on_body_too_large(self, http_connection: HttpConnection) -> None:
        """Refuse a POST whose body exceeds the limit, and close its session."""
        target, http_connection.post_target = http_connection.post_target, None
        if target is not None:
            target.post = None
            target.end("too_large", websocket.TOO_BIG)
            self._polls.refuse_post(http_connection, engineio.TOO_LARGE, "too_large")
        else:
            self._refuse(http_connection, engineio.TOO_LARGE)

    def handle(self, http_connection: HttpConnection, head: RequestHead, body: bytes) -> None:
        """Respond to a complete request, now or later."""
        target, http_connection.post_target = http_connection.post_target, None
        if target is not None:
            # The POST was allowed when its head arrived. It stays valid if the session was upgraded since then.
            target.post = None
            if target.closed:
                self._polls.refuse_closed(http_connection, target.sid)
            else:
                self._polls.post(http_connection, target, head, body)
            return
        connection, action = self._decide(head)
        if isinstance(action, EngineioError):
            if action is engineio.UNKNOWN_SESSION and (
                self._polls.respond_after_close(http_connection, head, _sid_of(head))
                or self._forward(http_connection, head, body)
            ):
                return
            log_missing_upgrade(self.mount.context.log, head)
            self._refuse(http_connection, action)
        elif action is RequestAction.OPEN_POLLING:
            self._open_polling(http_connection, head)
        elif action is RequestAction.OPEN_WEBSOCKET:
            self._open_websocket(http_connection, head)
        elif connection is not None:
            self._handle_session_request(http_connection, head, connection, action, body)

    def try_repeat(self, http_connection: HttpConnection, line: bytes) -> bool:
        """Handle a poll without parsing its whole head. Return False for all other requests. See `RequestHandler`."""
        match = self._match_repeated_poll(line)
        connection = self.mount.sessions.get(match[2].decode()) if match is not None else None
        if match is None or connection is None or connection.poll is not None:
            return False
        if connection.upgrade_state is not UpgradeState.POLLING or connection.close_if_overdue():
            return False
        return self._polls.accept_next(http_connection, connection, match[1])

    # --- requests of unknown sessions ---

    def _is_owned_elsewhere(self, http_connection: HttpConnection, head: RequestHead) -> bool:
        return self.relay is not None and bool(self.relay.owner_elsewhere(http_connection, head, _sid_of(head)))

    def _forward(self, http_connection: HttpConnection, head: RequestHead, body: bytes) -> bool:
        """Forward the request if another node owns the session. Return whether it was forwarded."""
        if self.relay is None:
            return False
        options = self.mount.options
        # The owner responds to every poll within a ping interval.
        wait_s = (options.ping_interval_ms + options.ping_timeout_ms) / 1000
        return self.relay.forward(http_connection, head, body, _sid_of(head), wait_s=wait_s)

    # --- requests of sessions ---

    def _decide(self, head: RequestHead) -> tuple[Connection | None, RequestAction | EngineioError]:
        query = parse_query(head)
        if query is None:
            return None, engineio.BAD_REQUEST
        sid = query.get("sid")
        if sid is None:
            if self.is_draining:
                return None, engineio.DRAINING
            return None, engineio.open_action(head.method, query, upgrade=head.wants_websocket)
        connection = self.mount.sessions.get(sid)
        # The wheel may be late by its granularity. A request after the deadline must still be refused.
        if connection is not None and connection.close_if_overdue():
            connection = None
        state = connection.upgrade_state if connection is not None else None
        return connection, engineio.session_action(head.method, query, state, upgrade=head.wants_websocket)

    def _handle_session_request(
        self,
        http_connection: HttpConnection,
        head: RequestHead,
        connection: Connection,
        action: RequestAction,
        body: bytes,
    ) -> None:
        connection.mark_alive()
        if action is RequestAction.POLL and connection.history.has_time_ids:
            http_connection.pause(TIME_ID_DELAY_S, self._poll_later, http_connection, head)
        elif action is RequestAction.POLL:
            self._polls.poll(http_connection, connection, head)
        elif action is RequestAction.POST:
            # A POST without a body is an empty payload, which `post` refuses.
            self._polls.post(http_connection, connection, head, body)
        else:
            response = self._handshake_response(http_connection, head)
            fd = None if response is None else http_connection.accept_upgrade(response)
            if fd is None:
                return
            if action is RequestAction.PROBE:
                probe = UpgradeProbe(connection, fd)
                self.mount.pump.reassign(fd, probe)
                http_connection.feed_remaining(probe)
            else:
                self.mount.pump.linger(fd, None, websocket.close_frame(websocket.NORMAL))

    # --- handshakes ---

    def _open_packet(self, connection: Connection, upgrades: tuple[str, ...]) -> bytes:
        options = self.mount.options
        return engineio.open_packet(
            connection.sid,
            upgrades,
            ping_interval_ms=options.ping_interval_ms,
            ping_timeout_ms=options.ping_timeout_ms,
            max_payload_bytes=options.max_payload_bytes,
        )

    def _poll_later(self, http_connection: HttpConnection, head: RequestHead) -> None:
        """Handle a poll that was delayed. Its session may have ended or moved to a WebSocket meanwhile."""
        connection, action = self._decide(head)
        if connection is not None and action is RequestAction.POLL:
            self._polls.poll(http_connection, connection, head)
        else:
            self.handle(http_connection, head, b"")

    def _open_polling(self, http_connection: HttpConnection, head: RequestHead, *, is_late: bool = False) -> None:
        query = parse_query(head) or {}
        t = query.get("t")
        has_time_ids = is_time_id(t, runtime.unix_s())
        if has_time_ids and not is_late:
            http_connection.pause(TIME_ID_DELAY_S, partial(self._open_polling, is_late=True), http_connection, head)
            return
        if self.mount.refuse_if_crowded(http_connection):
            return
        is_python = head.headers.get("user-agent", "").startswith(_PYTHON_CLIENTS)
        history = RequestHistory(
            request_id(t),
            # A poll may be repeated through another node, while the last response is still on its way.
            is_proxied=self.relay is not None or is_proxied(http_connection, head),
            packets_max=_PYTHON_PACKETS_MAX if is_python else UNLIMITED,
            has_time_ids=has_time_ids,
        )
        sid, remote = self.mount.new_sid(), http_connection.remote
        connection = Connection(
            self.mount,
            sid,
            TransportKind.POLLING,
            remote,
            history=history,
            is_text_only=engineio.wants_text_only(query),
        )
        open_packet = self._open_packet(connection, ("websocket",))
        connection.send_packet(open_packet)
        # Respond to the handshake like to a poll, after `on_open`, to include packets that the application sends there.
        connection.poll = http_connection
        history.carry(http_connection)
        http_connection.wait_for(connection)
        connection.cork()
        self.mount.admit(connection, _handshake_request(http_connection, head, query, TransportKind.POLLING))
        if connection.out is not None and len(connection.out.parts) == 1:
            # The open packet alone. No other session has it, so it needs no place in the cache of responses.
            connection.out = None
            connection.respond_to_poll(open_packet)
        connection.uncork()
        history.start_session()

    def _open_websocket(self, http_connection: HttpConnection, head: RequestHead) -> None:
        if self.mount.refuse_if_crowded(http_connection):
            return
        response = self._handshake_response(http_connection, head)
        if response is None:
            return
        query = parse_query(head) or {}
        fd, remote = http_connection.release_fd(), http_connection.remote
        connection = Connection(
            self.mount,
            self.mount.new_sid(),
            TransportKind.WEBSOCKET,
            remote,
            fd=fd,
            is_text_only=engineio.wants_text_only(query),
        )
        self.mount.pump.reassign(fd, connection)
        connection.cork()
        # The handshake response and the open packet leave in one write. Browsers accept a frame in the same segment.
        connection.write(response + text_frame(self._open_packet(connection, ())))
        self.mount.admit(connection, _handshake_request(http_connection, head, query, TransportKind.WEBSOCKET))
        connection.uncork()
        http_connection.feed_remaining(connection)

    def _handshake_response(self, http_connection: HttpConnection, head: RequestHead) -> bytes | None:
        try:
            return websocket.handshake_response(head.headers)
        except BadPacket:
            self._refuse(http_connection, engineio.BAD_REQUEST)
            return None

    # --- responses ---

    def _refuse(self, http_connection: HttpConnection, error: EngineioError) -> None:
        self.mount.metrics.http_refused += 1
        # A load balancer must not keep idle connections to a node that is shutting down.
        http_connection.refuse(error.status, error.body(), close=error is engineio.DRAINING)


def _sid_of(head: RequestHead) -> str:
    return (parse_query(head) or {}).get("sid", "")


def _handshake_request(
    http_connection: HttpConnection, head: RequestHead, query: dict[str, str], kind: TransportKind
) -> HandshakeRequest:
    remote, secure = http_connection.remote, http_connection.secure
    return HandshakeRequest(head.path, query, head.headers, remote, secure, kind)
