"""Response bodies of the HTTP API. `openapi.py` generates the OpenAPI document from these models.

`title` is the name of a model's schema in that document. Generated clients use it, so it stays when a class is renamed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tidings_hub.web.schemas import CursorText


class ResponseModel(BaseModel):
    """A response body. Fields that the model does not declare are left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ErrorDetail(ResponseModel, title="Fault"):
    """An error code (PROTOCOL.md lists them), and a message with the fix."""

    code: str
    message: str


class ErrorResponse(ResponseModel, title="ErrorAnswer"):
    """The body of every response with an error status."""

    error: ErrorDetail


class ReceiptResponse(ResponseModel, title="ReceiptAnswer"):
    """The broker stored the publication. `duplicate`: the id was known already, and nothing new was published."""

    id: str
    cursor: CursorText
    duplicate: bool


class ChannelResults(ResponseModel, title="EachChannel"):
    """One result per channel, in the order of the request."""

    results: list[ReceiptResponse | ErrorResponse]


class BatchResults(ResponseModel, title="EachItem"):
    """One result per item, in the order of the request. The result of an item with `channels` has one per channel."""

    results: list[ReceiptResponse | ErrorResponse | ChannelResults]


class PublicationResponse(ResponseModel, title="PublicationAnswer"):
    """One stored publication. `at_ms` is the clock of its emitter, in milliseconds since 1970."""

    event: str
    data: Any
    id: str
    cursor: CursorText
    at_ms: int


class HistoryResponse(ResponseModel, title="HistoryAnswer"):
    """`cursor` is the position at which the history was read. A subscription from there misses nothing."""

    cursor: CursorText
    publications: list[PublicationResponse]


class ClusterResponse(ResponseModel):
    """`nodes`: how many nodes replied. `missing`: live nodes that did not reply in time."""

    nodes: int
    missing: list[str]


class MemberResponse(ResponseModel, title="MemberAnswer"):
    """A user in a channel, with any number of connections. `info` comes from the user's token."""

    user: str
    info: dict[str, Any] | None


class PresenceResponse(ResponseModel, title="PresenceAnswer"):
    """The members of the channel on all nodes, at `cursor`. `members` is null above the limit."""

    cursor: CursorText
    count: int
    members: list[MemberResponse] | None


class ChannelResponse(ResponseModel, title="ChannelAnswer"):
    """A channel with subscriptions, and its number of subscribed connections."""

    channel: str
    connections: int


class ChannelsResponse(ClusterResponse, title="ChannelsAnswer"):
    """One page. Send `next` as `after` to get the following page; null marks the last one."""

    channels: list[ChannelResponse]
    next: str | None


class ConnectionResponse(ResponseModel, title="ConnectionAnswer"):
    """One connection; `channels` is how many channels it is subscribed to."""

    connection: str
    user: str | None
    transport: Literal["polling", "websocket", "sse"]
    channels: int
    age_s: float = Field(description="Seconds since it was opened")
    node: str


class ConnectionsResponse(ClusterResponse, title="ConnectionsAnswer"):
    """One page. Send `next` as `after` to get the following page; null marks the last one."""

    connections: list[ConnectionResponse]
    next: str | None


class DisconnectResponse(ClusterResponse, title="DisconnectedAnswer"):
    """How many connections the nodes closed that replied."""

    disconnected: int


class SubscriptionResponse(ClusterResponse, title="SubscribedAnswer"):
    """How many connections were changed, and how many of the user's connections could not be subscribed."""

    connections: int
    refused: int


class TransportsResponse(ResponseModel, title="TransportsAnswer"):
    """Number of connections by transport."""

    websocket: int = 0
    polling: int = 0
    sse: int = 0


class NodeResponse(ResponseModel, title="NodeAnswer"):
    """The last heartbeat of a node; `at_s` is its own clock. Several nodes can count the same channel in `channels`."""

    node: str
    address: str
    version: str
    started_s: float
    at_s: float
    connections: TransportsResponse
    sessions: int
    channels: int
    subscriptions: int


class NodesResponse(ResponseModel, title="NodesAnswer"):
    """Every live node, and the totals over all of them."""

    nodes: list[NodeResponse]
    connections: TransportsResponse
    sessions: int
    subscriptions: int


class RevocationResponse(ClusterResponse, title="RevokedAnswer"):
    """The revocation in force, and how many connections it closed. Missing nodes read it from the broker later."""

    user: str | None = None
    jti: str | None = None
    until_s: float
    disconnected: int


class HealthResponse(BaseModel, title="HealthAnswer"):
    """The process answers requests. `insecure` lists the unsafe options in use."""

    model_config = ConfigDict(extra="allow")
    status: Literal["ok"]
    insecure: list[str]


class ReadinessResponse(ResponseModel, title="ReadyAnswer"):
    """Whether publications flow through this node, and the result of each check."""

    ready: bool
    checks: dict[str, Any]


class NotificationResponse(ResponseModel):
    """The notification service has stored it: `stored`; or need not: the user's choice (`suppressed`), or `expired`."""

    id: str
    state: Annotated[str, WithJsonSchema({"enum": ["stored", "suppressed", "expired"]})]
    duplicate: bool


class NotifyUserResults(ResponseModel):
    """One result per user, in the order of the request without repetitions."""

    results: list[NotificationResponse | ErrorResponse]


class NotifyBatchResults(ResponseModel):
    """One result per user or item, in the order of the request. The result of an item with `users` has one per user."""

    results: list[NotificationResponse | ErrorResponse | NotifyUserResults]


class MarkedNotification(ResponseModel):
    """A notification that is gone."""

    id: str
    deleted: Literal[True] = True


class InboxCountsResponse(ResponseModel):
    """What is left in the inbox."""

    unseen: int
    unread: int


class DeletionResponse(ResponseModel):
    """How many notifications were deleted. `unknown`: ids without a notification of this user."""

    count: int
    changed: list[MarkedNotification]
    unknown: list[str]
    counts: InboxCountsResponse
    version: int
