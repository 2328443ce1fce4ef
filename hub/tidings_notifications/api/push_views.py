"""Requests about push subscriptions."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flask import Response, request

from tidings.errors import BadRequest, NotFound
from tidings_notifications.api.requests import Fields, json_object
from tidings_notifications.api.responses import json_response
from tidings_notifications.core.push_subscription import NewSubscription
from tidings_notifications.inbox import Inbox
from tidings_notifications.inbox.subscriptions import Subscriptions
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.web_push.endpoints import EndpointRules
from tidings_notifications.web_push.subscription_json import read_subscription
from tidings_notifications.writer import now_ms

_KEY_MAX: Final = 128
_OFF: Final = "this hub has no Web Push; set vapid_key_file and contact in [notifications.web_push] of its tidings.toml"


@dataclass(frozen=True, slots=True)
class PushSettings:
    """What pages and subscriptions depend on. `public_key`: for `pushManager.subscribe`."""

    public_key: str
    rules: EndpointRules


class PushViews:
    """The views. Without `settings` every request is answered with `not_found`."""

    def __init__(
        self, subscriptions: Subscriptions, inbox: Inbox, settings: PushSettings | None, metrics: ServiceMetrics
    ) -> None:
        self._subscriptions = subscriptions
        self._inbox = inbox
        self._settings = settings
        self._metrics = metrics

    def routes(self) -> tuple[tuple[str, str, Callable[[], Response]], ...]:
        """Method, path and view of each."""
        path = "/inbox/push-subscriptions"
        return (
            ("GET", "/inbox/push-key", self.push_key),
            ("POST", path, self.subscribe),
            ("DELETE", path, self.unsubscribe),
            ("POST", f"{path}/renew", self.renew),
            ("POST", f"{path}/mark", self.mark_pushed),
        )

    def push_key(self) -> Response:
        """The public key that a page subscribes with."""
        return json_response({"public_key": self._enabled().public_key})

    def subscribe(self) -> Response:
        """Store a subscription of a user."""
        settings, fields = self._enabled(), Fields(json_object(request))
        user, subscription = fields.user(), fields.take("subscription")
        fields.finish()
        stored = self._subscriptions.add(user, read_subscription(subscription, settings.rules), now_ms())
        self._metrics.subscriptions_dropped.inc(stored.dropped)
        return json_response({"id": stored.id, "key": stored.key})

    def unsubscribe(self) -> Response:
        """Delete a subscription of a user."""
        fields = Fields(json_object(request))
        user, endpoint = fields.user(), fields.optional_text("endpoint")
        fields.finish()
        self._enabled()
        if endpoint is None:
            raise BadRequest("endpoint is missing")
        return json_response({"deleted": self._subscriptions.remove(user, endpoint)})

    def renew(self) -> Response:
        """Replace a subscription, for its service worker."""
        settings, fields = self._enabled(), Fields(json_object(request))
        (id_, key), subscription = _credentials(fields), fields.take("subscription")
        fields.finish()
        new: NewSubscription = read_subscription(subscription, settings.rules)
        self._subscriptions.renew(id_, key, new, now_ms())
        return json_response({"id": id_})

    def mark_pushed(self) -> Response:
        """Mark notifications, for the service worker that showed them."""
        self._enabled()
        fields = Fields(json_object(request))
        (id_, key), action, ids = _credentials(fields), fields.take("action"), fields.take("ids")
        fields.finish()
        user = self._subscriptions.user_of(id_, key)
        return json_response(self._inbox.mark(user, action, now_ms(), ids=ids).to_wire())

    def _enabled(self) -> PushSettings:
        if self._settings is None:
            raise NotFound(_OFF)
        return self._settings


def _credentials(fields: Fields) -> tuple[str, str]:
    """The id and the key of a subscription."""
    id_, key = fields.take("id"), fields.take("key")
    if not isinstance(id_, str) or not isinstance(key, str) or not key.isascii() or len(key) > _KEY_MAX:
        raise BadRequest("send the id and the key of the subscription")
    try:
        return str(uuid.UUID(id_)), key
    except ValueError as error:
        raise BadRequest("id must be the id of a subscription") from error
