"""Joining channels: subscribe at the broker, read what was missed, merge, go live.

The order is what makes a recovery complete (DESIGN 3): first the live publications are
held back, then the broker confirms the subscription, then the past is read, and only then
are the two merged by seq.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tidings.errors import Forbidden, TidingsError, TooManyChannels
from tidings.wire.channels import check_channel, user_channel
from tidings.wire.cursor import Cursor
from tidings.wire.presence import presence_channel
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import HistorySnapshot
from tidings_hub.core.bucket_positions import rebase_cursors, with_floor
from tidings_hub.core.frame import Encoded, Frame
from tidings_hub.core.local_presence import split_answers
from tidings_hub.core.recovery import Gap, missed_from
from tidings_hub.core.resumable_session import ChannelJoin, JoinMode, Resume
from tidings_hub.core.sessions import Session, State
from tidings_hub.core.small_set import add_member
from tidings_hub.core.subscriptions import Catchup
from tidings_hub.services.connection import Connection
from tidings_hub.services.hub import Hub

# What a recovery may leave in one connection's out-buffer: half of it, so that live
# publications still fit behind.
_OUT_BUFFER_SHARE = 2


@dataclass(slots=True)
class PendingSubscription:
    """Channels that are ready to go live. Pass it to `go_live` without waiting in between.

    `channels` has what the client is told of each: `{"recovered": bool}` or `{"error": {…}}`.
    """

    catchup: Catchup[Connection]
    position: Cursor
    answers: dict[str, dict[str, object]]
    missed: list[Frame]

    def final_answers(self) -> dict[str, dict[str, object]]:
        """`channels` as of now: what was lost since the past was read is not recovered. Tell it without waiting."""
        for name in self.catchup.lost:
            self.answers[name] = {"recovered": False}
        return self.answers

    def reply(self) -> dict[str, dict[str, object]]:
        """`{"channels": {…}}` as of now, and `"presence"` where joins and leaves were asked for."""
        return split_answers(self.final_answers())

    @property
    def cursor(self) -> Cursor:
        """What the client may remember as soon as it is told, even if it is cut off before anything else arrives.

        That is never beyond what is still to be written: its own `since` while something missed
        follows, and a place before the first publication that was held back.
        """
        if self.missed and self.catchup.since is not None:
            return self.catchup.since
        position, epochs = self.position, set[str]()
        for frame in self.catchup.held if self.catchup.since is None else ():
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
    """Subscribe the session to the channels that it may have. Waits for the broker.

    `presence`: of which of them, or of those it has, it also gets the joins and leaves.
    `back`: what it had before; `since` is its offset then, and says nothing of channels that it did not have.

    Raises:
        Unavailable: the broker does not answer; the session is subscribed to nothing new.
    """
    answers: dict[str, dict[str, object]] = {}
    wanted = _asked(hub, session, _allowed(hub, session, channel_names, answers), answers)
    wanted += _watched(hub, session, presence, wanted, answers)
    catchup = Catchup(session.connection, wanted, since, hold_max=hub.settings.hold_max)
    # A repeated subscription starts anew: what it gets is decided by `since` again.
    hub.unsubscribe(session, wanted)
    # Before the client can be told: who returns must not be taken for complete without these channels.
    hub.session_store.before_subscribe(
        session, wanted, JoinMode.FROM_POSITION if since is None else JoinMode.REPLAYING, _text(hub.broker.position)
    )
    hub.subscriptions.begin(catchup)
    try:
        hub.broker.subscribe(wanted)
        position = hub.broker.position
        if since is not None or position is None:
            past = hub.broker.read_since(wanted, since, limit=hub.settings.recovery_max)
            position = past.position
            frames = _recover(hub, catchup, past, answers, resume)
        else:
            frames = []
    except BaseException:
        hub.release_channels(hub.subscriptions.abandon(catchup))
        hub.session_store.on_unsubscribed(session, wanted)
        raise
    for name in wanted:
        answers.setdefault(name, {"recovered": False})
    return PendingSubscription(catchup, position, answers, frames)


def go_live(hub: Hub, session: Session[Connection], pending: PendingSubscription, *first: Encoded) -> None:
    """Write `first`, what was missed and what came meanwhile, in order; from now on the channels are live."""
    catchup = pending.catchup
    if session.state is State.CLOSED:
        hub.release_channels(hub.subscriptions.abandon(catchup))
        return
    answers = pending.final_answers()
    # A new session is kept only after this: each connect comes by here.
    how = _later(hub, pending) if session.resumable is not None else ()
    later = _after(hub, pending.position, catchup)
    hub.subscriptions.finish(catchup)
    for name in catchup.channels:
        session.channels = add_member(session.channels, name)
    hub.presence.on_subscribed(session, catchup.channels)
    hub.metrics.subscriptions += len(catchup.channels)
    hub.metrics.channels = len(hub.subscriptions)
    whole = [name for name, answer in answers.items() if answer.get("recovered")]
    if catchup.since is not None and whole:
        # Too many rather than too few where there are several buckets: a doubt then concerns some whom it need not.
        for place in catchup.since.places:
            hub.record_recovery(session, place.seq, whole)
    if how:
        hub.session_store.on_subscribed(session, how)
    # "recovered: false" means nothing of the past, also where it was only just found out.
    past = [frame for frame in pending.missed if frame.publication.channel not in catchup.lost]
    told = [*first, *past, *later]
    hub.metrics.deliveries += len(told) - len(first)
    if told:
        hub.send(session.connection, *told)
        hub.deliveries.count_written((session.connection,), (*past, *later))
    if catchup.overflowed:
        hub.metrics.held_overflows += 1
        hub.disconnect(session.connection, "slow", "too much was published while you came back; connect again")


def _allowed(
    hub: Hub, session: Session[Connection], names: Sequence[object], answers: dict[str, dict[str, object]]
) -> list[str]:
    """The channels that the session may have; `answers` gets an error for each of the others."""
    allowed: list[str] = []
    room = hub.settings.channels_per_connection - len(session.channels)
    for name in dict.fromkeys(str(name) for name in names):
        try:
            check_channel(name)
            if name in session.granted:
                hub.access.rule(name)
            else:
                hub.access.check_subscribe(session.claims, name)
            if name not in session.channels and len(allowed) >= room:
                hub.metrics.channels_refused += 1
                raise TooManyChannels(
                    f"a connection may have {hub.settings.channels_per_connection} channels (channels_per_connection)"
                )
        except TidingsError as error:
            hub.metrics.count(hub.metrics.subscriptions_refused, error.code.name)
            answers[name[:200]] = {"error": error.to_wire()}
        else:
            allowed.append(name)
    return allowed


def _asked(
    hub: Hub, session: Session[Connection], allowed: list[str], answers: dict[str, dict[str, object]]
) -> list[str]:
    """The channels that nobody who is asked beyond the rules refuses; what is granted or its own is not asked about."""
    if "subscribe" not in hub.authorizers.handles:
        return allowed
    own = user_channel(session.user)
    refused = hub.authorizers.subscribe(
        session, [name for name in allowed if name != own and name not in session.granted]
    )
    for name, error in refused.items():
        hub.metrics.count(hub.metrics.subscriptions_refused, error.code.name)
        answers[name] = {"error": error.to_wire()}
    return [name for name in allowed if name not in refused]


def _watched(
    hub: Hub,
    session: Session[Connection],
    names: Sequence[object],
    wanted: Sequence[str],
    answers: dict[str, dict[str, object]],
) -> list[str]:
    """The presence channels of those channels whose joins and leaves the session may get."""
    found: list[str] = []
    room = hub.settings.channels_per_connection - len({*session.channels, *wanted})
    for name in dict.fromkeys(str(name) for name in names):
        place = presence_channel(name)
        try:
            hub.access.check_presence_visible(check_channel(name))
            if name not in wanted and name not in session.channels:
                raise Forbidden(f"subscribe to {name} as well: who sees who is there is there as well")
            if place not in session.channels and len(found) >= room:
                hub.metrics.channels_refused += 1
                raise TooManyChannels(
                    f"a connection may have {hub.settings.channels_per_connection} channels (channels_per_connection),"
                    " and joins and leaves count as one"
                )
        except TidingsError as error:
            hub.metrics.count(hub.metrics.subscriptions_refused, error.code.name)
            answers[presence_channel(name[:200])] = {"error": error.to_wire()}
        else:
            found.append(place)
    return found


def _recover(
    hub: Hub,
    catchup: Catchup[Connection],
    past: HistorySnapshot,
    answers: dict[str, dict[str, object]],
    back: Resume | None,
) -> list[Frame]:
    """What the connection missed in all channels, by seq; `answers` says per channel whether it is complete."""
    since = catchup.since
    if since is None:
        return []
    found: dict[str, list[Publication]] = {}
    had: Collection[str] = catchup.channels if back is None else back.session.channels
    wanted = [name for name in catchup.channels if name in had]
    for name in wanted:
        start = since if back is None else back.starts.get(name, since)
        seen = past.channels[name]
        result = missed_from(start, since, past.position, seen, limit=hub.settings.recovery_max)
        if isinstance(result, Gap) or any(hub.broker.is_doubted(name, at) for at in {since, start}):
            answers[name] = {"recovered": False}
        else:
            found[name] = result
    for name in _over_budget(found, hub.settings.out_buffer_bytes // _OUT_BUFFER_SHARE):
        del found[name]
        answers[name] = {"recovered": False}
    hub.metrics.recoveries += len(found)
    hub.metrics.recoveries_failed += len(wanted) - len(found)
    for name in found:
        answers[name] = {"recovered": True}
    ordered = sorted((one for each in found.values() for one in each), key=lambda one: one.seq)
    hub.metrics.recovered_publications += len(ordered)
    return hub.catchup_frames(rebase_cursors(since, past.position, ordered))


def joins_at_connect(joined: PendingSubscription) -> list[ChannelJoin]:
    """How a session comes into its channels when it connects, for what is kept of it: all it gets is in one order."""
    catchup = joined.catchup
    if catchup.since is None:
        # It gets what was held back as well, and that may begin before the node's position.
        return [ChannelJoin(JoinMode.FROM_POSITION, str(joined.cursor), catchup.channels)]
    whole = tuple(name for name in catchup.channels if joined.answers[name].get("recovered"))
    rest = tuple(name for name in catchup.channels if name not in whole)
    return [
        ChannelJoin(JoinMode.FROM_OFFSET, "", whole),
        ChannelJoin(JoinMode.FROM_POSITION, str(joined.position), rest),
    ]


def _later(hub: Hub, joined: PendingSubscription) -> list[ChannelJoin]:
    """The same for channels that it joins later: what it missed there comes after all that was delivered so far."""
    at = _text(hub.broker.position)
    return [
        ChannelJoin(JoinMode.REPLAYED, at, join.channels) if join.mode is JoinMode.FROM_OFFSET else join
        for join in joins_at_connect(joined)
    ]


def _text(position: Cursor | None) -> str:
    return "" if position is None else str(position)


def _over_budget(found: dict[str, list[Publication]], budget_bytes: int) -> list[str]:
    """The channels, largest first, that have to go so that the rest fits the budget."""
    sizes = {name: sum(len(each.fragment) + 128 for each in publications) for name, publications in found.items()}
    total, dropped = sum(sizes.values()), []
    for name in sorted(sizes, key=lambda each: -sizes[each]):
        if total <= budget_bytes:
            break
        total -= sizes[name]
        dropped.append(name)
    return dropped


def _after(hub: Hub, position: Cursor, catchup: Catchup[Connection]) -> list[Frame]:
    """The held publications that the past did not already have.

    Without `since` the position is the node's own, and what was held came after the
    subscription: all of it counts. Those of another epoch are newer than the position: the
    older ones went when the broker reported the new epoch (`Catchup.lose`).
    """
    held = catchup.held
    if catchup.since is not None:
        ends = {frame.publication.epoch: position.seq_in(frame.publication.epoch) for frame in held}
        held = [frame for frame in held if (end := ends[frame.publication.epoch]) is None or frame.seq > end]
    if not position.other_places:
        return held
    # One frame each: what follows of it is made anew.
    publications = {(frame.publication.epoch, frame.seq): frame.publication for frame in held}
    return hub.catchup_frames([with_floor(position, publication) for publication in publications.values()])
