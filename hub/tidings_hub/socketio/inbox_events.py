"""The events `tidings:inbox…` and `tidings:push` of clients. Each is answered when the service has answered.

Other events of the same client do not wait for it: a service that hangs delays only requests to the inbox.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from tidings.errors import BadRequest, Internal, TidingsError, Unavailable
from tidings.tokens import Claims
from tidings.wire.payload import encode_data
from tidings_hub.config.notifications import Notifications
from tidings_hub.extensions.app.ordered_pool import OrderedPool
from tidings_hub.metrics import Metrics
from tidings_hub.services.user_inbox import Fields, InboxService
from tidings_hub.services.user_push import UserPush
from tidings_hub.socketio.client import Client
from tidings_hub.socketio.packet import Packet

logger = logging.getLogger("tidings.socketio")

OnEvent = Callable[[Client, Packet], bool]
"""Handles a packet soon and returns True, or returns False."""

_ERROR_MAX_BYTES = 65_536


class InboxEvents:
    """Handles the requests of clients to their inbox, those of one client in order."""

    def __init__(self, inbox: InboxService, options: Notifications, metrics: Metrics) -> None:
        self._answers: Mapping[str, Callable[[Claims, Fields], str]] = {
            "tidings:inbox": inbox.page,
            "tidings:inbox_mark": inbox.mark,
            "tidings:inbox_preferences": inbox.preferences,
            "tidings:push": UserPush(inbox).request,
        }
        self._pool = OrderedPool(options.requests_max, options.requests_waiting_max)
        self._metrics = metrics

    def before(self, on_other: OnEvent | None) -> OnEvent:
        """A handler of all events: those of the inbox, then `on_other`."""
        answers = self._answers

        def on_event(client: Client, packet: Packet) -> bool:
            data = packet.data
            if data and data[0] in answers and client.session is not None:
                self._submit(client, packet)
                return True
            return on_other is not None and on_other(client, packet)

        return on_event

    def _submit(self, client: Client, packet: Packet) -> None:
        event, *arguments = packet.data or [None]
        call = partial(self._handle, client, packet.id, self._answers[event], arguments)
        if not self._pool.submit(client, call, memory_bytes=packet.memory_bytes):
            self._metrics.notification_requests_refused += 1
            error = Unavailable("too many requests to inboxes are waiting; try again later")
            _acknowledge(client, packet.id, _error_json(error))

    def _handle(
        self, client: Client, id: int | None, answer: Callable[[Claims, Fields], str], arguments: list[object]
    ) -> None:
        if client.session is None or client.connection.closed:
            return
        try:
            text = answer(client.session.claims, _object(arguments))
        except TidingsError as error:
            text = _error_json(error)
        except Exception:
            self._metrics.handler_errors += 1
            logger.exception("unexpected error in the handler of a client event")
            text = _error_json(Internal())
        _acknowledge(client, id, text)


def _object(arguments: list[object]) -> Fields:
    match arguments:
        case [dict() as fields] if all(isinstance(name, str) for name in fields):
            return fields
    raise BadRequest("send one object as the event's only argument")


def _error_json(error: TidingsError) -> str:
    return encode_data({"error": error.to_wire()}, max_bytes=_ERROR_MAX_BYTES).decode()


def _acknowledge(client: Client, id: int | None, text: str) -> None:
    if id is not None:
        # An ACK packet of the namespace `/` (Socket.IO protocol v5).
        client.connection.send(f"3{id}[{text}]")
