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
from tidings_hub.core.resumable_session import How, Join, Kept, forgets, is_pid, sid_of
from tidings_hub.core.session_records import Act, Note, Noted
from tidings_hub.core.sessions import Session
from tidings_hub.metrics import Metrics
from tidings_hub.services.session_writer import Notebook

_PID_BYTES = 18
_IDLE_S = 1.0
_TOGETHER_S = 1.0
# Connections named in one order.
_CHUNK = 500


class Keeping:
    """This node's sessions at the broker. With `recovery_window_s` 0 nothing is ever kept.

    `replaced` is called with a session that another connection has now.
    """

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        metrics: Metrics,
        replaced: Callable[[Session[Any]], None],
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._metrics = metrics
        self._replaced = replaced
        self._now_s = now_s
        idle_s = min(_IDLE_S, settings.recovery_window_s / 4)
        self._notebook = Notebook(broker, metrics, pack=self._pack, wrote=self._wrote, turn=self._turn, idle_s=idle_s)
        self._sessions: dict[str, Session[Any]] = {}
        self._went_on: list[str] = []
        # When to prolong which; everybody's time is equally long, and those of one second go together.
        self._due: deque[tuple[float, list[str]]] = deque()
        # When what closed sessions left behind has certainly ended.
        self._left: deque[float] = deque()

    def start(self) -> None:
        """Begin to keep sessions."""
        if self._settings.recovery_window_s > 0:
            self._notebook.start()

    def stop(self) -> None:
        """Write what is still to be written, and end."""
        self._notebook.stop()

    @property
    def unwritten(self) -> bool:
        """Whether the broker has yet to be told something."""
        return self._notebook.unwritten or bool(self._went_on)

    # What the hub tells. Only `joining` waits.

    def offer(self) -> str | None:
        """A pid for a new session; None: it cannot be kept."""
        if not self._notebook.running:
            return None
        now_s = self._now_s()
        while self._left and self._left[0] <= now_s:
            self._left.popleft()
        if len(self._sessions) + len(self._left) >= self._settings.recovery_sessions_max:
            self._metrics.recovery_sessions_refused += 1
            return None
        return secrets.token_urlsafe(_PID_BYTES)

    def keep(self, session: Session[Any], kept: Kept) -> None:
        """Keep the session from now on."""
        session.kept = kept
        self._sessions[session.id] = session
        self._metrics.recovery_sessions = len(self._sessions)
        self._notebook.put(kept, Act.NEW)

    def joining(self, session: Session[Any], channels: Sequence[str], how: How, at: str) -> None:
        """The session is about to come into channels: returns when the broker knows.

        Raises:
            Unavailable, TimedOut: it cannot be told.
        """
        kept = session.kept
        if kept is None or not channels:
            return
        kept.put(how, at, channels)
        try:
            self._notebook.settle(kept, Act.CHANGE, timeout_s=self._settings.broker_timeout_s)
        except HubError:
            # It may be told yet: then it has to be told that it was not so.
            self.left(session, channels)
            raise

    def joined(self, session: Session[Any], joins: Sequence[Join]) -> None:
        """The session has come into channels, and where exactly is known only now."""
        if session.kept is not None:
            for how, at, channels in joins:
                session.kept.put(how, at, channels)
            self._notebook.put(session.kept, Act.CHANGE)

    def left(self, session: Session[Any], channels: Sequence[str]) -> None:
        """The session left these channels."""
        if session.kept is not None:
            session.kept.drop(channels)
            self._notebook.put(session.kept, Act.CHANGE)

    def renewed(self, session: Session[Any]) -> None:
        """The session has a new token."""
        if session.kept is not None:
            session.kept.jti = session.claims.jti
            self._notebook.put(session.kept, Act.CHANGE)

    def closed(self, session: Session[Any], reason: str) -> None:
        """The session has ended: what is kept of it stays for a return, unless nobody is to come back."""
        if self._sessions.pop(session.id, None) is None:
            return
        self._metrics.recovery_sessions = len(self._sessions)
        kept, session.kept = session.kept, None
        if kept is None:
            return
        if forgets(reason):
            self._notebook.put(kept, Act.DROP)
        else:
            self._left.append(self._now_s() + self._ttl_s)

    def end_replaced(self, ids: Sequence[object]) -> int:
        """These connections' sessions go on elsewhere: end those that are here; how many there were."""
        found = [session for one in ids if (session := self._sessions.get(str(one))) is not None]
        for session in found:
            self._replaced(session)
        return len(found)

    # A client's return

    def take(self, pid: object, user: str) -> Kept | None:
        """What is kept under a pid; nobody else can return with it now. Waits for the broker.

        An empty `user` is anybody. Another user's session stays where it is, and what is returned has no owner.

        Raises:
            Unavailable, TimedOut: the broker did not answer.
        """
        if not self._notebook.running or not is_pid(pid):
            return None
        sid = sid_of(str(pid))
        taken = self._broker.take(sid, user)
        if taken is None:
            return None
        if not taken.owner:
            return Kept(sid, "", "", jti=None)
        return Kept.read(sid, taken.owner, taken.user, taken.body)

    def give_back(self, kept: Kept) -> None:
        """It was taken, and its client could not be let in: it may try again."""
        self._notebook.put(kept, Act.NEW)

    def went_on(self, owner: str) -> None:
        """Have the connection ended, wherever it is, that a session was taken from."""
        if not self.end_replaced([owner]):
            self._went_on.append(owner)
            self._notebook.call()

    # What the notebook asks

    @property
    def _ttl_s(self) -> int:
        """A note's life: at least one window is left whenever its node dies."""
        return max(1, round(2 * self._settings.recovery_window_s))

    def _turn(self) -> None:
        """Prolong what is due, and tell the other nodes whose sessions went on here."""
        now_s = self._now_s()
        while self._due and self._due[0][0] <= now_s:
            _, ids = self._due.popleft()
            for session in (self._sessions.get(id_) for id_ in ids):
                if session is not None and session.kept is not None:
                    self._notebook.put_idle(session.kept, Act.PROLONG)
                    self._prolong_later(session.id, now_s)
        while self._went_on:
            told, self._went_on = self._went_on[:_CHUNK], self._went_on[_CHUNK:]
            # At most once: a connection that does not hear of it ends with its ping.
            self._broker.send_control({"do": "replace", "connections": told})

    def _pack(self, kept: Kept, act: Act) -> Note:
        if act in (Act.DROP, Act.PROLONG):
            return Note(act, kept.sid, kept.owner, self._ttl_s)
        body = kept.body()
        if len(body) > self._settings.recovery_session_max_bytes:
            self._metrics.recovery_sessions_too_large += 1
            self._lose(kept)
            return Note(Act.DROP, kept.sid, kept.owner)
        return Note(act, kept.sid, kept.owner, self._ttl_s, kept.user, body)

    def _wrote(self, kept: Kept, act: Act, result: Noted) -> None:
        session = self._sessions.get(kept.owner)
        if result is Noted.DONE:
            if act is Act.NEW and session is not None:
                self._prolong_later(kept.owner, self._now_s())
            return
        if act is Act.DROP:
            return
        # Its client has gone on elsewhere, or the broker has forgotten everything. Writing it anew might make of two
        # connections two that return with one pid.
        self._lose(kept)
        if result is Noted.OTHERS and session is not None:
            self._replaced(session)

    def _prolong_later(self, id_: str, now_s: float) -> None:
        due_s = now_s + self._settings.recovery_window_s
        if not self._due or self._due[-1][0] < due_s - _TOGETHER_S:
            self._due.append((due_s, []))
        self._due[-1][1].append(id_)

    def _lose(self, kept: Kept) -> None:
        self._notebook.put_away(kept)
        session = self._sessions.get(kept.owner)
        if session is not None and session.kept is kept:
            session.kept = None
