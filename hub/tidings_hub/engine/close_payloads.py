"""The last payloads of closed polling sessions, kept for the polls that follow.

Between two polls there is no request to respond to. Without this, a client would not receive the reason of a rejected
CONNECT: its next poll would only get "unknown session".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tidings.codes import CODES
from tidings_hub import runtime
from tidings_hub.core.frame import SEPARATOR
from tidings_hub.engine.protocols import engineio

if TYPE_CHECKING:
    from tidings_hub.engine.outbuffer import OutBuffer

# A live client polls again within its round trip. After this time the client is considered gone.
_KEEP_S: Final = 10.0
# Number of sessions whose payloads are kept, and bytes of each. Beyond that the oldest are discarded: their clients
# get "unknown session" and reconnect.
_SESSIONS_MAX: Final = 1_000
_BYTES_MAX: Final = 65_536
# Close codes of the application: packets sent before such a close are still delivered. A client that exceeded a limit
# or broke the protocol gets nothing more.
_FLUSHED_BEFORE_CLOSE = frozenset(CODES) - {"slow", "too_fast", "too_large", "bad_packet", "ping_timeout"}


def final_payloads(out: OutBuffer | None, reason: str, packets_max: int) -> list[bytes]:
    """Return the payloads that a polling session still receives after it was closed with `reason`; at least one.

    These are the buffered packets of `out`, up to `packets_max` in each payload, and Engine.IO's close packet. The
    close packet never shares a payload with packets before it. socket.io-client handles a packet one microtask after
    it read it, and by then a close in the same payload would have removed the listeners. A client that should
    reconnect gets no close packet after its last packets but "unknown session", because python-engineio never
    reconnects after a close packet.
    """
    payloads: list[bytes] = []
    if out is not None and reason in _FLUSHED_BEFORE_CLOSE:
        while out.parts:
            payloads.append(SEPARATOR.join(out.take(packets_max)))
    if not payloads or not CODES[reason].should_reconnect:
        payloads.append(engineio.CLOSE)
    return payloads


class ClosePayloads:
    """Payloads of closed polling sessions. Each is handed out once, in order."""

    def __init__(self) -> None:
        self._payloads: OrderedDict[str, tuple[float, list[bytes]]] = OrderedDict()
        self._purge: runtime.Timer | None = None

    def keep(self, sid: str, payloads: Sequence[bytes]) -> None:
        """Keep `payloads` for the session's next polls, one for each."""
        if not payloads or sum(map(len, payloads)) > _BYTES_MAX:
            return
        self._payloads[sid] = (runtime.now_s() + _KEEP_S, list(payloads))
        if len(self._payloads) > _SESSIONS_MAX:
            self._payloads.popitem(last=False)
        if self._purge is None:
            self._purge = runtime.call_later(_KEEP_S, self._remove_expired)

    def pop(self, sid: str) -> bytes | None:
        """Remove and return the session's next payload, or None if there is none."""
        entry = self._payloads.get(sid)
        if entry is None:
            return None
        payload = entry[1].pop(0)
        if not entry[1]:
            del self._payloads[sid]
        return payload

    def _remove_expired(self) -> None:
        self._purge = None
        now_s = runtime.now_s()
        while self._payloads and next(iter(self._payloads.values()))[0] <= now_s:
            self._payloads.popitem(last=False)
        if self._payloads:
            self._purge = runtime.call_later(_KEEP_S, self._remove_expired)
