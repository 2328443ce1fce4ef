"""CONNECT in three steps: identify the client, open its session, make it live.

1. `identify`: check the token. If the client sent a `pid`, claim the stored session that it wants to resume.
2. `open_session`: subscribe to the channels of that session and to those that the client requests.
3. `activate`: write `tidings:ready` and what the client missed. From then on the channels are live, and the session
   is stored, so that the client can resume it later.

For Socket.IO a session is recovered or it is not, with nothing in between. So a session is resumed only if all
publications that it missed in all of its channels are available. Otherwise the client gets a new session. The fields of
a CONNECT are in PROTOCOL.md section 5.
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
from tidings_hub.services.authenticator import ANONYMOUS_PREFIX
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub
from tidings_hub.services.subscribe import PendingSubscription, abandon, go_live, joins_at_connect, subscribe


@dataclass(slots=True, frozen=True)
class ConnectRequest:
    """What a client sends with CONNECT. `pid` is None if the client does not want a session that it can resume."""

    token: object
    channels: Sequence[object]
    presence: Sequence[object]
    since: Cursor | None
    pid: object
    offset: object


@dataclass(slots=True)
class PendingSession:
    """A session that is ready for `activate`. Do not wait between `open_session` and `activate`.

    `resumable`: what will be stored of the session; None: nothing. `pid`: the secret that resumes it.
    """

    subscription: PendingSubscription
    resumable: ResumableSession | None = None
    pid: str = ""

    @property
    def answer(self) -> dict[str, str] | None:
        """The data of the CONNECT packet. None: python-socketio's own, an id that cannot be resumed."""
        return None if self.resumable is None else {"sid": self.resumable.sid, "pid": self.pid}


# Step 1


def identify(hub: Hub, request: ConnectRequest, remote: str) -> tuple[Claims, Resume | None]:
    """The client's claims, and the session that it resumes, if it can. Waits for the broker.

    Raises:
        Unauthorized, Expired, Revoked, TooFast: see `Authenticator.authenticate`.
        Unavailable, TimedOut: see `Broker.claim_session`.
    """
    claims = hub.authenticator.authenticate(request.token, remote)
    if not request.pid:
        return claims, None
    # Under `dev` a client without a token has a new user name each time; its pid alone identifies the session.
    is_anonymous = request.token is None
    resumable = hub.session_store.claim(request.pid, "" if is_anonymous else claims.sub)
    hub.authenticator.check_not_revoked(claims)
    resume = _check_resume(hub, resumable, request, is_anonymous=is_anonymous)
    if isinstance(resume, ResumeRefusal):
        hub.metrics.count(hub.metrics.returns_refused, resume.value)
        if not isinstance(resumable, ResumeRefusal) and resumable.owner:
            hub.session_store.end_previous_connection(resumable.owner)
        return claims, None
    return (replace(claims, sub=resume.session.user) if is_anonymous else claims), resume


def _check_resume(
    hub: Hub, resumable: ResumableSession | ResumeRefusal, request: ConnectRequest, *, is_anonymous: bool
) -> Resume | ResumeRefusal:
    if isinstance(resumable, ResumeRefusal):
        return resumable
    if not resumable.owner or (is_anonymous and not resumable.user.startswith(ANONYMOUS_PREFIX)):
        return ResumeRefusal.USER
    if hub.revocations.is_revoked(Claims(resumable.user, jti=resumable.jti)):
        return ResumeRefusal.REVOKED
    return plan_resume(resumable, request.offset, request.since)


# Step 2


def open_session(
    hub: Hub, session: Session[Connection], request: ConnectRequest, resume: Resume | None
) -> PendingSession:
    """Resume the client's session if everything that it missed is available, otherwise open a new one.

    Waits for the broker, and for authorizers.

    Raises:
        Unavailable: the broker does not answer; the client may try again with the same pid.
        TidingsError: an authorizer refuses the connection.
    """
    if resume is None:
        return _new_session(hub, session, _with_granted_channels(hub, session, request))
    try:
        request = _with_granted_channels(hub, session, request)
        pending = _resume_session(hub, session, request, resume)
        if pending is None:
            hub.metrics.count(hub.metrics.returns_refused, ResumeRefusal.CHANNELS.value)
            pending = _new_session(hub, session, request)
        else:
            hub.metrics.sessions_recovered += 1
    except BaseException:
        hub.session_store.release(resume.session)
        raise
    # The client is here now: a connection that still owns the session has no client any more.
    hub.session_store.end_previous_connection(resume.session.owner)
    return pending


def _with_granted_channels(hub: Hub, session: Session[Connection], request: ConnectRequest) -> ConnectRequest:
    """The request, with the channels in front of it that authorizers grant."""
    granted = hub.authorizers.connect(session)
    return replace(request, channels=[*granted, *request.channels]) if granted else request


def _new_session(hub: Hub, session: Session[Connection], request: ConnectRequest) -> PendingSession:
    channels = [user_channel(session.user), *request.channels]
    subscription = subscribe(hub, session, channels, request.since, request.presence)
    pid = None if request.pid is None else hub.session_store.new_pid()
    if pid is None:
        return PendingSession(subscription)
    stale_offset = request.offset if isinstance(request.offset, str) else ""
    resumable = ResumableSession(
        sid_of(pid), session.id, session.user, jti=session.claims.jti, stale_offset=stale_offset
    )
    return PendingSession(subscription, resumable, pid)


def _resume_session(
    hub: Hub, session: Session[Connection], request: ConnectRequest, resume: Resume
) -> PendingSession | None:
    """The session with everything that it missed in all of its channels; None if something is not available.

    Channels that the client requests and that the session did not have are added.
    """
    previous = resume.session.channels
    channels = [name for name in previous if presence_of(name) is None]
    presence = [channel for name in previous if (channel := presence_of(name)) is not None]
    subscription = subscribe(
        hub, session, [*channels, *request.channels], resume.offset, [*presence, *request.presence], resume
    )
    answers = subscription.final_answers()
    if not all(answers.get(name, {}).get("recovered") for name in previous):
        abandon(hub, subscription)
        return None
    return PendingSession(subscription, resume.session.for_connection(session.id, session.claims.jti), str(request.pid))


# Step 3


def activate(hub: Hub, session: Session[Connection], pending: PendingSession, ready: HubEvent) -> None:
    """Write `ready` and what was missed. From then on the channels are live, and the session is stored."""
    resumable, subscription = pending.resumable, pending.subscription
    if resumable is not None:
        previous = resumable.channels
        for mode, position, channels in joins_at_connect(subscription):
            resumable.add_channels(mode, position, [name for name in channels if name not in previous])
    go_live(hub, session, subscription, ready)
    if resumable is not None and session.state is not State.CLOSED:
        hub.session_store.save(session, resumable)
