"""Reads `PushSubscription.toJSON()` of a browser (W3C Push API)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tidings.errors import BadRequest
from tidings_notifications.core.push_subscription import NewSubscription
from tidings_notifications.web_push import base64url
from tidings_notifications.web_push.encryption import MessageKeys
from tidings_notifications.web_push.endpoints import EndpointRules

# The end of the year 9999.
_EXPIRES_MAX_MS: Final = 253_402_300_799_999


def read_subscription(value: object, rules: EndpointRules) -> NewSubscription:
    """The subscription in `value`. Fields that the standard may add are ignored.

    Raises:
        BadRequest: pushes cannot be sent to it.
    """
    if not isinstance(value, Mapping):
        raise BadRequest("subscription must be an object, as PushSubscription.toJSON() returns it")
    keys = value.get("keys")
    if not isinstance(keys, Mapping):
        raise BadRequest("subscription must have keys with p256dh and auth")
    message_keys = MessageKeys.read(keys.get("p256dh"), keys.get("auth"))
    return NewSubscription(
        rules.check(value.get("endpoint")),
        base64url.encode(message_keys.p256dh),
        base64url.encode(message_keys.auth),
        _expires_ms(value.get("expirationTime")),
    )


def _expires_ms(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _EXPIRES_MAX_MS:
        raise BadRequest("expirationTime must be a time in milliseconds, or null")
    return int(value)
