"""Subscribing: subscribe at the broker, read what the client missed, merge, go live.

The order is what makes a recovery complete. First the live publications are held back. Then the broker confirms the
subscription. Then the history is read, and only then are history and live publications merged by seq. Every
publication is in one of the two, whenever it is published.

`subscribe` does all that waits and returns a `PendingSubscription`. `go_live` does the rest in one go.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tidings.errors import Forbidden
from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import HistorySnapshot
from tidings_hub.core.bucket_positions import rebase_cursors, with_floor
from tidings_hub.core.frame import Frame, OutgoingFrame
from tidings_hub.core.local_presence import split_answers, with_presence_channels
from tidings_hub.core.recovery import Gap, missed_from
from tidings_hub.core.resumable_session import ChannelJoin, JoinMode, Resume
from tidings_hub.core.sessions import Session, State
from tidings_hub.core.small_set import add_member
from tidings_hub.core.subscriptions import Catchup
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.hub_event import hub_event
from tidings_hub.services.permissions import Answers, permitted_channels

# A recovery may fill half of a connection's out-buffer, so that live publications still fit behind it.
_OUT_BUFFER_SHARE = 2
# What a publication takes of the out-buffer beside its data, about: channel, cursor and framing.
_OVERHEAD_BYTES = 128


@dataclass(slots=True)
class PendingSubscription:
    """Channels that are ready to go live. Pass it to `go_live` or `abandon` without waiting in between.

    `position`: up to where the history was read, or where the node was. `missed`: what the client missed, in order.
    `granted`: the channels that backends had granted to the session when they were checked.
    """

    catchup: Catchup[Connection]
    position: Cursor
    answers: Answers
    missed: list[Frame]
    granted: frozenset[str]

    def final_answers(self) -> Answers:
        """`answers` as of now: a channel in which the node has lost something since then is not recovered."""
        for name in self.catchup.lost:
            self.answers[name] = {"recovered": False}
        return self.answers

    def reply(self) -> dict[str, dict[str, object]]:
        """`{"channels": {…}}` as of now, and `"presence"` if the client requested joins and leaves."""
        return split_answers(self.final_answers())

    @property
    def cursor(self) -> Cursor:
        """The cursor that the client may store when it receives the reply, even if it is cut off right after it.

        The cursor is never later than the first publication that is not yet written. If missed publications follow,
        it is the client's own `since`. If held publications follow, it is before the first of them.
        """
        if self.missed and self.catchup.since is not None:
            return self.catchup.since
        position, epochs = self.position, set[str]()
        for frame in self.catchup.held_frames if self.catchup.since is None else ():
            epoch = frame.publication.epoch
            if epoch not in epochs:
                epochs.add(epoch)
                position = position.capped(epoch, frame.seq - 1)
        return position


def subscribe(
    hub: Hub,
    session: Session[Connection],
    channel_names: Sequence[object],
    since: Cursor | None,
    presence: Sequence[object] = (),
    resume: Resume | None = None,
) -> PendingSubscription:
    """Subscribe the session to those of the channels that it may have. Waits for the broker.

    `presence`: channels, among these or those it has, whose joins and leaves it also receives.
    `resume`: the session that the client resumes. `since` is its offset then, and only applies to its channels.

    Raises:
        Unavailable: the broker does not answer; the session is subscribed to nothing new.
    """
    answers: Answers = {}
    granted = session.granted
    known: Collection[str] = () if resume is None else resume.session.channels
    channels = permitted_channels(hub, session, channel_names, presence, answers, known)
    catchup = Catchup(session.connection, channels, since, hold_max=hub.settings.hold_max)
    # A repeated subscription starts over: `since` alone decides what the client receives.
    hub.unsubscribe(session, channels)
    # The session store first: a client that learns of these channels must not be resumed without them.
    mode = JoinMode.FROM_POSITION if since is None else JoinMode.REPLAYING
    hub.session_store.before_subscribe(session, channels, mode, _cursor_text(hub.broker.position))
    hub.subscriptions.begin(catchup)
    try:
        hub.broker.subscribe(channels)
        position, missed = hub.broker.position, list[Frame]()
        if since is not None or position is None:
            history = hub.broker.read_since(channels, since, limit=hub.settings.recovery_max)
            position = history.position
            missed = _recover(hub, catchup, history, answers, resume)
    except BaseException:
        hub.release_channels(hub.subscriptions.abandon(catchup))
        hub.session_store.on_unsubscribed(session, channels)
        raise
    for name in channels:
        answers.setdefault(name, {"recovered": False})
    return PendingSubscription(catchup, position, answers, missed, granted)


def go_live(hub: Hub, session: Session[Connection], pending: PendingSubscription, *first: OutgoingFrame) -> None:
    """Write `first`, then what was missed, then what was held back. From then on the channels are live.

    Except those that a backend has unsubscribed the session from while it waited: `tidings:unsubscribed` ends them.
    """
    catchup = pending.catchup
    if session.state is State.CLOSED:
        abandon(hub, pending)
        return
    answers, withdrawn = pending.final_answers(), _withdrawn(hub, session, pending)
    for name in withdrawn:
        answers[name] = {"error": Forbidden("a backend has unsubscribed this connection").to_wire()}
    # At CONNECT the session is not stored yet, see `connect.activate`.
    joins = _joins_while_live(hub, pending) if session.resumable is not None else ()
    live = _held_frames(hub, pending.position, catchup)
    hub.subscriptions.finish(catchup)
    for name in catchup.channels:
        session.channels = add_member(session.channels, name)
    hub.presence.on_subscribed(session, catchup.channels)
    hub.metrics.subscriptions += len(catchup.channels)
    hub.metrics.channels = len(hub.subscriptions)
    recovered = [name for name, answer in answers.items() if answer.get("recovered")]
    if catchup.since is not None and recovered:
        # With several buckets this covers too much: a doubt may cause an unnecessary gap, but never a missed one.
        for place in catchup.since.places:
            hub.record_recovery(session, place.seq, recovered)
    if joins:
        hub.session_store.on_subscribed(session, joins)
    # "recovered: false" means nothing of the history, also if the loss was only just found.
    missed = [frame for frame in pending.missed if frame.publication.channel not in catchup.lost]
    written = _without(withdrawn, [*missed, *live])
    frames = [*first, *written]
    hub.metrics.deliveries += len(written)
    if frames:
        hub.replays.send(session.connection, frames)
        hub.deliveries.count_written((session.connection,), written)
    if withdrawn:
        hub.unsubscribe(session, withdrawn)
        hub.send(session.connection, hub_event("tidings:unsubscribed", {"channels": withdrawn}))
    if catchup.overflowed:
        hub.metrics.held_overflows += 1
        hub.disconnect(session.connection, "slow", "too much was published during the recovery (hold_max); reconnect")


def _withdrawn(hub: Hub, session: Session[Connection], pending: PendingSubscription) -> list[str]:
    """The channels whose grant has ended since it was checked."""
    if session.granted is pending.granted:  # a shortcut for each CONNECT
        return []
    channels = pending.catchup.channels
    return [name for name in channels if name in pending.granted and not hub.is_allowed(session, name)]


def _without(channels: Sequence[str], frames: list[Frame]) -> list[Frame]:
    """The frames without those of these channels."""
    if not channels:
        return frames
    names = frozenset(with_presence_channels(channels))
    return [frame for frame in frames if frame.publication.channel not in names]


def abandon(hub: Hub, pending: PendingSubscription) -> None:
    """Give the channels up instead of going live."""
    hub.release_channels(hub.subscriptions.abandon(pending.catchup))


def joins_at_connect(pending: PendingSubscription) -> list[ChannelJoin]:
    """For the session store: how a session joins its channels at CONNECT. All that it receives is in one order."""
    catchup = pending.catchup
    if catchup.since is None:
        # It also receives what was held back, and that may begin before the node's position.
        return [ChannelJoin(JoinMode.FROM_POSITION, str(pending.cursor), catchup.channels)]
    recovered = tuple(name for name in catchup.channels if pending.answers[name].get("recovered"))
    others = tuple(name for name in catchup.channels if name not in recovered)
    return [
        ChannelJoin(JoinMode.FROM_OFFSET, "", recovered),
        ChannelJoin(JoinMode.FROM_POSITION, str(pending.position), others),
    ]


def _joins_while_live(hub: Hub, pending: PendingSubscription) -> list[ChannelJoin]:
    """As `joins_at_connect`, for a live session: missed publications follow newer ones of other channels."""
    delivered = _cursor_text(hub.broker.position)
    return [
        ChannelJoin(JoinMode.REPLAYED, delivered, join.channels) if join.mode is JoinMode.FROM_OFFSET else join
        for join in joins_at_connect(pending)
    ]


def _cursor_text(position: Cursor | None) -> str:
    return "" if position is None else str(position)


def _recover(
    hub: Hub, catchup: Catchup[Connection], history: HistorySnapshot, answers: Answers, resume: Resume | None
) -> list[Frame]:
    """What the client missed in all channels, by seq. `answers` gets `recovered` for each channel."""
    since = catchup.since
    if since is None:
        return []
    missed: dict[str, list[Publication]] = {}
    known: Collection[str] = catchup.channels if resume is None else resume.session.channels
    channels = [name for name in catchup.channels if name in known]
    for name in channels:
        start = since if resume is None else resume.starts.get(name, since)
        publications = missed_from(
            start, since, history.position, history.channels[name], limit=hub.settings.recovery_max
        )
        if not isinstance(publications, Gap) and not any(
            hub.broker.is_doubted(name, cursor) for cursor in {since, start}
        ):
            missed[name] = publications
    for name in _over_budget(missed, hub.settings.out_buffer_bytes // _OUT_BUFFER_SHARE):
        del missed[name]
    for name in channels:
        answers[name] = {"recovered": name in missed}
    hub.metrics.recoveries += len(missed)
    hub.metrics.recoveries_failed += len(channels) - len(missed)
    ordered = sorted((item for publications in missed.values() for item in publications), key=lambda item: item.seq)
    hub.metrics.recovered_publications += len(ordered)
    return hub.replays.frames(rebase_cursors(since, history.position, ordered))


def _over_budget(missed: dict[str, list[Publication]], budget_bytes: int) -> list[str]:
    """The channels, largest first, that have to be left out so that the others fit the budget."""
    sizes = {
        name: sum(len(publication.fragment) + _OVERHEAD_BYTES for publication in publications)
        for name, publications in missed.items()
    }
    total_bytes, left_out = sum(sizes.values()), []
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if total_bytes <= budget_bytes:
            break
        total_bytes -= sizes[name]
        left_out.append(name)
    return left_out


def _held_frames(hub: Hub, position: Cursor, catchup: Catchup[Connection]) -> list[Frame]:
    """The held publications that the history did not already contain.

    Without `since` the position is the node's own, and what was held came after the subscription: all of it counts.
    Publications of another epoch are newer than the position: older ones were discarded when the broker reported the
    new epoch (`Catchup.lose`).
    """
    frames = catchup.held_frames
    if catchup.since is not None:
        ends = {frame.publication.epoch: position.seq_in(frame.publication.epoch) for frame in frames}
        frames = [frame for frame in frames if (end := ends[frame.publication.epoch]) is None or frame.seq > end]
    if not position.other_places:
        return frames
    # A publication may stand here as several frames (`CursorFrame`); `Replays.frames` makes all of them again.
    publications = {(frame.publication.epoch, frame.seq): frame.publication for frame in frames}
    return hub.replays.frames([with_floor(position, publication) for publication in publications.values()])
