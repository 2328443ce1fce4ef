"""Guards calls to one part of the broker: while it does not answer, they fail at once instead of holding a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tidings.errors import HubError, Unavailable
from tidings_hub.core.health.circuit_breaker import CircuitBreaker
from tidings_hub.metrics import Metrics

# Between a probe that failed and the next one.
_PAUSE_S: Final = 1.0
# On top of the timeout, until a probe whose caller reported no result is repeated.
_GRACE_S: Final = 1.0


class CallGuard:
    """A `CircuitBreaker` with a clock and a metric. `kind`: what the calls are for, a label of `broker_calls_refused`.

    `timeout_s`: the longest time that one call takes.
    """

    def __init__(
        self, kind: str, metrics: Metrics, *, timeout_s: float, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._kind = kind
        self._metrics = metrics
        self.now_s = now_s
        self._breaker = CircuitBreaker(pause_s=_PAUSE_S, probe_s=timeout_s + _GRACE_S)

    @property
    def away_s(self) -> float:
        """For how long no call has succeeded; 0: calls succeed."""
        return self._breaker.away_s(self.now_s())

    @property
    def is_closed(self) -> bool:
        """Whether every call is tried."""
        return self._breaker.is_closed

    def admits(self) -> bool:
        """Whether a call may begin now; counts the ones that may not."""
        is_admitted = self._breaker.admits(self.now_s())
        if not is_admitted:
            self._metrics.count(self._metrics.broker_calls_refused, self._kind)
        return is_admitted

    def admit(self) -> float:
        """Begin a call. Returns its start, for `fail`.

        Raises:
            Unavailable: the last calls failed, and another caller is trying.
        """
        started_s = self.now_s()
        if not self.admits():
            raise Unavailable(f"the broker does not answer ({self._kind}); try again after a pause")
        return started_s

    def succeed(self) -> None:
        """A call succeeded."""
        self._breaker.succeed(self.now_s())

    def fail(self, started_s: float) -> None:
        """A call that began at `started_s` failed, or took too long."""
        self._breaker.fail(started_s, self.now_s())

    @contextmanager
    def call(self) -> Iterator[None]:
        """Guard the calls of a block. Raises as `admit`; every `HubError` of the block counts as a failure."""
        started_s = self.admit()
        try:
            yield
        except HubError:
            self.fail(started_s)
            raise
        self.succeed()
