"""Entering: how a client that CONNECTs comes into its channels, as somebody new or as the one that it was.

Socket.IO calls a session recovered or not, with nothing in between: so it is recovered only if everything in all of
its channels is. What a CONNECT says is PROTOCOL.md section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tidings.wire.channels import user_channel
from tidings.wire.claims import Claims
from tidings.wire.cursor import Cursor
from tidings.wire.presence import presence_of
from tidings_hub.core.frame import HubEvent
from tidings_hub.core.resumable_session import Kept, Refusal, Return, returning, sid_of
from tidings_hub.core.sessions import Session, State
from tidings_hub.services.hub import Connection, Hub
from tidings_hub.services.subscribe import Joined, entering, go_live, join

# The name that `Hub.authenticate` makes up for somebody without a token.
_ANONYMOUS = "anonymous-"


@dataclass(slots=True, frozen=True)
class Asked:
    """What a CONNECT asks for. `pid` is None where the client does without a return, otherwise what it sent."""

    token: object
    channels: Sequence[object]
    presence: Sequence[object]
    since: Cursor | None
    pid: object
    offset: object


@dataclass(slots=True)
class Entrance:
    """A client on its way in. Pass it to `begin` without waiting in between.

    `kept` is what is to be kept of it and `pid` the secret that it returns with; without them nothing is.
    """

    joined: Joined
    kept: Kept | None = None
    pid: str = ""

    @property
    def answer(self) -> dict[str, str] | None:
        """What CONNECT is answered with; None: an id for this once."""
        return None if self.kept is None else {"sid": self.kept.sid, "pid": self.pid}


def who(hub: Hub, asked: Asked, remote: str) -> tuple[Claims, Return | None]:
    """Who connects, and what they return to. Waits for the broker.

    Raises:
        Unauthorized, Expired, Revoked, TooFast: see `Hub.authenticate`. Unavailable, TimedOut: see `Broker.take`.
    """
    claims = hub.authenticate(asked.token, remote)
    if not asked.pid:
        return claims, None
    nobody = asked.token is None
    kept = hub.keeping.take(asked.pid, "" if nobody else claims.sub)
    found = _judged(hub, kept, asked, nobody=nobody)
    if isinstance(found, Refusal):
        hub.metrics.count(hub.metrics.returns_refused, found.value)
        if kept is not None and kept.owner:
            hub.keeping.went_on(kept.owner)
        return claims, None
    return (replace(claims, sub=found.kept.user) if nobody else claims), found


def _judged(hub: Hub, kept: Kept | None, asked: Asked, *, nobody: bool) -> Return | Refusal:
    if kept is None:
        return Refusal.UNKNOWN
    if not kept.owner or (nobody and not kept.user.startswith(_ANONYMOUS)):
        return Refusal.USER
    if hub.revocations.revoked(Claims(kept.user, jti=kept.jti), now_s=hub.wall_s()):
        return Refusal.REVOKED
    return returning(kept, asked.offset, asked.since)


def enter(hub: Hub, session: Session[Connection], asked: Asked, back: Return | None) -> Entrance:
    """Join what the client had, if it gets all of it, or what it asks for. Waits for the broker.

    Raises:
        Unavailable: the broker does not answer; the client may try again with the same pid.
        TidingsError: a gate does not let it in.
    """
    if back is None:
        return _anew(hub, session, _with_given(hub, session, asked))
    try:
        asked = _with_given(hub, session, asked)
        entrance = _again(hub, session, asked, back)
        if entrance is None:
            hub.metrics.count(hub.metrics.returns_refused, Refusal.CHANNELS.value)
            entrance = _anew(hub, session, asked)
        else:
            hub.metrics.sessions_recovered += 1
    except BaseException:
        hub.keeping.give_back(back.kept)
        raise
    # Its client is here: whatever still holds the old connection open holds nobody.
    hub.keeping.went_on(back.kept.owner)
    return entrance


def _with_given(hub: Hub, session: Session[Connection], asked: Asked) -> Asked:
    """What is asked, and what those who are asked beyond the rules give beside it."""
    given = hub.gates.connect(session)
    return replace(asked, channels=[*given, *asked.channels]) if given else asked


def _anew(hub: Hub, session: Session[Connection], asked: Asked) -> Entrance:
    joined = join(hub, session, [user_channel(session.user), *asked.channels], asked.since, asked.presence)
    pid = None if asked.pid is None else hub.keeping.offer()
    if pid is None:
        return Entrance(joined)
    stale = asked.offset if isinstance(asked.offset, str) else ""
    return Entrance(joined, Kept(sid_of(pid), session.id, session.user, jti=session.claims.jti, stale=stale), pid)


def _again(hub: Hub, session: Session[Connection], asked: Asked, back: Return) -> Entrance | None:
    """Everything that was missed in every channel that it had; None if something of it is not to be had.

    Channels that it did not have, but asks for now, come beside them.
    """
    had = back.kept.channels
    names = [name for name in had if presence_of(name) is None]
    watched = [watched for name in had if (watched := presence_of(name)) is not None]
    joined = join(hub, session, [*names, *asked.channels], back.offset, [*watched, *asked.presence], back)
    answers = joined.settled()
    if not all(answers.get(name, {}).get("recovered") for name in had):
        hub.release(hub.subscriptions.abandon(joined.catchup))
        return None
    return Entrance(joined, back.kept.resumed(session.id, session.claims.jti), str(asked.pid))


def begin(hub: Hub, session: Session[Connection], entrance: Entrance, ready: HubEvent) -> None:
    """Write `ready` and what was missed; from now on the channels are live, and the session is kept."""
    kept, joined = entrance.kept, entrance.joined
    if kept is not None:
        known = kept.channels
        for how, at, channels in entering(joined):
            kept.put(how, at, [name for name in channels if name not in known])
    go_live(hub, session, joined, ready)
    if kept is not None and session.state is not State.CLOSED:
        hub.keeping.keep(session, kept)
