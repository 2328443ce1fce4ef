"""The metrics of a notification service, as `tidings_notifications_…` at its `/metrics`. Threads may share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge, Histogram

_PREFIX = "tidings_notifications_"
# From a commit without a disk to far more than a node waits for.
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ServiceMetrics:
    """The metrics of one process since it started."""

    def __init__(self) -> None:
        import prometheus_client

        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = prometheus_client.CollectorRegistry()
        # HTTP API
        self.requests = self._counter("requests", "Responses to nodes, by status", "code")
        self.unauthorized = self._counter("unauthorized", "Requests without a valid key")
        self.too_large = self._counter("too_large", "Requests refused because of request_max_bytes")
        self.refused = self._counter("refused", "Requests of nodes refused because of connections")
        self.connections_shed = self._counter("connections_shed", "Idle connections closed because of connections")
        # inbox
        self.stored = self._counter("stored", "Notifications stored in an inbox")
        self.duplicates = self._counter("duplicates", "Notifications whose id the user's inbox already had")
        self.excluded = self._counter("excluded", "Notifications not shown: suppressed or expired", "code")
        self.rejected = self._counter("rejected", "Notifications that were rejected, by code", "code")
        self.store_s = self._histogram("store_s", "Seconds until a batch of notifications was committed")
        self.database_errors = self._counter("database_errors", "Calls that failed because of the database")
        # intake from Redis
        self.connected = self._gauge("connected", "Streams of Redis that the service is connected to")
        self.received = self._counter("received", "Notifications read from Redis, including repeated ones")
        self.claimed = self._counter("claimed", "Notifications taken over from a consumer that ended")
        self.waiting = self._gauge("waiting", "Notifications in the streams of Redis, as of the last look", "stream")
        self.dead = self._counter("dead", "Notifications moved to the dead-letter stream, by code", "code")
        # scheduler
        self.published = self._counter("published", "Events that the relay published, including repeated ones")
        self.events_rejected = self._counter("events_rejected", "Events that the hub rejected; they stay in the outbox")
        self.events_oldest_s = self._gauge("events_oldest_s", "Age of the first event that is not published yet")
        self.deleted = self._counter("deleted", "Notifications deleted because they expired or of keep_days")
        self.digests = self._counter("digests", "Digests that became due")
        # deliveries
        self.deliveries = self._counter("deliveries", "Deliveries that ended or were postponed, by outcome", "code")
        self.deliveries_late_s = self._gauge(
            "deliveries_late_s", "For how long the first delivery of a method has been due", "method"
        )
        # Web Push
        self.subscriptions_dropped = self._counter(
            "subscriptions_dropped", "Push subscriptions beyond subscriptions_max"
        )
        self.pushes = self._counter("pushes", "Pushes that a push service responded to, or did not, by outcome", "code")
        self.pushes_postponed = self._counter("pushes_postponed", "Pushes tried again later because others were slow")
        self.pushes_in_flight = self._gauge("pushes_in_flight", "Pushes that are being sent")
        self.push_s = self._histogram("push_s", "Seconds until a push service responded, or did not")
        self.task_restarts = self._counter("task_restarts", "Times that a task failed and was restarted", "code")

    def render(self) -> bytes:
        """All metrics in Prometheus' text format 0.0.4, UTF-8."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        from prometheus_client import Counter

        return Counter(_PREFIX + name, help_, labels, registry=self._registry)

    def _gauge(self, name: str, help_: str, *labels: str) -> Gauge:
        from prometheus_client import Gauge

        return Gauge(_PREFIX + name, help_, labels, registry=self._registry)

    def _histogram(self, name: str, help_: str) -> Histogram:
        from prometheus_client import Histogram

        return Histogram(_PREFIX + name, help_, buckets=_BUCKETS_S, registry=self._registry)
