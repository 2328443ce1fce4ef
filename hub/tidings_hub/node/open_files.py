"""The limit of open files (RLIMIT_NOFILE): no process accepts more connections than it has descriptors for."""

from __future__ import annotations

import logging
import resource
from dataclasses import replace
from typing import Final

from tidings_hub.config.settings import Settings
from tidings_hub.engine.limits import EngineLimits

logger = logging.getLogger("tidings")

# Descriptors for everything that is not a client socket or a relay: links to the broker and to queues, hooks, log and
# code files, and the spare descriptors. At a low limit, a quarter of it.
_OTHER_FILES: Final = 256
_OTHER_SHARE: Final = 4
# A node without a free descriptor for relays or probes would fail them. At a low limit, each gets this share.
_RESERVE_SHARE: Final = 4
_UNLIMITED: Final = 1 << 30
# For everything of the notification service that is not a connection of a node, a push or a webhook: probes, the
# database, Redis, log and code files.
_OTHER_SERVICE_FILES: Final = 192
_SERVICE_CONNECTIONS_MIN: Final = 8


def fit_open_files(limits: EngineLimits, *, relays: bool, level: int = logging.WARNING) -> EngineLimits:
    """Raise the process's soft limit as far as needed and allowed, and return limits that fit.

    `relays`: whether the node opens sockets to other nodes. `level`: of the log line if the limit is too low.
    """
    needed = limits.max_connections + limits.reserved_connections + _OTHER_FILES + (limits.relay_max if relays else 0)
    available = raise_soft_limit(needed)
    fitting = fit(limits, available, relays=relays)
    if fitting != limits:
        logger.log(
            level,
            "this process may open %d files, and max_connections = %d needs %d: the node accepts %d sessions and keeps"
            " %d sockets for probes and backends; raise LimitNOFILE or `ulimit -n`, or lower max_connections",
            available,
            limits.max_connections,
            needed,
            fitting.max_connections,
            fitting.reserved_connections,
        )
    return fitting


def fit_service_files(settings: Settings) -> Settings:
    """Raise the soft limit of the notification service, and return settings whose `connections` fit.

    Without a free descriptor it could accept no connection, not even that of a probe.
    """
    options = settings.notifications
    pushes = options.web_push.connections if options.web_push.is_enabled else 0
    others = pushes + settings.hooks.connections + _OTHER_SERVICE_FILES
    available = raise_soft_limit(options.connections + others)
    connections = max(_SERVICE_CONNECTIONS_MIN, min(options.connections, available - others))
    if connections == options.connections:
        return settings
    logger.warning(
        "this process may open %d files, so the notification service keeps %d connections of nodes instead of %d;"
        " raise LimitNOFILE or `ulimit -n`, or lower connections in [notifications]",
        available,
        connections,
        options.connections,
    )
    return settings.model_copy(update={"notifications": options.model_copy(update={"connections": connections})})


def raise_soft_limit(needed: int) -> int:
    """Raise the soft limit to `needed`, or to the hard limit if that is lower. Returns the limit in force.

    The hub waits with epoll, so descriptors of 1,024 and more are safe (select(2) would not be).
    """
    soft, hard = (_UNLIMITED if limit == resource.RLIM_INFINITY else limit for limit in _limits())
    if soft < needed:
        soft = min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, _limits()[1]))
    return soft


def _limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def fit(limits: EngineLimits, available: int, *, relays: bool) -> EngineLimits:
    """`limits` if their sockets fit into `available` descriptors, else lower ones."""
    rest = available - min(_OTHER_FILES, available // _OTHER_SHARE)
    relay_max = limits.relay_max if relays else 0
    if limits.max_connections + limits.reserved_connections + relay_max <= rest:
        return limits
    share = max(1, rest // _RESERVE_SHARE)
    reserved, relay_max = min(limits.reserved_connections, share), min(relay_max, share)
    max_connections = max(1, min(limits.max_connections, rest - reserved - relay_max))
    return replace(
        limits,
        max_connections=max_connections,
        reserved_connections=reserved,
        relay_max=relay_max if relays else limits.relay_max,
    )
