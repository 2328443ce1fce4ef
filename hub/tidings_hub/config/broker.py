"""Settings of the broker, and of what all nodes do together."""

from __future__ import annotations

from tidings_hub.config.fields import Model, setting


class BrokerSettings(Model):
    """Bounds between the node and its broker. What passes one is repaired, or told as a gap."""

    broker_timeout_s: float = setting(
        5.0,
        "Seconds to wait for one answer of the broker",
        ge=0.1,
        le=300,
        policy="answer `unavailable` or `timeout`",
        metric="broker_timeouts",
    )
    pointer_ttl_s: int = setting(
        604_800,
        "Seconds that the broker knows a channel's end after its last use",
        ge=14_400,
        le=31_536_000,
        policy="what came before counts as a gap: `recovered: false`",
        metric="recoveries_failed",
    )
    link_max_bytes: int = setting(
        67_108_864,
        "Bytes of an unfinished message on the link to the broker",
        ge=1_048_576,
        le=536_870_912,
        policy="make the link anew, without the message",
        metric="broker_oversize",
    )
    early_max: int = setting(
        256,
        "Live publications kept of one channel while the node joins it",
        ge=1,
        le=100_000,
        policy="drop; found missing and repaired",
        metric="broker_held_dropped",
    )
    held_max_bytes: int = setting(
        16_777_216,
        "Bytes of live publications kept back while channels are repaired",
        ge=65_536,
        le=1_073_741_824,
        policy="drop; found missing and repaired",
        metric="broker_held_dropped",
    )
    repair_max_bytes: int = setting(
        67_108_864,
        "Bytes read from the broker in one repair",
        ge=65_536,
        le=1_073_741_824,
        policy="tell a gap in the channels beyond it",
        metric="gaps_lost",
    )
    doubts_max: int = setting(
        10_000,
        "Channels of which is known which cursors lack something that this node had lost",
        ge=1,
        le=10_000_000,
        policy="doubt such cursors in every channel: `recovered: false`",
        metric="doubts_widened",
    )


class ClusterSettings(Model):
    """What all nodes do together."""

    control_timeout_s: float = setting(
        2.0,
        "Seconds that an order to all nodes waits for their answers",
        ge=0.05,
        le=60,
        policy="answer which nodes are missing",
        metric="control_unanswered",
    )
    node_record_s: float = setting(
        5.0,
        "Seconds between two records that a node writes of itself; after three without one it counts as gone",
        ge=0.1,
        le=300,
    )
