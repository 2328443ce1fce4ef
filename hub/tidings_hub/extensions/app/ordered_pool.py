"""The pool of one event: its calls wait for each other, never for those of other events."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Hashable

from tidings_hub import runtime

logger = logging.getLogger("tidings.app")

# One client may take this part of the waiting room, so that a flood from it leaves room for others.
_CLIENT_SHARE = 4
# Memory of the data of all calls, about: that of an event can be twenty times as large as what the client sent.
_MEMORY_MAX_BYTES = 67_108_864


def _log_error(error: BaseException) -> None:
    logger.error("unexpected error around a handler", exc_info=error)


class OrderedPool:
    """Runs at most `size` calls together and lets at most `waiting_max` wait. The calls of one client run in order.

    Each event has its own pool, so two events of one client do not wait for each other.
    """

    def __init__(self, size: int, waiting_max: int) -> None:
        self._pool = runtime.Pool(size, waiting_max, on_error=_log_error)
        self._calls_max = size + waiting_max
        self._client_waiting_max = max(1, waiting_max // _CLIENT_SHARE)
        self._count = 0
        self._memory_bytes = 0
        self._waiting: dict[Hashable, deque[tuple[Callable[[], object], int]]] = {}

    def __len__(self) -> int:
        """The number of calls that have not ended."""
        return self._count

    def submit(self, client: Hashable, call: Callable[[], object], *, memory_bytes: int = 0) -> bool:
        """Run the call after the client's earlier ones. False: too many are waiting, or their data is too large.

        `memory_bytes`: what the call's data takes. A single call is never too large.
        """
        waiting = self._waiting.get(client)
        if self._count >= self._calls_max or not self._has_room(waiting, memory_bytes):
            return False
        if waiting is not None:
            waiting.append((call, memory_bytes))
        else:
            self._waiting[client] = deque(((call, memory_bytes),))
            if not self._pool.submit(self._work, client):
                del self._waiting[client]
                return False
        self._count += 1
        self._memory_bytes += memory_bytes
        return True

    def _has_room(self, waiting: Collection[tuple[object, int]] | None, memory_bytes: int) -> bool:
        if memory_bytes and self._memory_bytes and self._memory_bytes + memory_bytes > _MEMORY_MAX_BYTES:
            return False
        if not waiting:
            return True
        client_bytes = sum(size for _, size in waiting)
        return len(waiting) < self._client_waiting_max and (
            client_bytes + memory_bytes <= _MEMORY_MAX_BYTES // _CLIENT_SHARE
        )

    def _work(self, client: Hashable) -> None:
        calls = self._waiting[client]
        while calls:
            call, memory_bytes = calls.popleft()
            try:
                call()
            except (Exception, runtime.Interruption):
                # Also a timeout of eventlet that a handler leaks. It would leave the client's other calls waiting.
                logger.exception("unexpected error around a handler")
            finally:
                self._count -= 1
                self._memory_bytes -= memory_bytes
            # Between two calls of a client, let other greenlets run.
            if calls:
                runtime.sleep()
        del self._waiting[client]
