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
from tidings_hub.core.resumable_session import ResumableSession, Resume, ResumeRefusal, plan_resume, sid_of
from tidings_hub.core.sessions import Session, State
from tidings_hub.services.connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.subscribe import PendingSubscription, go_live, joins_at_connect, subscribe

# The name that `Hub.authenticate` makes up for somebody without a token.
_ANONYMOUS = "anonymous-"


@dataclass(slots=True, frozen=True)
class ConnectRequest:
    """What a CONNECT asks for. `pid` is None where the client does without a return, otherwise what it sent."""

    token: object
    channels: Sequence[object]
    presence: Sequence[object]
    since: Cursor | None
    pid: object
    offset: object


@dataclass(slots=True)
class PendingConnect:
    """A client on its way in. Pass it to `begin` without waiting in between.

    `kept` is what is to be kept of it and `pid` the secret that it returns with; without them nothing is.
    """

    subscription: PendingSubscription
    resumable: ResumableSession | None = None
    pid: str = ""

    @property
    def answer(self) -> dict[str, str] | None:
        """What CONNECT is answered with; None: an id for this once."""
        return None if self.resumable is None else {"sid": self.resumable.sid, "pid": self.pid}


def identify(hub: Hub, asked: ConnectRequest, remote: str) -> tuple[Claims, Resume | None]:
    """Who connects, and what they return to. Waits for the broker.

    Raises:
        Unauthorized, Expired, Revoked, TooFast: see `Hub.authenticate`. Unavailable, TimedOut: see `Broker.take`.
    """
    claims = hub.authenticator.authenticate(asked.token, remote)
    if not asked.pid:
        return claims, None
    nobody = asked.token is None
    kept = hub.session_store.claim(asked.pid, "" if nobody else claims.sub)
    found = _judged(hub, kept, asked, nobody=nobody)
    if isinstance(found, ResumeRefusal):
        hub.metrics.count(hub.metrics.returns_refused, found.value)
        if kept is not None and kept.owner:
            hub.session_store.end_previous_connection(kept.owner)
        return claims, None
    return (replace(claims, sub=found.session.user) if nobody else claims), found


def _judged(hub: Hub, kept: ResumableSession | None, asked: ConnectRequest, *, nobody: bool) -> Resume | ResumeRefusal:
    if kept is None:
        return ResumeRefusal.UNKNOWN
    if not kept.owner or (nobody and not kept.user.startswith(_ANONYMOUS)):
        return ResumeRefusal.USER
    if hub.revocations.is_revoked(Claims(kept.user, jti=kept.jti), now_s=hub.wall_s()):
        return ResumeRefusal.REVOKED
    return plan_resume(kept, asked.offset, asked.since)


def open_session(hub: Hub, session: Session[Connection], asked: ConnectRequest, back: Resume | None) -> PendingConnect:
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
            hub.metrics.count(hub.metrics.returns_refused, ResumeRefusal.CHANNELS.value)
            entrance = _anew(hub, session, asked)
        else:
            hub.metrics.sessions_recovered += 1
    except BaseException:
        hub.session_store.release(back.session)
        raise
    # Its client is here: whatever still holds the old connection open holds nobody.
    hub.session_store.end_previous_connection(back.session.owner)
    return entrance


def _with_given(hub: Hub, session: Session[Connection], asked: ConnectRequest) -> ConnectRequest:
    """What is asked, and what those who are asked beyond the rules give beside it."""
    given = hub.authorizers.connect(session)
    return replace(asked, channels=[*given, *asked.channels]) if given else asked


def _anew(hub: Hub, session: Session[Connection], asked: ConnectRequest) -> PendingConnect:
    joined = subscribe(hub, session, [user_channel(session.user), *asked.channels], asked.since, asked.presence)
    pid = None if asked.pid is None else hub.session_store.new_pid()
    if pid is None:
        return PendingConnect(joined)
    stale = asked.offset if isinstance(asked.offset, str) else ""
    return PendingConnect(
        joined, ResumableSession(sid_of(pid), session.id, session.user, jti=session.claims.jti, stale_offset=stale), pid
    )


def _again(hub: Hub, session: Session[Connection], asked: ConnectRequest, back: Resume) -> PendingConnect | None:
    """Everything that was missed in every channel that it had; None if something of it is not to be had.

    Channels that it did not have, but asks for now, come beside them.
    """
    had = back.session.channels
    names = [name for name in had if presence_of(name) is None]
    watched = [watched for name in had if (watched := presence_of(name)) is not None]
    joined = subscribe(hub, session, [*names, *asked.channels], back.offset, [*watched, *asked.presence], back)
    answers = joined.final_answers()
    if not all(answers.get(name, {}).get("recovered") for name in had):
        hub.release_channels(hub.subscriptions.abandon(joined.catchup))
        return None
    return PendingConnect(joined, back.session.for_connection(session.id, session.claims.jti), str(asked.pid))


def activate(hub: Hub, session: Session[Connection], entrance: PendingConnect, ready: HubEvent) -> None:
    """Write `ready` and what was missed; from now on the channels are live, and the session is kept."""
    kept, joined = entrance.resumable, entrance.subscription
    if kept is not None:
        known = kept.channels
        for how, at, channels in joins_at_connect(joined):
            kept.add_channels(how, at, [name for name in channels if name not in known])
    go_live(hub, session, joined, ready)
    if kept is not None and session.state is not State.CLOSED:
        hub.session_store.save(session, kept)
