"""The recent requests of a polling session: decide whether a poll is the next one or a repeat.

A proxy or a browser sends a GET again if its connection broke before the response arrived. The packets of that
response are then lost if the repeat is handled as the next poll. HTTP allows such repeats (RFC 9110, section 9.2.2),
and Engine.IO has no acknowledgement of a poll response. So the session keeps its last response until a later request
proves that the client received it:

    the poll's `t` is new                 it is the next poll: its client has read the last response
    the poll has the `t` of the last one  a repeat: the client gets the same response again
    `t` is the time                       as above, because the session's responses are late enough (TIME_ID_DELAY_S)
    no `t`, through a proxy               each response has a ping; the pong proves that it arrived
    no `t`, direct, same connection       it is the next poll: HTTP has no repeat on a working connection
    no `t`, direct, another connection    the last response must have arrived, and its connection not have failed

A poll that proves nothing ends the session. Its client then reconnects and recovers what it missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, Protocol

from tidings_hub.core.frame import SEPARATOR
from tidings_hub.engine.protocols import http_response

# nginx and browsers repeat a request once for each node or connection. A client whose `t` never changes looks like
# endless repeats.
_REPEATS_MAX: Final = 3
# Polls, and POSTs, whose late repeats are recognized.
_REQUESTS_MAX: Final = 4
# From this size on, the parts of a response are kept (LargeResponse). malloc maps new pages from 128 KiB on.
_LARGE_BYTES: Final = 32_768
# Far more packets than an out-buffer holds.
UNLIMITED: Final = 1 << 30


class PollDecision(Enum):
    """What to do with a poll."""

    # The next poll of the session.
    ACCEPT = auto()
    # A repeat of the last poll, which has its response: send that response again.
    REPLAY = auto()
    # A repeat of the last poll, which still waits: this request waits instead.
    REPLACE = auto()
    # A late repeat of an older poll, or a poll with another id while one waits. The session continues.
    REFUSE_OUTDATED = auto()
    # Wait for the pong that proves that the last response arrived.
    AWAIT_PONG = auto()
    # The client may not have the last response: end the session.
    END_SESSION = auto()
    # A second poll without an id while one waits, both from the client itself: a violation of the protocol.
    CONFLICT = auto()


class LargeResponse:
    """A response by its parts: the packets that sessions share, the header lines, and the Date line.

    The complete bytes of a large response are not kept. Otherwise each response would need new memory from the system,
    which costs more than rendering it.
    """

    __slots__ = ("_date_line", "_extra_headers", "_packets")

    def __init__(self, packets: Sequence[bytes | memoryview], extra_headers: bytes, date_line: bytes) -> None:
        self._packets = packets
        self._extra_headers = extra_headers
        self._date_line = date_line

    def __len__(self) -> int:
        return sum(map(len, self._packets))

    def render(self) -> bytes:
        """Return the same bytes again."""
        payload = SEPARATOR.join(self._packets)
        return http_response.render(200, payload, extra_headers=self._extra_headers, date=self._date_line)


class Carrier(Protocol):
    """The HTTP connection of a poll."""

    remote: str

    def is_reused(self) -> bool:
        """Whether the client sent an earlier GET request on it."""

    def is_unread(self) -> bool:
        """Whether a part of the last response has not even reached the client's machine."""

    def is_closed_by_client(self) -> bool:
        """Whether the client closed it without announcing that in its last request."""


class RequestHistory:
    """The last requests of one polling session, and the response that its client may not have received.

    `packets_max`: packets per response. `response`: the last complete HTTP response; None if the client has it.
    `carrier`: the HTTP connection of the last poll. `is_proxied`: whether a proxy forwards the session's requests.
    `needs_pings`: whether each response must contain a ping. `held_until_s`: when the poll that waits for a pong is
    overdue; None: none does.
    `keeps_connections`: whether the client sent several requests on one connection. `has_time_ids`: see `is_time_id`.
    """

    __slots__ = (
        "_handshake_id", "_pings", "_poll_ids", "_posts", "_repeats", "carrier", "has_time_ids", "held_until_s",
        "is_proxied", "keeps_connections", "needs_pings", "packets_max", "response",
    )  # fmt: skip

    def __init__(
        self, handshake_id: int, *, is_proxied: bool, packets_max: int = UNLIMITED, has_time_ids: bool = False
    ) -> None:
        self.packets_max = packets_max
        self.has_time_ids = has_time_ids
        self.response: bytes | LargeResponse | None = None
        self.carrier: Carrier | None = None
        self.is_proxied = is_proxied
        self.needs_pings = False
        self.held_until_s: float | None = None
        self.keeps_connections = False
        # The handshake's id until the first poll. If that has the same id, the client's ids identify nothing.
        self._handshake_id: int | None = handshake_id
        self._poll_ids: tuple[int, ...] | None = ()
        # The last POSTs: a hash of the id and the body of each.
        self._posts: tuple[int, ...] = ()
        # How often the last response was sent again.
        self._repeats = 0
        # Pings in unproven responses whose pongs have not arrived.
        self._pings = 0

    @property
    def is_held(self) -> bool:
        """Whether the waiting poll waits for a pong."""
        return self.held_until_s is not None

    def lacks_proof(self, poll_id: int) -> bool:
        """Whether only the state of the last poll's connection can show that its response arrived."""
        return not self.known_id(poll_id) and self.response is not None and not self.needs_pings

    def is_carrier_intact(self, remote: str) -> bool:
        """Whether the connection of the last response has not failed, for a poll from `remote` on another one.

        A client that opens a connection for each request also closes each one, so a close means nothing there.
        """
        carrier = self.carrier
        if carrier is None:
            return True
        if carrier.remote != remote or carrier.is_unread():
            return False
        return not (self.keeps_connections and carrier.is_closed_by_client())

    def carry(self, carrier: Carrier) -> None:
        """Remember the connection of an accepted poll."""
        self.keeps_connections = self.keeps_connections or self.carrier is carrier or carrier.is_reused()
        self.carrier = carrier

    def decide(self, poll_id: int, *, is_waiting: bool, is_carrier_intact: bool = True) -> PollDecision:
        """Decide on a poll with `request_id` `poll_id`. Only `ACCEPT` changes the history.

        `is_waiting`: whether an earlier poll of the session has no response yet. `is_carrier_intact`: whether the
        connection of that poll, or of the last response, is intact; used only for polls without an id.
        """
        poll_id = self.known_id(poll_id)
        if poll_id and self._poll_ids and poll_id in self._poll_ids:
            return self._decide_repeat(poll_id, is_waiting=is_waiting)
        if is_waiting:
            if poll_id:
                # A late repeat of a poll that is no longer remembered, or of no use to its client.
                return PollDecision.REFUSE_OUTDATED
            # A proxy, or the client's HTTP library after its connection broke, may have sent the same poll again.
            is_repeatable = self.is_proxied or not is_carrier_intact
            return PollDecision.END_SESSION if is_repeatable else PollDecision.CONFLICT
        if not poll_id and self._pings:
            return PollDecision.AWAIT_PONG
        if self.lacks_proof(poll_id) and not is_carrier_intact:
            return PollDecision.END_SESSION
        self._accept(poll_id)
        return PollDecision.ACCEPT

    def accept_certain(self, poll_id: int, carrier: Carrier) -> bool:
        """Accept a poll on `carrier` if it is certainly the next one: a fast form of `decide`, then `carry`.

        Return False, and change nothing, if `decide` is needed. No poll may wait.
        """
        poll_ids = self._poll_ids
        if self._handshake_id is not None or self._pings or self.has_time_ids:
            return False
        if poll_ids is None or not poll_id:
            if self.is_proxied or self.carrier is not carrier:
                return False
        elif poll_id < 0 or poll_id in poll_ids:
            return False
        else:
            self._poll_ids = (*poll_ids[1 - _REQUESTS_MAX :], poll_id)
        self.needs_pings = False
        self.response = None
        self._repeats = 0
        if self.keeps_connections:
            self.carrier = carrier
        else:
            self.carry(carrier)
        return True

    def known_id(self, poll_id: int) -> int:
        """Return what identifies a request with `request_id` `poll_id`, or 0 if nothing does."""
        if self._poll_ids is None or poll_id == self._handshake_id:
            return 0
        if poll_id < 0:
            return -poll_id if self._poll_ids else 0
        return poll_id

    def _decide_repeat(self, poll_id: int, *, is_waiting: bool) -> PollDecision:
        if not self._poll_ids or poll_id != self._poll_ids[-1]:
            return PollDecision.REFUSE_OUTDATED
        if is_waiting:
            return PollDecision.REPLACE
        if self.response is None or self._repeats >= _REPEATS_MAX:
            return PollDecision.END_SESSION
        return PollDecision.REPLAY

    def _accept(self, poll_id: int) -> None:
        if self._handshake_id is not None:
            if not poll_id:
                self._poll_ids = None
            self._handshake_id = None
        self.needs_pings = self.is_proxied and not poll_id
        self.response = None
        self._pings = self._repeats = 0
        if poll_id and self._poll_ids is not None:
            self._poll_ids = (*self._poll_ids[1 - _REQUESTS_MAX :], poll_id)

    def keep(self, response: bytes, packets: Sequence[bytes | memoryview], extra_headers: bytes) -> bytes:
        """Keep a response that `packets` were joined to, until the client has it. Return it."""
        if len(response) < _LARGE_BYTES:
            self.response = response
        else:
            self.response = LargeResponse(packets, extra_headers, http_response.date_line_of(response))
        return response

    def keep_final(self, response: bytes) -> bytes:
        """Keep a response of a closed session. Return it. Its client can prove nothing by a pong any more."""
        self.response = response
        self._pings += self.needs_pings
        return response

    def replay(self) -> bytes:
        """Return the last response and count that it is sent again. Call it after `REPLAY`."""
        self._repeats += 1
        response = self.response
        return response.render() if isinstance(response, LargeResponse) else response or b""

    def start_session(self) -> None:
        """Forget the response to the handshake. The first poll proves that it arrived, because it has its sid."""
        self.response = None

    def add_pings(self, count: int) -> None:
        """Count the pings in a response of a session that needs them."""
        self._pings += count

    def on_pong(self) -> bool:
        """Count a pong. Return whether a ping that `add_pings` counted requested it."""
        if not self._pings:
            return False
        self._pings -= 1
        return True

    def is_proven(self) -> bool:
        """Whether a pong arrived for each counted ping."""
        return not self._pings

    def is_repeated_post(self, post_id: int, body_hash: int) -> bool:
        """Whether a POST is a repeat of one of the last ones: the same id and the same body. Otherwise remember it."""
        post_id = self.known_id(post_id)
        if not post_id:
            return False
        post = hash((post_id, body_hash))
        if post in self._posts:
            return True
        self._posts = (*self._posts[1 - _REQUESTS_MAX :], post)
        return False


# What all connections without polls share: WebSockets and event streams. It is never changed. A POST can arrive while
# its session moves to a WebSocket. After a poll without an id, no id identifies anything, so such a POST is no repeat.
NO_HISTORY: Final = RequestHistory(0, is_proxied=False)
NO_HISTORY.decide(0, is_waiting=False)
