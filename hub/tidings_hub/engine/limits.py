"""The engine's bounds and options, and what it asks of the layers that give them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol


class Origins(Protocol):
    """Which web pages may talk to this hub."""

    def allows(self, origin: str | None, host: str, secure: bool) -> bool:
        """Whether a page of `origin` may, when the request came to `host`; None: no page sent it."""


class AnyOrigin:
    """Every page may: CORS `*`. For public test targets only."""

    def allows(self, origin: str | None, host: str, secure: bool) -> bool:
        """Yes."""
        return True


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds of one node's front door; what happens at each is said beside it.

    head_max_bytes: a request's head; larger: 431 and close.
    head_timeout_s: from a head's first byte (or the accept) to its end; later: 408 and close.
    body_max_bytes: a body that is handed to WSGI; larger: 413 and close.
    body_timeout_s: from a head's end to its body's end; later: 408 and close.
    idle_timeout_s: a kept-alive connection without a request; later: close.
    answer_timeout_s: from an answer's first byte until the client has read it; later: close.
    max_connections: open descriptors; past it: 503 with code `full` and close.
    connections_per_address: sessions of one client address; past it: 429 with code `too_many_connections`. 0: any.
    backlog: connections that the kernel holds before accept; past it the kernel lets them retry.
    out_buffer_bytes: bytes that wait for one slow connection; past it: close with `slow`.
    inbound_rate_per_s, inbound_burst: packets from one connection; faster: close with `too_fast`.
    poll_pace_ms: least time between two answers to one polling client while publications pour in; 0: none.
    upgrade_timeout_s: from a WebSocket's probe to its upgrade; later: the WebSocket is closed, the session goes on.
    close_linger_s: how long a closed connection may still read what was written; later: cut.
    wsgi_pool, wsgi_queue: requests that run and wait in the WSGI application; past it: 503 `full`.
    wsgi_timeout_s, wsgi_response_max_bytes: one answer; past it: 500.
    relay_max: requests and WebSockets on their way to other nodes; past it: 503, or the session stays on polling.
    relay_timeout_s: until another node has taken a request; later: it is answered as an unknown session.
    trusted_proxies: networks whose X-Forwarded-For, -Proto and -Host are believed.
    """

    head_max_bytes: int
    head_timeout_s: float
    body_max_bytes: int
    body_timeout_s: float
    idle_timeout_s: float
    answer_timeout_s: float
    max_connections: int
    connections_per_address: int
    backlog: int
    out_buffer_bytes: int
    inbound_rate_per_s: float
    inbound_burst: int
    upgrade_timeout_s: float
    poll_pace_ms: int
    close_linger_s: float
    wsgi_pool: int
    wsgi_queue: int
    wsgi_timeout_s: float
    wsgi_response_max_bytes: int
    relay_max: int
    relay_timeout_s: float
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What one mounted path offers.

    ping_interval_ms, ping_timeout_ms: Engine.IO heartbeat; an event stream gets a comment every `ping_interval_ms`.
    max_payload_bytes: one polling body, one WebSocket message; larger: 413 or 1009, and the session is closed.
    connect_timeout_ms: from opening to `Connection.establish()`; later: close with `connect_timeout`. 0: never.
    """

    ping_interval_ms: int
    ping_timeout_ms: int
    max_payload_bytes: int
    connect_timeout_ms: int
    origins: Origins


class EngineMetrics(Protocol):
    """The counters that the engine adds to; each is a bound's policy or a flow."""

    accepted: int = 0
    refused_full: int = 0
    refused_per_address: int = 0
    accept_paused: int = 0
    http_requests: int = 0
    http_refused: int = 0
    http_timeouts: int = 0
    http_unread: int = 0
    http_idle: int = 0
    closes_cut: int = 0
    wsgi_requests: int = 0
    wsgi_refused: int = 0
    wsgi_timeouts: int = 0
    wsgi_too_large: int = 0
    opened_polling: int = 0
    opened_websocket: int = 0
    opened_sse: int = 0
    upgrades: int = 0
    upgrade_timeouts: int = 0
    polls_paced: int = 0
    packets_received: int = 0
    bad_packets: int = 0
    bad_origins: int = 0
    closed_slow: int = 0
    closed_too_fast: int = 0
    closed_too_large: int = 0
    closed_ping_timeout: int = 0
    closed_connect_timeout: int = 0
    relayed: int = 0
    relay_taken: int = 0
    relay_full: int = 0
    relay_failed: int = 0
    relay_refused: int = 0
    relay_unknown: int = 0
    relay_nodes: int = 0
    workers_silent: int = 0
    application_errors: int = 0
    pump_errors: int = 0
    pump_mended: int = 0
    connections_closed: dict[str, int]


class Counters(EngineMetrics):
    """A plain `EngineMetrics`, for an engine that runs alone."""

    def __init__(self) -> None:
        self.connections_closed: dict[str, int] = {}
