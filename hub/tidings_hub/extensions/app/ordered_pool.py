"""The pool of one event: its calls wait for each other, never for those of other events."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable

from tidings_hub import runtime

logger = logging.getLogger("tidings.app")

# One client may take this part of the waiting room, so that a flood from it leaves room for others.
_CLIENT_SHARE = 4


class OrderedPool:
    """Runs at most `size` calls together and lets at most `waiting_max` wait. The calls of one client run in order.

    Each event has its own pool, so two events of one client do not wait for each other.
    """

    def __init__(self, size: int, waiting_max: int) -> None:
        self._pool = runtime.Pool(size, waiting_max)
        self._calls_max = size + waiting_max
        self._client_waiting_max = max(1, waiting_max // _CLIENT_SHARE)
        self._count = 0
        self._waiting: dict[Hashable, deque[Callable[[], object]]] = {}

    def __len__(self) -> int:
        """The number of calls that have not ended."""
        return self._count

    def submit(self, client: Hashable, call: Callable[[], object]) -> bool:
        """Run the call after the client's earlier ones. False: too many are waiting."""
        waiting = self._waiting.get(client)
        if self._count >= self._calls_max or (waiting is not None and len(waiting) >= self._client_waiting_max):
            return False
        self._count += 1
        if waiting is not None:
            waiting.append(call)
            return True
        self._waiting[client] = deque((call,))
        if self._pool.submit(self._work, client):
            return True
        del self._waiting[client]
        self._count -= 1
        return False

    def _work(self, client: Hashable) -> None:
        calls = self._waiting[client]
        while calls:
            try:
                calls.popleft()()
            except Exception:
                logger.exception("unexpected error around a handler")
            finally:
                self._count -= 1
            # Between two calls of a client, let other greenlets run.
            if calls:
                runtime.sleep()
        del self._waiting[client]
