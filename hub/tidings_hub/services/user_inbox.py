"""What clients request of their inbox (PROTOCOL.md section 13). The notification service answers.

The user is always the token's: no request can name another one. Every method but `has_service` waits for the service,
at most `request_timeout_s`; call it from a worker greenlet, never from the pump.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, NoReturn
from urllib.parse import urlencode

from tidings.errors import BadConfig, BadRequest, Forbidden, NotFound, TooFast
from tidings.tokens import Claims
from tidings.wire.payload import encode_data
from tidings_hub.config.installation import installation_of
from tidings_hub.config.notifications import service_key
from tidings_hub.config.settings import Settings
from tidings_hub.core.rates.user_buckets import UserBuckets
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.services.authenticator import ANONYMOUS_PREFIX
from tidings_hub.services.notification_link import NotificationLink, RequestLane

logger = logging.getLogger("tidings.notifications")

_NO_SERVICE: Final = "this hub has no inboxes; set database or url in [notifications] of its tidings.toml"
# A page ends before it is longer, but has at least one notification.
_PAGE_MAX_BYTES: Final = 262_144
# Of a mark with as many ids as the service allows, and more.
_BODY_MAX_BYTES: Final = 262_144
# A page may fill this share of a connection's out-buffer (1/2), so that publications still fit behind it.
_OUT_BUFFER_SHARE: Final = 2
# Ids and the names of categories are shorter, and have only ASCII characters.
_TEXT_MAX: Final = 200
_PAGE_FIELDS: Final = frozenset({"category", "archived", "unread", "before", "limit"})
_MARK_FIELDS: Final = frozenset({"action", "ids", "all", "before"})
_PREFERENCE_FIELDS: Final = frozenset({"category", "method", "enabled"})

Fields = Mapping[str, object]
"""The fields of a request, as the client sent them."""


class InboxService:
    """This node's part in inboxes. Without `[notifications]` every request is answered with `not_found`."""

    def __init__(self, settings: Settings, metrics: Metrics, *, wall_s: Callable[[], float]) -> None:
        self._options = settings.notifications
        self._metrics = metrics
        self._wall_s = wall_s
        self._rates = UserBuckets()
        self._dev = settings.dev
        self._page_max_bytes = min(_PAGE_MAX_BYTES, settings.out_buffer_bytes // _OUT_BUFFER_SHARE)
        self._why_none = _NO_SERVICE
        self.link = self._open_link(settings)
        size = self._options.requests_max
        self._clients = None if self.link is None else RequestLane(self.link, size)

    def _open_link(self, settings: Settings) -> NotificationLink | None:
        url = self._options.service_url()
        if url is None:
            return None
        try:
            return NotificationLink(
                url,
                service_key(settings),
                self._options,
                self._metrics,
                installation=installation_of(settings.broker, settings.prefix),
            )
        except BadConfig as error:
            logger.error("this node cannot use the notification service: %s", error)  # noqa: TRY400
            self._why_none = str(error)
            return None

    @property
    def has_service(self) -> bool:
        """Whether this node has a notification service."""
        return self.link is not None

    def raise_no_service(self) -> NoReturn:
        """Raise the error of a hub without inboxes.

        Raises:
            NotFound: always; the message names the setting.
        """
        raise NotFound(self._why_none)

    def apply_settings(self, settings: Settings) -> None:
        """Use the key of new secrets from now on."""
        if self.link is None:
            return
        try:
            self.link.key = service_key(settings)
        except BadConfig as error:
            logger.error("this node keeps its key of the notification service: %s", error)  # noqa: TRY400

    def page(self, claims: Claims, fields: Fields) -> str:
        """A page of the user's inbox, as JSON.

        Raises:
            NotFound: this hub has no inboxes. Forbidden: an anonymous client. TooFast: too many requests of the user.
            BadRequest: a field is wrong. Unavailable: the service does not answer.
        """
        lane = self.admit(claims, fields, _PAGE_FIELDS)
        query = {name: _query_text(name, value) for name, value in fields.items() if value is not None}
        query |= {"user": claims.sub, "max_bytes": str(self._page_max_bytes)}
        return lane.request("GET", f"/inbox?{urlencode(query)}")[0]

    def mark(self, claims: Claims, fields: Fields) -> str:
        """Mark notifications of the user, or all of them. Returns the result as JSON. Raises as `page`."""
        lane = self.admit(claims, fields, _MARK_FIELDS)
        return lane.request("POST", "/inbox/mark", self.body(claims, fields))[0]

    def preferences(self, claims: Claims, fields: Fields) -> str:
        """The user's preferences as JSON; with fields: after one was changed. Raises as `page`."""
        lane = self.admit(claims, fields, _PREFERENCE_FIELDS)
        if fields:
            return lane.request("PUT", "/inbox/preferences", self.body(claims, fields))[0]
        return lane.request("GET", f"/inbox/preferences?{urlencode({'user': claims.sub})}")[0]

    def body(self, claims: Claims, fields: Fields) -> bytes:
        """A request to the service with these fields, about this user."""
        sent = {name: value for name, value in fields.items() if value is not None}
        return encode_data({**sent, "user": claims.sub}, max_bytes=_BODY_MAX_BYTES)

    def admit(self, claims: Claims, fields: Fields, names: frozenset[str]) -> RequestLane:
        """Where a request of a user goes. `names`: the fields that it may have. Raises as `page`."""
        lane = self.lane()
        if self._dev and claims.expires_at_s is None and claims.sub.startswith(ANONYMOUS_PREFIX):
            raise Forbidden("an anonymous client has no inbox; connect with a token")
        for name in fields:
            if name not in names:
                raise BadRequest(f"unknown field {name!a:.60}; known are: {', '.join(sorted(names))}")
        self.check_rate(claims.sub)
        return lane

    def lane(self) -> RequestLane:
        """Where requests of clients go.

        Raises:
            NotFound: this hub has no inboxes.
        """
        if self._clients is None:
            self.raise_no_service()
        return self._clients

    def check_rate(self, user: str) -> None:
        """Count a request of a user.

        Raises:
            TooFast: the user has sent too many.
        """
        per_minute, burst = self._options.user_requests_per_minute, self._options.user_requests_burst
        if not per_minute or self._rates.take(user, 1, per_minute=per_minute, burst=burst, now_s=self._wall_s()):
            return
        self._metrics.inbox_requests_refused += 1
        log_rate_limited(
            logger,
            logging.WARNING,
            "inbox requests",
            "user %s requests the inbox faster than user_requests_per_minute = %d and user_requests_burst = %d allow",
            user,
            per_minute,
            burst,
        )
        raise TooFast(f"a user may send {per_minute} requests per minute to the inbox; wait, then retry")


def _query_text(name: str, value: object) -> str:
    """A field of a page as text in a query."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value) if isinstance(value, str | int) else ""
    # Half of a surrogate pair cannot be sent.
    if not text.isascii() or not isinstance(value, str | int) or len(text) > _TEXT_MAX:
        raise BadRequest(f"{name} must be at most {_TEXT_MAX} ASCII characters, a number, true or false")
    return text
