"""One event's own pool: its calls wait for each other, and for nobody else's."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable

from tidings_hub import runtime

logger = logging.getLogger("tidings.app")

# One client that floods an event leaves room in it for others.
_SHARE = 4


class OrderedPool:
    """At most `size` calls of one event at once, at most `waiting_max` waiting; in order for each client.

    Two events of one client do not wait for each other: a slow one hurts only itself.
    """

    def __init__(self, size: int, waiting_max: int) -> None:
        self._pool = runtime.Pool(size, waiting_max)
        self._most = size + waiting_max
        self._most_of_one = max(1, waiting_max // _SHARE)
        self._begun = 0
        self._waiting: dict[Hashable, deque[Callable[[], object]]] = {}

    def __len__(self) -> int:
        """Calls that have not ended."""
        return self._begun

    def submit(self, client: Hashable, call: Callable[[], object]) -> bool:
        """Have it called, behind the client's others. False: too many wait."""
        waiting = self._waiting.get(client)
        if self._begun >= self._most or (waiting is not None and len(waiting) >= self._most_of_one):
            return False
        self._begun += 1
        if waiting is not None:
            waiting.append(call)
            return True
        self._waiting[client] = deque((call,))
        if self._pool.submit(self._work, client):
            return True
        del self._waiting[client]
        self._begun -= 1
        return False

    def _work(self, client: Hashable) -> None:
        calls = self._waiting[client]
        while calls:
            try:
                calls.popleft()()
            except Exception:
                logger.exception("a mistake around a handler")
            finally:
                self._begun -= 1
            # No call came while this one ended: nothing here waits.
            if calls:
                runtime.sleep()
        del self._waiting[client]
