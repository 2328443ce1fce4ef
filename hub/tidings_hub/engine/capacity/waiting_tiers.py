"""The order in which sockets are closed for new ones; see `SocketRoom.make_room`. Lower tiers are closed first."""

from __future__ import annotations

from typing import Final

# How long a new connection or request is spared if the node needs room.
_GRACE_S: Final = 1.0
IDLE_TIER: Final = 2
# Sockets whose end may end a session as well.
LAST_TIER: Final = 4
# Sockets with a request that waits for the node, such as a poll. Only a node that can open no more files closes them.
POLL_TIER: Final = 5


def waiting_tier(waited_s: float) -> int:
    """The tier of a socket that has waited for its client for this long."""
    return 1 if waited_s > _GRACE_S else 3
