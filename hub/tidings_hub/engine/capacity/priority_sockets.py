"""The sockets that the pump looks at first: listening ones, those without a complete request, and those of probes.

If clients send more than the node can handle, epoll returns their sockets in turn, each after all others. A probe would
wait for all of them at its accept, and again at its request. So these sockets have an epoll object of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from tidings_hub import runtime

# monkey_patch removes epoll from `select`.
_select: Any = runtime.original("select")
# Events per turn. The other sockets of the turn wait for these.
_EVENTS_MAX = 128


class Acceptor(Protocol):
    """The owner of a listening descriptor."""

    def accept(self) -> None:
        """Accept waiting connections."""


class PrioritySockets:
    """An epoll object, and which descriptors are in it."""

    def __init__(self) -> None:
        self.epoll: Any = _select.epoll()
        self._acceptors: dict[int, Acceptor] = {}
        # Without the listening ones.
        self._fds: set[int] = set()

    def __contains__(self, fd: int) -> bool:
        """Whether the client socket has priority."""
        return fd in self._fds

    def add(self, fd: int) -> None:
        """Note that the client socket will be in `epoll`."""
        self._fds.add(fd)

    def discard(self, fd: int) -> None:
        """Note that the client socket is no longer in `epoll`. Idempotent."""
        self._fds.discard(fd)

    def listen(self, fd: int, acceptor: Acceptor) -> None:
        """Watch a listening descriptor."""
        self._acceptors[fd] = acceptor
        self.epoll.register(fd, _select.EPOLLIN)

    def stop_listening(self, fd: int) -> None:
        """Stop watching a listening descriptor. Idempotent; the descriptor stays open."""
        if self._acceptors.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    def events(self) -> list[tuple[int, int]]:
        """Descriptors that are ready, with epoll's bits."""
        events: list[tuple[int, int]] = self.epoll.poll(0, _EVENTS_MAX)
        return events

    def accept(self, events: Iterable[tuple[int, int]]) -> bool:
        """Accept connections on those of the descriptors that listen. Return whether there were any."""
        acceptors = [acceptor for fd, _ in events if (acceptor := self._acceptors.get(fd)) is not None]
        for acceptor in acceptors:
            acceptor.accept()
        return bool(acceptors)
