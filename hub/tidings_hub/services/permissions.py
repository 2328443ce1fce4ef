"""Which channels a session may have: rules first, then the rate of new ones, then authorizers, then presence."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from tidings.errors import Forbidden, TidingsError, TooFast, TooManyChannels
from tidings.wire.channels import CHANNEL_MAX, check_channel, user_channel
from tidings.wire.presence import presence_channel
from tidings_hub.core.sessions import Session
from tidings_hub.log import log_rate_limited
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub

logger = logging.getLogger("tidings.hub")

# What Redis stores beside the body of a publication (docs/operations.md).
_STORED_BESIDE_BYTES = 110

Answers = dict[str, dict[str, object]]
"""Per channel what the client receives: `{"recovered": bool}` or `{"error": {…}}`."""


def permitted_channels(
    hub: Hub,
    session: Session[Connection],
    names: Sequence[object],
    presence: Sequence[object],
    answers: Answers,
    known: Collection[str] = (),
) -> list[str]:
    """The channels in `names` that the session may have, and the presence channels of those in `presence`.

    `known`: channels of the session that the client resumes. They are not new.
    Each of the others gets an error in `answers`. May wait for an app or a hook, for a bounded time.
    """
    allowed = _check_rules(hub, session, names, answers)
    allowed = _limit_new_channels(hub, session, allowed, answers, known)
    allowed = _apply_authorizers(hub, session, allowed, answers)
    return allowed + _presence_channels(hub, session, presence, allowed, answers)


def check_name_count(hub: Hub, names: Collection[object]) -> None:
    """Raise an error if a request names too many channels: 64 KB have 6,000, and to check these takes 20 to 300 ms.

    Raises:
        TooManyChannels: they are too many; none of them should be looked at.
    """
    excess = len(names) - _names_max(hub)
    if excess > 0:
        hub.metrics.channels_refused += excess
        raise _too_many_names(hub)


def _names_max(hub: Hub) -> int:
    return max(hub.settings.request_channels_max, 2 * hub.settings.channels_per_connection)


def _too_many_names(hub: Hub) -> TooManyChannels:
    channels_max = hub.settings.channels_per_connection
    return TooManyChannels(
        f"a request may name {_names_max(hub)} channels; a connection may have {channels_max} (channels_per_connection)"
    )


def _checked_names(hub: Hub, names: Sequence[object], answers: Answers, *, presence: bool = False) -> Collection[str]:
    """The first names, without repetitions. The others are rejected, see `check_name_count`."""
    distinct = dict.fromkeys(map(str, names))
    names_max = _names_max(hub)
    if len(distinct) <= names_max:
        return distinct
    listed = list(distinct)
    answer: dict[str, object] = {"error": _too_many_names(hub).to_wire()}
    hub.metrics.channels_refused += len(listed) - names_max
    for name in listed[names_max:]:
        answers[presence_channel(_shown(name)) if presence else _shown(name)] = answer
    return listed[:names_max]


def _shown(name: str) -> str:
    """A rejected name in the answer. A shortened one is no channel, so it never stands for another one's answer."""
    return name if len(name) <= CHANNEL_MAX else f"{name[:CHANNEL_MAX]}…"


def _check_rules(hub: Hub, session: Session[Connection], names: Sequence[object], answers: Answers) -> list[str]:
    """The channels that the rules of their namespaces, the token and the limit per connection allow."""
    allowed: list[str] = []
    channels_max = hub.settings.channels_per_connection
    free = channels_max - len(session.channels)
    for name in _checked_names(hub, names, answers):
        try:
            check_channel(name)
            if name in session.granted:
                hub.access.rule(name)
            else:
                hub.access.check_subscribe(session.claims, name)
            if name not in session.channels and len(allowed) >= free:
                hub.metrics.channels_refused += 1
                raise TooManyChannels(f"a connection may have {channels_max} channels (channels_per_connection)")
        except TidingsError as error:
            _reject(hub, _shown(name), error, answers)
        else:
            allowed.append(name)
    return allowed


def _limit_new_channels(
    hub: Hub, session: Session[Connection], allowed: list[str], answers: Answers, known: Collection[str]
) -> list[str]:
    """`allowed` without the new channels beyond the user's rate. The user's own and granted ones are never new."""
    own = user_channel(session.user)
    names = [name for name in allowed if name != own and name not in known and name not in session.granted]
    refused = refused_new_channels(hub, session.user, names)
    for name in refused:
        _reject(hub, name, too_many_new_channels(hub), answers)
    return [name for name in allowed if name not in refused] if refused else allowed


def refused_new_channels(hub: Hub, user: str, names: Sequence[str]) -> list[str]:
    """Those of `names` that the user may not use now: new ones beyond the rate. They are counted and logged."""
    per_minute, burst = hub.settings.new_channels_per_minute, hub.settings.new_channels_burst
    unused = [name for name in names if name not in hub.subscriptions]
    if not unused:
        return []
    refused = hub.rates.new_channels.take(user, unused, per_minute=per_minute, burst=burst, now_s=hub.wall_s())
    hub.metrics.new_channels_refused += len(refused)
    if refused:
        log_rate_limited(
            logger,
            logging.WARNING,
            "new channels",
            "user %s uses new channels faster than new_channels_per_minute = %d and new_channels_burst = %d allow;"
            " %s is refused with too_fast",
            user,
            per_minute,
            burst,
            refused[0],
        )
    return refused


def too_many_new_channels(hub: Hub) -> TooFast:
    """The error of a channel beyond the rate."""
    per_minute = hub.settings.new_channels_per_minute
    return TooFast(f"a user may use {per_minute} new channels per minute (new_channels_per_minute); wait, then retry")


def check_publish_rate(hub: Hub, user: str, channel: str, body_bytes: int) -> None:
    """Return if the user may publish so many bytes in a channel with history now.

    Raises:
        TooFast: the user published too much; it is counted and logged.
    """
    settings = hub.settings
    per_minute, burst = settings.publish_bytes_per_minute, settings.publish_burst_bytes
    stored_bytes = body_bytes + _STORED_BESIDE_BYTES
    taken = not per_minute or hub.rates.published_bytes.take(
        user, stored_bytes, per_minute=per_minute, burst=burst, now_s=hub.wall_s()
    )
    if taken:
        return
    hub.metrics.publish_bytes_refused += 1
    log_rate_limited(
        logger,
        logging.WARNING,
        "published bytes",
        "user %s publishes faster than publish_bytes_per_minute = %d and publish_burst_bytes = %d allow;"
        " a publication of %d bytes in %s is refused with too_fast",
        user,
        per_minute,
        burst,
        body_bytes,
        channel,
    )
    raise TooFast(
        f"a user may publish {per_minute} bytes per minute in channels with history (publish_bytes_per_minute);"
        " wait, then retry"
    )


def _apply_authorizers(hub: Hub, session: Session[Connection], allowed: list[str], answers: Answers) -> list[str]:
    """`allowed` without the channels that an authorizer (app or hook) refuses.

    Authorizers are not consulted about the user's own channel or channels that a backend granted.
    """
    if "subscribe" not in hub.authorizers.handles:
        return allowed
    own = user_channel(session.user)
    refused = hub.authorizers.subscribe(
        session, [name for name in allowed if name != own and name not in session.granted]
    )
    for name, error in refused.items():
        _reject(hub, name, error, answers)
    return [name for name in allowed if name not in refused]


def _presence_channels(
    hub: Hub, session: Session[Connection], names: Sequence[object], allowed: Sequence[str], answers: Answers
) -> list[str]:
    """The presence channels of those channels whose joins and leaves the session may receive."""
    presence_channels: list[str] = []
    if not names:
        return presence_channels
    channels_max = hub.settings.channels_per_connection
    free = channels_max - len({*session.channels, *allowed})
    for name in _checked_names(hub, names, answers, presence=True):
        try:
            hub.access.check_presence_visible(check_channel(name))
            if name not in allowed and name not in session.channels:
                raise Forbidden(f"subscribe to {name} as well: only its subscribers may see presence")
            if presence_channel(name) not in session.channels and len(presence_channels) >= free:
                hub.metrics.channels_refused += 1
                raise TooManyChannels(
                    f"a connection may have {channels_max} channels (channels_per_connection),"
                    " and joins and leaves count as one"
                )
        except TidingsError as error:
            _reject(hub, presence_channel(_shown(name)), error, answers)
        else:
            presence_channels.append(presence_channel(name))
    return presence_channels


def _reject(hub: Hub, name: str, error: TidingsError, answers: Answers) -> None:
    hub.metrics.count(hub.metrics.subscriptions_refused, error.code.name)
    answers[name] = {"error": error.to_wire()}
