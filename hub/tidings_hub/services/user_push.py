"""What clients request for Web Push (PROTOCOL.md section 13). The notification service answers.

The user is the token's. A service worker has no token: it sends the id and the key of its subscription, which the
service checks. Every method waits for the service; call it from a worker greenlet, never from the pump.
"""

from __future__ import annotations

from typing import Final

from tidings.errors import BadRequest
from tidings.tokens import Claims
from tidings.wire.payload import encode_data
from tidings_hub.services.user_inbox import Fields, InboxService

_PATH: Final = "/inbox/push-subscriptions"
_NO_FIELDS: Final[frozenset[str]] = frozenset()
_RENEW_FIELDS: Final = frozenset({"id", "key", "subscription"})
_MARK_FIELDS: Final = frozenset({"id", "key", "action", "ids"})
_REQUEST_MAX_BYTES: Final = 131_072


class UserPush:
    """Subscriptions of users. All methods raise as `InboxService.page`, and return JSON."""

    def __init__(self, inbox: InboxService) -> None:
        self._inbox = inbox

    def request(self, claims: Claims, fields: Fields) -> str:
        """The event `tidings:push`: without fields the public key, or one of `subscription` and `unsubscribe`.

        Raises:
            BadRequest: both.
        """
        if not fields:
            return self.public_key(claims, fields)
        if "unsubscribe" not in fields:
            return self.subscribe(claims, fields)
        if len(fields) > 1:
            raise BadRequest("send one of subscription and unsubscribe")
        return self.unsubscribe(claims, {"endpoint": fields["unsubscribe"]})

    def public_key(self, claims: Claims, fields: Fields) -> str:
        """The key that a page subscribes with."""
        return self._inbox.admit(claims, fields, _NO_FIELDS).request("GET", "/inbox/push-key")[0]

    def subscribe(self, claims: Claims, fields: Fields) -> str:
        """Store a subscription of the user."""
        lane = self._inbox.admit(claims, fields, frozenset({"subscription"}))
        return lane.request("POST", _PATH, self._inbox.body(claims, fields))[0]

    def unsubscribe(self, claims: Claims, fields: Fields) -> str:
        """Delete a subscription of the user."""
        lane = self._inbox.admit(claims, fields, frozenset({"endpoint"}))
        return lane.request("DELETE", _PATH, self._inbox.body(claims, fields))[0]

    def renew(self, remote: str, fields: Fields) -> str:
        """Replace a subscription. `remote`: the address of the client, which has a rate as a user has."""
        return self._of_worker(remote, f"{_PATH}/renew", fields, _RENEW_FIELDS)

    def mark(self, remote: str, fields: Fields) -> str:
        """Mark notifications of the user whose subscription it is. `remote`: as for `renew`."""
        return self._of_worker(remote, f"{_PATH}/mark", fields, _MARK_FIELDS)

    def _of_worker(self, remote: str, path: str, fields: Fields, names: frozenset[str]) -> str:
        lane = self._inbox.lane()
        if fields.keys() != names:
            raise BadRequest(f"send {', '.join(sorted(names))}, and nothing else")
        self._inbox.check_rate(f"address {remote}")
        return lane.request("POST", path, encode_data(dict(fields), max_bytes=_REQUEST_MAX_BYTES))[0]
