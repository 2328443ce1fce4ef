"""All errors of tidings, in one tree. The class states whose fault an error is.

    TidingsError
    ├── CallerError          the call cannot succeed; do not repeat it
    │   ├── BadChannel  BadEvent  BadData  BadCursor  BadId  BadRequest
    │   ├── TooLarge  TooManyChannels  UnknownNamespace  UnknownCategory
    │   ├── Unauthorized  Expired  Forbidden  Revoked
    │   └── BadConfig  MissingExtra
    ├── PeerError            the other side of a connection violated a protocol
    │   └── BadPacket  TooFast
    └── HubError             the hub or its broker failed; nothing is wrong with the request
        └── Unavailable  TimedOut  Draining  Full  Internal, and BatchFailed (receipts.py)

Each error carries a `code` from `codes.py`; `to_wire()` is its form on the wire.
"""

from __future__ import annotations

from typing import ClassVar

from tidings.codes import CODES, Code


class TidingsError(Exception):
    """Base of every error that tidings raises on purpose.

    `str(error)` states what happened and what to do next. It never contains a secret: no token, key or password.
    """

    code_name: ClassVar[str] = "internal"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or CODES[self.code_name].advice)

    @property
    def code(self) -> Code:
        """The row of the code table for this error."""
        return CODES[self.code_name]

    def to_wire(self) -> dict[str, str]:
        """`{"code", "message"}` as PROTOCOL.md section 4 describes it."""
        return {"code": self.code_name, "message": str(self)}


class CallerError(TidingsError):
    """The caller's fault: the same call will fail again."""

    code_name = "bad_request"


class BadRequest(CallerError):
    """A request that does not have the documented form."""


class BadChannel(CallerError):
    """A channel that is empty, missing or not `namespace:name`."""

    code_name = "bad_channel"


class BadEvent(CallerError):
    """An event that is empty, too long, reserved or holds control characters."""

    code_name = "bad_event"


class BadData(CallerError):
    """Data that JSON cannot represent. The message has the path to it."""

    code_name = "bad_data"


class BadCursor(CallerError):
    """A string that is not a cursor of a hub."""

    code_name = "bad_cursor"


class BadId(CallerError):
    """A publication id outside its alphabet or length."""

    code_name = "bad_id"


class TooLarge(CallerError):
    """Something is larger than its limit. The message has both sizes."""

    code_name = "too_large"


class NotFound(CallerError):
    """Nothing exists under this name, or no longer."""

    code_name = "not_found"


class TooManyChannels(CallerError):
    """A connection subscribed to more channels than it may have."""

    code_name = "too_many_channels"


class UnknownNamespace(CallerError):
    """The hub has no rule for the namespace of this channel."""

    code_name = "unknown_namespace"


class UnknownCategory(CallerError):
    """The notification service has no category of this name."""

    code_name = "unknown_category"


class Unauthorized(CallerError):
    """No token or API key, or an invalid one."""

    code_name = "unauthorized"


class Expired(Unauthorized):
    """A token that has expired."""

    code_name = "expired"


class Forbidden(CallerError):
    """The rules do not allow this to the user."""

    code_name = "forbidden"


class Revoked(CallerError):
    """The user or the token was revoked."""

    code_name = "revoked"


class BadConfig(CallerError):
    """A setting that is unknown, malformed or unsafe."""

    code_name = "bad_config"


class MissingExtra(BadConfig):
    """An optional dependency is not installed; the message has the pip line."""


class PeerError(TidingsError):
    """The other side of a connection violated a protocol."""

    code_name = "bad_packet"


class BadPacket(PeerError):
    """Bytes that the protocol does not allow here."""


class TooFast(PeerError):
    """The other side exceeds a rate limit: of messages, requests or failures."""

    code_name = "too_fast"


class HubError(TidingsError):
    """The hub or its broker failed; the caller may retry."""

    code_name = "internal"


class Unavailable(HubError):
    """The broker or the hub did not accept it. Nothing was published."""

    code_name = "unavailable"


class TimedOut(Unavailable):
    """No reply in time: it may or may not have happened.

    Publishing again with the same id is safe: the broker recognizes it.
    """

    code_name = "timeout"


class Draining(HubError):
    """The node is shutting down."""

    code_name = "draining"


class Full(HubError):
    """The node has as many connections as it may."""

    code_name = "full"


class Internal(HubError):
    """A bug in tidings."""


def from_wire(code: str, message: str) -> TidingsError:
    """The error that `to_wire` wrote. An unknown code becomes `Internal`."""
    return _BY_CODE.get(code, Internal)(message)


def _tree(root: type[TidingsError]) -> list[type[TidingsError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


# The first class of a code stays, so that a parent class comes before its children.
_BY_CODE: dict[str, type[TidingsError]] = {}
for _class in _tree(TidingsError):
    if _class not in (TidingsError, CallerError, PeerError, HubError):
        _BY_CODE.setdefault(_class.code_name, _class)
