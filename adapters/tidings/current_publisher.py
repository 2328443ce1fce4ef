"""The publisher that an emitter uses at this moment: one per process, or one per event loop.

Connections belong to the process, and in asyncio to the event loop, that opened them.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from typing import Self

from tidings.errors import BadConfig, Unavailable
from tidings.publishers.base import AsyncPublisher, Publisher


class ProcessPublisher:
    """The publisher of this process, in `current`. A forked child process opens its own.

    If parent and child shared a connection, each would read replies that belong to the other.
    """

    def __init__(self, open_publisher: Callable[[], Publisher]) -> None:
        self.current = open_publisher()
        self._open_publisher = open_publisher
        self._is_closed = False
        _PROCESS_PUBLISHERS.add(self)

    def close(self) -> None:
        """Close all connections. Publishing afterwards raises Unavailable."""
        self._is_closed = True
        self.current.close()

    def __reduce__(self) -> tuple[type[Self], tuple[Callable[[], Publisher]]]:
        """Pickle it without its connections, as `multiprocessing` does for a spawned process."""
        return type(self), (self._open_publisher,)

    def reopen(self) -> None:
        """Replace the publisher after a fork. The connections of the parent process are left alone."""
        self.current = self._open_publisher()
        if self._is_closed:
            self.current.close()


class LoopPublishers:
    """One publisher per event loop; `current` is that of the running loop."""

    def __init__(self, open_publisher: Callable[[], AsyncPublisher]) -> None:
        # Opened here, so that a malformed URL raises where the emitter is created. It connects at the first publish.
        self._unused = [open_publisher()]
        self._open_publisher = open_publisher
        # With the process that opened it: a fork copies the loop and its connections.
        self._by_loop: dict[asyncio.AbstractEventLoop, tuple[AsyncPublisher, int]] = {}
        self._is_closed = False

    def __reduce__(self) -> tuple[type[Self], tuple[Callable[[], AsyncPublisher]]]:
        """Pickle it without its connections, as `multiprocessing` does for a spawned process."""
        return type(self), (self._open_publisher,)

    @property
    def current(self) -> AsyncPublisher:
        """The publisher of the running event loop.

        Raises:
            Unavailable: `close` was called.
            BadConfig: the parent of this forked process used the loop.
        """
        if self._is_closed:
            raise Unavailable("this emitter was closed; make a new one")
        return self._for_running_loop()

    async def close(self) -> None:
        """Close the connections of the running event loop. Publishing afterwards raises Unavailable, in every loop."""
        self._is_closed = True
        await self._for_running_loop().close()

    def _for_running_loop(self) -> AsyncPublisher:
        loop = asyncio.get_running_loop()
        publisher, pid = self._by_loop.get(loop, (None, os.getpid()))
        if pid != os.getpid():
            # Both processes read from the sockets of this loop: each would take replies that belong to the other. A new
            # connection would not help, as they also share what wakes the loop.
            raise BadConfig(
                "the process that forked this one publishes with this event loop; run a new one in each process, for"
                " example with asyncio.run"
            )
        if publisher is None:
            # A loop that has ended cannot close its connections; dropping the publisher does. A WeakKeyDictionary
            # would not: a connection refers to its loop.
            for other in list(self._by_loop):
                if other.is_closed():
                    self._by_loop.pop(other, None)
            publisher = self._take_unused() or self._open_publisher()
            self._by_loop[loop] = publisher, pid
        return publisher

    def _take_unused(self) -> AsyncPublisher | None:
        try:
            return self._unused.pop()
        except IndexError:
            # Another loop has it, which may run in another thread.
            return None


# A weak set: the fork hook cannot be unregistered and must not keep publishers alive.
_PROCESS_PUBLISHERS: weakref.WeakSet[ProcessPublisher] = weakref.WeakSet()


def _reopen_all() -> None:
    for publisher in list(_PROCESS_PUBLISHERS):
        publisher.reopen()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reopen_all)
