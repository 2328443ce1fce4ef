"""Keeping sessions at the broker, so that a stock client returns to any node as the one that it was.

A new session is written soon after it was opened, a channel before its client is told that it has it, and every
`recovery_window_s` its life is prolonged. What the broker does not know is not recovered; it never knows less than
a client was told.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tidings.errors import HubError
from tidings_hub.brokers.base import Broker
from tidings_hub.config.settings import Settings
from tidings_hub.core.resumable_session import ChannelJoin, JoinMode, ResumableSession, is_final, is_pid, sid_of
from tidings_hub.core.session_records import RecordOperation, SessionRecord, WriteResult
from tidings_hub.core.sessions import Session
from tidings_hub.metrics import Metrics
from tidings_hub.services.session_writer import SessionWriter

_PID_BYTES = 18
_IDLE_S = 1.0
_TOUCH_SLOT_S = 1.0
# Connections named in one order.
_CONNECTIONS_PER_COMMAND = 500


class SessionStore:
    """This node's sessions at the broker. With `recovery_window_s` 0 nothing is ever kept.

    `replaced` is called with a session that another connection has now.
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
        idle_s = min(_IDLE_S, settings.recovery_window_s / 4)
        self._writer = SessionWriter(
            broker,
            metrics,
            record_for=self._record_for,
            on_written=self._on_written,
            before_round=self._before_round,
            idle_s=idle_s,
        )
        self._sessions: dict[str, Session[Any]] = {}
        self._previous_connections: list[str] = []
        # When to prolong which; everybody's time is equally long, and those of one second go together.
        self._touches: deque[tuple[float, list[str]]] = deque()
        # When what closed sessions left behind has certainly ended.
        self._abandoned_until_s: deque[float] = deque()

    def start(self) -> None:
        """Begin to keep sessions."""
        if self._settings.recovery_window_s > 0:
            self._writer.start()

    def stop(self) -> None:
        """Write what is still to be written, and end."""
        self._writer.stop()

    @property
    def has_pending(self) -> bool:
        """Whether the broker has yet to be told something."""
        return self._writer.has_pending or bool(self._previous_connections)

    # What the hub tells. Only `joining` waits.

    def new_pid(self) -> str | None:
        """A pid for a new session; None: it cannot be kept."""
        if not self._writer.is_running:
            return None
        now_s = self._now_s()
        while self._abandoned_until_s and self._abandoned_until_s[0] <= now_s:
            self._abandoned_until_s.popleft()
        if len(self._sessions) + len(self._abandoned_until_s) >= self._settings.recovery_sessions_max:
            self._metrics.recovery_sessions_refused += 1
            return None
        return secrets.token_urlsafe(_PID_BYTES)

    def save(self, session: Session[Any], resumable: ResumableSession) -> None:
        """Keep the session from now on."""
        session.resumable = resumable
        self._sessions[session.id] = session
        self._metrics.recovery_sessions = len(self._sessions)
        self._writer.enqueue(resumable, RecordOperation.CREATE)

    def before_subscribe(self, session: Session[Any], channels: Sequence[str], mode: JoinMode, position: str) -> None:
        """The session is about to come into channels: returns when the broker knows.

        Raises:
            Unavailable, TimedOut: it cannot be told.
        """
        kept = session.resumable
        if kept is None or not channels:
            return
        kept.add_channels(mode, position, channels)
        try:
            self._writer.flush(kept, RecordOperation.UPDATE, timeout_s=self._settings.broker_timeout_s)
        except HubError:
            # It may be told yet: then it has to be told that it was not so.
            self.on_unsubscribed(session, channels)
            raise

    def on_subscribed(self, session: Session[Any], joins: Sequence[ChannelJoin]) -> None:
        """The session has come into channels, and where exactly is known only now."""
        if session.resumable is not None:
            for how, at, channels in joins:
                session.resumable.add_channels(how, at, channels)
            self._writer.enqueue(session.resumable, RecordOperation.UPDATE)

    def on_unsubscribed(self, session: Session[Any], channels: Sequence[str]) -> None:
        """The session left these channels."""
        if session.resumable is not None:
            session.resumable.remove_channels(channels)
            self._writer.enqueue(session.resumable, RecordOperation.UPDATE)

    def on_token_refreshed(self, session: Session[Any]) -> None:
        """The session has a new token."""
        if session.resumable is not None:
            session.resumable.jti = session.claims.jti
            self._writer.enqueue(session.resumable, RecordOperation.UPDATE)

    def on_closed(self, session: Session[Any], reason: str) -> None:
        """The session has ended: what is kept of it stays for a return, unless nobody is to come back."""
        if self._sessions.pop(session.id, None) is None:
            return
        self._metrics.recovery_sessions = len(self._sessions)
        kept, session.resumable = session.resumable, None
        if kept is None:
            return
        if is_final(reason):
            self._writer.enqueue(kept, RecordOperation.DELETE)
        else:
            self._abandoned_until_s.append(self._now_s() + self._ttl_s)

    def end_replaced_here(self, ids: Sequence[object]) -> int:
        """These connections' sessions go on elsewhere: end those that are here; how many there were."""
        found = [session for one in ids if (session := self._sessions.get(str(one))) is not None]
        for session in found:
            self._on_replaced(session)
        return len(found)

    # A client's return

    def claim(self, pid: object, user: str) -> ResumableSession | None:
        """What is kept under a pid; nobody else can return with it now. Waits for the broker.

        An empty `user` is anybody. Another user's session stays where it is, and what is returned has no owner.

        Raises:
            Unavailable, TimedOut: the broker did not answer.
        """
        if not self._writer.is_running or not is_pid(pid):
            return None
        sid = sid_of(str(pid))
        taken = self._broker.claim_session(sid, user)
        if taken is None:
            return None
        if not taken.owner:
            return ResumableSession(sid, "", "", jti=None)
        return ResumableSession.decode(sid, taken.owner, taken.user, taken.body)

    def release(self, resumable: ResumableSession) -> None:
        """It was taken, and its client could not be let in: it may try again."""
        self._writer.enqueue(resumable, RecordOperation.CREATE)

    def end_previous_connection(self, owner: str) -> None:
        """Have the connection ended, wherever it is, that a session was taken from."""
        if not self.end_replaced_here([owner]):
            self._previous_connections.append(owner)
            self._writer.wake()

    # What the notebook asks

    @property
    def _ttl_s(self) -> int:
        """A note's life: at least one window is left whenever its node dies."""
        return max(1, round(2 * self._settings.recovery_window_s))

    def _before_round(self) -> None:
        """Prolong what is due, and tell the other nodes whose sessions went on here."""
        now_s = self._now_s()
        while self._touches and self._touches[0][0] <= now_s:
            _, ids = self._touches.popleft()
            for session in (self._sessions.get(id_) for id_ in ids):
                if session is not None and session.resumable is not None:
                    self._writer.enqueue_if_idle(session.resumable, RecordOperation.TOUCH)
                    self._touch_later(session.id, now_s)
        while self._previous_connections:
            told, self._previous_connections = (
                self._previous_connections[:_CONNECTIONS_PER_COMMAND],
                self._previous_connections[_CONNECTIONS_PER_COMMAND:],
            )
            # At most once: a connection that does not hear of it ends with its ping.
            self._broker.send_control({"do": "replace", "connections": told})

    def _record_for(self, kept: ResumableSession, act: RecordOperation) -> SessionRecord:
        if act in (RecordOperation.DELETE, RecordOperation.TOUCH):
            return SessionRecord(act, kept.sid, kept.owner, self._ttl_s)
        body = kept.encode()
        if len(body) > self._settings.recovery_session_max_bytes:
            self._metrics.recovery_sessions_too_large += 1
            self._stop_saving(kept)
            return SessionRecord(RecordOperation.DELETE, kept.sid, kept.owner)
        return SessionRecord(act, kept.sid, kept.owner, self._ttl_s, kept.user, body)

    def _on_written(self, kept: ResumableSession, act: RecordOperation, result: WriteResult) -> None:
        session = self._sessions.get(kept.owner)
        if result is WriteResult.OK:
            if act is RecordOperation.CREATE and session is not None:
                self._touch_later(kept.owner, self._now_s())
            return
        if act is RecordOperation.DELETE:
            return
        # Its client has gone on elsewhere, or the broker has forgotten everything. Writing it anew might make of two
        # connections two that return with one pid.
        self._stop_saving(kept)
        if result is WriteResult.NOT_OWNER and session is not None:
            self._on_replaced(session)

    def _touch_later(self, id_: str, now_s: float) -> None:
        due_s = now_s + self._settings.recovery_window_s
        if not self._touches or self._touches[-1][0] < due_s - _TOUCH_SLOT_S:
            self._touches.append((due_s, []))
        self._touches[-1][1].append(id_)

    def _stop_saving(self, kept: ResumableSession) -> None:
        self._writer.discard(kept)
        session = self._sessions.get(kept.owner)
        if session is not None and session.resumable is kept:
            session.resumable = None
