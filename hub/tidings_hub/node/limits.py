"""The limits of broker and engine, filled from `Settings`. Only `config` has default values."""

from __future__ import annotations

from typing import Final

from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.config.settings import Settings
from tidings_hub.engine.limits import EngineLimits, EngineOptions

# Bytes of a broker message besides its data: seq, prev, epoch, id, and the event name in JSON.
_MESSAGE_HEAD_MAX_BYTES: Final = 2_048


def broker_limits(settings: Settings) -> BrokerLimits:
    """The limits of the broker."""
    return BrokerLimits(
        message_max_bytes=settings.publication_max_bytes + _MESSAGE_HEAD_MAX_BYTES,
        repair_max=settings.recovery_max,
        repair_first=settings.repair_first,
        repair_max_bytes=settings.repair_max_bytes,
        recovery_max_bytes=settings.recovery_max_bytes,
        # At least one channel, whatever the setting, so that a recovery makes progress.
        recovery_round_max_bytes=max(settings.recovery_round_max_bytes, settings.recovery_max_bytes),
        early_max=settings.early_max,
        held_max_bytes=settings.held_max_bytes,
        link_max_bytes=settings.link_max_bytes,
        doubts_max=settings.doubts_max,
        pointer_ttl_s=settings.pointer_ttl_s,
        commands_without_epoch=settings.commands_without_epoch,
        timeout_s=settings.broker_timeout_s,
        linger_s=settings.linger_s,
        position_check_s=settings.position_check_s,
        canary_timeout_s=settings.canary_timeout_s,
    )


def engine_limits(settings: Settings) -> EngineLimits:
    """The limits of the engine, for all mounted paths together."""
    return EngineLimits(
        head_max_bytes=settings.head_max_bytes,
        head_timeout_s=settings.head_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        answer_timeout_s=settings.answer_timeout_s,
        upgrade_timeout_s=settings.upgrade_timeout_s,
        close_linger_s=settings.close_linger_s,
        body_max_bytes=settings.api_body_max_bytes,
        idle_timeout_s=settings.keep_alive_s,
        max_connections=settings.max_connections,
        reserved_connections=settings.reserved_connections,
        connections_per_address=settings.connections_per_address,
        connect_max_bytes=settings.connect_max_bytes,
        input_max_bytes=settings.input_max_bytes,
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
        trusted_proxies=settings.proxy_networks(),
    )


def engine_options(settings: Settings) -> EngineOptions:
    """Timing, payload size and origins of one mounted path."""
    return EngineOptions(
        ping_interval_ms=int(settings.ping_interval_s * 1000),
        ping_timeout_ms=int(settings.ping_timeout_s * 1000),
        max_payload_bytes=settings.max_payload_bytes,
        connect_timeout_ms=int(settings.connect_timeout_s * 1000),
        origins=settings.origin_policy(),
    )
