"""The hub of one node: its sessions, its subscriptions, and the publications on their way to clients.

Clients reach it through `socketio` and `web.sse`, backends through `node.api`. The broker calls it for each
publication (`brokers.base.Sink`). `core` decides, the hub carries it out.

A method that waits states it in its docstring. Call it from a worker greenlet, never from the pump.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from tidings.errors import Forbidden, TidingsError
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.tokens import Claims, KeySet
from tidings.wire.channels import OWN_PREFIX
from tidings.wire.cursor import Cursor
from tidings.wire.presence import presence_of
from tidings.wire.publication import NO_OPTIONS, Publication
from tidings_hub.brokers.base import Broker
from tidings_hub.config.settings import Settings
from tidings_hub.core.access import Access
from tidings_hub.core.delivery_plan import plan
from tidings_hub.core.frame import Frame, OutgoingFrame
from tidings_hub.core.gap_audience import affected_by_doubt, affected_by_loss
from tidings_hub.core.local_presence import with_presence_channels
from tidings_hub.core.rates.user_rates import UserRates
from tidings_hub.core.recent_recoveries import RecentRecoveries
from tidings_hub.core.sessions import Expiries, OpenSessions, Session, State
from tidings_hub.core.small_set import remove_member
from tidings_hub.core.subscriptions import Subscriptions
from tidings_hub.metrics import Metrics
from tidings_hub.services.authenticator import Authenticator
from tidings_hub.services.authorizers import Authorizers
from tidings_hub.services.backend_notifications import BackendNotifications
from tidings_hub.services.client_connection import Connection, FanOut, Replay
from tidings_hub.services.delivery_tracker import DeliveryTracker
from tidings_hub.services.hub_event import gap_event, hub_event
from tidings_hub.services.presence import PresenceService
from tidings_hub.services.replays import Replays
from tidings_hub.services.revocations import RevocationService
from tidings_hub.services.session_store import SessionStore
from tidings_hub.services.user_inbox import InboxService

logger = logging.getLogger("tidings.hub")


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
        replay: Replay | None = None,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.broker = broker
        self.access = access
        self.metrics = metrics
        self.subscriptions: Subscriptions[Connection] = Subscriptions()
        self.rates = UserRates()
        self.presence = PresenceService(settings, broker, access, metrics)
        self.session_store = SessionStore(settings, broker, metrics, self._on_replaced)
        self.revocations = RevocationService(settings, broker, metrics, self.sessions, self.end_revoked, wall_s=wall_s)
        self.authenticator = Authenticator(settings, keys, self.revocations, metrics, wall_s=wall_s)
        self.inbox = InboxService(settings, metrics, wall_s=wall_s)
        self.notifications = BackendNotifications(self.inbox, metrics, size=settings.notifications.requests_max)
        self.authorizers = Authorizers()
        self.deliveries = DeliveryTracker(settings, metrics, wall_s=wall_s)
        self.wall_s = wall_s
        # `services.commands` replaces this when the node is assembled.
        early = "a control message arrived before the node was ready; ignored: %s"
        self.on_command: Callable[[Mapping[str, object]], None] = partial(logger.warning, early)
        self._fan_out = fan_out
        self.replays = Replays(self.presence, self.deliveries, fan_out, replay)
        self.open_sessions: OpenSessions[Connection] = OpenSessions()
        self._expiries: Expiries[Connection] = Expiries(settings.expiry_warning_s, settings.token_leeway_s)
        self._recent_recoveries = RecentRecoveries()

    def apply_settings(self, settings: Settings, keys: KeySet | None) -> None:
        """Apply new rules and keys to what happens from now on. Open sessions keep their subscriptions."""
        self.settings, self.access = settings, settings.access()
        self.authenticator.apply_settings(settings, keys)
        self._expiries.leeway_s = settings.token_leeway_s
        self.presence.apply_settings(settings, self.access, self.sessions())
        self.inbox.apply_settings(settings)

    # Sessions

    def open(self, connection: Connection, claims: Claims) -> Session[Connection]:
        """Register a new session on `connection`."""
        session = Session(secrets.token_hex(6), connection, claims, self.wall_s())
        session.state = State.OPEN
        self.open_sessions.add(session)
        self._expiries.add(session)
        self.metrics.sessions += 1
        return session

    def close(self, session: Session[Connection], reason: str = "refused") -> None:
        """End a session whose connection has closed. Idempotent.

        `reason`: a code, or the reason of the transport; `core.resumable_session.is_final` interprets it.
        """
        if session.state is State.CLOSED:
            return
        session.state = State.CLOSED
        self.open_sessions.remove(session)
        self._expiries.discard(session)
        self.metrics.sessions -= 1
        self.session_store.on_closed(session, reason)
        self.unsubscribe(session, list(session.channels))
        self.authorizers.disconnect(session, reason)

    def refresh(self, session: Session[Connection], token: object) -> list[str]:
        """Replace the token of a live session. Returns the channels that it has left because of it.

        May wait for a key set to be fetched.

        Raises:
            Unauthorized, Expired, Revoked: the new token is not valid; the session keeps the old one.
            Forbidden: the new token belongs to another user.
        """
        claims = self.authenticator.authenticate(token, session.connection.remote)
        if claims.sub != session.user:
            raise Forbidden("the new token belongs to another user; open a new connection for them")
        self._expiries.discard(session)
        session.claims = claims
        session.warned = False
        self._expiries.add(session)
        left = [name for name in session.channels if presence_of(name) is None and not self.is_allowed(session, name)]
        self.unsubscribe(session, left)
        self.session_store.on_token_refreshed(session)
        self.presence.on_token_refreshed(session)
        return left

    def is_allowed(self, session: Session[Connection], channel: str) -> bool:
        """Whether the session's token, or a backend, allows the channel."""
        return channel in session.granted or self.access.allows(session.claims, channel)

    def unsubscribe(self, session: Session[Connection], channels: Collection[str]) -> None:
        """Stop sending these channels, and their joins and leaves, to the session."""
        if not session.channels:  # a shortcut for each CONNECT
            return
        left = [name for name in with_presence_channels(channels) if name in session.channels]
        for name in left:
            session.channels = remove_member(session.channels, name)
        self.presence.on_unsubscribed(session, left)
        self.session_store.on_unsubscribed(session, left)
        self.metrics.subscriptions -= len(left)
        self.release_channels(self.subscriptions.leave(session.connection, left))

    def release_channels(self, channels: Collection[str]) -> None:
        """Unsubscribe this node from channels that no client of it is subscribed to."""
        self.metrics.channels = len(self.subscriptions)
        if channels:
            self.presence.forget_channels(channels)
            self.broker.unsubscribe(list(channels))

    def has_session(self, connection: Connection) -> bool:
        """Whether a session of this node is open on `connection`."""
        return connection in self.open_sessions.by_connection

    def sessions(self) -> Collection[Session[Connection]]:
        """The open sessions of this node."""
        return self.open_sessions.by_connection.values()

    def send(self, connection: Connection, *frames: OutgoingFrame) -> None:
        """Write frames to one connection, behind what was written to it before."""
        self._fan_out((connection,), frames)

    def disconnect(self, connection: Connection, code: str, message: str) -> None:
        """Send the client the reason and close its connection. The code states whether the client should reconnect."""
        connection.close(code, message)

    def _on_replaced(self, session: Session[Connection]) -> None:
        self.disconnect(session.connection, "replaced", "this session was resumed on another connection")

    def tick(self) -> None:
        """Send warnings before tokens expire, and end sessions whose token has expired. Call it every second."""
        self.deliveries.tick()
        self.replays.tick()
        now_s = self.wall_s()
        for session in self._expiries.pop_due(now_s):
            if self._expiries.is_over(session, now_s):
                self.metrics.tokens_expired += 1
                self.disconnect(session.connection, "expired", "the token has expired; connect with a new one")
                continue
            session.warned = True
            left_s = round(session.expires_in_s(now_s) or 0.0, 1)
            self.send(session.connection, hub_event("tidings:expiring", {"expires_in_s": left_s}))
            self._expiries.add(session)

    # The broker's sink

    def deliver(self, publications: Sequence[Publication]) -> None:
        """Write the publications of one read from the broker to their subscribers, in order."""
        frames = self._frames(publications)
        metrics, subscriptions = self.metrics, self.subscriptions
        metrics.publications += len(frames)
        with_options = [publication for publication in publications if publication.options != NO_OPTIONS]
        if with_options:
            frames = self.deliveries.reports.with_reports(frames, now_s=time.monotonic())
        for frame in frames:
            channel = subscriptions.get(frame.publication.channel)
            if channel is not None and channel.catchups is not None:
                for catchup in channel.catchups:
                    catchup.hold(frame)
        for connections, group_frames in plan(frames, subscriptions):
            metrics.deliveries += len(connections) * len(group_frames)
            self._fan_out(connections, group_frames)
            if with_options:
                self.deliveries.count_written(connections, group_frames)
        if frames:
            metrics.fanout_s.observe(max(0.0, self.wall_s() - publications[0].at_ms / 1000))

    def _frames(self, publications: Sequence[Publication]) -> list[Frame]:
        # Every publication of the node gets here. In a presence channel it is a join, a leave or a count.
        return [
            self.presence.frame(publication) if publication.channel.startswith(OWN_PREFIX) else Frame(publication)
            for publication in publications
        ]

    def on_loss(self, channels: Sequence[str], position: Cursor) -> None:
        """Send `tidings:gap` to the channels' subscribers: publications are lost."""
        for connection, names in affected_by_loss(self.subscriptions, channels).items():
            self.send(connection, gap_event(names, position))

    def record_recovery(self, session: Session[Connection], seq: int, channels: Collection[str]) -> None:
        """Remember that the session recovered with a cursor at `seq` and that these channels were complete."""
        session.record_recovery(seq)
        self._recent_recoveries.add(seq, channels, time.monotonic())

    def on_doubt(self, channels: Sequence[str], first: int, last: int, position: Cursor) -> bool:
        """Send `tidings:gap` to the clients that recovered here with a cursor from `first` to `last`.

        Another node gave out those cursors, although it had lost a publication before them. Returns whether a client
        may be affected, also if it has disconnected since.
        """
        affected = affected_by_doubt(self.subscriptions, channels, first, last, self.open_sessions.by_connection.get)
        for connection, names in affected.items():
            self.metrics.gaps_late += len(names)
            self.send(connection, gap_event(names, position))
        return self._recent_recoveries.may_include(channels, first, last, time.monotonic())

    def on_control(self, message: Mapping[str, object]) -> None:
        """Carry out a command that a node, this one included, sent to all nodes."""
        self.metrics.control_messages += 1
        self.on_command(message)

    def end_revoked(self, sessions: Sequence[Session[Connection]]) -> int:
        """End those of these sessions whose user or token is revoked. Returns how many there were."""
        open_sessions = (session for session in sessions if session.state is not State.CLOSED)
        revoked = [session for session in open_sessions if self.revocations.is_revoked(session.claims)]
        self.disconnect_all(revoked, "revoked", "this user or token was revoked; sign in again")
        self.metrics.revoked += len(revoked)
        return len(revoked)

    def disconnect_all(self, sessions: Sequence[Session[Connection]], code: str, message: str) -> int:
        """Disconnect these sessions, see `disconnect`. Returns how many there are."""
        for session in sessions:
            self.disconnect(session.connection, code, message)
        return len(sessions)

    # For backends

    def publish(self, items: Sequence[OutgoingPublication]) -> list[Receipt | TidingsError]:
        """Publish the items. Returns one receipt or error per item, in order. Waits for the broker."""
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
