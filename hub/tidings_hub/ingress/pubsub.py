"""Opens the listeners of all compatibility formats on Redis that the settings name."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Protocol

from tidings_hub.config.settings import Settings
from tidings_hub.core.compat.requests import RequestLimits
from tidings_hub.core.lease import LeaseReply
from tidings_hub.ingress.dispatcher import Dispatcher
from tidings_hub.ingress.flask_socketio import FlaskSocketioFormat
from tidings_hub.ingress.lease_keeper import LeaseKeeper
from tidings_hub.ingress.listener import Format, Listener, MessageSource
from tidings_hub.ingress.socketio_emitter import SocketioEmitterFormat


class LeaseProvider(Protocol):
    """What grants leases: the broker."""

    def acquire_lease(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        """See `brokers.base.Broker.acquire_lease`."""


def open_pubsub_ingress(
    settings: Settings, broker: LeaseProvider, dispatcher: Dispatcher, *, open_source: Callable[[str], MessageSource]
) -> list[Listener]:
    """A listener for each format. `open_source` creates a message source for a URL. Each begins when it is started.

    Raises:
        MissingExtra: the package of a format is not installed. BadConfig: a URL is invalid.
    """
    ingress = settings.ingress
    limits = RequestLimits(data_max_bytes=settings.publication_max_bytes, channels_max=settings.max_batch)
    # A node that restarts under the same name must not count as the holder of its previous lease.
    holder = f"{settings.node_id}.{secrets.token_hex(6)}"
    formats: list[tuple[Format, str]] = []
    if ingress.socketio_emitter is not None:
        formats.append((SocketioEmitterFormat(ingress.socketio_emitter, limits), ingress.socketio_emitter.url))
    if ingress.flask_socketio is not None:
        formats.append((FlaskSocketioFormat(ingress.flask_socketio, limits), ingress.flask_socketio.url))
    return [
        Listener(
            compat_format,
            open_source(url or settings.broker),
            LeaseKeeper(partial(_acquire, broker, compat_format.name, holder), lease_s=settings.ingress_lease_s),
            dispatcher,
            message_max_bytes=settings.ingress_message_max_bytes,
        )
        for compat_format, url in formats
    ]


def _acquire(broker: LeaseProvider, name: str, holder: str, lease_s: float) -> LeaseReply:
    return broker.acquire_lease(name, holder, lease_s=lease_s)
