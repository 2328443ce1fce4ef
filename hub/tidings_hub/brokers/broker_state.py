"""The state of a broker and of its parts, for readiness, metrics and health pages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class BrokerPart:
    """One part of a broker that can fail alone: a bucket of a cluster, or the whole broker where it has one part.

    `is_served`: publications get through it. `since_s`: since when, as a wall clock time. `last_error` has no secret.
    """

    name: str
    is_served: bool
    since_s: float
    last_error: str = ""


@dataclass(slots=True, frozen=True)
class BrokerState:
    """The state of a broker for health pages. `last_error` contains no secret; `since_s` is a wall clock time.

    `connected`: every part is connected. `parts`: each part; the first one also holds sessions, commands and the list
    of nodes.
    """

    connected: bool
    since_s: float
    reconnects: int
    channels: int
    last_error: str = ""
    parts: tuple[BrokerPart, ...] = ()

    @property
    def can_serve(self) -> bool:
        """Whether publications get through at least one part."""
        return any(part.is_served for part in self.parts)
