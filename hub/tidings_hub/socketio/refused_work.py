"""Work on a connection's packets: the pools that do it, and what happens if it cannot be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from socketio import packet as upstream

from tidings_hub.services.connect_queue import ConnectQueue
from tidings_hub.socketio.client import Transport
from tidings_hub.socketio.packet import Packet


class Pool(Protocol):
    """A bounded set of worker greenlets."""

    def submit(self, fn: Callable[..., object], *args: object) -> bool:
        """Run `fn` soon. False: too many calls are waiting already."""


def refuse(connects: ConnectQueue, connection: Transport, work: Packet | str, code: str) -> None:
    """Close a connection whose `work` was refused, with a `code` after which its client reconnects.

    A stock client whose CONNECT is refused would return every second, so its close follows after a pause.
    """
    is_connect = not isinstance(work, str) and work.packet_type == upstream.CONNECT and not makes_pauses(work.data)
    if is_connect and connection.is_stranger and not connection.closed:
        connects.hold(connection, code)
    else:
        connection.close(code)


def makes_pauses(auth: object) -> bool:
    """Whether a client whose CONNECT has this `auth` makes pauses before it reconnects, as the SDK does."""
    return isinstance(auth, dict) and "pid" in auth and auth["pid"] is None
