"""One mounted path: its sessions, its options, and the calls into the application above."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from tidings_hub import runtime
from tidings_hub.core.node_directory import SID_TAIL
from tidings_hub.engine.address_limit import Addresses
from tidings_hub.engine.close_payloads import LastWords
from tidings_hub.engine.engineio import Kind
from tidings_hub.engine.poll_response_cache import Answers
from tidings_hub.engine.sse_handler import coded

if TYPE_CHECKING:
    import logging

    from tidings_hub.engine.connection import Connection
    from tidings_hub.engine.http_connection import Link
    from tidings_hub.engine.interfaces import Application, Opening, SseApplication
    from tidings_hub.engine.limits import EngineLimits, EngineMetrics, EngineOptions
    from tidings_hub.engine.pump import Pump
    from tidings_hub.engine.relay.relay import Relay
    from tidings_hub.engine.timing_wheel import Wheel

# Together SID_TAIL characters: what stands before them is the node's id.
_SID_BYTES = SID_TAIL * 3 // 4
_OPENED = {
    Kind.POLLING: "opened_polling",
    Kind.WEBSOCKET: "opened_websocket",
    Kind.SSE: "opened_sse",
}


class Shared:
    """What all mounts of one server share."""

    __slots__ = ("addresses", "kinds", "limits", "log", "metrics", "node_id", "pump", "relay", "wheel")

    def __init__(
        self,
        *,
        limits: EngineLimits,
        metrics: EngineMetrics,
        log: logging.Logger,
        node_id: str,
        pump: Pump,
        wheel: Wheel,
    ) -> None:
        self.limits = limits
        self.metrics = metrics
        self.log = log
        self.node_id = node_id
        self.pump = pump
        self.wheel = wheel
        self.relay: Relay | None = None
        self.kinds = dict.fromkeys(Kind, 0)
        self.addresses = Addresses(limits.connections_per_address)


class Mount:
    """The connections of one path."""

    __slots__ = (
        "_ended",
        "_paced",
        "answers",
        "application",
        "last_words",
        "limits",
        "metrics",
        "options",
        "pump",
        "sessions",
        "shared",
        "wheel",
    )

    def __init__(self, shared: Shared, application: Application | SseApplication, options: EngineOptions) -> None:
        self.shared = shared
        self.application = application
        self.options = options
        self.limits = shared.limits
        self.metrics = shared.metrics
        self.pump = shared.pump
        self.wheel = shared.wheel
        self.sessions: dict[str, Connection] = {}
        self.last_words = LastWords()
        self.answers = Answers()
        self._ended: list[tuple[Connection, str]] = []
        self._paced: list[Connection] = []

    def new_sid(self) -> str:
        """An id that nobody can guess, with the node's in front."""
        return self.shared.node_id + secrets.token_urlsafe(_SID_BYTES)

    def crowded(self, link: Link) -> bool:
        """Whether the request's address has all the sessions it may have; if so, the request was refused."""
        if self.shared.addresses.has_room(link.remote):
            return False
        self.metrics.refused_per_address += 1
        link.refuse(429, coded("too_many_connections"), close=True)
        return True

    def admit(self, connection: Connection, opening: Opening) -> None:
        """A new connection: count it, watch its deadlines, tell the application."""
        self.sessions[connection.sid] = connection
        self.shared.kinds[connection.kind] += 1
        self.shared.addresses.add(connection.remote)
        self.count(_OPENED[connection.kind])
        self.wheel.put(connection, connection.wait_s(runtime.now_s()))
        try:
            self.application.opened(connection, opening)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this connection and not the pump
            self._failed(connection, error)

    def received(self, connection: Connection, data: str | bytes) -> None:
        """A message for the application."""
        # An event stream has no messages, so only an Application is ever asked.
        try:
            self.application.received(connection, data)  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this connection and not the pump
            self._failed(connection, error)

    def pace(self, connection: Connection) -> bool:
        """Whether the answer to this poll waits a moment, for all that is on its way to go into one.

        While publications pour in, each answer costs more than what is in it. So a client that was answered less than
        `poll_pace_ms` ago gets what waits for it together with the others that poll then. A client for which
        nothing waits is answered by the next publication, at once.
        """
        if connection.out is None or runtime.now_s() - connection.answered_s >= self.limits.poll_pace_ms / 1000:
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

    def upgraded(self) -> None:
        """One session went from polling to a WebSocket."""
        self.shared.kinds[Kind.POLLING] -= 1
        self.shared.kinds[Kind.WEBSOCKET] += 1
        self.metrics.upgrades += 1

    def gone(self, connection: Connection, reason: str) -> None:
        """It has ended: the application hears of it on a later turn, never from inside its own call."""
        self.sessions.pop(connection.sid, None)
        self.shared.kinds[connection.kind] -= 1
        self.shared.addresses.remove(connection.remote)
        self.wheel.drop(connection)
        closed = self.metrics.connections_closed
        closed[reason] = closed.get(reason, 0) + 1
        # Never the sid: whoever has it can speak for this client.
        self.shared.log.debug("connection from %s closed: %s", connection.remote, reason)
        if not self._ended:
            runtime.call_soon(self._tell_ended)
        self._ended.append((connection, reason))

    def count(self, name: str) -> None:
        """Add one to a counter."""
        setattr(self.metrics, name, getattr(self.metrics, name) + 1)

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, []
        for connection, reason in ended:
            try:
                self.application.closed(connection, reason)
            except Exception:
                self.metrics.application_errors += 1
                self.shared.log.exception("the application failed in closed()")
            # The layer above usually points back at the connection: a cycle would wait for the collector.
            connection.client = None

    def _failed(self, connection: Connection, error: Exception) -> None:
        self.metrics.application_errors += 1
        self.shared.log.error("the application failed; its connection is closed", exc_info=error)
        connection.close("internal")
