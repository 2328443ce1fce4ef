"""The JSON Schemas of names, and the checks behind them; `tidings.wire.channels` has the rules themselves."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import PlainValidator, WithJsonSchema

from tidings.errors import BadRequest
from tidings.wire.channels import (
    CHANNEL_MAX,
    EVENT_MAX,
    ID_MAX,
    OWN_PREFIX,
    RESERVED_EVENTS,
    check_channel,
    check_channels,
    check_event,
    check_id,
    user_channel,
)
from tidings.wire.cursor import PLACES_MAX, Cursor

Schema: TypeAlias = dict[str, Any]

_NAME = r"[A-Za-z0-9_.:@|=+~!$-]{1,135}"
# Printable ASCII without the space: what a token id or a public connection id can be.
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
    "not": {"anyOf": [{"enum": sorted(RESERVED_EVENTS)}, {"pattern": f"^{OWN_PREFIX}"}]},
    "description": "The application's label",
}
PUBLICATION_ID: Schema = {
    "type": "string",
    "pattern": f"^[A-Za-z0-9_.:-]{{1,{ID_MAX}}}$",
    "description": "Publishing again with the same id in the same channel within 5 minutes publishes nothing new",
}
NAMED_PUBLICATION: Schema = {**PUBLICATION_ID, "not": {"enum": [".", ".."]}, "description": "Its receipt's `id`"}
_PLACE = r"[A-Za-z0-9_-]{1,32}\.(0|[1-9][0-9]{0,18})"
# The longest place has 52 characters, and a sign between each two.
CURSOR: Schema = {
    "type": "string",
    "pattern": f"^{_PLACE}(~{_PLACE}){{0,{PLACES_MAX - 1}}}$",
    "maxLength": 53 * PLACES_MAX - 1,
    "description": "A place in the sequence of all publications, or in each of several; opaque",
}
CONNECTION: Schema = {
    "type": "string",
    "pattern": r"^[!-.0-~]{1,200}$",
    "not": {"enum": [".", ".."]},
    "description": "A connection's public id, as `tidings:ready` and `/api/connections` give it",
}
VISIBLE: Schema = {"type": "string", "pattern": f"^[!-~]{{1,{_VISIBLE_MAX}}}$"}


def check_user(value: object) -> str:
    """`value`, if it can be a user.

    Raises:
        BadChannel: it cannot be part of the channel `user:<sub>`.
    """
    return user_channel(value).partition(":")[2]


def check_cursor(value: object) -> Cursor:
    """The cursor that `value` says.

    Raises:
        BadCursor: it says none.
    """
    return Cursor.parse(value)


def check_visible(value: object) -> str:
    """`value`, if it is 1 to 200 visible ASCII characters.

    Raises:
        BadRequest: it is not.
    """
    if isinstance(value, str) and 0 < len(value) <= _VISIBLE_MAX and all("!" <= sign <= "~" for sign in value):
        return value
    raise BadRequest(f"expected 1 to {_VISIBLE_MAX} visible ASCII characters")


# The checks raise errors of `tidings.errors`, which pydantic lets through: one code per kind of mistake.
ChannelName = Annotated[str, PlainValidator(check_channel), WithJsonSchema(CHANNEL)]
ChannelNames = Annotated[list[str], PlainValidator(check_channels), WithJsonSchema(CHANNELS)]
UserName = Annotated[str, PlainValidator(check_user), WithJsonSchema(USER)]
EventName = Annotated[str, PlainValidator(check_event), WithJsonSchema(EVENT)]
PublicationId = Annotated[str, PlainValidator(check_id), WithJsonSchema(PUBLICATION_ID)]
TokenId = Annotated[str, PlainValidator(check_visible), WithJsonSchema(VISIBLE)]
CursorText = Annotated[str, WithJsonSchema(CURSOR)]
