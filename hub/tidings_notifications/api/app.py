"""The Flask application of the service: requests of nodes, health and metrics."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from http import HTTPStatus

from flask import Flask, Response, request

from tidings.errors import BadRequest, TidingsError, TooLarge, Unauthorized
from tidings.wire.notification import Notification, read_notifications
from tidings_hub.config.installation import INSTALLATION_HEADER
from tidings_hub.config.notifications import REQUEST_HEADER
from tidings_notifications.api.push_views import PushViews
from tidings_notifications.api.requests import Fields, json_object, query_fields
from tidings_notifications.api.responses import install, json_response
from tidings_notifications.core.notification import Stored
from tidings_notifications.core.page import LIMIT, PAGE_MAX_BYTES, PageQuery
from tidings_notifications.inbox import Inbox
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.writer import NotificationWriter, now_ms

# Notifications in one request. A call of `notify` has at most so many users.
NOTIFICATIONS_MAX = 1_000
# Of a header field that an error repeats.
_SENT_MAX = 100
# They need no key, and wait for nothing.
PROBE_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
KEY_NEEDED = "send the key of this service; nodes and service need the same `secret` (TIDINGS_SECRET) or relay_secret"
# Whether the service can work, and the state of each part.
Readiness = Callable[[], tuple[bool, dict[str, object]]]


class NotificationApi:
    """The views. `keys`: any of them admits a node. `installation`: of the service; empty: it may be any."""

    def __init__(
        self,
        inbox: Inbox,
        writer: NotificationWriter,
        push: PushViews,
        *,
        keys: Sequence[str],
        installation: str,
        publication_max_bytes: int,
        metrics: ServiceMetrics,
        readiness: Readiness,
    ) -> None:
        self._inbox = inbox
        self._writer = writer
        self._push = push
        self._keys = [f"Bearer {key}".encode() for key in keys]
        self._installation = installation
        self._max_bytes = publication_max_bytes
        self._metrics = metrics
        self._readiness = readiness

    def admits(self, authorization: str) -> bool:
        """Whether this header field has a key of a node."""
        sent = authorization.encode("utf-8", "replace")
        return any(hmac.compare_digest(sent, key) for key in self._keys)

    def create_app(self) -> Flask:
        """The WSGI application."""
        app = Flask(__name__, static_folder=None)
        app.url_map.merge_slashes = False
        install(app)
        app.before_request(self._check_key)
        app.after_request(self._count)
        app.after_request(_repeat_request)
        routes: tuple[tuple[str, str, Callable[[], Response]], ...] = (
            ("POST", "/notifications", self.notify),
            ("POST", "/notifications/delete", self.delete),
            ("GET", "/inbox", self.page),
            ("POST", "/inbox/mark", self.mark),
            ("GET", "/inbox/preferences", self.preferences),
            ("PUT", "/inbox/preferences", self.set_preference),
            *self._push.routes(),
            ("GET", "/healthz", self.healthz),
            ("GET", "/readyz", self.readyz),
            ("GET", "/metrics", self.metrics),
        )
        for method, rule, view in routes:
            app.add_url_rule(rule, view.__name__, view, methods=[method], provide_automatic_options=False)
        return app

    def notify(self) -> Response:
        """Store notifications, in one transaction. A wrong one does not reject the others."""
        fields = Fields(json_object(request))
        items = fields.take("notifications")
        fields.finish()
        if not isinstance(items, list) or not items:
            raise BadRequest("notifications must be a list of at least one notification")
        if len(items) > NOTIFICATIONS_MAX:
            raise TooLarge(f"{len(items):,} notifications are more than {NOTIFICATIONS_MAX:,}; send several requests")
        readings = [reading for item in items for reading in self._read(item)]
        if len(readings) > NOTIFICATIONS_MAX:
            raise TooLarge(f"they are for more than {NOTIFICATIONS_MAX:,} users; send several requests")
        notifications = [reading for reading in readings if isinstance(reading, Notification)]
        results = iter(self._writer.store(notifications) if notifications else ())
        return json_response(
            {"results": [_result(next(results) if isinstance(item, Notification) else item) for item in readings]}
        )

    def delete(self) -> Response:
        """Delete notifications of a user, for a backend."""
        fields = Fields(json_object(request))
        user, ids, group = fields.user(), fields.take("ids"), fields.optional_text("group")
        fields.finish()
        if (ids is None) == (group is None):
            raise BadRequest("give one of ids and group")
        deleted = self._inbox.delete(user, now_ms(), ids=ids, group=group)
        return json_response(deleted.to_wire())

    def page(self) -> Response:
        """A page of a user's inbox."""
        fields = query_fields(request.args)
        user = fields.user()
        query = PageQuery(
            category=fields.optional_text("category"),
            archived=fields.boolean("archived"),
            unread=fields.boolean("unread"),
            before=fields.optional_text("before"),
            limit=fields.number("limit", LIMIT),
            max_bytes=fields.number("max_bytes", PAGE_MAX_BYTES),
        )
        fields.finish()
        return json_response(self._inbox.page(user, query, now_ms()).to_wire())

    def mark(self) -> Response:
        """Mark notifications of a user, or all of them."""
        fields = Fields(json_object(request))
        user, action, ids = fields.user(), fields.take("action"), fields.take("ids")
        is_all, before = fields.boolean("all"), fields.optional_text("before")
        fields.finish()
        if is_all == (ids is not None):
            raise BadRequest("give one of ids and all")
        result = (
            self._inbox.mark_all(user, action, now_ms(), before=before)
            if is_all
            else self._inbox.mark(user, action, now_ms(), ids=ids)
        )
        return json_response(result.to_wire())

    def preferences(self) -> Response:
        """What a user receives, for each category."""
        fields = query_fields(request.args)
        user = fields.user()
        fields.finish()
        return json_response({"preferences": self._inbox.preferences(user)})

    def set_preference(self) -> Response:
        """Switch one delivery method of a category on or off."""
        fields = Fields(json_object(request))
        user = fields.user()
        category, method, enabled = (fields.take(name) for name in ("category", "method", "enabled"))
        fields.finish()
        return json_response({"preferences": self._inbox.set_preference(user, category, method, enabled)})

    def healthz(self) -> Response:
        """The process answers."""
        return json_response({"status": "ok"})

    def readyz(self) -> Response:
        """Whether the service can work, and the state of each part."""
        is_ready, checks = self._readiness()
        if mismatch := self._mismatch():
            is_ready, checks = False, checks | {"installation": mismatch}
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_response({"ready": is_ready, "checks": checks}, status)

    def metrics(self) -> Response:
        """The metrics."""
        return Response(self._metrics.render(), content_type="text/plain; version=0.0.4; charset=utf-8")

    def _read(self, item: object) -> Sequence[Notification | TidingsError]:
        try:
            return read_notifications(item, max_bytes=self._max_bytes)
        except TidingsError as error:
            users = item.get("users") if isinstance(item, dict) else None
            return [error] * (len(users) if isinstance(users, list) else 1)

    def _check_key(self) -> None:
        # Before Flask raises 404: a caller without a key does not learn which addresses exist.
        if request.path in PROBE_PATHS:
            return
        if not self.admits(request.headers.get("Authorization", "")):
            self._metrics.unauthorized.inc()
            raise Unauthorized(KEY_NEEDED)
        if mismatch := self._mismatch():
            self._metrics.unauthorized.inc()
            raise Unauthorized(mismatch)

    def _mismatch(self) -> str:
        """Why the node that sends this request is of another installation; empty if it is not."""
        sent = request.headers.get(INSTALLATION_HEADER, self._installation)
        if not self._installation or sent == self._installation:
            return ""
        return (
            f"this service is for the hub in {self._installation}, the node is in {sent[:_SENT_MAX]}; give each"
            " installation an address of its own (`listen` or `url` in [notifications]) and its own secret"
        )

    def _count(self, response: Response) -> Response:
        if request.path not in PROBE_PATHS:
            self._metrics.requests.labels(str(response.status_code)).inc()
        return response


def _repeat_request(response: Response) -> Response:
    if value := request.headers.get(REQUEST_HEADER):
        response.headers[REQUEST_HEADER] = value
    return response


def _result(result: Stored | TidingsError) -> dict[str, object]:
    if isinstance(result, TidingsError):
        return {"error": result.to_wire()}
    return {"id": result.caller_id, "state": result.state.value, "duplicate": result.duplicate}
