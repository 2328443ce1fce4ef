"""The client events of an app: `socket.emit("chat:send", data, ack)` is answered with the result of its handler."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial

from tidings.errors import BadRequest, Internal, TidingsError, Unavailable
from tidings.wire.payload import encode_data
from tidings_hub.extensions.app.app import Handler
from tidings_hub.extensions.app.ordered_pool import OrderedPool
from tidings_hub.extensions.app.runner import HandlerRunner
from tidings_hub.extensions.app.session import Session
from tidings_hub.metrics import Metrics
from tidings_hub.socketio.client import Client
from tidings_hub.socketio.packet import Packet


class AppEvents:
    """Handles the events that an app declares, and sends their acknowledgements.

    `pools`: one for each event, so that events do not wait for each other. `answer_max_bytes` limits an answer as JSON.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        pools: Mapping[str, OrderedPool],
        runner: HandlerRunner,
        metrics: Metrics,
        *,
        answer_max_bytes: int,
    ) -> None:
        self._handlers = handlers
        self._signatures = {event: inspect.signature(handler) for event, handler in handlers.items()}
        self._pools = pools
        self._runner = runner
        self._metrics = metrics
        self._answer_max_bytes = answer_max_bytes

    def try_handle(self, client: Client, packet: Packet) -> bool:
        """Handle the packet soon if it is an event of the app. False: it is not."""
        event, *arguments = packet.data or [None]
        pool = self._pools.get(event)
        if pool is None or client.session is None:
            return False
        call = partial(self._handle, client, packet.id, event, arguments)
        if not pool.submit(client, call, memory_bytes=packet.memory_bytes):
            self._metrics.app_refused += 1
            error = Unavailable(f"too many {event} events are waiting; try again later")
            self._answer(client, packet.id, self._encode_answer(event, {"error": error.to_wire()}))
        return True

    def _handle(self, client: Client, id: int | None, event: str, arguments: list[object]) -> None:
        if client.session is None or client.connection.closed:
            return
        try:
            session = Session.of(client.session)
            self._check_arguments(event, session, *arguments)
            answer = self._runner.call(event, self._handlers[event], session, *arguments)
        except TidingsError as error:
            answer = {"error": error.to_wire()}
        self._answer(client, id, self._encode_answer(event, answer))

    def _check_arguments(self, event: str, *arguments: object) -> None:
        try:
            self._signatures[event].bind(*arguments)
        except TypeError as error:
            raise BadRequest(f"{event}: {error}") from None

    def _encode_answer(self, event: str, answer: object) -> bytes:
        try:
            return encode_data(answer, max_bytes=self._answer_max_bytes)
        except TidingsError:
            # Not the client's fault: the handler's result cannot be encoded, or is too large.
            self._runner.record_failure(event)
            return encode_data({"error": Internal().to_wire()})

    @staticmethod
    def _answer(client: Client, id: int | None, answer: bytes) -> None:
        if id is not None:
            # An ACK packet of the namespace `/` (Socket.IO protocol v5).
            client.connection.send(f"3{id}[{answer.decode()}]")
