"""Settings of the network: where a node listens, and what it allows its connections."""

from __future__ import annotations

import secrets
from typing import Literal

from pydantic import Field

from tidings_hub.config.fields import SettingsModel, setting

# Addresses at which a process listens on every interface, and where this machine reaches it.
_REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def local_url(host: str, port: int) -> str:
    """The URL at which this machine reaches a server that listens on `host`."""
    host = _REACHABLE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def random_node_id() -> str:
    """Return a node id for a node whose settings name none."""
    return secrets.token_hex(3)


class NodeSettings(SettingsModel):
    """Address and identity of a node, its broker, its workers and its shutdown."""

    host: str = setting("127.0.0.1", "Address to listen on")
    port: int = setting(8000, "Port to listen on; 0 selects a free one", ge=0, le=65_535)
    backlog: int = setting(4096, "Connections that wait to be accepted", ge=1, le=65_535)
    node_id: str = Field(
        default_factory=random_node_id,
        description="Name of this node; random by default",
        validate_default=True,
    )
    broker: str = setting(
        "memory://",
        "The broker that connects the nodes: memory://, redis://, rediss://, unix://, redis+sentinel://"
        " or redis+cluster://",
        shown=False,
    )
    prefix: str = setting("tidings:", "Prefix of all keys and pub/sub channels in the broker")
    advertise: str = setting(
        "",
        "`host:port` at which other nodes reach this one, to relay requests of its sessions. Empty: no"
        " relaying, which needs a sticky balancer",
    )
    lease_s: float = setting(
        10.0,
        "Seconds after which other nodes consider a silent node dead",
        ge=0.3,
        le=600,
        policy="answer requests of its sessions as unknown; the clients connect again",
        metric="relay_unknown",
    )
    relay_max: int = setting(
        10_000,
        "Requests and WebSockets that are being relayed to other nodes at a time",
        ge=1,
        le=1_000_000,
        policy="answer 503; a WebSocket stays on polling",
        metric="relay_full",
    )
    relay_timeout_s: float = setting(
        3.0,
        "Seconds until another node has accepted a relayed request",
        ge=0.1,
        le=60,
        policy="answer as an unknown session; the client connects again",
        metric="relay_failed",
    )
    workers: int = setting(
        1,
        "Nodes on this machine that share the port, started and monitored by one supervisor; needs Redis",
        ge=1,
        le=256,
    )
    worker_timeout_s: float = setting(
        30.0,
        "Seconds without a heartbeat of a worker, or of the notification service that `tidings serve` started, because"
        " it is stopped or its event loop is blocked",
        ge=3,
        le=3600,
        policy="the supervisor kills and restarts it",
        metric="worker_hangs",
    )
    worker_start_timeout_s: float = setting(
        120.0,
        "Seconds from the start of such a process until it listens",
        ge=5,
        le=3600,
        policy="the supervisor kills and restarts it",
        metric="worker_hangs",
    )
    drain_notice_s: float = setting(
        2.0,
        "Seconds between the first failing /readyz of a draining node and its last accepted connection,"
        " so that a balancer notices; 0 under --dev",
        ge=0,
        le=600,
    )
    drain_s: float = setting(
        10.0,
        "Seconds over which a draining node disconnects its clients",
        ge=0,
        le=600,
        policy="close with `draining`",
        metric="connections_closed",
    )
    dev: bool = setting(
        default=False,
        about="Anonymous clients, any namespace, no API key; only on loopback. For local use only. Requests whose Host"
        " header is neither this machine nor the host of one of the `origins` are refused",
        policy="answer 403",
        metric="bad_hosts",
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Least severe level that is logged")


class ConnectionSettings(SettingsModel):
    """Limits on connections. A client that exceeds one receives a code; other clients are not affected."""

    max_connections: int = setting(
        50_000,
        "Sessions and event streams per node. At start it is lowered to what the limit of open files allows",
        ge=1,
        le=5_000_000,
        policy="reject with `full` and status 503",
        metric="refused_full",
    )
    reserved_connections: int = setting(
        1_000,
        "Client sockets beyond `max_connections`: room for probes, metrics, backends, pages and second requests of a"
        " session on a full node",
        ge=8,
        le=1_000_000,
        policy="close the socket that has waited longest without a request; refuse with `full` what leaves less than"
        " half of it",
        metric="sockets_shed",
    )
    connections_per_address: int = setting(
        0,
        "Sessions from one address, or from one /64 of IPv6, behind `trusted_proxies`; 0: no limit",
        ge=0,
        le=5_000_000,
        policy="reject with `too_many_connections` and status 429",
        metric="refused_per_address",
    )
    ping_interval_s: float = setting(25.0, "Seconds between pings to a client", ge=0.05, le=600)
    ping_timeout_s: float = setting(
        20.0,
        "Seconds that a client has to answer a ping",
        ge=0.05,
        le=600,
        policy="close with `ping_timeout`",
        metric="closed_ping_timeout",
    )
    connect_timeout_s: float = setting(
        10.0,
        "Seconds until CONNECT must have arrived after the handshake; a grace of a quarter follows",
        ge=0.1,
        le=300,
        policy="close with `connect_timeout`: the client reconnects",
        metric="closed_connect_timeout",
    )
    connect_queue: int = setting(
        20_000,
        "Clients whose CONNECT, or request for an event stream, waits for its answer",
        ge=1,
        le=5_000_000,
        policy="close with `full`: the client reconnects",
        metric="connects_refused",
    )
    connect_queue_timeout_s: float = setting(
        20.0,
        "Seconds for which a CONNECT waits for its answer. The exact time is random, from two thirds of it to all of"
        " it, so that a crowd does not reconnect at the same moment",
        ge=0.1,
        le=600,
        policy="close with `full`: the client reconnects",
        metric="connects_expired",
    )
    refusal_pause_max_s: float = setting(
        20.0,
        "Seconds, at most, between a refused CONNECT that the client should repeat and the close that makes it do so",
        ge=0,
        le=600,
    )
    head_timeout_s: float = setting(
        10.0,
        "Seconds for a request's head to arrive",
        ge=0.1,
        le=300,
        policy="answer 408, close",
        metric="http_timeouts",
    )
    body_timeout_s: float = setting(
        20.0,
        "Seconds from the end of a request's head for its body to arrive",
        ge=0.1,
        le=600,
        policy="answer 408, close",
        metric="http_timeouts",
    )
    answer_timeout_s: float = setting(
        60.0,
        "Seconds that an HTTP client has to read a response",
        ge=0.1,
        le=3600,
        policy="close",
        metric="http_unread",
    )
    head_max_bytes: int = setting(
        16_384, "Bytes of a request's head", ge=1024, le=262_144, policy="answer 431, close", metric="http_refused"
    )
    keep_alive_s: float = setting(
        75.0, "Seconds that an idle HTTP connection stays open", ge=0, le=3600, policy="close", metric="http_idle"
    )
    upgrade_timeout_s: float = setting(
        10.0,
        "Seconds that a client has to complete its upgrade from long polling to a WebSocket",
        ge=0.1,
        le=300,
        policy="close the WebSocket; the session continues with long polling",
        metric="upgrade_timeouts",
    )
    close_linger_s: float = setting(
        2.0,
        "Seconds that the client of a closed connection has to read the last bytes",
        ge=0,
        le=60,
        policy="reset the connection",
        metric="closes_cut",
    )
    max_payload_bytes: int = setting(
        65_536,
        "Bytes of one message or POST body of a client",
        ge=1024,
        le=67_108_864,
        policy="reject before it is buffered; close with 1009 or answer 413",
        metric="closed_too_large",
    )
    connect_max_bytes: int = setting(
        65_536,
        "Bytes that one session may send before it is authenticated, all its messages together",
        ge=1024,
        le=67_108_864,
        policy="close with `too_large`",
        metric="closed_too_large",
    )
    input_max_bytes: int = setting(
        134_217_728,
        "Bytes that a node holds of incomplete requests and of sessions that are not authenticated",
        ge=1_048_576,
        le=1_099_511_627_776,
        policy="close the one that began first, with `full` or status 503",
        metric="input_shed",
    )
    poll_pace_ms: int = setting(
        3,
        "Least time between two responses to one long-polling client under load; 0: none",
        ge=0,
        le=1000,
        policy=("join the publications of that time into one response; the first publication is never delayed"),
        metric="polls_paced",
    )
    out_buffer_bytes: int = setting(
        1_048_576,
        "Bytes waiting for one slow connection",
        ge=16_384,
        le=268_435_456,
        policy="close with `slow`; the client recovers from its cursor",
        metric="closed_slow",
    )
    inbound_rate_per_s: float = setting(
        50.0,
        "Messages per second that one connection may send on average. Control frames, packets in a POST, and"
        " WebSocket fragments below 1 KiB count as messages",
        ge=0.1,
        le=100_000,
        policy="close with `too_fast`",
        metric="closed_too_fast",
    )
    inbound_burst: int = setting(
        200,
        "Messages that one connection may send in a burst, beside those that wait while the event loop is blocked",
        ge=1,
        le=1_000_000,
        policy="close with `too_fast`",
        metric="closed_too_fast",
    )
