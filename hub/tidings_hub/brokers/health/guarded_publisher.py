"""Publishing to several buckets, or one Redis: items for one that does not answer fail at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from tidings.errors import HubError, TimedOut, Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.redis_client.buckets import bucket_of
from tidings_hub.brokers.health.call_guard import CallGuard
from tidings_hub.metrics import Metrics

# A failure that came sooner held no worker, and its cause is of interest: Redis is full, or a replica.
_HELD_S: Final = 1.0


class _Publisher(Protocol):
    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]: ...


class GuardedPublisher:
    """Publishes with one `CallGuard` per bucket."""

    def __init__(
        self,
        publisher: _Publisher,
        metrics: Metrics,
        *,
        timeout_s: float,
        buckets: int = 1,
    ) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._held_s = min(_HELD_S, timeout_s / 2)
        self._guards = [CallGuard("publishes", metrics, timeout_s=timeout_s) for _ in range(buckets)]

    def publish(self, items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        """See `Broker.publish_many`. The items of a bucket that does not answer get `Unavailable`."""
        started_s = self._guards[0].now_s()
        buckets = [bucket_of(item.channel, len(self._guards)) for item in items]
        refused = {bucket for bucket in set(buckets) if not self._guards[bucket].admits()}
        sent = [item for item, bucket in zip(items, buckets, strict=True) if bucket not in refused]
        results = iter(self._publisher.publish(sent, timeout_s=self._timeout_s) if sent else ())
        error = Unavailable("the broker does not answer (publishes); publish again with the same id after a pause")
        answers = [error if bucket in refused else next(results) for bucket in buckets]
        self._metrics.broker_timeouts += any(isinstance(answer, TimedOut) for answer in answers)
        answered = {bucket for bucket, answer in zip(buckets, answers, strict=True) if not isinstance(answer, HubError)}
        for bucket in {*buckets} - refused:
            if bucket in answered:
                self._guards[bucket].succeed()
            elif self._guards[bucket].now_s() > started_s + self._held_s:
                self._guards[bucket].fail(started_s)
        return answers
