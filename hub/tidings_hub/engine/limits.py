"""The engine's limits, options and counters."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol


class Origins(Protocol):
    """Decides which web pages may use this hub."""

    def allows(self, origin: str | None, host: str, secure: bool) -> bool:
        """Whether a page of `origin` may send a request to `host`. `origin` is None for a request without a page."""


class Hosts(Protocol):
    """Decides which hosts a request may name."""

    def allows(self, host: str) -> bool:
        """Whether a request with this Host header may be served."""


class AnyOrigin:
    """Allows every page, as CORS `*` does. For public test targets only."""

    def allows(self, origin: str | None, host: str, secure: bool) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Limits of one node's engine, each with what happens when it is exceeded.

    head_max_bytes: the head of a request; larger: 431 and close.
    head_timeout_s: from the first byte of a head (or the accept) to its end; later: 408 and close.
    body_max_bytes: a body for the WSGI application; larger: 413 and close.
    body_timeout_s: from the end of a head to the end of the body; later: 408 and close.
    idle_timeout_s: a kept-alive connection without a request; later: close.
    answer_timeout_s: from the first byte of a response until the client has read it; later: close.
    max_connections: sessions and event streams; more: 503 with code `full` and close.
    reserved_connections: client sockets beyond max_connections; more: those that wait longest are closed.
    connections_per_address: sessions of one client address; more: 429 with code `too_many_connections`. 0: no limit.
    connect_max_bytes: bytes that one session may send before it is authenticated; more: close with `too_large`.
    input_max_bytes: bytes of all incomplete requests and unauthenticated sessions; more: the first ones are closed.
    backlog: connections that the kernel holds before accept; more: the kernel makes the clients retry.
    out_buffer_bytes: bytes that wait for one slow connection; more: close with `slow`.
    inbound_rate_per_s, inbound_burst: packets from one connection; faster: close with `too_fast`.
    poll_pace_ms: least time between two responses to one polling client at a high publication rate; 0: none.
    upgrade_timeout_s: from a WebSocket's probe to its upgrade; later: the WebSocket is closed, the session continues.
    close_linger_s: how long a closed connection may still read what was written; later: reset.
    wsgi_pool, wsgi_queue: requests that run and wait in the WSGI application; more: 503 `full`.
    wsgi_timeout_s, wsgi_response_max_bytes: one response; later or larger: 500.
    relay_max: requests and WebSockets forwarded to other nodes; more: 503, or the session stays on polling.
    relay_timeout_s: until another node accepts a request; later: the response is "unknown session".
    trusted_proxies: networks whose X-Forwarded-For, -Proto and -Host headers, or Forwarded header, are trusted.
    """

    head_max_bytes: int
    head_timeout_s: float
    body_max_bytes: int
    body_timeout_s: float
    idle_timeout_s: float
    answer_timeout_s: float
    max_connections: int
    reserved_connections: int
    connections_per_address: int
    connect_max_bytes: int
    input_max_bytes: int
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
    """Options of one mounted path.

    ping_interval_ms, ping_timeout_ms: Engine.IO heartbeat; an event stream gets a comment every `ping_interval_ms`.
    max_payload_bytes: one polling body or WebSocket message; larger: 413 or 1009, and the session is closed.
    connect_timeout_ms: from the handshake to `Connection.establish()`; later: close with `connect_timeout`. 0: never.
    """

    ping_interval_ms: int
    ping_timeout_ms: int
    max_payload_bytes: int
    connect_timeout_ms: int
    origins: Origins


class EngineMetrics(Protocol):
    """The counters that the engine increments. Each one counts an event, or an exceeded limit."""

    accepted: int = 0
    refused_full: int = 0
    refused_per_address: int = 0
    sockets_shed: int = 0
    input_shed: int = 0
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
    polls_repeated: int = 0
    polls_unproven: int = 0
    posts_repeated: int = 0
    packets_received: int = 0
    bad_packets: int = 0
    bad_origins: int = 0
    bad_hosts: int = 0
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
