"""A client's connection as the hub needs it. The engine's connections and event streams fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tidings_hub.core.frame import OutgoingFrame


class Connection(Protocol):
    """One connection of a client, over any transport."""

    remote: str

    @property
    def closed(self) -> bool:
        """Whether the connection has ended: nothing that is written reaches the client any more."""

    @property
    def transport(self) -> str:
        """`websocket`, `polling` or `sse`."""

    def close(self, code: str, message: str | None = None) -> None:
        """End the connection with a code of `tidings.codes`. First the client receives the code and `message`."""


FanOut = Callable[[Iterable[Connection], Sequence[OutgoingFrame]], None]
"""Writes frames to connections: each gets all of them, in order. Never waits, never raises."""

Replay = Callable[[Connection, Sequence[OutgoingFrame]], None]
"""Writes frames to one connection. Other connections receive the same frames at other times, so they are not copied."""
