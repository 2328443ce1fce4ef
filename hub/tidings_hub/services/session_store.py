"""The session store: sessions saved at the broker, so that a stock client can resume its session on any node.

Writes are deferred (`session_writer`), with one exception: a channel is written before its client learns that it is
subscribed. So the broker never knows fewer channels than the client, and a session that the broker does not know is
not resumed. The lifetime of a record is extended every `recovery_window_s`.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tidings.errors import HubError
from tidings_hub.brokers.base import Broker
from tidings_hub.brokers.health.call_guard import CallGuard
from tidings_hub.config.settings import Settings
from tidings_hub.core.resumable_session import (
    ChannelJoin,
    JoinMode,
    ResumableSession,
    ResumeRefusal,
    is_final,
    is_pid,
    sid_of,
)
from tidings_hub.core.session_records import RecordOperation, SessionRecord, WriteResult
from tidings_hub.core.sessions import Session
from tidings_hub.metrics import Metrics
from tidings_hub.services.session_writer import SessionWriter

_PID_BYTES = 18
_IDLE_S = 1.0
# Sessions whose lifetime is extended together: those that are due within this time.
_TOUCH_SLOT_S = 1.0
# Connections that one `replace` command names.
_CONNECTIONS_PER_COMMAND = 500


class SessionStore:
    """This node's sessions at the broker. With `recovery_window_s` 0 nothing is ever saved.

    `on_replaced` is called with a session that was resumed on another connection.
    """

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        metrics: Metrics,
        on_replaced: Callable[[Session[Any]], None],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._metrics = metrics
        self._on_replaced = on_replaced
        self._now_s = now_s
        self._guard = CallGuard("sessions", metrics, timeout_s=settings.broker_timeout_s, now_s=now_s)
        self._writer = SessionWriter(
            broker,
            metrics,
            self._guard,
            record_for=self._record_for,
            on_written=self._on_written,
            before_round=self._before_round,
            idle_s=min(_IDLE_S, settings.recovery_window_s / 4),
        )
        self._sessions: dict[str, Session[Any]] = {}
        # Connections that owned a resumed session, and are on other nodes.
        self._previous_connections: list[str] = []
        # When to extend the lifetime of which sessions. All lifetimes are equal, so the order is that of time.
        self._touches: deque[tuple[float, list[str]]] = deque()
        # When the records of closed sessions have certainly expired.
        self._abandoned_until_s: deque[float] = deque()

    def start(self) -> None:
        """Start to save sessions."""
        if self._settings.recovery_window_s > 0:
            self._writer.start()

    def stop(self) -> None:
        """Write what is pending, and stop."""
        self._writer.stop()

    @property
    def has_pending(self) -> bool:
        """Whether something is not written yet."""
        return self._writer.has_pending or bool(self._previous_connections)

    # Changes of a session. Only `before_subscribe` waits.

    def new_pid(self) -> str | None:
        """A pid for a new session. None: it cannot be saved."""
        # While the store is away, one session at a time gets a pid. To store it is the probe.
        if not self._writer.is_running or (self._is_away and not self._guard.admits()):
            return None
        self._forget_expired(self._now_s())
        if len(self._sessions) + len(self._abandoned_until_s) >= self._settings.recovery_sessions_max:
            self._metrics.recovery_sessions_refused += 1
            return None
        return secrets.token_urlsafe(_PID_BYTES)

    def save(self, session: Session[Any], resumable: ResumableSession) -> None:
        """Save the session, and every change of it from now on."""
        session.resumable = resumable
        self._sessions[session.id] = session
        self._metrics.recovery_sessions = len(self._sessions)
        self._writer.enqueue(resumable, RecordOperation.CREATE)

    def before_subscribe(self, session: Session[Any], channels: Sequence[str], mode: JoinMode, position: str) -> None:
        """Write that the session is about to join channels. Returns when the broker has it.

        Raises:
            Unavailable, TimedOut: the broker did not answer in time; the session must not join the channels.
        """
        resumable = session.resumable
        if resumable is None or not channels:
            return
        started_s = self._guard.admit()
        resumable.add_channels(mode, position, channels)
        try:
            self._writer.flush(resumable, RecordOperation.UPDATE, timeout_s=self._settings.broker_timeout_s)
        except HubError:
            self._guard.fail(started_s)
            # The write may still succeed. Then the channels have to be removed again.
            self.on_unsubscribed(session, channels)
            raise

    def on_subscribed(self, session: Session[Any], joins: Sequence[ChannelJoin]) -> None:
        """Write how the session joined channels: the exact position is known only now."""
        if session.resumable is not None:
            for mode, position, channels in joins:
                session.resumable.add_channels(mode, position, channels)
            self._writer.enqueue(session.resumable, RecordOperation.UPDATE)

    def on_unsubscribed(self, session: Session[Any], channels: Sequence[str]) -> None:
        """Write that the session left these channels."""
        if session.resumable is not None:
            session.resumable.remove_channels(channels)
            self._writer.enqueue(session.resumable, RecordOperation.UPDATE)

    def on_token_refreshed(self, session: Session[Any]) -> None:
        """Write the id of the session's new token."""
        if session.resumable is not None:
            session.resumable.jti = session.claims.jti
            self._writer.enqueue(session.resumable, RecordOperation.UPDATE)

    def on_closed(self, session: Session[Any], reason: str) -> None:
        """Stop saving a session that ended. Its record stays for a resume, unless the reason is final."""
        if self._sessions.pop(session.id, None) is None:
            return
        self._metrics.recovery_sessions = len(self._sessions)
        resumable, session.resumable = session.resumable, None
        if resumable is None:
            return
        if is_final(reason):
            self._writer.enqueue(resumable, RecordOperation.DELETE)
        else:
            self._abandoned_until_s.append(self._now_s() + self._ttl_s)

    def end_replaced_here(self, connection_ids: Sequence[object]) -> int:
        """End the sessions of those connections that are on this node. Returns how many there were."""
        sessions = [session for id_ in connection_ids if (session := self._sessions.get(str(id_))) is not None]
        for session in sessions:
            self._on_replaced(session)
        return len(sessions)

    # Resume

    @property
    def _is_away(self) -> bool:
        """Whether the broker has not answered for so long that clients no longer wait for their sessions."""
        return not self._guard.is_closed and self._guard.away_s >= self._settings.recovery_away_s

    def claim(self, pid: object, user: str) -> ResumableSession | ResumeRefusal:
        """The session that a pid belongs to; UNKNOWN if there is none. Waits for the broker.

        Only one caller gets the session. The session of another user is not claimed: the result then has an empty
        `owner`. An empty `user` matches every user. AWAY: the broker has not answered for `recovery_away_s`.

        Raises:
            Unavailable, TimedOut: the broker did not answer.
        """
        if not self._writer.is_running or not is_pid(pid):
            return ResumeRefusal.UNKNOWN
        sid = sid_of(str(pid))
        try:
            with self._guard.call():
                claimed = self._broker.claim_session(sid, user)
        except HubError:
            if self._is_away:
                return ResumeRefusal.AWAY
            raise
        if claimed is None:
            return ResumeRefusal.UNKNOWN
        if not claimed.owner:
            return ResumableSession(sid, "", "", jti=None)
        return ResumableSession.decode(sid, claimed.owner, claimed.user, claimed.body) or ResumeRefusal.UNKNOWN

    def release(self, resumable: ResumableSession) -> None:
        """Write a claimed session back: its client could not connect, and may try again."""
        self._writer.enqueue(resumable, RecordOperation.CREATE)

    def end_previous_connection(self, owner: str) -> None:
        """Close the connection that owned a session before, on this node immediately, on others by a control message.

        At most once: if the message is lost, the old connection ends with its ping timeout.
        """
        if not self.end_replaced_here([owner]):
            self._previous_connections.append(owner)
            self._writer.wake()

    # Callbacks of the writer

    @property
    def _ttl_s(self) -> int:
        """A record's lifetime. At least one window is left, whenever its node dies."""
        return max(1, round(2 * self._settings.recovery_window_s))

    def _before_round(self) -> None:
        """Enqueue the lifetimes that are due, and send the other nodes the connections whose sessions resumed here."""
        now_s = self._now_s()
        self._forget_expired(now_s)
        while self._touches and self._touches[0][0] <= now_s:
            _, session_ids = self._touches.popleft()
            for session in (self._sessions.get(id_) for id_ in session_ids):
                if session is not None and session.resumable is not None:
                    self._writer.enqueue_if_idle(session.resumable, RecordOperation.TOUCH)
                    self._touch_later(session.id, now_s)
        while self._previous_connections:
            connections = self._previous_connections[:_CONNECTIONS_PER_COMMAND]
            self._previous_connections = self._previous_connections[_CONNECTIONS_PER_COMMAND:]
            self._broker.send_control({"do": "replace", "connections": connections})

    def _forget_expired(self, now_s: float) -> None:
        while self._abandoned_until_s and self._abandoned_until_s[0] <= now_s:
            self._abandoned_until_s.popleft()

    def _record_for(self, resumable: ResumableSession, operation: RecordOperation) -> SessionRecord:
        if operation in (RecordOperation.DELETE, RecordOperation.TOUCH):
            return SessionRecord(operation, resumable.sid, resumable.owner, self._ttl_s)
        body = resumable.encode()
        if len(body) > self._settings.recovery_session_max_bytes:
            self._metrics.recovery_sessions_too_large += 1
            self._stop_saving(resumable)
            return SessionRecord(RecordOperation.DELETE, resumable.sid, resumable.owner)
        return SessionRecord(operation, resumable.sid, resumable.owner, self._ttl_s, resumable.user, body)

    def _on_written(self, resumable: ResumableSession, operation: RecordOperation, result: WriteResult) -> None:
        session = self._sessions.get(resumable.owner)
        if result is WriteResult.OK:
            if operation is RecordOperation.CREATE and session is not None:
                self._touch_later(resumable.owner, self._now_s())
            return
        if operation is RecordOperation.DELETE:
            return
        # The client resumed the session elsewhere, or the broker lost its data. Do not create the record again: two
        # connections could then resume with one pid.
        self._stop_saving(resumable)
        if result is WriteResult.NOT_OWNER and session is not None:
            self._on_replaced(session)

    def _touch_later(self, session_id: str, now_s: float) -> None:
        due_s = now_s + self._settings.recovery_window_s
        if not self._touches or self._touches[-1][0] < due_s - _TOUCH_SLOT_S:
            self._touches.append((due_s, []))
        self._touches[-1][1].append(session_id)

    def _stop_saving(self, resumable: ResumableSession) -> None:
        self._writer.discard(resumable)
        session = self._sessions.get(resumable.owner)
        if session is not None and session.resumable is resumable:
            session.resumable = None
