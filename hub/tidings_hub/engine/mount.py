"""One mounted path: its connections, its options and its application."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Protocol

from tidings.codes import CODES
from tidings_hub import runtime
from tidings_hub.core.node_directory import SID_TAIL
from tidings_hub.engine.capacity.address_limit import AddressLimit
from tidings_hub.engine.capacity.input_budget import InputBudget, Strangers
from tidings_hub.engine.close_payloads import ClosePayloads
from tidings_hub.engine.poll_response_cache import PollResponseCache
from tidings_hub.engine.protocols import http_response
from tidings_hub.engine.protocols.engineio import TransportKind
from tidings_hub.engine.protocols.error_body import error_json

if TYPE_CHECKING:
    import logging
    from collections.abc import Sequence

    from tidings_hub.core.frame import OutgoingFrame
    from tidings_hub.engine.application import Application, HandshakeRequest, SseApplication
    from tidings_hub.engine.capacity.socket_room import SocketRoom
    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.limits import EngineLimits, EngineMetrics, EngineOptions
    from tidings_hub.engine.pump import Pump
    from tidings_hub.engine.timing_wheel import TimingWheel

# Random bytes of a session id. In base64 they are SID_TAIL characters, which follow the node's id.
_SID_BYTES = SID_TAIL * 3 // 4
_OPENED_METRICS = {
    TransportKind.POLLING: "opened_polling",
    TransportKind.WEBSOCKET: "opened_websocket",
    TransportKind.SSE: "opened_sse",
}


class Refusable(Protocol):
    """An HTTP connection with a request that can be refused."""

    remote: str
    extra_headers: bytes

    def refuse(self, status: int, body: bytes, *, close: bool = False) -> None:
        """Respond with an error."""


def refuse_session(http_connection: Refusable, code: str) -> None:
    """Refuse a new session for which there is no room, with a code of `tidings.codes`. Its client returns."""
    http_connection.extra_headers += http_response.retry_after_line()
    http_connection.refuse(CODES[code].http_status, error_json(code), close=True)


class EngineContext:
    """What all mounts and the relay of one server share."""

    __slots__ = ("addresses", "budget", "limits", "log", "metrics", "node_id", "pump", "room", "strangers", "wheel")

    def __init__(
        self,
        *,
        limits: EngineLimits,
        metrics: EngineMetrics,
        log: logging.Logger,
        node_id: str,
        pump: Pump,
        wheel: TimingWheel,
        room: SocketRoom,
    ) -> None:
        self.limits = limits
        self.metrics = metrics
        self.log = log
        self.node_id = node_id
        self.pump = pump
        self.wheel = wheel
        self.room = room
        self.budget = InputBudget(limits, metrics, call_safely=pump.call_safely)
        self.strangers = Strangers(limits, self.budget)
        self.addresses = AddressLimit(limits.connections_per_address)


class Mount:
    """The connections of one path and their application."""

    __slots__ = (
        "_closed",
        "_paced",
        "application",
        "close_payloads",
        "context",
        "limits",
        "metrics",
        "options",
        "poll_responses",
        "pump",
        "sessions",
        "strangers",
        "wheel",
    )

    def __init__(
        self, context: EngineContext, application: Application | SseApplication, options: EngineOptions
    ) -> None:
        self.context = context
        self.application = application
        self.options = options
        self.limits = context.limits
        self.metrics = context.metrics
        self.pump = context.pump
        self.wheel = context.wheel
        self.strangers = context.strangers
        self.sessions: dict[str, Connection] = {}
        self.close_payloads = ClosePayloads()
        self.poll_responses = PollResponseCache()
        # Closed connections with the reason. The application is notified on the next turn of the event loop.
        self._closed: list[tuple[Connection, str]] = []
        self._paced: list[Connection] = []

    def new_sid(self) -> str:
        """Return a new session id: the node's id, then random characters that cannot be guessed."""
        return self.context.node_id + secrets.token_urlsafe(_SID_BYTES)

    def count_refusal(self, remote: str) -> str:
        """Return the code with which a new session is refused, and count it. Empty: there is room for the session."""
        if not self.context.room.has_session_room():
            self.metrics.refused_full += 1
            return "full"
        if self.context.addresses.has_room(remote):
            return ""
        self.metrics.refused_per_address += 1
        return "too_many_connections"

    def refuse_if_crowded(self, http_connection: Refusable) -> bool:
        """Refuse a new session if the node or its address has the maximum number of sessions. Return whether it did."""
        code = self.count_refusal(http_connection.remote)
        if code:
            refuse_session(http_connection, code)
        return bool(code)

    def admit(self, connection: Connection, request: HandshakeRequest) -> None:
        """Register a new connection: count it, schedule its deadlines and notify the application."""
        self.sessions[connection.sid] = connection
        self.context.addresses.add(connection.remote)
        self.context.room.sessions += 1
        if connection.kind is not TransportKind.SSE:
            self.strangers.add(connection)
        self.increment(_OPENED_METRICS[connection.kind])
        self.wheel.schedule(connection, connection.next_deadline_s(runtime.now_s()))
        try:
            # An `SseApplication` only gets event streams: its mount has only an `SseHandler`.
            self.application.on_open(connection, request)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - any error ends this connection and not the pump
            self._on_application_error(connection, error)

    def on_message(self, connection: Connection, data: str | bytes) -> None:
        """Pass a message to the application."""
        # An event stream receives no messages, so the application is always an `Application` here.
        try:
            self.application.on_message(connection, data)  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - any error ends this connection and not the pump
            self._on_application_error(connection, error)

    def pace(self, connection: Connection) -> bool:
        """Delay the response to a poll if the last one was less than `poll_pace_ms` ago. Return whether it is delayed.

        At a high publication rate, the overhead of a response exceeds the cost of its content. A delay combines
        several packets into one response. All delayed polls share one timer. A poll without waiting packets is not
        delayed: it gets the next publication at once.
        """
        if connection.out is None or runtime.now_s() - connection.last_response_s >= self.limits.poll_pace_ms / 1000:
            return False
        if not self._paced:
            runtime.call_later(self.limits.poll_pace_ms / 1000, self._flush_paced)
        self._paced.append(connection)
        self.metrics.polls_paced += 1
        return True

    def _flush_paced(self) -> None:
        paced, self._paced = self._paced, []
        for connection in paced:
            self.pump.resume(connection)

    def last_frames(self, connection: Connection, code: str, message: str | None) -> Sequence[OutgoingFrame]:
        """What the client receives before the connection closes with `code`."""
        return self.application.last_frames(connection, code, message)  # type: ignore[arg-type]

    def on_upgraded(self) -> None:
        """Count a session that moved from polling to a WebSocket."""
        self.metrics.upgrades += 1

    def on_closed(self, connection: Connection, reason: str) -> None:
        """Remove a connection that has ended.

        The application is notified on a later turn of the event loop. So `on_close` never runs inside a call that the
        application makes.
        """
        self.sessions.pop(connection.sid, None)
        self.context.room.sessions -= 1
        self.strangers.remove(connection)
        self.context.addresses.remove(connection.remote)
        self.wheel.cancel(connection)
        closed = self.metrics.connections_closed
        closed[reason] = closed.get(reason, 0) + 1
        # Never log the sid: it is a secret that gives control over this client's session.
        self.context.log.debug("connection from %s closed: %s", connection.remote, reason)
        if not self._closed:
            runtime.call_soon(self._notify_closed)
        self._closed.append((connection, reason))

    def increment(self, name: str) -> None:
        """Add one to the counter `name`."""
        setattr(self.metrics, name, getattr(self.metrics, name) + 1)

    def _notify_closed(self) -> None:
        closed, self._closed = self._closed, []
        for connection, reason in closed:
            try:
                self.application.on_close(connection, reason)  # type: ignore[arg-type]
            except Exception:
                self.metrics.application_errors += 1
                self.context.log.exception("the application failed in on_close()")
            # The application's object usually refers to the connection. Break this reference cycle here, so the
            # garbage collector does not have to find it.
            connection.client = None

    def _on_application_error(self, connection: Connection, error: Exception) -> None:
        self.metrics.application_errors += 1
        self.context.log.error("the application failed; its connection is closed", exc_info=error)
        connection.close("internal")
