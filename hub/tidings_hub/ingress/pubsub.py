"""The listeners of all formats that come over Redis and that the settings name."""

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
    """What gives leases: the broker."""

    def acquire_lease(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        """See `brokers.base.Broker.acquire_lease`."""


def open_pubsub_ingress(
    settings: Settings, broker: LeaseProvider, outlet: Dispatcher, *, open_source: Callable[[str], MessageSource]
) -> list[Listener]:
    """A listener for each format; `link` makes one for a URL. They begin when they are started.

    Raises:
        MissingExtra: a format's package is not installed. BadConfig: a URL is none.
    """
    ingress = settings.ingress
    bounds = RequestLimits(data_max_bytes=settings.publication_max_bytes, channels_max=settings.max_batch)
    # A node that starts again under its name must not be taken for its former self.
    holder = f"{settings.node_id}.{secrets.token_hex(6)}"
    formats: list[tuple[Format, str]] = []
    if ingress.socketio_emitter is not None:
        formats.append((SocketioEmitterFormat(ingress.socketio_emitter, bounds), ingress.socketio_emitter.url))
    if ingress.flask_socketio is not None:
        formats.append((FlaskSocketioFormat(ingress.flask_socketio, bounds), ingress.flask_socketio.url))
    return [
        Listener(
            form,
            open_source(url or settings.broker),
            LeaseKeeper(partial(_ask, broker, form.name, holder), lease_s=settings.ingress_lease_s),
            outlet,
            message_max_bytes=settings.ingress_message_max_bytes,
        )
        for form, url in formats
    ]


def _ask(broker: LeaseProvider, name: str, holder: str, lease_s: float) -> LeaseReply:
    return broker.acquire_lease(name, holder, lease_s=lease_s)
