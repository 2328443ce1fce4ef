"""JSON Schemas of channels, users, events, ids and cursors, and the functions that check such values.

`tidings.wire.channels` implements the rules.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import PlainValidator, WithJsonSchema

from tidings.errors import BadRequest
from tidings.wire.channels import (
    BACKEND_EVENTS,
    CHANNEL_MAX,
    EVENT_MAX,
    ID_MAX,
    INBOX_EVENTS,
    OWN_PREFIX,
    RESERVED_EVENTS,
    check_backend_event,
    check_channel,
    check_channels,
    check_id,
    user_channel,
)
from tidings.wire.cursor import PLACES_MAX, Cursor
from tidings.wire.notification_fields import BODY_MAX, LIFE_MAX_S, LINK_MAX, TITLE_MAX, USERS_MAX

Schema: TypeAlias = dict[str, Any]

_NAME = r"[A-Za-z0-9_.:@|=+~!$-]{1,135}"
# Token ids and public connection ids are printable ASCII without the space.
_VISIBLE_MAX = 200

CHANNEL: Schema = {
    "type": "string",
    "pattern": f"^[A-Za-z0-9_-]{{1,64}}:{_NAME}$",
    "maxLength": CHANNEL_MAX,
    "description": "`namespace:name`",
}
CHANNELS: Schema = {"type": "array", "items": CHANNEL, "minItems": 1}
USER: Schema = {"type": "string", "pattern": f"^{_NAME}$", "description": "A token's `sub`"}
EVENT: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": EVENT_MAX,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$",
    "anyOf": [
        {"enum": sorted(BACKEND_EVENTS)},
        {"not": {"anyOf": [{"enum": sorted(RESERVED_EVENTS)}, {"pattern": f"^{OWN_PREFIX}"}]}},
    ],
    "description": "The application's name for the event",
}
PUBLICATION_ID: Schema = {
    "type": "string",
    "pattern": f"^[A-Za-z0-9_.:-]{{1,{ID_MAX}}}$",
    "description": "A second publication with the same id in the same channel within 5 minutes publishes nothing new",
}
PUBLICATION_ID_IN_PATH: Schema = {
    **PUBLICATION_ID,
    "not": {"enum": [".", ".."]},
    "description": "The `id` in its receipt",
}
_POSITION = r"[A-Za-z0-9_-]{1,32}\.(0|[1-9][0-9]{0,18})"
# The longest position has 52 characters; `~` separates positions.
CURSOR: Schema = {
    "type": "string",
    "pattern": f"^{_POSITION}(~{_POSITION}){{0,{PLACES_MAX - 1}}}$",
    "maxLength": 53 * PLACES_MAX - 1,
    "description": "A position in the sequence of all publications, or in each of several sequences; opaque",
}
CONNECTION: Schema = {
    "type": "string",
    "pattern": r"^[!-.0-~]{1,200}$",
    "not": {"enum": [".", ".."]},
    "description": "The public id of a connection, from `tidings:ready` or `/api/connections`",
}
VISIBLE_ASCII: Schema = {"type": "string", "pattern": f"^[!-~]{{1,{_VISIBLE_MAX}}}$"}

# The forms of `tidings.wire.notification_fields`.
_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028\u2029"
_SPACE = r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_NEXT = rf"[^{_CONTROL}{_SPACE}\\]"
_FIRST = rf"[^{_CONTROL}{_SPACE}\\/]"
_GROUP_PATTERN = r"^[A-Za-z0-9_.:-]{1,128}$"
CATEGORY: Schema = {
    "type": "string",
    "pattern": "^[a-z][a-z0-9_]{0,63}$",
    "description": "A category of tidings.toml, `[notifications.categories.<name>]`",
}
TITLE: Schema = {
    "type": "string",
    "maxLength": TITLE_MAX,
    "pattern": f"^[^{_CONTROL}]*[^{_CONTROL}{_SPACE}][^{_CONTROL}]*$",
    "description": "One line of text",
}
NOTIFICATION_BODY: Schema = {
    "type": ["string", "null"],
    "maxLength": BODY_MAX,
    "pattern": r"^[^\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]*$",
    "description": "Text, with line feeds",
}
LINK: Schema = {
    "type": ["string", "null"],
    "maxLength": LINK_MAX,
    "pattern": rf"^(https?://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[1-9][0-9]{{0,3}})?)?(/({_FIRST}{_NEXT}*)?)?$",
    "minLength": 1,
    "description": "An http(s) URL, or a path of the page's own host",
}
NOTIFICATION_ID: Schema = {
    "type": ["string", "null"],
    "pattern": f"^[A-Za-z0-9_.:-]{{1,{ID_MAX}}}$",
    "description": "The same id for the same user within seven days stores nothing new. Without it, the hub makes one",
}
GROUP: Schema = {"type": ["string", "null"], "pattern": _GROUP_PATTERN}
EXPIRES_IN_S: Schema = {
    "type": ["number", "null"],
    "exclusiveMinimum": 0,
    "maximum": LIFE_MAX_S,
    "description": "Seconds after which the notification is gone",
}
USERS: Schema = {"type": "array", "items": USER, "minItems": 1, "maxItems": USERS_MAX}
# The notification service counts them: more are `too_large`, as in the marks of clients.
NOTIFICATION_IDS: Schema = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1_000}


def check_user(value: object) -> str:
    """Return `value` if it is a valid user name.

    Raises:
        BadChannel: the channel `user:<sub>` would not be valid.
    """
    return user_channel(value).partition(":")[2]


def check_cursor(value: object) -> Cursor:
    """Parse a cursor.

    Raises:
        BadCursor: `value` is not a cursor.
    """
    return Cursor.parse(value)


def check_visible_ascii(value: object) -> str:
    """Return `value` if it is 1 to 200 visible ASCII characters.

    Raises:
        BadRequest: it is something else.
    """
    if (
        isinstance(value, str)
        and 0 < len(value) <= _VISIBLE_MAX
        and all("!" <= character <= "~" for character in value)
    ):
        return value
    raise BadRequest(f"expected 1 to {_VISIBLE_MAX} visible ASCII characters")


def check_api_event(value: object) -> str:
    """Return `value` if it is an event. Whether its channel may have one of an inbox is checked with the channel.

    Raises:
        BadEvent: it is none.
    """
    return value if isinstance(value, str) and value in INBOX_EVENTS else check_backend_event(value)


# The checks raise errors of `tidings.errors`. Pydantic does not catch these, so each kind of mistake has its own code.
ChannelName = Annotated[str, PlainValidator(check_channel), WithJsonSchema(CHANNEL)]
ChannelNames = Annotated[list[str], PlainValidator(check_channels), WithJsonSchema(CHANNELS)]
UserName = Annotated[str, PlainValidator(check_user), WithJsonSchema(USER)]
EventName = Annotated[str, PlainValidator(check_api_event), WithJsonSchema(EVENT)]
PublicationId = Annotated[str, PlainValidator(check_id), WithJsonSchema(PUBLICATION_ID)]
TokenId = Annotated[str, PlainValidator(check_visible_ascii), WithJsonSchema(VISIBLE_ASCII)]
CursorText = Annotated[str, WithJsonSchema(CURSOR)]
