"""The form of channel names, event names and publication ids.

An empty, missing or malformed channel is an error and never "everyone". So is a proxy of text, such as Django's
`SimpleLazyObject`: `isinstance` takes it for text, and a regular expression does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tidings.errors import BadChannel, BadEvent, BadId

CHANNEL_MAX = 200
EVENT_MAX = 128
ID_MAX = 64
PATTERN_MAX = 200
PATTERNS_MAX = 1000

# No white space, quotes, control characters, `*`, `#`, `?`, brackets, braces, commas or slashes. So a name can be
# part of a Redis key, a URL and a log line without escapes.
_CHANNEL = re.compile(r"[A-Za-z0-9_-]{1,64}:[A-Za-z0-9_.:@|=+~!$-]{1,135}\Z")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# Socket.IO v5 reserves these. Events of tidings begin with `tidings:`.
RESERVED_EVENTS = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
OWN_PREFIX = "tidings:"
# Those of a user's inbox. Only the notification service publishes them.
INBOX_EVENTS = frozenset({"tidings:notification", "tidings:inbox"})
# What backends publish in a user's own channel (PROTOCOL.md section 2). No client may publish them.
BACKEND_EVENTS = frozenset({"tidings:job"})


def check_channel(name: object) -> str:
    """`name`, if it is a channel.

    Raises:
        BadChannel: it is not a string of the form `namespace:name`.
    """
    if isinstance(name, str) and issubclass(type(name), str) and _CHANNEL.match(name):
        return name
    raise BadChannel(
        f"not a channel: {_quoted(name)}; a channel is namespace:name, "
        "letters, digits and the signs _ - in the namespace, also . : @ | = + ~ ! $ in the name, "
        f"at most {CHANNEL_MAX} characters"
    )


def check_channels(names: object) -> list[str]:
    """`names` without repetitions, in order, if it is a list of channels.

    Raises:
        BadChannel: it is not a list, it is empty, or an entry is not a channel.
    """
    if isinstance(names, str | bytes | dict) or not isinstance(names, Iterable):
        raise BadChannel("channels must be a list of channels")
    channels = list(dict.fromkeys(check_channel(name) for name in names))
    if not channels:
        raise BadChannel("no channel given; nothing is ever sent to everyone")
    return channels


def user_channel(user: object) -> str:
    """The channel of one user, `user:<sub>`.

    Raises:
        BadChannel: the user cannot be part of a channel name.
    """
    if not isinstance(user, str):
        raise BadChannel(f"not a user: {_quoted(user)}; a user is the token's `sub`, a string: str(user.id)")
    return check_channel(f"user:{user}")


def namespace_of(channel: str) -> str:
    """The part of a (checked) channel before the first `:`."""
    return channel.partition(":")[0]


def check_event(name: object) -> str:
    """`name`, if it is an event of an application.

    Raises:
        BadEvent: empty, longer than 128 characters, reserved, or with control
            characters in it.
    """
    if (
        not isinstance(name, str)
        or not issubclass(type(name), str)
        or not 0 < len(name) <= EVENT_MAX
        or _CONTROL.search(name)
    ):
        raise BadEvent(f"not an event: {_quoted(name)}; an event is a string of 1 to {EVENT_MAX} characters")
    if name in RESERVED_EVENTS or name.startswith(OWN_PREFIX):
        raise BadEvent(f"the event {name!r} is reserved; choose another name")
    return name


def check_backend_event(name: object) -> str:
    """As `check_event`, for what a backend publishes: it may also publish the `BACKEND_EVENTS`."""
    if type(name) is str and name in BACKEND_EVENTS:
        return name
    return check_event(name)


def check_id(value: object) -> str:
    """`value`, if it can be a publication's id.

    Raises:
        BadId: not 1 to 64 characters of letters, digits and `. _ : -`.
    """
    if isinstance(value, str) and issubclass(type(value), str) and _ID.match(value):
        return value
    raise BadId(f"not an id: {_quoted(value)}; an id is 1 to {ID_MAX} letters, digits and the signs . _ : -")


def matches(pattern: str, channel: str) -> bool:
    """Whether a token's pattern covers a channel: exact, or a prefix before a final `*`.

    `orders:*` covers every channel of the namespace `orders`; `*` covers all.
    """
    if pattern.endswith("*"):
        return channel.startswith(pattern[:-1])
    return pattern == channel


def covers(patterns: Iterable[str], channel: str) -> bool:
    """Whether one of a token's patterns covers a channel, see `matches`."""
    for pattern in patterns:  # noqa: SIM110 - `any` would create a generator for each channel
        if matches(pattern, channel):
            return True
    return False


def check_patterns(patterns: object) -> tuple[str, ...]:
    """`patterns`, if it is a list of channels, or of patterns that `matches` takes.

    Raises:
        BadChannel: it is not a list, it is longer than `PATTERNS_MAX`, or an entry is malformed.
    """
    if not isinstance(patterns, list) or len(patterns) > PATTERNS_MAX:
        raise BadChannel(f"channels must be a list of at most {PATTERNS_MAX} channels or patterns")
    for pattern in patterns:
        if not isinstance(pattern, str) or not 0 < len(pattern) <= PATTERN_MAX or "*" in pattern[:-1]:
            raise BadChannel("a pattern is a channel, or the beginning of one and a final *")
    return tuple(patterns)


def _quoted(value: object) -> str:
    # What is nested 1,000 levels deep has no `ascii`, and that of a megabyte takes long.
    is_shown = issubclass(type(value), str | bytes | int | float | None)
    text = ascii(value) if is_shown else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
