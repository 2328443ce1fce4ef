"""The engine's bounds and options, from the settings of the same meaning."""

from __future__ import annotations

import ipaddress

from tidings_hub.config.settings import Settings
from tidings_hub.engine.limits import EngineLimits, EngineOptions


def engine_limits(settings: Settings) -> EngineLimits:
    """The engine's bounds, from the settings of the same meaning."""
    return EngineLimits(
        head_max_bytes=settings.head_max_bytes,
        head_timeout_s=settings.head_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        answer_timeout_s=settings.answer_timeout_s,
        upgrade_timeout_s=settings.upgrade_timeout_s,
        linger_s=settings.close_linger_s,
        body_max_bytes=settings.api_body_max_bytes,
        idle_timeout_s=settings.keep_alive_s,
        max_connections=settings.max_connections,
        connections_per_address=settings.connections_per_address,
        backlog=settings.backlog,
        out_buffer_bytes=settings.out_buffer_bytes,
        poll_pace_ms=settings.poll_pace_ms,
        inbound_rate_per_s=settings.inbound_rate_per_s,
        inbound_burst=settings.inbound_burst,
        wsgi_pool=settings.wsgi_requests,
        wsgi_queue=settings.wsgi_queue,
        wsgi_timeout_s=settings.wsgi_timeout_s,
        wsgi_response_max_bytes=settings.wsgi_response_max_bytes,
        relay_max=settings.relay_max,
        relay_timeout_s=settings.relay_timeout_s,
        trusted_proxies=tuple(ipaddress.ip_network(each) for each in settings.trusted_proxies),
    )


def engine_options(settings: Settings) -> EngineOptions:
    """One mounted path's timing and origins, from the settings."""
    return EngineOptions(
        ping_interval_ms=int(settings.ping_interval_s * 1000),
        ping_timeout_ms=int(settings.ping_timeout_s * 1000),
        max_payload_bytes=settings.max_payload_bytes,
        connect_timeout_ms=int(settings.connect_timeout_s * 1000),
        origins=settings.origin_policy(),
    )
