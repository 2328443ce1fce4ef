"""Every address of the HTTP API, in one table: Flask's rules and the OpenAPI document are made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from tidings.wire.channels import check_channel
from tidings.wire.presence import LIST_MAX
from tidings_hub.web import models, query
from tidings_hub.web import schemas as names
from tidings_hub.web.query import Parameter
from tidings_hub.web.reports import ReportAnswer
from tidings_hub.web.schemas import Schema

PAGE_MAX = 1000
_PAGE_DEFAULT = 100
_HISTORY_MAX = 10_000

LIMIT: Parameter[int] = Parameter(
    "limit",
    query.whole("limit", most=PAGE_MAX),
    _PAGE_DEFAULT,
    {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": _PAGE_DEFAULT},
    "Rows in the answer",
)
AFTER_CHANNEL: Parameter[str | None] = Parameter(
    "after", check_channel, None, names.CHANNEL, "`next` of the page before: channels in order after this one"
)
AFTER_CONNECTION: Parameter[str | None] = Parameter(
    "after", names.check_visible, None, names.VISIBLE, "`next` of the page before: connections in order after this one"
)
SINCE: Parameter[Any] = Parameter(
    "since", names.check_cursor, None, names.CURSOR, "Only publications after this cursor"
)
HISTORY_LIMIT: Parameter[int] = Parameter(
    "limit",
    query.whole("limit", most=_HISTORY_MAX),
    _PAGE_DEFAULT,
    {"type": "integer", "minimum": 1, "maximum": _HISTORY_MAX, "default": _PAGE_DEFAULT},
    "Publications in the answer; more than `history_page_max` are answered with that many",
)
PRESENCE_LIMIT: Parameter[int] = Parameter(
    "limit",
    query.whole("limit", most=_HISTORY_MAX),
    LIST_MAX,
    {"type": "integer", "minimum": 1, "maximum": _HISTORY_MAX, "default": LIST_MAX},
    "Users up to which they are listed, at most `presence_list_max`; of more only the number is answered",
)
NEWEST: Parameter[bool] = Parameter(
    name="newest",
    read=query.boolean("newest"),
    default=False,
    schema={"type": "boolean", "default": False},
    about="Take the last ones instead of the first; the order stays oldest first",
)


CHANNEL: Parameter[str | None] = Parameter(
    "channel", check_channel, None, names.CHANNEL, "Needed where the same id was published in several channels"
)


HERE: Parameter[bool] = Parameter(
    name="here",
    read=query.boolean("here"),
    default=False,
    schema={"type": "boolean", "default": False},
    about="Of the node that answers alone, without asking the others",
)


@dataclass(frozen=True, slots=True)
class Route:
    """One address and method.

    `body`: schema of what is sent. `answers`: status -> model of what is answered (None: text).
    `refusals`: the statuses with an error beside those that every route has. `headers`: name -> what it asks for.
    """

    name: str
    method: str
    rule: str
    about: str
    answers: dict[int, type[BaseModel] | Schema | None]
    refusals: tuple[int, ...] = ()
    path: dict[str, Schema] = field(default_factory=dict)
    query: tuple[Parameter[Any], ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    body: tuple[type[BaseModel], ...] = ()
    array: bool = False

    @property
    def guarded(self) -> bool:
        """Whether it takes an API key."""
        return guarded(self.rule)


def guarded(path: str) -> bool:
    """Whether a path takes an API key; also paths that do not exist."""
    return path.startswith("/api/") or path in {"/api", "/metrics"}


_BROKER = (503, 504)
_BODY = (413, 415)
_PUBLISHED: Schema = {"oneOf": [models.ReceiptAnswer, models.EachItem]}

ROUTES = (
    Route(
        "publish",
        "POST",
        "/api/publish",
        "Publish one object, or an array of up to `max_batch`, which is answered item by item",
        {200: _PUBLISHED, 202: _PUBLISHED},
        (400, 404, *_BODY, *_BROKER),
        headers={
            "Prefer": "`respond-async` (RFC 7240): answered 202, and `Location` is where what became of it can be read"
        },
        body=tuple(models.TARGETS.values()),
        array=True,
    ),
    Route(
        "publication",
        "GET",
        "/api/publications/<id>",
        "What became of a publication with `Prefer: respond-async` or `ack`; 202 while something is still expected",
        {200: ReportAnswer, 202: ReportAnswer},
        (400, 404, *_BROKER),
        path={"id": names.NAMED_PUBLICATION},
        query=(CHANNEL,),
    ),
    Route(
        "history",
        "GET",
        "/api/channels/<channel>/history",
        "Kept publications of a channel, oldest first",
        {200: models.HistoryAnswer},
        (400, 404, *_BROKER),
        path={"channel": names.CHANNEL},
        query=(SINCE, HISTORY_LIMIT, NEWEST),
    ),
    Route(
        "presence",
        "GET",
        "/api/channels/<channel>/presence",
        "Who is in a channel, over all nodes",
        {200: models.PresenceAnswer},
        (400, 403, 404, *_BROKER),
        path={"channel": names.CHANNEL},
        query=(PRESENCE_LIMIT,),
    ),
    Route(
        "channels",
        "GET",
        "/api/channels",
        "Channels that connections listen to, on all nodes",
        {200: models.ChannelsAnswer},
        (400, *_BROKER),
        query=(LIMIT, AFTER_CHANNEL, HERE),
    ),
    Route(
        "connections",
        "GET",
        "/api/connections",
        "Connections of all nodes",
        {200: models.ConnectionsAnswer},
        (400, *_BROKER),
        query=(LIMIT, AFTER_CONNECTION, HERE),
    ),
    Route(
        "disconnect",
        "POST",
        "/api/users/<user>/disconnect",
        "End all connections of a user, on every node; the user may come back",
        {200: models.DisconnectedAnswer},
        (400, 404, *_BROKER),
        path={"user": names.USER},
    ),
    Route(
        "disconnect_connection",
        "POST",
        "/api/connections/<connection>/disconnect",
        "End one connection, on whichever node it is; its client may come back",
        {200: models.DisconnectedAnswer},
        (400, 404, *_BROKER),
        path={"connection": names.CONNECTION},
    ),
    Route(
        "subscribe",
        "POST",
        "/api/users/<user>/subscribe",
        "Subscribe a user's live connections to a channel, whatever their tokens cover; they are told",
        {200: models.SubscribedAnswer},
        (400, 404, *_BODY, *_BROKER),
        path={"user": names.USER},
        body=(models.ChannelOfUser,),
    ),
    Route(
        "unsubscribe",
        "POST",
        "/api/users/<user>/unsubscribe",
        "Take a channel from a user's live connections; they are told",
        {200: models.SubscribedAnswer},
        (400, 404, *_BODY, *_BROKER),
        path={"user": names.USER},
        body=(models.ChannelOfUser,),
    ),
    Route(
        "nodes",
        "GET",
        "/api/nodes",
        "Every node that lives, and how many connections, sessions and subscriptions they have",
        {200: models.NodesAnswer},
        (400, *_BROKER),
    ),
    Route(
        "revoke",
        "POST",
        "/api/revocations",
        "Cut off a user, or one token by its `jti`, on every node and at once",
        {201: models.RevokedAnswer},
        (400, *_BODY, *_BROKER),
        body=tuple(models.REVOCATIONS.values()),
    ),
    Route("openapi", "GET", "/api/openapi.json", "This description", {200: {"type": "object"}}, (400,)),
    Route("healthz", "GET", "/healthz", "Whether the process answers", {200: models.HealthAnswer}, (400,)),
    Route(
        "readyz",
        "GET",
        "/readyz",
        "Whether publications flow through this node; 503 if not",
        {200: models.ReadyAnswer, 503: models.ReadyAnswer},
        (400,),
    ),
    Route("metrics", "GET", "/metrics", "What this node counts, in Prometheus' text format", {200: None}, (400,)),
)
