"""Which channels of a subscribe request a session may have: rules first, then authorizers, then presence."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.errors import Forbidden, TidingsError, TooManyChannels
from tidings.wire.channels import check_channel, user_channel
from tidings.wire.presence import presence_channel
from tidings_hub.core.sessions import Session
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.hub import Hub

Answers = dict[str, dict[str, object]]
"""Per channel what the client receives: `{"recovered": bool}` or `{"error": {…}}`."""


def permitted_channels(
    hub: Hub, session: Session[Connection], names: Sequence[object], presence: Sequence[object], answers: Answers
) -> list[str]:
    """The channels in `names` that the session may have, and the presence channels of those in `presence`.

    Each of the others gets an error in `answers`. May wait for an app or a hook, for a bounded time.
    """
    allowed = _check_rules(hub, session, names, answers)
    allowed = _apply_authorizers(hub, session, allowed, answers)
    return allowed + _presence_channels(hub, session, presence, allowed, answers)


def _check_rules(hub: Hub, session: Session[Connection], names: Sequence[object], answers: Answers) -> list[str]:
    """The channels that the rules of their namespaces, the token and the limit per connection allow."""
    allowed: list[str] = []
    channels_max = hub.settings.channels_per_connection
    free = channels_max - len(session.channels)
    for name in dict.fromkeys(str(name) for name in names):
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
            _reject(hub, name[:200], error, answers)
        else:
            allowed.append(name)
    return allowed


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
    channels_max = hub.settings.channels_per_connection
    free = channels_max - len({*session.channels, *allowed})
    for name in dict.fromkeys(str(name) for name in names):
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
            _reject(hub, presence_channel(name[:200]), error, answers)
        else:
            presence_channels.append(presence_channel(name))
    return presence_channels


def _reject(hub: Hub, name: str, error: TidingsError, answers: Answers) -> None:
    hub.metrics.count(hub.metrics.subscriptions_refused, error.code.name)
    answers[name] = {"error": error.to_wire()}
