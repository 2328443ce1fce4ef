"""The hub: does what `core` decides. It owns this node's sessions and subscriptions.

Clients reach it through `socketio` and `web.sse`, backends through `web.api`, publications
through the broker, whose sink it is. Nothing in it blocks except where the docstring says so;
those calls belong into a worker greenlet.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from tidings.codes import CODES
from tidings.errors import Expired, Forbidden, Revoked, TidingsError, TooFast, Unauthorized
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.tokens import Claims, KeySet
from tidings.wire.cursor import Cursor
from tidings.wire.presence import presence_of
from tidings.wire.publication import NO_OPTIONS, Publication
from tidings_hub.brokers.base import Broker
from tidings_hub.config.settings import Settings
from tidings_hub.core import gap_audience as gaps
from tidings_hub.core.access import Access, Revocations
from tidings_hub.core.delivery_plan import plan
from tidings_hub.core.delivery_reports import NUMBER_MAX, NUMBER_MIN, Reports, wrote
from tidings_hub.core.failure_limit import FailureLimit
from tidings_hub.core.frame import DisconnectFrame, Encoded, Frame, HubEvent
from tidings_hub.core.local_presence import by_kind, with_presence
from tidings_hub.core.recent_recoveries import RecentRecoveries
from tidings_hub.core.sessions import Expiries, Session, State
from tidings_hub.core.small_set import removed
from tidings_hub.core.subscriptions import Subscriptions
from tidings_hub.metrics import Metrics
from tidings_hub.services.authorizers import Authorizers
from tidings_hub.services.presence import Entrances
from tidings_hub.services.session_store import SessionStore

logger = logging.getLogger("tidings.hub")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Connection(Protocol):
    """What the hub needs of an engine's connection."""

    remote: str

    @property
    def closed(self) -> bool:
        """Whether nothing can reach the client any more."""

    @property
    def transport(self) -> str:
        """`websocket`, `polling` or `sse`."""

    def close(self, code: str) -> None:
        """End the connection with a code of `tidings.codes`."""


FanOut = Callable[[Iterable[Connection], Sequence[Encoded]], None]


class Hub:
    """One node's sessions, subscriptions and publications."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        access: Access,
        keys: KeySet | None,
        *,
        fan_out: FanOut,
        metrics: Metrics,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.broker = broker
        self.access = access
        self.metrics = metrics
        self.subscriptions: Subscriptions[Connection] = Subscriptions()
        self.presence = Entrances(settings, broker, access, metrics)
        self.session_store = SessionStore(settings, broker, metrics, self._on_replaced)
        self.revocations = Revocations()
        self.reports = Reports(
            keep_s=settings.report_keep_s,
            ack_timeout_s=settings.ack_timeout_s,
            reports_max=settings.reports_max,
            acks_max=settings.acks_max,
            draw=lambda: NUMBER_MIN + secrets.randbelow(NUMBER_MAX - NUMBER_MIN),
        )
        self.wall_s = wall_s
        self.authorizers = Authorizers()
        # What is asked of all nodes is done by `control.Control`, which is given to the hub when it is wired.
        self.on_command: Callable[[Mapping[str, object]], None] = partial(logger.warning, "heard too early: %s")
        self._keys = keys
        self._fan_out = fan_out
        self._failures = FailureLimit(settings.auth_failures_per_minute)
        self._sessions: dict[Connection, Session[Connection]] = {}
        self._expiries: Expiries[Connection] = Expiries(warning_s=settings.expiry_warning_s)
        self._recent_recoveries = RecentRecoveries()

    def apply_settings(self, settings: Settings, keys: KeySet | None) -> None:
        """Go by these rules and keys from now on; open sessions keep what they have."""
        self.settings, self.access, self._keys = settings, settings.access(), keys
        self.presence.use(settings, self.access, self._sessions.values())

    # Sessions

    def authenticate(self, token: object, remote: str) -> Claims:
        """Who the bearer of a token is, connecting from `remote`. May wait for a key set to be fetched.

        Without a token: a new anonymous user under `dev`, otherwise an error.

        Raises:
            Unauthorized, Expired, Revoked: the token does not hold (any more).
            TooFast: nor did too many others from that address; it gets no answer.
        """
        if token is None and self.settings.dev:
            return Claims(sub=f"anonymous-{secrets.token_hex(4)}", expires_at_s=None, channels=("*",))
        try:
            if not isinstance(token, str) or self._keys is None:
                raise Unauthorized("send a token: connect with auth {token: …}")
            claims = self._keys.verify_fresh(token, now_s=self.wall_s())
            if self.revocations.is_revoked(claims, now_s=self.wall_s()):
                raise Revoked
        except TidingsError as error:
            self.metrics.count(self.metrics.auth_failures, error.code.name)
            if not isinstance(error, Expired) and self._failures.add(remote, now_s=self.wall_s()):
                self.metrics.auth_throttled += 1
                raise TooFast("too many tokens from here did not hold; wait a minute") from error
            raise
        return claims

    def open(self, connection: Connection, claims: Claims) -> Session[Connection]:
        """A new session on `connection`."""
        session = Session(secrets.token_hex(6), connection, claims, self.wall_s())
        session.state = State.OPEN
        self._sessions[connection] = session
        self._expiries.add(session)
        self.metrics.sessions += 1
        return session

    def close(self, session: Session[Connection], reason: str = "refused") -> None:
        """Its connection has closed, for a reason as `core.kept.forgets` takes it. Idempotent; never waits."""
        if session.state is State.CLOSED:
            return
        session.state = State.CLOSED
        self._sessions.pop(session.connection, None)
        self._expiries.discard(session)
        self.metrics.sessions -= 1
        self.session_store.on_closed(session, reason)
        self.unsubscribe(session, list(session.channels))
        self.authorizers.disconnect(session, reason)

    def refresh(self, session: Session[Connection], token: object) -> list[str]:
        """Give a live session a new token; returns the channels that it no longer covers and has left.

        May wait for a key set to be fetched.

        Raises:
            Unauthorized, Expired, Revoked: the token does not hold; the old one stays.
            Forbidden: it belongs to another user.
        """
        claims = self.authenticate(token, session.connection.remote)
        if claims.sub != session.user:
            raise Forbidden("the new token belongs to another user; open a new connection for them")
        self._expiries.discard(session)
        session.claims = claims
        session.warned = False
        self._expiries.add(session)
        lost = [name for name in session.channels if presence_of(name) is None and not self.is_allowed(session, name)]
        self.unsubscribe(session, lost)
        self.session_store.on_token_refreshed(session)
        self.presence.inform(session)
        return lost

    def is_allowed(self, session: Session[Connection], channel: str) -> bool:
        """Whether the session may (still) be subscribed to the channel."""
        if channel in session.granted:
            return True
        try:
            self.access.check_subscribe(session.claims, channel)
        except TidingsError:
            return False
        return True

    def unsubscribe(self, session: Session[Connection], channels: Collection[str]) -> None:
        """Stop sending the channels' publications, and their joins and leaves, to the session."""
        if not session.channels:
            # Each connect comes by here.
            return
        own = [name for name in with_presence(channels) if name in session.channels]
        for name in own:
            session.channels = removed(session.channels, name)
        self.presence.leave(session, own)
        self.session_store.on_unsubscribed(session, own)
        self.metrics.subscriptions -= len(own)
        gone = self.subscriptions.leave(session.connection, own)
        self.release_channels(gone)

    def release_channels(self, channels: Collection[str]) -> None:
        """Nobody here listens to these channels any more."""
        self.metrics.channels = len(self.subscriptions)
        if channels:
            self.presence.forget(channels)
            self.broker.unsubscribe(list(channels))

    def sessions(self) -> Collection[Session[Connection]]:
        """The open sessions of this node."""
        return self._sessions.values()

    def send(self, connection: Connection, *said: Encoded) -> None:
        """Write to one connection, after all that was written to it before."""
        self._fan_out((connection,), said)

    def disconnect(self, connection: Connection, code: str, message: str) -> None:
        """Tell the client why, then close; `tidings.codes` says whether it should come back."""
        said: list[Encoded] = [hub_event("tidings:close", {"code": code, "message": message})]
        if not CODES[code].should_reconnect:
            said.append(DisconnectFrame())
        self.send(connection, *said)
        connection.close(code)

    def _on_replaced(self, session: Session[Connection]) -> None:
        self.disconnect(session.connection, "replaced", "this session goes on in another connection")

    def tick(self) -> None:
        """Warn of tokens that are about to end, and end sessions whose token has. Call it every second."""
        self.reports.forget(now_s=time.monotonic())
        self.metrics.reports, self.metrics.reports_dropped = len(self.reports), self.reports.dropped
        now_s = self.wall_s()
        for session in self._expiries.pop_due(now_s):
            left_s = session.expires_in_s(now_s) or 0.0
            if left_s > 0:
                session.warned = True
                self.send(session.connection, hub_event("tidings:expiring", {"expires_in_s": round(left_s, 1)}))
                self._expiries.add(session)
            else:
                self.metrics.tokens_expired += 1
                self.disconnect(session.connection, "expired", "the token has ended; connect with a new one")

    # The broker's sink

    def deliver(self, publications: Sequence[Publication]) -> None:
        """Fan out what one read of the broker brought, in order."""
        frames = self.presence.frames(publications)
        metrics, subscriptions = self.metrics, self.subscriptions
        metrics.publications += len(frames)
        asked = [one for one in publications if one.options != NO_OPTIONS]
        if asked:
            frames = self.reports.frames(frames, now_s=time.monotonic())
        for frame in frames:
            channel = subscriptions.get(frame.publication.channel)
            if channel is not None and channel.catchups is not None:
                for catchup in channel.catchups:
                    catchup.hold(frame)
        for connections, wanted in plan(frames, subscriptions):
            metrics.deliveries += len(connections) * len(wanted)
            self._fan_out(connections, wanted)
            if asked:
                self.count_written(connections, wanted)
        if frames:
            metrics.fanout_s.observe(max(0.0, self.wall_s() - publications[0].at_ms / 1000))

    def catchup_frames(self, publications: Sequence[Publication]) -> list[Frame]:
        """What one client gets of publications that it had missed, or that were held back for it."""
        frames = self.presence.frames(publications)
        if all(one.options == NO_OPTIONS for one in publications):
            return frames
        since_ms = int((self.wall_s() - self.reports.keep_s) * 1000)
        return self.reports.frames(frames, now_s=time.monotonic(), since_ms=since_ms)

    def count_written(self, connections: Collection[Connection], frames: Sequence[Frame]) -> None:
        """Count, for those frames that ask for it, that they were written to these connections."""
        reports = [frame.report for frame in frames if frame.report is not None]
        if not reports:
            return
        open_ = [connection for connection in connections if not connection.closed]
        able = sum(1 for connection in open_ if connection.transport != "sse")
        wrote(frames, recipients=len(open_), awaited=able)
        # A cursor that only follows its publication is no delivery.
        self.metrics.deliveries -= len(connections) * sum(1 for report in reports if report.number)

    def acknowledge(self, session: Session[Connection], number: int) -> bool:
        """A client acknowledged something; whether it was asked to, and had not before."""
        counted = self.reports.ack(number, session.id)
        self.metrics.acks += counted
        return counted

    def on_loss(self, channels: Sequence[str], position: Cursor) -> None:
        """Tell the channels' clients that something is missing and cannot be repaired."""
        for connection, names in gaps.affected_by_loss(self.subscriptions, channels).items():
            self._tell_gap(connection, names, position)

    def record_recovery(self, session: Session[Connection], seq: int, channels: Collection[str]) -> None:
        """The session returned with a cursor at `seq`, and was told that nothing is missing in these channels."""
        session.record_recovery(seq)
        self._recent_recoveries.add(seq, channels, time.monotonic())

    def on_doubt(self, channels: Sequence[str], first: int, until: int, position: Cursor) -> bool:
        """Tell a gap to those who returned here with a cursor that another node gave out wrongly."""
        concerned = gaps.affected_by_doubt(self.subscriptions, channels, first, until, self._sessions.get)
        for connection, names in concerned.items():
            self.metrics.gaps_late += len(names)
            self._tell_gap(connection, names, position)
        # Some may have left again, with newer cursors.
        return self._recent_recoveries.may_include(channels, first, until, time.monotonic())

    def _tell_gap(self, connection: Connection, names: Sequence[str], position: Cursor) -> None:
        answer = {"cursor": str(position)} | by_kind({name: {"recovered": False} for name in names})
        self.send(connection, hub_event("tidings:gap", answer, cursor=str(position)))

    def on_control(self, message: Mapping[str, object]) -> None:
        """Do what a node (this one included) asked all nodes to do."""
        self.metrics.control_messages += 1
        self.on_command(message)

    def enforce_revocations(self) -> int:
        """End every session that was revoked; how many there were."""
        now_s = self.wall_s()
        self.revocations.forget_past(now_s=now_s)
        chosen = [one for one in self._sessions.values() if self.revocations.is_revoked(one.claims, now_s=now_s)]
        count = self.disconnect_all(chosen, "revoked", "this user or token was revoked; sign in again")
        self.metrics.revoked += count
        return count

    def disconnect_all(self, sessions: Sequence[Session[Connection]], code: str, message: str) -> int:
        """End these sessions as `end` does; how many there are."""
        for session in sessions:
            self.disconnect(session.connection, code, message)
        return len(sessions)

    # Backends. These wait for the broker.

    def publish(self, items: Sequence[OutgoingPublication]) -> list[Receipt | TidingsError]:
        """Publish; one receipt or error per item, in order. Waits for the broker."""
        results = self.broker.publish_many(items)
        for result in results:
            self.metrics.published += 1
            if isinstance(result, TidingsError):
                self.metrics.count(self.metrics.publish_errors, result.code.name)
            elif result.duplicate:
                self.metrics.publish_duplicates += 1
        return results

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """A page of a channel's history and the position it was read at. Waits for the broker.

        Raises:
            UnknownNamespace, Unavailable.
        """
        self.access.rule(channel)
        self.metrics.histories += 1
        return self.broker.history(channel, since=since, limit=limit, newest=newest)


def hub_event(event: str, data: Mapping[str, object], *, cursor: str | None = None) -> HubEvent:
    """Something the hub says by itself."""
    return HubEvent(event, _encode(data).encode(), cursor=cursor)
