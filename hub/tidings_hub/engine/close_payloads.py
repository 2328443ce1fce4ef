"""The last payloads of closed polling sessions, kept for the polls that follow.

Between two polls there is no request to respond to. Without this, a client would not receive the reason of a rejected
CONNECT: its next poll would only get "unknown session".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tidings.codes import CODES
from tidings_hub import runtime
from tidings_hub.core.frame import SEPARATOR, OutgoingFrame, join_packets
from tidings_hub.engine.protocols import engineio

if TYPE_CHECKING:
    from tidings_hub.engine.outbuffer import OutBuffer
    from tidings_hub.engine.protocols.request_history import RequestHistory

# A live client polls again within its round trip. After this time the client is considered gone.
_KEEP_S: Final = 10.0
# Number of sessions whose payloads are kept, and bytes of each with its last response. Beyond that the oldest are
# discarded: their clients get "unknown session" and reconnect.
_SESSIONS_MAX: Final = 1_000
_BYTES_MAX: Final = 65_536
# Close codes of the application: packets sent before such a close are still delivered. A client that exceeded a limit
# or broke the protocol gets nothing more.
_FLUSHED_BEFORE_CLOSE = frozenset(CODES) - {"slow", "too_fast", "too_large", "bad_packet", "ping_timeout"}


def final_payloads(
    out: OutBuffer | None, reason: str, packets_max: int, frames: Sequence[OutgoingFrame] = ()
) -> list[bytes]:
    """Return the payloads that a polling session still receives after it was closed with `reason`.

    These are the buffered packets of `out`, up to `packets_max` in each payload, the application's last `frames`, and
    Engine.IO's close packet. The close packet never shares a payload with packets before it. socket.io-client handles a
    packet one microtask after it read it, and by then a close in the same payload would have removed the listeners. A
    client that should reconnect gets no close packet but the error "unknown session" with the code, because
    python-engineio never reconnects after a close packet. The same holds if `reason` is empty: the session ends without
    a message.
    """
    payloads: list[bytes] = []
    if out is not None and reason in _FLUSHED_BEFORE_CLOSE:
        while out.parts:
            payloads.append(SEPARATOR.join(out.take(packets_max)))
    if frames:
        payloads.append(join_packets(frames))
    if reason and not error_after(reason):
        payloads.append(engineio.CLOSE)
    return payloads


def error_after(reason: str) -> str:
    """Return the code that the error "unknown session" contains after a close with `reason`. Empty: there is none."""
    code = CODES.get(reason)
    return reason if code is not None and code.should_reconnect else ""


@dataclass(frozen=True, slots=True)
class ClosedSession:
    """What remains of a closed polling session.

    `payloads`: what its client still receives, one payload per poll. `code`: with which it was closed, or empty.
    `history`: decides whether a poll is a repeat.
    """

    expires_s: float
    payloads: list[bytes]
    code: str
    history: RequestHistory

    @property
    def error(self) -> str:
        """The code in the response after the payloads, or empty."""
        return error_after(self.code)


class ClosePayloads:
    """Payloads of closed polling sessions. Each is handed out once, in order."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, ClosedSession] = OrderedDict()
        self._purge: runtime.Timer | None = None

    def keep(self, sid: str, payloads: Sequence[bytes], history: RequestHistory, code: str = "") -> None:
        """Keep `payloads` for the session's next polls, one for each, and `code` for the poll after them."""
        size = sum(map(len, payloads)) + len(history.response or b"")
        if not (payloads or error_after(code)) or size > _BYTES_MAX:
            return
        self._sessions[sid] = ClosedSession(runtime.now_s() + _KEEP_S, list(payloads), code, history)
        if len(self._sessions) > _SESSIONS_MAX:
            self._sessions.popitem(last=False)
        if self._purge is None:
            self._purge = runtime.call_later(_KEEP_S, self._remove_expired)

    def find(self, sid: str) -> ClosedSession | None:
        """Return what remains of a session, or None."""
        return self._sessions.get(sid)

    def pop(self, sid: str) -> bytes | None:
        """Remove and return the session's next payload, or None if there is none.

        The session stays until it expires, because its last poll can be repeated as well.
        """
        closed = self._sessions.get(sid)
        return closed.payloads.pop(0) if closed is not None and closed.payloads else None

    def discard(self, sid: str) -> None:
        """Forget a session. Idempotent."""
        self._sessions.pop(sid, None)

    def _remove_expired(self) -> None:
        self._purge = None
        now_s = runtime.now_s()
        while self._sessions and next(iter(self._sessions.values())).expires_s <= now_s:
            self._sessions.popitem(last=False)
        if self._sessions:
            self._purge = runtime.call_later(_KEEP_S, self._remove_expired)
