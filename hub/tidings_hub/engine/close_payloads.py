"""What was said to a polling session right before it was closed, for the polls that are still to come.

Between two polls there is nobody to answer: without this, the reason of a refused CONNECT would be lost and the
client would only see an unknown session.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from tidings_hub import runtime

# A client polls again within its round trip; who has not after this long will not.
_KEEP_S: Final = 10.0
# Sessions whose words are kept, and bytes of each; beyond that they are dropped, oldest first: the client
# sees an unknown session then, and comes back.
_SESSIONS_MAX: Final = 1_000
_BYTES_MAX: Final = 65_536


class LastWords:
    """Payloads of closed polling sessions, each given out once and in order."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, list[bytes]]] = OrderedDict()
        self._purge: runtime.Timer | None = None

    def leave(self, sid: str, payloads: Sequence[bytes]) -> None:
        """Keep `payloads` for the session's next polls, one for each."""
        if not payloads or sum(map(len, payloads)) > _BYTES_MAX:
            return
        self._kept[sid] = (runtime.now_s() + _KEEP_S, list(payloads))
        if len(self._kept) > _SESSIONS_MAX:
            self._kept.popitem(last=False)
        if self._purge is None:
            self._purge = runtime.call_later(_KEEP_S, self._forget_old)

    def take(self, sid: str) -> bytes | None:
        """The next payload, if there is one; from now on it is gone."""
        kept = self._kept.get(sid)
        if kept is None:
            return None
        payload = kept[1].pop(0)
        if not kept[1]:
            del self._kept[sid]
        return payload

    def _forget_old(self) -> None:
        self._purge = None
        now_s = runtime.now_s()
        while self._kept and next(iter(self._kept.values()))[0] <= now_s:
            self._kept.popitem(last=False)
        if self._kept:
            self._purge = runtime.call_later(_KEEP_S, self._forget_old)
