"""The sockets that the pump looks at first: listening ones, those without a complete request, and those of probes.

If clients send more than the node can handle, epoll returns their sockets in turn, each after all others. A probe would
wait for all of them at its accept, and again at its request. So these sockets have an epoll object of their own.

Most new sockets have their request when they are accepted. Only those without one are registered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    """An epoll object, and which descriptors are in it.

    `fds`: the client sockets with priority. Those in `_unregistered` are not in the epoll object yet.
    """

    def __init__(self) -> None:
        self.epoll: Any = _select.epoll()
        self.fds: set[int] = set()
        self._unregistered: dict[int, None] = {}
        self._acceptors: dict[int, Acceptor] = {}

    def add_accepted(self, fd: int) -> None:
        """Add a client socket that was just accepted. `register_accepted` registers it, if it still has priority."""
        self.fds.add(fd)
        self._unregistered[fd] = None

    def add(self, fd: int, mask: int) -> None:
        """Add a client socket and watch it for epoll's bits in `mask`."""
        self.fds.add(fd)
        self.epoll.register(fd, mask)

    def watch(self, fd: int, mask: int) -> None:
        """Watch a client socket with priority for other bits."""
        if fd in self._unregistered:
            del self._unregistered[fd]
            self.epoll.register(fd, mask)
        else:
            self.epoll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        """Stop watching a client socket with priority. The descriptor stays open."""
        self.fds.discard(fd)
        if fd in self._unregistered:
            del self._unregistered[fd]
        else:
            self.epoll.unregister(fd)

    def forget(self, fd: int) -> None:
        """Note that a descriptor will be closed, which removes it from epoll. Idempotent."""
        self.fds.discard(fd)
        self._unregistered.pop(fd, None)

    def accepted(self) -> Iterator[int]:
        """The new sockets that are not registered. One that was closed meanwhile is left out."""
        return (fd for fd in list(self._unregistered) if fd in self._unregistered)

    def register_accepted(self, mask: int) -> None:
        """Watch the new sockets that still have priority."""
        while self._unregistered:
            fd, _ = self._unregistered.popitem()
            self.epoll.register(fd, mask)

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

    def accept(self, events: Iterable[tuple[int, int]]) -> None:
        """Accept connections on those of the descriptors that listen."""
        acceptors = [acceptor for fd, _ in events if (acceptor := self._acceptors.get(fd)) is not None]
        for acceptor in acceptors:
            acceptor.accept()
