"""Engine.IO requests over HTTP: handshakes, polls, posts and the beginning of upgrades."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from tidings.errors import BadPacket
from tidings_hub.core.frame import text_frame
from tidings_hub.engine import engineio as protocol
from tidings_hub.engine import http, websocket
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.engineio import Kind, Phase, Refusal, Step
from tidings_hub.engine.interfaces import Opening
from tidings_hub.engine.upgrade import Probing

if TYPE_CHECKING:
    from tidings_hub.engine.http import Head
    from tidings_hub.engine.http_connection import Link
    from tidings_hub.engine.mount import Mount

_FIELDS_MAX = 50
_OK = b"ok"
# python-engineio refuses an answer of more than 16 packets ("Too many packets in payload",
# `Payload.max_decode_packets`, 4.15.1); it speaks HTTP by requests or aiohttp. Nothing but the
# size of answers depends on it.
_PYTHON_CLIENTS = ("python-requests/", "Python/")
_PYTHON_PACKETS_MAX = 16


def query_of(head: Head) -> dict[str, str] | None:
    """The query's fields, the first value of each; None when it is no query or says one of ours twice."""
    text = head.query
    if "%" in text or "+" in text or text.count("&") >= _FIELDS_MAX:
        try:
            pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
        except ValueError:
            return None
    else:
        # What clients send in every poll: nothing to decode, and three times as fast.
        pairs = [(name, value) for name, _, value in [field.partition("=") for field in text.split("&")] if name]
    query: dict[str, str] = {}
    for name, value in pairs:
        if name in query and name in ("EIO", "transport", "sid"):
            return None
        query.setdefault(name, value)
    return query


class Front:
    """Decides what an Engine.IO request of one mount gets."""

    __slots__ = ("_again", "draining", "mount")

    def __init__(self, mount: Mount, path: str) -> None:
        self.mount = mount
        # The next poll as every known client asks for it: nothing to decode, nothing twice.
        self._again = re.compile(
            rb"GET %b/?\?EIO=%b&transport=polling(?:&t=[\w.-]+)?&sid=([\w-]+) HTTP/1\.1\r\n"
            % (re.escape(path.rstrip("/").encode()), protocol.VERSION.encode())
        ).fullmatch
        # While true, sessions go on and no new one is opened.
        self.draining = False

    def begin(self, link: Link, head: Head) -> int | None:
        """A request whose body is still to be read: how many bytes it may have, or None when it was refused."""
        connection, step = self._decide(head)
        if step is protocol.UNKNOWN_SESSION and self._is_foreign(link, head):
            return self.mount.options.max_payload_bytes
        if step is not Step.POST or connection is None:
            self._refuse(link, step if isinstance(step, Refusal) else protocol.BAD_REQUEST)
            return None
        if connection.post is not None:
            # Two at once: which came first is lost, and with it the order (Engine.IO v4, HTTP long-polling).
            self._end(connection, "bad_packet", websocket.PROTOCOL_ERROR)
            self._refuse(link, protocol.BAD_REQUEST)
            return None
        connection.seen()
        connection.post = link
        link.posting = connection
        return self.mount.options.max_payload_bytes

    def too_large(self, link: Link) -> None:
        """The body that `begin` allowed is larger than it may be."""
        posting, link.posting = link.posting, None
        if posting is not None:
            posting.post = None
            self._end(posting, "too_large", websocket.TOO_BIG)
        self._refuse(link, protocol.TOO_LARGE)

    def finish(self, link: Link, head: Head, body: bytes) -> None:
        """A complete request."""
        posting, link.posting = link.posting, None
        if posting is not None:
            # Decided when its head was read: an upgrade meanwhile does not make its packets wrong.
            posting.post = None
            if posting.closed:
                self._refuse(link, protocol.UNKNOWN_SESSION)
            else:
                self._post(link, posting, body)
            return
        connection, step = self._decide(head)
        if isinstance(step, Refusal):
            words = self._last_words(head) if step is protocol.UNKNOWN_SESSION else None
            if step is protocol.UNKNOWN_SESSION and words is None and self._carry(link, head, body):
                return
            if words is None:
                self._refuse(link, step)
            else:
                link.answer(http.response(200, words, extra=link.extra))
        elif step is Step.OPEN_POLLING:
            self._open_polling(link, head)
        elif step is Step.OPEN_WEBSOCKET:
            self._open_websocket(link, head)
        elif connection is not None:
            self._session(link, head, connection, step, body)

    def again(self, link: Link, line: bytes) -> bool:
        """The next poll of a session that is polling and that nothing is wrong with; the rest is decided anew."""
        asked = self._again(line)
        connection = self.mount.sessions.get(asked[1].decode()) if asked is not None else None
        if connection is None or connection.phase is not Phase.POLLING or connection.poll is not None:
            return False
        if connection.overdue():
            return False
        connection.seen()
        self._poll(link, connection)
        return True

    def _last_words(self, head: Head) -> bytes | None:
        sid = (query_of(head) or {}).get("sid", "")
        return self.mount.last_words.take(sid) if head.method == "GET" else None

    def _is_foreign(self, link: Link, head: Head) -> bool:
        relay = self.mount.shared.relay
        return relay is not None and bool(relay.foreign(link, head, (query_of(head) or {}).get("sid", "")))

    def _carry(self, link: Link, head: Head, body: bytes) -> bool:
        """Whether the session lives on another node: then the request is on its way there."""
        relay = self.mount.shared.relay
        if relay is None:
            return False
        options = self.mount.options
        # The owner answers every poll within a ping interval.
        wait_s = (options.ping_interval_ms + options.ping_timeout_ms) / 1000
        return relay.carry(link, head, body, (query_of(head) or {}).get("sid", ""), wait_s=wait_s)

    def _decide(self, head: Head) -> tuple[Connection | None, Step | Refusal]:
        query = query_of(head)
        if query is None:
            return None, protocol.BAD_REQUEST
        sid = query.get("sid")
        if sid is None:
            if self.draining:
                return None, protocol.DRAINING
            return None, protocol.opening(head.method, query, upgrade=head.wants_upgrade)
        connection = self.mount.sessions.get(sid)
        # The wheel may be up to one step late; a request after the deadline must not be.
        if connection is not None and connection.overdue():
            connection = None
        phase = connection.phase if connection is not None else None
        return connection, protocol.request(head.method, query, phase, upgrade=head.wants_upgrade)

    def _session(self, link: Link, head: Head, connection: Connection, step: Step, body: bytes) -> None:
        connection.seen()
        if step is Step.POLL:
            self._poll(link, connection)
        elif step is Step.POST:
            # A POST without a body: an empty payload, which is no packet.
            self._post(link, connection, body)
        else:
            fd = self._shake(link, head)
            if fd is None:
                return
            if step is Step.PROBE:
                probing = Probing(connection, fd)
                self.mount.pump.give(fd, probing)
                link.hand_bytes_to(probing)
            else:
                self.mount.pump.linger(fd, None, websocket.close_frame(websocket.NORMAL))

    def _poll(self, link: Link, connection: Connection) -> None:
        if connection.poll is not None:
            self._end(connection, "bad_packet", websocket.PROTOCOL_ERROR)
            self._refuse(link, protocol.BAD_REQUEST)
            return
        out = connection.out
        if out is None and connection.phase is Phase.PROBED:
            link.answer(http.response(200, protocol.NOOP, extra=link.extra))
            return
        connection.poll = link
        link.wait(connection)
        if not self.mount.pace(connection):
            connection.flush()

    def _post(self, link: Link, connection: Connection, body: bytes) -> None:
        try:
            packets = protocol.payload(body)
        except BadPacket:
            self._end(connection, "bad_packet", websocket.PROTOCOL_ERROR)
            self._refuse(link, protocol.BAD_REQUEST)
            return
        connection.cork()
        for heard, content in packets:
            if connection.closed or not connection.lives():
                break
            connection.hear_packet(heard, content)
        connection.uncork()
        link.answer(http.response(200, _OK, kind=b"text/html", extra=link.extra))

    def _end(self, connection: Connection, reason: str, number: int) -> None:
        connection.end(reason, number)

    def _opening(self, link: Link, head: Head, kind: Kind) -> Opening:
        return Opening(head.path, query_of(head) or {}, head.headers, link.remote, link.secure, kind)

    def _handshake(self, connection: Connection, upgrades: tuple[str, ...]) -> bytes:
        options = self.mount.options
        return protocol.open_packet(
            connection.sid,
            upgrades,
            ping_interval_ms=options.ping_interval_ms,
            ping_timeout_ms=options.ping_timeout_ms,
            max_payload_bytes=options.max_payload_bytes,
        )

    def _open_polling(self, link: Link, head: Head) -> None:
        if self.mount.crowded(link):
            return
        connection = Connection(self.mount, self.mount.new_sid(), Kind.POLLING, link.remote)
        if head.headers.get("user-agent", "").startswith(_PYTHON_CLIENTS):
            connection.packets_max = _PYTHON_PACKETS_MAX
        connection.push(self._handshake(connection, ("websocket",)))
        # The handshake is answered as a poll is; what the application sends at once comes with it.
        connection.poll = link
        link.wait(connection)
        connection.cork()
        self.mount.admit(connection, self._opening(link, head, Kind.POLLING))
        connection.uncork()

    def _open_websocket(self, link: Link, head: Head) -> None:
        if self.mount.crowded(link):
            return
        answer = self._answer_handshake(link, head)
        if answer is None:
            return
        fd = link.take()
        connection = Connection(self.mount, self.mount.new_sid(), Kind.WEBSOCKET, link.remote, fd=fd)
        self.mount.pump.give(fd, connection)
        connection.cork()
        # In one write: browsers read the first frame with the handshake.
        connection.write(answer + text_frame(self._handshake(connection, ())))
        self.mount.admit(connection, self._opening(link, head, Kind.WEBSOCKET))
        connection.uncork()
        link.hand_bytes_to(connection)

    def _shake(self, link: Link, head: Head) -> int | None:
        answer = self._answer_handshake(link, head)
        return None if answer is None else link.switch(answer)

    def _answer_handshake(self, link: Link, head: Head) -> bytes | None:
        try:
            return websocket.handshake(head.headers)
        except BadPacket:
            self._refuse(link, protocol.BAD_REQUEST)
            return None

    def _refuse(self, link: Link, refusal: Refusal) -> None:
        self.mount.metrics.http_refused += 1
        # Whoever keeps connections to a node that goes away, a balancer above all, must not keep this one.
        link.refuse(refusal.status, refusal.body(), close=refusal is protocol.DRAINING)
