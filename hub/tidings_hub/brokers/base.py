"""The interface between the hub and a broker, through which all nodes share publications and state."""

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
from tidings_hub.brokers.broker_state import BrokerPart, BrokerState
from tidings_hub.core.lease import LeaseReply
from tidings_hub.core.node_directory import NodeLease, NodeLeases
from tidings_hub.core.recovery import ChannelSnapshot, HistorySnapshot
from tidings_hub.core.session_records import ClaimedSession, SessionRecord, WriteResult

__all__ = [
    "Broker",
    "BrokerLimits",
    "BrokerPart",
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
    """The part of a namespace's rule that a broker needs: how much history it stores."""

    @property
    def history(self) -> int:
        """Publications kept per channel; 0: the namespace is volatile."""

    @property
    def history_ttl_s(self) -> int:
        """Seconds after a channel's last publication when its history expires."""


class Sink(Protocol):
    """The hub, as a broker sees it. One greenlet calls it, in order, never concurrently."""

    def deliver(self, publications: list[Publication]) -> None:
        """Deliver the publications of one read, in order of seq, without a gap in any channel."""

    def on_loss(self, channels: list[str], position: Cursor) -> None:
        """These channels have a gap up to `position` that could not be repaired: notify their clients."""

    def on_doubt(self, channels: list[str], first: int, last: int, position: Cursor) -> bool:
        """Clients that resumed with a cursor from `first` to `last` may lack publications of these channels.

        Another node lost them and detected that only now. This node is at `position`. Returns whether there was such a
        client.
        """

    def on_control(self, message: dict[str, object]) -> None:
        """Process a control message of any node, including this one."""


@dataclass(slots=True, frozen=True)
class BrokerLimits:
    """Limits and intervals of a broker, each with its policy.

    message_max_bytes: a larger message is counted as foreign and skipped.
    repair_max: publications repaired per channel after a gap; with more, the gap is reported.
    repair_first: channels repaired before a reconnected node delivers again; the others follow in steps.
    repair_max_bytes: read in one repair of all channels; for channels beyond it, a gap is reported.
    recovery_max_bytes: read for one channel of `read_since`, or for `history`; a channel beyond it is incomplete.
    recovery_round_max_bytes: read at a time for all callers of `read_since`; the others wait for the next read.
    early_max: live publications of one channel buffered before it is active; later ones are dropped and repaired.
    held_max_bytes: live messages buffered during a repair; later ones are dropped and then repaired.
    link_max_bytes: an unfinished message of more than this breaks the link.
    doubts_max: channels with doubted cursors, here and in the broker; beyond it doubt widens to all channels.
    pointer_ttl_s: how long the last seq of a channel is stored after its last use.
    linger_s: how long a channel without a listener stays subscribed.
    position_check_s: interval of the check for lost messages in channels without traffic.
    commands_without_epoch: execute commands that name no epoch; otherwise they are ignored.
    timeout_s: longest wait for one reply of the broker.
    canary_timeout_s: longest wait for a canary.
    """

    message_max_bytes: int
    repair_max: int
    repair_first: int
    repair_max_bytes: int
    recovery_max_bytes: int
    recovery_round_max_bytes: int
    early_max: int
    held_max_bytes: int
    link_max_bytes: int
    doubts_max: int
    pointer_ttl_s: int
    linger_s: float
    position_check_s: float
    commands_without_epoch: bool
    timeout_s: float
    canary_timeout_s: float


class Broker(Protocol):
    """What a node needs of a broker: it numbers, stores and delivers publications, and shares state between nodes."""

    name: str
    presence_parts: int  # Those that store presence. Each can fail alone, and has leases of its own.

    def start(self, sink: Sink) -> None:
        """Connect in the background and begin to call `sink`. Never waits; retries until `stop`."""

    def stop(self) -> None:
        """Disconnect. Waiting callers get `Unavailable`."""

    def publish(self, channel: str, body: bytes, *, id: str, idempotency_s: int) -> Receipt:
        """Number, store and publish one body.

        Raises:
            Unavailable: the broker did not accept it. TimedOut: it may have accepted it.
            UnknownNamespace: there is no rule for the namespace.
        """

    def publish_many(self, items: Sequence[OutgoingPublication]) -> list[PublishResult]:
        """Publish several items in order, in one round trip. Returns one result per item."""

    def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe to these channels; returns when the broker has confirmed it. Idempotent.

        Raises:
            Unavailable: the broker did not confirm in time.
        """

    def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe from these channels after `linger_s`, unless they are subscribed again before."""

    def read_since(self, channels: Sequence[str], cursor: Cursor | None, *, limit: int) -> HistorySnapshot:
        """Read the position, each channel's pointer and the publications after `cursor`, in one atomic step.

        Missing pointers are set to the position, and reported as None. Without a cursor no publications are read,
        otherwise at most limit + 1 per channel. Before this returns, every live publication up to the position went
        through `Sink.deliver`, for those channels that this node is subscribed to. Gaps were repaired.

        Raises:
            Unavailable: the broker did not answer in time.
        """

    def is_doubted(self, channel: str, cursor: Cursor) -> bool:
        """Whether this node lost a publication that a client with this cursor may lack.

        Call it after `read_since`, whose result already contains the doubts of other nodes.
        """

    def history(
        self, channel: str, *, since: Cursor | None, limit: int, newest: bool
    ) -> tuple[Cursor, list[Publication]]:
        """The position and at most `limit` stored publications after `since`, in order of seq.

        `newest`: the last ones; otherwise the first ones.

        Raises:
            Unavailable: the broker did not answer in time.
        """

    def write_rules(self, rules: Mapping[str, HistoryRule]) -> None:
        """Write all rules, now and after every reconnect (`*`: any other namespace). After a HubError: later."""

    def send_control(self, message: dict[str, object]) -> None:
        """Send `message` to the `Sink.on_control` of every node.

        Raises:
            Unavailable: the broker did not take it.
        """

    def run_command(self, command: Command, *, timeout_s: float) -> NodeReplies:
        """Send a command to every node. Returns the replies within `timeout_s` seconds, and the nodes without one.

        A revocation is stored in the same step, as by `write_revocations`.

        Raises:
            Unavailable: the broker did not accept it.
        """

    def reply(self, token: str, reply: Mapping[str, object]) -> None:
        """Reply to a command. `token` is the field `reply` of its message. Waits for the broker.

        Raises:
            Unavailable: the broker did not accept it.
        """

    def write_node(self, node: str, record: Mapping[str, object] | None, *, lease_s: float) -> list[NodeRecord]:
        """Store a node's record for `lease_s` seconds; None removes it. Returns the records of all live nodes.

        Raises:
            Unavailable: the broker did not accept it.
        """

    def nodes(self) -> list[NodeRecord]:
        """The records of all live nodes, sorted by name.

        Raises:
            Unavailable: the broker did not answer.
        """

    def write_revocations(self, until_s: Mapping[str, float]) -> None:
        """Store some hundred revocations in one atomic step. Never shortens one. Raises as `revocations`."""

    def revocations(self) -> dict[str, float]:
        """The revocations in force: key (`user:<sub>` or `jti:<jti>`) to the wall clock time of the end.

        Raises:
            Unavailable: the broker did not answer in time.
        """

    def renew_node_lease(self, node_id: str, address: str, *, lease_s: float) -> NodeLeases:
        """Store a node's address for `lease_s` seconds. Returns the leases of all nodes, including this one.

        An empty address releases the lease. The other nodes see the released lease for `lease_s` seconds.

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
        """Acquire or renew the lease `name` for `lease_s` seconds; 0 releases it. It has one holder at a time.

        `holder` is a name of one process that no other process ever uses.

        Raises:
            Unavailable: the broker did not answer in time.
        """

    def presence_part_of(self, channel: str) -> int:
        """The number of the part that stores the members of a channel."""

    def update_presence(self, update: PresenceUpdate, *, part: int = 0) -> PresenceUpdateResult:
        """Renew a node's lease in one part and apply its changes there, in one atomic step over all nodes.

        Raises:
            Unavailable: the broker did not answer; the same update may be retried.
        """

    def members(self, channel: str, *, limit: int) -> Presence:
        """The members of a channel; with more than `limit` users only their number.

        Raises:
            Forbidden: presence is off in its namespace.
            Unavailable: the broker did not answer in time.
        """

    def canary(self) -> float:
        """Publish to this node itself through each part; returns the seconds of the slowest part that returned it.

        Raises:
            Unavailable: the broker rejected it, or it did not arrive in time.
        """

    def eviction_policy(self) -> str:
        """How the broker evicts keys when its memory is full, such as `noeviction`; empty: unknown, or never.

        Raises:
            Unavailable: the broker did not answer in time.
        """

    @property
    def position(self) -> Cursor | None:
        """Up to where this node has processed the sequence; None before it has reached the broker.

        In all active channels, everything up to there went through the sink, and nothing beyond. It is a valid
        cursor for a client that has received everything from this node.
        """

    def state(self) -> BrokerState:
        """The state of the broker."""
