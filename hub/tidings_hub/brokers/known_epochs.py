"""Which epochs belong to this node's database, and which to another one on the same Redis.

Redis' pub/sub ignores the number of the database. Two hubs with the same prefix in two databases of one Redis receive
each other's messages. Only the epoch is different: an epoch is random, and no two databases have the same one.
"""

from __future__ import annotations

# Past epochs of the database that are remembered: a command may arrive after the next epoch has begun.
_PAST_MAX = 8
# For how long. Not for ever: after SWAPDB a past epoch is that of the other database.
_PAST_S = 30.0
# Foreign epochs: one for each other database. Beyond it the oldest is checked at the broker again.
_FOREIGN_MAX = 64
# Seconds until a foreign epoch is checked again. SWAPDB may give its database to this node.
_FOREIGN_S = 10.0


class KnownEpochs:
    """The epoch of the database, those before it, and those that a lookup showed to be foreign."""

    __slots__ = ("_epoch", "_foreign_until_s", "_past_until_s")

    def __init__(self) -> None:
        self._epoch = ""
        self._past_until_s: dict[str, float] = {}
        self._foreign_until_s: dict[str, float] = {}

    def learn(self, epoch: str, *, now_s: float) -> None:
        """The database has this epoch now."""
        if epoch == self._epoch:
            return
        self._past_until_s.pop(epoch, None)
        if self._epoch:
            self._past_until_s[self._epoch] = now_s + _PAST_S
        if len(self._past_until_s) > _PAST_MAX:
            del self._past_until_s[next(iter(self._past_until_s))]
        self._epoch = epoch
        self._foreign_until_s.pop(epoch, None)

    def rule_out(self, epoch: str, *, now_s: float) -> None:
        """A lookup at `now_s` showed that the database has another epoch than this one, which a message names."""
        self._foreign_until_s.pop(epoch, None)
        if len(self._foreign_until_s) >= _FOREIGN_MAX:
            del self._foreign_until_s[next(iter(self._foreign_until_s))]
        self._foreign_until_s[epoch] = now_s + _FOREIGN_S

    def is_own(self, epoch: str, *, now_s: float) -> bool:
        """Whether the database has, or recently had, this epoch."""
        return epoch == self._epoch or self._past_until_s.get(epoch, now_s) > now_s

    def is_foreign(self, epoch: str, *, now_s: float) -> bool:
        """Whether this epoch was ruled out a short time ago."""
        return self._foreign_until_s.get(epoch, now_s) > now_s
