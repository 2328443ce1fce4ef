"""The bodies of the HTTP API: what may be sent, and what is answered. `openapi.py` is made from these."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from tidings_hub.web.schemas import ChannelName, ChannelNames, CursorText, EventName, PublicationId, TokenId, UserName

# The end of the year 9999, the last that dates can say.
_UNTIL_MAX_S = 253_402_300_799
_FOR_MAX_S = 10 * 366 * 86_400


class Asked(BaseModel):
    """A body that a caller sends: no name beyond the documented ones, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Ack = Annotated[
    bool, Field(description="Clients acknowledge it, and what became of it is known: see `/api/publications/{id}`")
]


class PublishToChannel(Asked):
    """One publication in one channel."""

    channel: ChannelName
    event: EventName
    data: Any = Field(description="Any JSON, at most `publication_max_bytes` when compact, nested 64 levels at most")
    id: PublicationId | None = Field(default=None, description="Left out: the hub makes one")
    ack: Ack = False


class PublishToChannels(Asked):
    """The same publication in several channels, one of its own in each."""

    channels: ChannelNames
    event: EventName
    data: Any = Field(description="As for one channel")
    id: PublicationId | None = None
    ack: Ack = False


class PublishToUser(Asked):
    """One publication in the channel `user:<sub>` that each connection of this user listens to."""

    user: UserName
    event: EventName
    data: Any = Field(description="As for one channel")
    id: PublicationId | None = None
    ack: Ack = False


Publish: TypeAlias = PublishToChannel | PublishToChannels | PublishToUser
TARGETS: dict[str, type[Publish]] = {
    "channel": PublishToChannel,
    "channels": PublishToChannels,
    "user": PublishToUser,
}

UntilS = Annotated[float, Field(ge=0, le=_UNTIL_MAX_S, description="Seconds since 1970")]
ForS = Annotated[float, Field(gt=0, le=_FOR_MAX_S, description="Seconds from now")]


class RevokeUserFor(Asked):
    """Cut a user off for a while."""

    user: UserName
    for_s: ForS


class RevokeUserUntil(Asked):
    """Cut a user off until a time."""

    user: UserName
    until_s: UntilS


class RevokeTokenFor(Asked):
    """Cut one token off, by its `jti`, for a while."""

    jti: TokenId
    for_s: ForS


class RevokeTokenUntil(Asked):
    """Cut one token off, by its `jti`, until a time: the token's own end is enough."""

    jti: TokenId
    until_s: UntilS


Revocation: TypeAlias = RevokeUserFor | RevokeUserUntil | RevokeTokenFor | RevokeTokenUntil
REVOCATIONS: dict[tuple[str, str], type[Revocation]] = {
    ("user", "for_s"): RevokeUserFor,
    ("user", "until_s"): RevokeUserUntil,
    ("jti", "for_s"): RevokeTokenFor,
    ("jti", "until_s"): RevokeTokenUntil,
}


class ChannelOfUser(Asked):
    """Which channel."""

    channel: ChannelName


class Answered(BaseModel):
    """A body that the hub answers: fields that are not named here never leave it."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Fault(Answered):
    """What went wrong: a name from the table of codes, and what to do."""

    code: str
    message: str


class ErrorAnswer(Answered):
    """Every answer that is not a success."""

    error: Fault


class ReceiptAnswer(Answered):
    """The broker has it. `duplicate`: it had it before, nothing new was published."""

    id: str
    cursor: CursorText
    duplicate: bool


class EachChannel(Answered):
    """One answer per channel, in the order of the request."""

    results: list[ReceiptAnswer | ErrorAnswer]


class EachItem(Answered):
    """One answer per item, in the order of the request; an item with `channels` has one per channel."""

    results: list[ReceiptAnswer | ErrorAnswer | EachChannel]


class PublicationAnswer(Answered):
    """One kept publication. `at_ms` is its emitter's clock, in milliseconds since 1970."""

    event: str
    data: Any
    id: str
    cursor: CursorText
    at_ms: int


class HistoryAnswer(Answered):
    """`cursor` is the position when the history was read: subscribing from there misses nothing."""

    cursor: CursorText
    publications: list[PublicationAnswer]


class OfAllNodes(Answered):
    """`nodes`: how many answered. `missing`: those that live and did not answer in time."""

    nodes: int
    missing: list[str]


class MemberAnswer(Answered):
    """A user in a channel, however many connections they have; `info` is that of the user's token."""

    user: str
    info: dict[str, Any] | None


class PresenceAnswer(Answered):
    """Who is in the channel, over all nodes, at `cursor`. `members` is null where there are more than the limit."""

    cursor: CursorText
    count: int
    members: list[MemberAnswer] | None


class ChannelAnswer(Answered):
    """A channel that somebody listens to, and how many connections do."""

    channel: str
    connections: int


class ChannelsAnswer(OfAllNodes):
    """One page; `next` goes into `after` for the following one, null ends."""

    channels: list[ChannelAnswer]
    next: str | None


class ConnectionAnswer(Answered):
    """One connection; `channels` is how many it listens to."""

    connection: str
    user: str | None
    transport: Literal["polling", "websocket", "sse"]
    channels: int
    age_s: float = Field(description="Seconds since it was opened")
    node: str


class ConnectionsAnswer(OfAllNodes):
    """One page; `next` goes into `after` for the following one, null ends."""

    connections: list[ConnectionAnswer]
    next: str | None


class DisconnectedAnswer(OfAllNodes):
    """How many connections ended on the nodes that answered."""

    disconnected: int


class SubscribedAnswer(OfAllNodes):
    """How many connections were concerned, and how many of the user's could not be subscribed."""

    connections: int
    refused: int


class TransportsAnswer(Answered):
    """How many connections there are, by transport."""

    websocket: int = 0
    polling: int = 0
    sse: int = 0


class NodeAnswer(Answered):
    """What a node last said of itself, `at_s` by its own clock. `channels` it shares with other nodes."""

    node: str
    address: str
    version: str
    started_s: float
    at_s: float
    connections: TransportsAnswer
    sessions: int
    channels: int
    subscriptions: int


class NodesAnswer(Answered):
    """Every node that lives, and the sum of what they have."""

    nodes: list[NodeAnswer]
    connections: TransportsAnswer
    sessions: int
    subscriptions: int


class RevokedAnswer(OfAllNodes):
    """What holds now, and how many connections it ended; the broker tells the missing nodes later."""

    user: str | None = None
    jti: str | None = None
    until_s: float
    disconnected: int


class HealthAnswer(BaseModel):
    """The process answers. `insecure` names the options that are for trials only."""

    model_config = ConfigDict(extra="allow")
    status: Literal["ok"]
    insecure: list[str]


class ReadyAnswer(Answered):
    """Whether publications flow through this node, and each check behind it."""

    ready: bool
    checks: dict[str, Any]
