"""What every broker promises the hub: the place where nodes meet (DESIGN 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.receipts import Receipt
from tidings.wire.control import Command, NodeRecord, NodeReplies
from tidings.wire.cursor import Cursor
from tidings.wire.presence import Presence, PresenceUpdate, PresenceUpdateResult
from tidings.wire.publication import Publication
from tidings_hub.core.lease import LeaseReply
from tidings_hub.core.node_directory import NodeLease, NodeLeases
from tidings_hub.core.recovery import ChannelSnapshot, HistorySnapshot
from tidings_hub.core.session_records import ClaimedSession, SessionRecord, WriteResult

__all__ = [
    "Broker",
    "BrokerLimits",
    "BrokerState",
    "ChannelSnapshot",
    "ClaimedSession",
    "HistoryRule",
    "HistorySnapshot",
    "LeaseReply",
    "NodeLease",
    "NodeLeases",
    "OutgoingPublication",
    "SessionRecord",
    "Sink",
    "WriteResult",
]


class HistoryRule(Protocol):
    """What a broker must know of a namespace's rule: how much of the past it keeps."""

    @property
    def history(self) -> int:
        """Publications kept per channel; 0: the namespace is volatile."""

    @property
    def history_ttl_s(self) -> int:
        """Seconds after a channel's last publication when its history is forgotten."""


class Sink(Protocol):
    """The hub, as a broker sees it. Called from one place, in order, never concurrently."""

    def deliver(self, publications: list[Publication]) -> None:
        """All that one read brought, in order of seq; without a hole per channel."""

    def on_loss(self, channels: list[str], position: Cursor) -> None:
        """These channels have a gap up to here that could not be repaired: their clients must be told."""

    def on_doubt(self, channels: list[str], first: int, last: int, position: Cursor) -> bool:
        """Whoever returned here with a cursor from `first` to `until` may lack something in these channels.

        Another node lost it and has only now found out; this one is at `position`. Returns whether there was anybody.
        """

    def on_control(self, message: dict[str, object]) -> None:
        """A control message of any node, this one included."""


@dataclass(slots=True, frozen=True)
class BrokerState:
    """How a broker is, for health pages. `last_error` holds no secret; `since_s` is a wall clock time."""

    connected: bool
    since_s: float
    reconnects: int
    channels: int
    last_error: str = ""


@dataclass(slots=True, frozen=True)
class BrokerLimits:
    """Bounds and intervals of a broker; each has its policy.

    message_max_bytes: a larger message is poison: counted and skipped.
    repair_max: publications repaired per channel after a gap; more are a gap that is told.
    repair_max_bytes: read in one repair of all channels; channels beyond it are told as a gap.
    recovery_max_bytes: read for one `since` or `history`; channels beyond it look incomplete.
    early_max: live publications of one channel kept while the node joins it; later ones are dropped and repaired.
    held_max_bytes: live messages kept back during a repair; later ones are dropped and then repaired.
    link_max_bytes: an unfinished message of more than this on the link breaks the link.
    doubts_max: channels with doubted cursors, here and in the broker; beyond it doubt widens to all channels.
    pointer_ttl_s: how long a channel's end is known after its last use.
    linger_s: how long a channel without a listener stays subscribed.
    position_check_s: interval of the search for lost messages on quiet channels.
    timeout_s: longest wait for one answer of the broker.
    canary_timeout_s: longest wait for a canary.
    """

    message_max_bytes: int
    repair_max: int
    repair_max_bytes: int
    recovery_max_bytes: int
    early_max: int
    held_max_bytes: int
    link_max_bytes: int
    doubts_max: int
    pointer_ttl_s: int
    linger_s: float
    position_check_s: float
    timeout_s: float
    canary_timeout_s: float


class Broker(Protocol):
    """Where nodes meet: numbering, storing, publishing, and reading what was missed."""

    name: str

    def start(self, sink: Sink) -> None:
        """Connect in the background and begin to call `sink`; returns at once, retries for ever."""

    def stop(self) -> None:
        """Give up everything. Waiting callers get `Unavailable`."""

    def publish(self, channel: str, body: bytes, *, id: str, idempotency_s: int) -> Receipt:
        """Number, store and publish one body.

        Raises:
            Unavailable, TimedOut: the broker did not (or may not have) taken it.
            UnknownNamespace: no rule for it.
        """

    def publish_many(self, items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        """As `publish` for several, in order, in one round trip; one answer per item."""

    def subscribe(self, channels: Sequence[str]) -> None:
        """Receive these channels from now on; returns when that is certain. Idempotent.

        Raises:
            Unavailable: the broker did not confirm in time.
        """

    def unsubscribe(self, channels: Sequence[str]) -> None:
        """No connection listens here any more: leave after `linger_s`, unless somebody subscribes again."""

    def read_since(self, channels: Sequence[str], cursor: Cursor | None, *, limit: int) -> HistorySnapshot:
        """One atomic look at channels: the position, each pointer, what is kept after `cursor`.

        Missing pointers are set to the position (and reported as None). Without a cursor no
        publications are read; otherwise at most limit + 1 per channel. When it returns, every live
        publication up to the position in those of the channels that this node is subscribed to
        has gone through `Sink.deliver`, repaired if it had to be.

        Raises:
            Unavailable: the broker did not answer in time.
        """

    def is_doubted(self, channel: str, cursor: Cursor) -> bool:
        """Whether a client with this cursor may lack a publication that this node lost, found after the last `since`.

        What other nodes have found is in the answer to `since` itself.
        """

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """The position and at most `limit` kept publications after `since`, in order of seq.

        With `newest` they are the last ones, otherwise the first ones.

        Raises:
            Unavailable: the broker did not answer in time.
        """

    def write_rules(self, rules: Mapping[str, HistoryRule]) -> None:
        """Make these the broker's rules, now and after every reconnect; `*` is any other namespace."""

    def send_control(self, message: dict[str, object]) -> None:
        """Give `message` to every node's `Sink.control`.

        Raises:
            Unavailable: the broker did not take it.
        """

    def run_command(self, command: Command, *, timeout_s: float) -> NodeReplies:
        """Have every node do something; what they answered within `timeout_s` seconds, and who did not.

        A revocation is remembered in the same step (as by `revoke`).

        Raises:
            Unavailable: the broker did not take it.
        """

    def reply(self, token: str, reply: Mapping[str, object]) -> None:
        """Answer an order: `token` is the `reply` in its message. Waits for the broker.

        Raises:
            Unavailable: the broker did not take it.
        """

    def write_node(self, node: str, record: Mapping[str, object] | None, *, lease_s: float) -> list[NodeRecord]:
        """Say how this node is, for `lease_s` seconds; None: it ends. Returns all records that hold.

        Raises:
            Unavailable: the broker did not take it.
        """

    def nodes(self) -> list[NodeRecord]:
        """The records of all nodes that live, by name.

        Raises:
            Unavailable: the broker did not answer.
        """

    def revoke(self, key: str, until_s: float) -> None:
        """Remember a revocation (`user:<sub>` or `jti:<jti>`) until that wall clock time."""

    def revocations(self) -> dict[str, float]:
        """The revocations that still hold: key to end."""

    def renew_node_lease(self, node_id: str, address: str, *, lease_s: float) -> NodeLeases:
        """Say for `lease_s` where a node is reached, and hear who else is there, that node included.

        Without an address the node gives its lease up; the roll says so to the others for `lease_s`.

        Raises:
            Unavailable: the broker did not answer in time.
        """

    def write_sessions(self, records: Sequence[SessionRecord]) -> list[WriteResult]:
        """Create, update, touch or delete session records; one result per record, in order.

        A record of an older epoch does not exist any more.

        Raises:
            Unavailable, TimedOut: the broker did not answer; the same may be tried again.
        """

    def claim_session(self, key: str, user: str) -> ClaimedSession | None:
        """Read and delete a session record in one step, so that only one caller gets it.

        A record of another user stays where it is. An empty `user` matches every user.

        Raises:
            Unavailable, TimedOut: the broker did not answer; the record may have been claimed.
        """

    def acquire_lease(self, name: str, holder: str, *, lease_s: float) -> LeaseReply:
        """Take or keep the lease `name` for `lease_s` seconds; 0 gives it up. One holder at a time has it.

        `holder` is one process' own name, never used again by another.

        Raises:
            Unavailable: the broker did not answer in time.
        """

    def update_presence(self, update: PresenceUpdate) -> PresenceUpdateResult:
        """A node's turn in presence: it lives, and this changed; decided over all nodes in one atomic step.

        Raises:
            Unavailable: the broker did not answer; the same turn may be tried again.
        """

    def members(self, channel: str, *, limit: int) -> Presence:
        """Who is in a channel; of more than `limit` users only their number.

        Raises:
            Forbidden: the broker knows of no presence in its namespace.
            Unavailable: the broker did not answer in time.
        """

    def canary(self) -> float:
        """Send a message through the broker and back; returns the seconds it took.

        Raises:
            Unavailable: it did not come back in time.
        """

    @property
    def position(self) -> Cursor | None:
        """Up to where this node has processed the sequence; None before the first contact.

        All up to there in the channels that were joined went through the sink, and nothing beyond: a client that is
        told this cursor has everything of its other channels up to it, and gets nothing that it says it has.
        """

    def state(self) -> BrokerState:
        """How the broker is."""
