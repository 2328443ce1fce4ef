"""The memory that clients can use before the hub knows who they are.

Incomplete HTTP requests, and everything that a session sends before it is authenticated, share one budget. If it is
exceeded, the holder that began first is closed. A client that sends its request at once is never among the first, so a
crowd of slow or hostile clients displaces only itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tidings_hub.engine.limits import EngineLimits, EngineMetrics


class InputHolder(Protocol):
    """An object that holds bytes of a client."""

    def shed_input(self) -> None:
        """Discard the bytes and close: the budget is exceeded."""


class InputBudget:
    """Counts the bytes of each holder. `call_safely` calls a holder's method and handles its exceptions."""

    __slots__ = ("_call_safely", "_held_bytes", "_max_bytes", "_metrics", "total_bytes")

    def __init__(
        self, limits: EngineLimits, metrics: EngineMetrics, *, call_safely: Callable[[Callable[[], object]], object]
    ) -> None:
        self._max_bytes = limits.input_max_bytes
        self._metrics = metrics
        self._call_safely = call_safely
        # In the order in which the holders began.
        self._held_bytes: dict[InputHolder, int] = {}
        self.total_bytes = 0

    def __len__(self) -> int:
        """Number of holders."""
        return len(self._held_bytes)

    def hold(self, holder: InputHolder, size: int) -> None:
        """Set the number of bytes of `holder`. Beyond the budget, close the holders that began first."""
        self.total_bytes += size - self._held_bytes.get(holder, 0)
        self._held_bytes[holder] = size
        while self.total_bytes > self._max_bytes:
            first = next(iter(self._held_bytes))
            self.release(first)
            self._metrics.input_shed += 1
            self._call_safely(first.shed_input)

    def release(self, holder: InputHolder) -> None:
        """Forget `holder`: it holds nothing any more. Idempotent."""
        self.total_bytes -= self._held_bytes.pop(holder, 0)


class Stranger(InputHolder, Protocol):
    """A session whose client is not authenticated."""

    def close(self, code: str) -> None:
        """Close it with a code of `tidings.codes`."""


class Strangers:
    """The sessions that are not authenticated yet, and the bytes that each has sent."""

    __slots__ = ("_budget", "_max_bytes", "members")

    def __init__(self, limits: EngineLimits, budget: InputBudget) -> None:
        self._max_bytes = limits.connect_max_bytes
        self._budget = budget
        self.members: dict[Stranger, int] = {}

    def add(self, connection: Stranger) -> None:
        """A session was opened."""
        self.members[connection] = 0

    def remove(self, connection: Stranger) -> None:
        """A session was authenticated, or has ended. Idempotent."""
        if self.members.pop(connection, 0):
            self._budget.release(connection)

    def count(self, connection: Stranger, size: int) -> bool:
        """Count bytes of a member. Return False if it was closed, with `too_large`, or with `full` by the budget."""
        size += self.members[connection]
        self.members[connection] = size
        if size > self._max_bytes:
            connection.close("too_large")
        else:
            self._budget.hold(connection, size)
        return connection in self.members
