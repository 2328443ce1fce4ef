"""The one error tree. Whose fault an error is, is its class.

    TidingsError
    ├── CallerError          you asked for something that cannot be; do not repeat it
    │   ├── BadChannel  BadEvent  BadData  BadCursor  BadId  BadRequest
    │   ├── TooLarge  TooManyChannels  UnknownNamespace
    │   ├── Unauthorized  Expired  Forbidden  Revoked
    │   └── BadConfig  MissingExtra
    ├── PeerError            what came over the wire broke a protocol
    │   └── BadPacket  TooFast
    └── HubError             the hub or its broker could not; nothing is wrong with the request
        └── Unavailable  TimedOut  Draining  Full  Internal, and BatchFailed (receipts.py)

Each error carries a `code` from `codes.py`; `to_wire()` is its form on the wire.
"""

from __future__ import annotations

from typing import ClassVar

from tidings.codes import CODES, Code


class TidingsError(Exception):
    """Base of every error that tidings raises on purpose.

    `str(error)` says what happened and what to do next. It never holds a
    secret: no token, key or password.
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
    """A request that is not of the documented form."""


class BadChannel(CallerError):
    """A channel that is empty, missing or not `namespace:name`."""

    code_name = "bad_channel"


class BadEvent(CallerError):
    """An event that is empty, too long, reserved or holds control characters."""

    code_name = "bad_event"


class BadData(CallerError):
    """Data that JSON cannot say; the message names the path to it."""

    code_name = "bad_data"


class BadCursor(CallerError):
    """A cursor that no hub can have given out."""

    code_name = "bad_cursor"


class BadId(CallerError):
    """A publication id outside its alphabet or length."""

    code_name = "bad_id"


class TooLarge(CallerError):
    """Something is larger than its limit; the message names both."""

    code_name = "too_large"


class NotFound(CallerError):
    """Nothing is known under this name, or not any more."""

    code_name = "not_found"


class TooManyChannels(CallerError):
    """One connection asked for more channels than it may have."""

    code_name = "too_many_channels"


class UnknownNamespace(CallerError):
    """No rule for the namespace of this channel."""

    code_name = "unknown_namespace"


class Unauthorized(CallerError):
    """No token or API key, or one that does not hold."""

    code_name = "unauthorized"


class Expired(Unauthorized):
    """A token that has ended."""

    code_name = "expired"


class Forbidden(CallerError):
    """The rules do not allow it to this user."""

    code_name = "forbidden"


class Revoked(CallerError):
    """The user or the token was revoked."""

    code_name = "revoked"


class BadConfig(CallerError):
    """A setting that is unknown, of a wrong form or unsafe."""

    code_name = "bad_config"


class MissingExtra(BadConfig):
    """An optional dependency is not installed; the message has the pip line."""


class PeerError(TidingsError):
    """The other side of a connection broke a protocol."""

    code_name = "bad_packet"


class BadPacket(PeerError):
    """Bytes that are not what the protocol allows here."""


class TooFast(PeerError):
    """The other side asks, fails or sends more often than it may."""

    code_name = "too_fast"


class HubError(TidingsError):
    """The hub or its broker could not do it; the caller may try again."""

    code_name = "internal"


class Unavailable(HubError):
    """The broker or the hub did not take it; the caller still owns it."""

    code_name = "unavailable"


class TimedOut(Unavailable):
    """No answer in time: it may or may not have happened.

    Publishing again with the same id is safe: the broker knows it.
    """

    code_name = "timeout"


class Draining(HubError):
    """The node is going away."""

    code_name = "draining"


class Full(HubError):
    """The node holds as many connections as it may."""

    code_name = "full"


class Internal(HubError):
    """A mistake in tidings itself."""


def from_wire(code: str, message: str) -> TidingsError:
    """The error that `to_wire` was called on; an unknown code is `Internal`."""
    return _BY_CODE.get(code, Internal)(message)


def _tree(root: type[TidingsError]) -> list[type[TidingsError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


# Later rows must not replace earlier ones: a parent stands for its code before its children do.
_BY_CODE: dict[str, type[TidingsError]] = {}
for _class in _tree(TidingsError):
    if _class not in (TidingsError, CallerError, PeerError, HubError):
        _BY_CODE.setdefault(_class.code_name, _class)
