"""Every error and close code of hubs and emitters, in one table.

A code has a name, which programs compare, a number, which WebSocket close frames contain, and a fault: the side that
has to act. The range of the number states whether a client should reconnect:

- 4000-4499: reconnect after a back-off; nothing is wrong with the request.
- 4500-4999: do not repeat the same request; it would be rejected again.

RFC 6455 section 7.4.2 leaves 4000-4999 to applications. The two halves follow Centrifugo's 3000-3499 and 3500-3999.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

RECONNECT_MAX = 4499


class Fault(StrEnum):
    """The side that caused an error and has to act."""

    CALLER = "caller"
    PEER = "peer"
    OURS = "ours"


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table.

    `http_status` is the status of an HTTP response with this code. `advice` is one sentence about what to do next. It
    contains nothing secret.
    """

    name: str
    number: int
    http_status: int
    fault: Fault
    advice: str

    @property
    def should_reconnect(self) -> bool:
        """Whether a client should reconnect after a close with this code."""
        return self.number <= RECONNECT_MAX


_ROWS = (
    Code("unavailable", 4000, 503, Fault.OURS, "The broker did not reply; try again later."),
    Code("timeout", 4001, 504, Fault.OURS, "No reply in time; try again with the same id."),
    Code("draining", 4002, 503, Fault.OURS, "This node is shutting down; reconnect."),
    Code("full", 4003, 503, Fault.OURS, "This node is too busy or has too many connections; reconnect later."),
    Code("slow", 4004, 429, Fault.PEER, "You read too slowly; reconnect with your cursor."),
    Code("too_fast", 4005, 429, Fault.PEER, "You send too fast; wait, then reconnect."),
    Code("internal", 4006, 500, Fault.OURS, "Internal error in the hub; its log has the cause."),
    Code("ping_timeout", 4007, 408, Fault.PEER, "No reply to a ping; reconnect with your cursor."),
    Code("expired", 4008, 401, Fault.PEER, "The token has expired; reconnect with a new one."),
    Code("disconnected", 4009, 409, Fault.CALLER, "A backend ended this connection."),
    Code("too_many_connections", 4010, 429, Fault.PEER, "Your address has too many connections; close some first."),
    Code("replaced", 4011, 409, Fault.PEER, "This session was resumed on another connection; reconnect."),
    Code("connect_timeout", 4012, 408, Fault.PEER, "No CONNECT in time; reconnect and send it right after opening."),
    Code("bad_request", 4500, 400, Fault.CALLER, "The request is not of the documented form."),
    Code("unauthorized", 4501, 401, Fault.CALLER, "Send a valid token or API key."),
    Code("forbidden", 4502, 403, Fault.CALLER, "The rules of this channel do not allow it."),
    Code("revoked", 4503, 403, Fault.CALLER, "This user or token was revoked; sign in again."),
    Code("bad_origin", 4504, 403, Fault.CALLER, "Add the page's origin to the setting `origins`."),
    Code("bad_channel", 4510, 400, Fault.CALLER, "A channel is namespace:name, at most 200 characters."),
    Code("bad_event", 4511, 400, Fault.CALLER, "An event is 1 to 128 characters and not a reserved name."),
    Code("bad_data", 4512, 400, Fault.CALLER, "Data must be what JSON can represent."),
    Code("bad_cursor", 4513, 400, Fault.CALLER, "A cursor is the string that the hub gave you."),
    Code("bad_id", 4514, 400, Fault.CALLER, "An id is 1 to 64 letters, digits and the signs . _ : -"),
    Code("unknown_namespace", 4515, 404, Fault.CALLER, "Add the namespace to tidings.toml."),
    Code("too_large", 4516, 413, Fault.CALLER, "Send less at once, or raise the named limit."),
    Code("too_many_channels", 4517, 400, Fault.CALLER, "Unsubscribe from channels you no longer show."),
    Code("not_found", 4518, 404, Fault.CALLER, "There is nothing under this name."),
    Code("unsupported_media", 4519, 415, Fault.CALLER, "Send application/json."),
    Code("not_allowed", 4520, 405, Fault.CALLER, "Use a method that this address supports."),
    Code("bad_packet", 4521, 400, Fault.PEER, "The bytes are not Engine.IO v4 or Socket.IO v5."),
    Code("bad_config", 4522, 500, Fault.CALLER, "Correct the named setting."),
    Code("unknown_category", 4523, 404, Fault.CALLER, "Add the category of notifications to tidings.toml."),
    Code("cancelled", 4530, 410, Fault.CALLER, "The user has cancelled this job; begin another one."),
)

CODES: dict[str, Code] = {row.name: row for row in _ROWS}
