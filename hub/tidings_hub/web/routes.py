"""All addresses of the HTTP API in one table. `app.py` makes Flask's rules from it, and `openapi.py` its document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from tidings.wire.channels import check_channel
from tidings.wire.presence import LIST_MAX
from tidings_hub.web import query, request_models, response_models, schemas
from tidings_hub.web.query import Parameter
from tidings_hub.web.reports import ReportResponse
from tidings_hub.web.schemas import Schema

PAGE_MAX = 1000
_PAGE_DEFAULT = 100
_HISTORY_MAX = 10_000

LIMIT: Parameter[int] = Parameter(
    "limit",
    query.integer("limit", maximum=PAGE_MAX),
    _PAGE_DEFAULT,
    {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": _PAGE_DEFAULT},
    "Rows in the response",
)
AFTER_CHANNEL: Parameter[str | None] = Parameter(
    "after", check_channel, None, schemas.CHANNEL, "`next` of the previous page: only channels after this one, in order"
)
AFTER_CONNECTION: Parameter[str | None] = Parameter(
    "after",
    schemas.check_visible_ascii,
    None,
    schemas.VISIBLE_ASCII,
    "`next` of the previous page: only connections after this one, in order",
)
SINCE: Parameter[Any] = Parameter(
    "since", schemas.check_cursor, None, schemas.CURSOR, "Only publications after this cursor"
)
HISTORY_LIMIT: Parameter[int] = Parameter(
    "limit",
    query.integer("limit", maximum=_HISTORY_MAX),
    _PAGE_DEFAULT,
    {"type": "integer", "minimum": 1, "maximum": _HISTORY_MAX, "default": _PAGE_DEFAULT},
    "Publications in the response, and never more than `history_page_max`",
)
PRESENCE_LIMIT: Parameter[int] = Parameter(
    "limit",
    query.integer("limit", maximum=_HISTORY_MAX),
    LIST_MAX,
    {"type": "integer", "minimum": 1, "maximum": _HISTORY_MAX, "default": LIST_MAX},
    "List at most this many users, and at most `presence_list_max`; with more users only their number is returned",
)
NEWEST: Parameter[bool | None] = Parameter(
    name="newest",
    parse=query.boolean("newest"),
    default=None,
    schema={"type": "boolean"},
    description="Return the last publications, or the first ones; the order is oldest first in both cases. Without it:"
    " the first ones after `since` if there is one, otherwise the last ones",
)
CHANNEL: Parameter[str | None] = Parameter(
    "channel", check_channel, None, schemas.CHANNEL, "Required if the same id was published in several channels"
)
LOCAL_ONLY: Parameter[bool] = Parameter(
    name="here",
    parse=query.boolean("here"),
    default=False,
    schema={"type": "boolean", "default": False},
    description="Only this node: do not query the other nodes",
)


@dataclass(frozen=True, slots=True)
class Route:
    """One address and method of the API.

    `body`: models of the request body, one per alternative. `responses`: status -> model of the response body (None:
    text). `error_statuses`: error statuses besides those of every route. `headers`: name -> description.
    """

    name: str
    method: str
    rule: str
    summary: str
    responses: dict[int, type[BaseModel] | Schema | None]
    error_statuses: tuple[int, ...] = ()
    path: dict[str, Schema] = field(default_factory=dict)
    query: tuple[Parameter[Any], ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    body: tuple[type[BaseModel], ...] = ()
    accepts_array: bool = False

    @property
    def needs_key(self) -> bool:
        """Whether the route requires an API key."""
        return needs_key(self.rule)


def needs_key(path: str) -> bool:
    """Whether a path requires an API key. This includes paths that do not exist."""
    return path.startswith("/api/") or path in {"/api", "/metrics"}


_BROKER = (503, 504)
_BODY = (413, 415)
_SERVICE = (404, 503, 504)
_NOTIFIED: Schema = {"oneOf": [response_models.NotificationResponse, response_models.NotifyBatchResults]}
_PUBLISHED: Schema = {"oneOf": [response_models.ReceiptResponse, response_models.BatchResults]}

ROUTES = (
    Route(
        "publish",
        "POST",
        "/api/publish",
        "Publish one object, or an array of up to `max_batch` objects with one result per item",
        {200: _PUBLISHED, 202: _PUBLISHED},
        (400, 404, *_BODY, *_BROKER),
        headers={
            "Prefer": "`respond-async` (RFC 7240): the status is 202, and `Location` has the address of the report"
        },
        body=tuple(request_models.TARGETS.values()),
        accepts_array=True,
    ),
    Route(
        "notify",
        "POST",
        "/api/notifications",
        "Store a notification in the inbox of a user, or of each of up to 1,000, or an array of up to `max_batch`",
        {200: _NOTIFIED},
        (400, *_BODY, *_SERVICE),
        body=request_models.NOTIFICATIONS,
        accepts_array=True,
    ),
    Route(
        "delete_notifications",
        "POST",
        "/api/users/<user>/notifications/delete",
        "Delete notifications of a user: those with these ids, or all of a group",
        {200: response_models.DeletionResponse},
        (400, *_BODY, *_SERVICE),
        path={"user": schemas.USER},
        body=(request_models.NotificationsById, request_models.NotificationsOfGroup),
    ),
    Route(
        "publication",
        "GET",
        "/api/publications/<id>",
        "Delivery report of a publication with `Prefer: respond-async` or `ack`; 202 while its counts may still grow",
        {200: ReportResponse, 202: ReportResponse},
        (400, 404, *_BROKER),
        path={"id": schemas.PUBLICATION_ID_IN_PATH},
        query=(CHANNEL,),
    ),
    Route(
        "history",
        "GET",
        "/api/channels/<channel>/history",
        "Stored publications of a channel, oldest first",
        {200: response_models.HistoryResponse},
        (400, 404, *_BROKER),
        path={"channel": schemas.CHANNEL},
        query=(SINCE, HISTORY_LIMIT, NEWEST),
    ),
    Route(
        "presence",
        "GET",
        "/api/channels/<channel>/presence",
        "Members of a channel on all nodes",
        {200: response_models.PresenceResponse},
        (400, 403, 404, *_BROKER),
        path={"channel": schemas.CHANNEL},
        query=(PRESENCE_LIMIT,),
    ),
    Route(
        "channels",
        "GET",
        "/api/channels",
        "Channels with subscriptions, on all nodes",
        {200: response_models.ChannelsResponse},
        (400, *_BROKER),
        query=(LIMIT, AFTER_CHANNEL, LOCAL_ONLY),
    ),
    Route(
        "connections",
        "GET",
        "/api/connections",
        "Connections of all nodes",
        {200: response_models.ConnectionsResponse},
        (400, *_BROKER),
        query=(LIMIT, AFTER_CONNECTION, LOCAL_ONLY),
    ),
    Route(
        "disconnect",
        "POST",
        "/api/users/<user>/disconnect",
        "Close all connections of a user on every node; the user may reconnect",
        {200: response_models.DisconnectResponse},
        (400, 404, *_BROKER),
        path={"user": schemas.USER},
    ),
    Route(
        "disconnect_connection",
        "POST",
        "/api/connections/<connection>/disconnect",
        "Close one connection on any node; its client may reconnect",
        {200: response_models.DisconnectResponse},
        (400, 404, *_BROKER),
        path={"connection": schemas.CONNECTION},
    ),
    Route(
        "subscribe",
        "POST",
        "/api/users/<user>/subscribe",
        "Subscribe the live connections of a user to a channel, even if their tokens do not cover it, and notify them",
        {200: response_models.SubscriptionResponse},
        (400, 404, *_BODY, *_BROKER),
        path={"user": schemas.USER},
        body=(request_models.ChannelBody,),
    ),
    Route(
        "unsubscribe",
        "POST",
        "/api/users/<user>/unsubscribe",
        "Unsubscribe the live connections of a user from a channel, and notify them",
        {200: response_models.SubscriptionResponse},
        (400, 404, *_BODY, *_BROKER),
        path={"user": schemas.USER},
        body=(request_models.ChannelBody,),
    ),
    Route(
        "nodes",
        "GET",
        "/api/nodes",
        "Every live node, with its connections, sessions and subscriptions, and the totals",
        {200: response_models.NodesResponse},
        (400, *_BROKER),
    ),
    Route(
        "revoke",
        "POST",
        "/api/revocations",
        "Revoke a user, or one token by its `jti`, on every node at once",
        {201: response_models.RevocationResponse},
        (400, *_BODY, *_BROKER),
        body=tuple(request_models.REVOCATIONS.values()),
    ),
    Route("openapi", "GET", "/api/openapi.json", "This OpenAPI document", {200: {"type": "object"}}, (400,)),
    Route(
        "healthz",
        "GET",
        "/healthz",
        "Whether the process answers requests",
        {200: response_models.HealthResponse},
        (400,),
    ),
    Route(
        "readyz",
        "GET",
        "/readyz",
        "Whether publications flow through this node; 503 if not",
        {200: response_models.ReadinessResponse, 503: response_models.ReadinessResponse},
        (400,),
    ),
    Route("metrics", "GET", "/metrics", "Metrics of this node, in the text format of Prometheus", {200: None}, (400,)),
)
