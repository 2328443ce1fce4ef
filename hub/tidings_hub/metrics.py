"""The metrics of a node: plain numbers on one object, so that counting costs one addition.

The dataclass below is the only table: each field has a name, a kind and a help text. `/metrics` renders it through
`Collector` as `tidings_<name>`; counters end with `_total`.

    metrics.deliveries += len(connections)
    metrics.count(metrics.connections_closed, "slow")
    metrics.fanout_s.observe(0.0021)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import Metric

# From well under one network round trip to far more than a user accepts.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Kind(StrEnum):
    """How a field is rendered."""

    COUNTER = "counter"
    GAUGE = "gauge"
    BY_CODE = "by code"
    HISTOGRAM = "histogram"


class Histogram:
    """Durations in seconds, counted in the buckets of `BUCKETS_S` (the last one is the rest)."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, value_s: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS_S, value_s)] += 1
        self.sum_s += value_s


# The return type `Any` stands for the type of the field, as in dataclasses' own `field`.
def _counter(help_: str) -> Any:
    return field(default=0, metadata={"kind": Kind.COUNTER, "help": help_})


def _gauge(help_: str) -> Any:
    return field(default=0, metadata={"kind": Kind.GAUGE, "help": help_})


def _by_code(help_: str) -> Any:
    return field(default_factory=dict, metadata={"kind": Kind.BY_CODE, "help": help_})


def _histogram(help_: str) -> Any:
    return field(default_factory=Histogram, metadata={"kind": Kind.HISTOGRAM, "help": help_})


@dataclass(slots=True)
class Metrics:
    """The metrics of one node since it started. Only the node's own thread writes them."""

    # engine and pump
    accepted: int = _counter("Client sockets accepted")
    accept_paused: int = _counter("Times that accepting was paused, because all client sockets served requests")
    refused_full: int = _counter("Sessions refused because of max_connections or the limit of open files")
    sockets_shed: int = _counter("Waiting client sockets closed to make room for new ones: reserved_connections")
    input_shed: int = _counter("Unauthenticated sessions and incomplete requests closed because of input_max_bytes")
    refused_per_address: int = _counter("Sessions refused because of connections_per_address")
    http_requests: int = _counter("HTTP requests read")
    http_refused: int = _counter("HTTP requests refused: malformed, or past head_max_bytes")
    http_timeouts: int = _counter("Client sockets closed because of head_timeout_s or body_timeout_s")
    http_unread: int = _counter("Client sockets closed because of answer_timeout_s")
    http_idle: int = _counter("Client sockets closed because of keep_alive_s")
    closes_cut: int = _counter("Client sockets cut off because of close_linger_s")
    wsgi_requests: int = _counter("HTTP requests handed to Flask, or answered in its place")
    wsgi_refused: int = _counter("HTTP requests refused because of wsgi_requests and wsgi_queue")
    wsgi_timeouts: int = _counter("HTTP requests aborted because of wsgi_timeout_s")
    wsgi_too_large: int = _counter("HTTP responses aborted because of wsgi_response_max_bytes")
    opened_polling: int = _counter("Connections opened with long polling")
    opened_websocket: int = _counter("Connections opened over WebSocket")
    opened_sse: int = _counter("Server-sent event streams opened")
    upgrades: int = _counter("Connections moved from long polling to WebSocket")
    upgrade_timeouts: int = _counter("Upgrades aborted because of upgrade_timeout_s")
    polls_paced: int = _counter("Polls whose response was delayed because of poll_pace_ms")
    polls_repeated: int = _counter("Repeated polls that got the same response again")
    polls_unproven: int = _counter("Sessions ended because a poll without an id may have been a repeat")
    posts_repeated: int = _counter("Repeated POSTs whose packets were discarded")
    packets_received: int = _counter("Engine.IO packets read")
    bad_packets: int = _counter("Malformed Engine.IO packets and WebSocket frames; each closes its connection")
    bad_origins: int = _counter("Requests refused because of origins")
    bad_hosts: int = _counter("Requests refused under dev, because their Host header is not this machine")
    closed_slow: int = _counter("Connections closed because of out_buffer_bytes")
    closed_too_fast: int = _counter("Connections closed because of inbound_rate_per_s and inbound_burst")
    closed_too_large: int = _counter("Connections closed because of max_payload_bytes")
    closed_ping_timeout: int = _counter("Connections closed because of ping_timeout_s")
    closed_connect_timeout: int = _counter("Connections closed because of connect_timeout_s")
    connections_closed: dict[str, int] = _by_code("Connections closed, by code")
    relayed: int = _counter("Requests and WebSockets relayed to the node that owns their session")
    relay_taken: int = _counter("Requests that another node relayed to this one")
    relay_full: int = _counter("Requests refused because of relay_max")
    relay_failed: int = _counter("Requests that could not be relayed, or got no response; the client reconnects")
    relay_unknown: int = _counter("Requests for a node without a lease: it has ended, or never existed")
    relay_refused: int = _counter("Requests with an invalid stamp: they did not come from another node")
    relay_nodes: int = _gauge("Other nodes that this one can relay to")
    application_errors: int = _counter("Exceptions of the application that the engine caught")
    pump_errors: int = _counter("Exceptions that the pump caught; each is a bug in tidings")
    pump_mended: int = _counter("Times the watchdog registered the pump again")
    # Socket.IO
    packets_bad: int = _counter("Malformed Socket.IO packets; each closes its connection")
    inboxes_full: int = _counter("Connections closed because of inbox_packets_max or inbox_max_bytes")
    inboxes_shed: int = _counter("Connections closed because of inboxes_max_bytes")
    greenlets: int = _gauge("Greenlets that have not ended, counted with every canary")
    connects_waiting: int = _gauge("Clients that wait for the answer to their CONNECT")
    connects_held: int = _gauge("Clients whose CONNECT was refused, and who are closed after a pause")
    connects_refused: int = _counter("CONNECTs refused because of connect_queue")
    connects_expired: int = _counter("Connections closed because of connect_queue_timeout_s")
    handlers_refused: int = _counter("Client events refused because of handler_queue")
    handler_errors: int = _counter("Handlers that raised an unexpected exception")
    # user code
    app_call_s: Histogram = _histogram("Seconds that calls of an application's handlers took")
    app_errors: dict[str, int] = _by_code("Calls of an application's handlers that failed, by event")
    app_timeouts: dict[str, int] = _by_code("Calls of an application's handlers that passed app_timeout_s, by event")
    app_refused: int = _counter("Calls of an application's handlers refused because of app_handler_queue")
    hooks: dict[str, int] = _by_code("HTTP hooks, by result")
    hook_s: Histogram = _histogram("Seconds that HTTP hooks took")
    hooks_dropped: int = _counter("disconnect hooks that were discarded: beyond `queue`, or after `retries`")
    loop_stalls: int = _counter("Times the event loop was blocked for more than stall_warn_s, with --app or --wsgi")
    # sessions and channels
    sessions: int = _gauge("Authenticated sessions")
    subscriptions: int = _gauge("Subscriptions of this node's connections")
    channels: int = _gauge("Channels with at least one subscription on this node")
    subscriptions_refused: dict[str, int] = _by_code("Subscriptions refused, by code")
    channels_refused: int = _counter("Subscriptions refused because of channels_per_connection")
    new_channels_refused: int = _counter("Channels refused because of new_channels_per_minute and new_channels_burst")
    auth_failures: dict[str, int] = _by_code("Tokens refused, by code")
    auth_throttled: int = _counter("Connections rejected without a message because of auth_failures_per_minute")
    tokens_expired: int = _counter("Live connections closed because their token ended")
    revoked: int = _counter("Live connections closed because of a revocation")
    revocations: int = _gauge("Revocations that this node knows, with those that ended less than two hours ago")
    revocations_restored: int = _counter("Revocations written back because the broker lacked them")
    revocations_unsaved: int = _gauge("Revocations that are not in revocations_file: they wait, or do not fit")
    revocations_file_errors: int = _counter("Checks that found revocations_file not writable; this node retries")
    revocation_errors: int = _counter("Comparisons of revocations with the broker that failed; they are repeated")
    jwks_errors: int = _counter("Fetches of a JWKS that failed")
    jwks_age_s: float = _gauge("Seconds since the oldest JWKS was fetched; it should stay near cache_s")
    jwks_stale: int = _gauge("Issuers whose tokens are rejected, since no fetch of their JWKS succeeded in stale_max_s")
    jwks_waits_refused: int = _counter("Tokens rejected at once because of jwks_waiting_max")
    # publications
    publications: int = _counter("Publications received from the broker")
    deliveries: int = _counter("Publications handed to a connection")
    fanout_s: Histogram = _histogram("Seconds from a publication's at_ms until its fan-out was written")
    published: int = _counter("Publications this node handed to the broker")
    publish_duplicates: int = _counter("Publishes whose id the broker already had")
    publish_errors: dict[str, int] = _by_code("Publishes that failed, by code")
    publish_bytes_refused: int = _counter(
        "Publications of clients refused because of publish_bytes_per_minute and publish_burst_bytes"
    )
    publications_too_large: int = _counter("Publications refused because of publication_max_bytes")
    recoveries: int = _counter("Channels recovered completely")
    recoveries_failed: int = _counter("Channels answered with recovered: false")
    recoveries_deferred: int = _counter("Recoveries that waited for another read because of recovery_round_max_bytes")
    histories_deferred: int = _counter("Reads of history that waited for others because of recovery_round_max_bytes")
    recovered_publications: int = _counter("Publications delivered by recovery")
    held_overflows: int = _counter("Recoveries abandoned because of hold_max")
    histories: int = _counter("History pages read")
    history_limited: int = _counter("History requests for more than history_page_max")
    sessions_recovered: int = _counter("Clients that resumed their session with a pid")
    returns_refused: dict[str, int] = _by_code("Clients that reconnected with a pid and got a new session, by reason")
    recovery_sessions: int = _gauge("Live sessions that are stored in the broker for a resume")
    recovery_sessions_refused: int = _counter("Sessions without a pid because of recovery_sessions_max")
    recovery_sessions_too_large: int = _counter("Sessions not stored because of recovery_session_max_bytes")
    recovery_errors: int = _counter("Failed writes of sessions to the broker; they are retried")
    reports: int = _gauge("Publications with a delivery report on this node")
    reports_dropped: int = _counter("Reports discarded early because of reports_max or acks_max")
    acks: int = _counter("Acknowledgements of publications, without repeated ones of the same connection")
    acks_unknown: int = _counter("Acknowledgements that were not requested, or whose report was discarded")
    # presence
    presence_users: int = _gauge("Users of this node in channels with presence, each counted once per channel")
    presence_joins: int = _counter("Joins over all nodes that this node's presence updates produced")
    presence_leaves: int = _counter("Leaves over all nodes that this node's presence updates produced")
    presence_turns: int = _counter("Presence updates written to the broker")
    presence_errors: int = _counter("Failed presence updates; they are retried")
    presence_ended: int = _counter("Presence leases of other nodes that had ended, and whose users this node removed")
    presence_begun_anew: int = _counter("Times all users were written again because the broker lost this node's data")
    presence_infos_refused: int = _counter("Sessions whose `info` is not shown because of presence_info_max_bytes")
    presence_lists_refused: int = _counter("Presence responses without a list because of presence_list_max")
    # broker
    broker_connected: int = _gauge("1 while the broker is reachable, with all of its parts")
    broker_parts_unserved: int = _gauge("Parts of the broker (buckets of a cluster) that no publication gets through")
    broker_evicts: int = _gauge("1 if Redis has another maxmemory-policy than noeviction")
    broker_timeouts: int = _counter("Requests to the broker without a reply within broker_timeout_s")
    broker_calls_refused: dict[str, int] = _by_code("Calls that failed at once: the broker is away, by kind")
    broker_reconnects: int = _counter("Reconnects to the broker")
    broker_channels: int = _gauge("Channels this node is subscribed to at the broker")
    broker_channels_unverified: int = _gauge("Channels that were not yet repaired since the last reconnect")
    broker_bytes: int = _counter("Bytes of publications read from the broker")
    broker_poisoned: int = _counter("Foreign broker messages that were ignored")
    broker_replays: int = _counter("Broker messages discarded because their seq was already processed")
    broker_oversize: int = _counter("Connections to the broker closed because of link_max_bytes")
    broker_held_dropped: int = _counter("Live messages discarded (held_max_bytes, early_max); repaired later")
    control_messages: int = _counter("Control messages from other nodes")
    control_foreign: int = _counter("Commands ignored: of another database of the same Redis, or without an epoch")
    control_without_epoch: int = _counter("Commands that name no epoch; their sender is of version 0.1")
    gaps: int = _counter("Gaps found in a channel")
    gaps_repaired: int = _counter("Gaps repaired from the channel's stream")
    doubts: int = _counter("Ranges of cursors that this node doubts, because it had lost a publication before them")
    gaps_late: int = _counter("Gaps reported to clients because another node had lost a publication before")
    gaps_lost: int = _counter("Gaps that could not be repaired; the clients received `tidings:gap`")
    doubts_widened: int = _counter("Times doubt widened to all channels because of doubts_max")
    epochs: int = _counter("Times a new epoch began")
    position_checks: int = _counter("Position checks done, one per position_check_s")
    canaries: int = _counter("Canary publications that returned")
    canaries_lost: int = _counter("Canary publications that Redis rejected, or not back within canary_timeout_s")
    canary_s: Histogram = _histogram("Seconds until a canary returned")
    # notifications
    notification_requests: dict[str, int] = _by_code("Requests to the notification service, by result")
    notification_request_s: Histogram = _histogram("Seconds that requests to the notification service took")
    notification_requests_active: int = _gauge("Requests to the notification service in progress")
    notification_requests_refused: int = _counter(
        "Requests to the notification service that failed at once: it does not answer, or requests_waiting_max"
    )
    notification_service_up: int = _gauge("1 while the notification service answers and is ready")
    notifications_handed: dict[str, int] = _by_code(
        "Notifications of backends handed to the notification service, by state or code"
    )
    inbox_requests_refused: int = _counter(
        "Requests of users refused because of user_requests_per_minute and user_requests_burst"
    )
    # ingress
    ingress_connected: int = _gauge("Queues of `ingress` that this node is connected to")
    ingress_consumed: int = _counter("Messages received from queues, including redeliveries")
    ingress_acked: int = _counter("Messages of queues that were published and acknowledged")
    ingress_dead: dict[str, int] = _by_code("Messages moved to a dead-letter queue, by code of the reason")
    ingress_dead_waiting: int = _gauge("Rejected messages that wait for their dead-letter queue")
    ingress_deleted: int = _counter("Times the server cancelled this node's consumer: the queue was deleted")
    ingress_held: int = _gauge("Messages of queues that wait because the broker is unavailable")
    ingress_reconnects: int = _counter("Times a connection to a queue broke or could not be opened")
    # HTTP API
    api_requests: dict[str, int] = _by_code("Responses of the HTTP API, by status")
    api_unauthorized: int = _counter("API requests without a valid key")
    api_too_large: int = _counter("API requests refused because of api_body_max_bytes or max_batch")
    # compatibility formats
    wires_published: dict[str, int] = _by_code("Publications received in a compatibility format, by format")
    wires_refused: dict[str, int] = _by_code("Messages in a compatibility format that were refused, by code")
    wires_ordered: dict[str, int] = _by_code("Commands received in a compatibility format, by command")
    wires_dropped: int = _counter("Messages in a compatibility format discarded because this node's lease had ended")
    wires_listening: int = _gauge("Compatibility formats for which this node has the lease")
    task_restarts: dict[str, int] = _by_code("Times a long-lived task failed unexpectedly and was restarted, by task")
    worker_errors: dict[str, int] = _by_code("Calls in a pool of workers that failed unexpectedly, by pool")
    reloads: int = _counter("Times SIGHUP reloaded rules and keys")
    reload_errors: int = _counter("Times SIGHUP found invalid settings and changed nothing")
    node_ready: int = _gauge("1 while this node can serve (its own /readyz)")
    workers: int = _gauge("Nodes that the supervisor of this node starts")
    worker_restarts: int = _counter("Restarts of this worker by its supervisor")
    worker_hangs: int = _counter("Restarts of this worker because it sent no heartbeat, or did not listen")
    workers_silent: int = _counter("Workers that did not respond to a sibling's /metrics or /readyz request")
    control_unanswered: int = _counter("Commands to all nodes that this node did not reply to")
    nodes: int = _gauge("Live nodes, as of this node's last heartbeat")
    draining: int = _gauge("1 while this node drains")

    def count(self, by_code: dict[str, int], code: str, times: int = 1) -> None:
        """Add to one code of a by-code field. Codes come from tables, never from a client."""
        by_code[code] = by_code.get(code, 0) + times


FIELDS: dict[str, tuple[Kind, str]] = {
    metric.name: (metric.metadata["kind"], metric.metadata["help"]) for metric in fields(Metrics)
}


class Collector:
    """A collector for `prometheus_client.CollectorRegistry.register`.

    Source: prometheus.io/docs/instrumenting/exposition_formats.
    """

    def __init__(self, metrics: Metrics, *, node: str) -> None:
        self._metrics = metrics
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """One metric family per field, each sample with the label `node`."""
        # Imported after monkey patching, and only if metrics are requested.
        from prometheus_client import core

        for name, (kind, help_) in FIELDS.items():
            value: Any = getattr(self._metrics, name)
            family = f"tidings_{name}"
            labels = [self._node]
            if kind is Kind.COUNTER:
                counter = core.CounterMetricFamily(family, help_, labels=["node"])
                counter.add_metric(labels, value)
                yield counter
            elif kind is Kind.GAUGE:
                gauge = core.GaugeMetricFamily(family, help_, labels=["node"])
                gauge.add_metric(labels, value)
                yield gauge
            elif kind is Kind.BY_CODE:
                counter = core.CounterMetricFamily(family, help_, labels=["node", "code"])
                for code, times in sorted(value.items()):
                    counter.add_metric([self._node, code], times)
                yield counter
            else:
                yield self._histogram(family, help_, value)

    def _histogram(self, family: str, help_: str, histogram: Histogram) -> Metric:
        from prometheus_client import core

        total, buckets = 0, []
        for bound, times in zip((*map(str, BUCKETS_S), "+Inf"), histogram.counts, strict=True):
            total += times
            buckets.append((bound, float(total)))
        metric = core.HistogramMetricFamily(family, help_, labels=["node"])
        metric.add_metric([self._node], buckets, sum_value=histogram.sum_s)
        return metric


def render(metrics: Metrics, *, node: str) -> bytes:
    """The node's metrics in Prometheus' text format 0.0.4, UTF-8."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(Collector(metrics, node=node))
    return generate_latest(registry)


def merge_texts(texts: Sequence[bytes]) -> bytes:
    """The metrics of several nodes as one text: each family once, with the samples of all nodes.

    All texts come from `render`, where the lines of a family follow its help line.
    """
    families: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for text in texts:
        head_lines: list[bytes] = []
        samples: list[bytes] = []
        for line in text.splitlines():
            if line.startswith(b"# HELP "):
                head_lines, samples = families.setdefault(line.split(b" ")[2], ([], []))
            if not line.startswith(b"#"):
                samples.append(line)
            elif line not in head_lines:
                head_lines.append(line)
    return b"".join(line + b"\n" for head_lines, samples in families.values() for line in (*head_lines, *samples))
