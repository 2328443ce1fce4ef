"""Settings of the broker, and of communication between nodes."""

from __future__ import annotations

from tidings_hub.config.fields import SettingsModel, setting


class BrokerSettings(SettingsModel):
    """Bounds between a node and its broker. What exceeds one is repaired, or reported as a gap."""

    # Below the 5 s of an Emitter, so that an emitter with the hub's URL learns that the broker is away.
    broker_timeout_s: float = setting(
        4.0,
        "Seconds to wait for one reply of the broker",
        ge=0.1,
        le=300,
        policy="answer `unavailable` or `timeout`",
        metric="broker_timeouts",
    )
    pointer_ttl_s: int = setting(
        604_800,
        "Seconds for which the broker stores the last seq of a channel after its last use",
        ge=14_400,
        le=31_536_000,
        policy="earlier publications count as a gap: `recovered: false`",
        metric="recoveries_failed",
    )
    link_max_bytes: int = setting(
        67_108_864,
        "Bytes of an unfinished message on the connection to the broker",
        ge=1_048_576,
        le=536_870_912,
        policy="reconnect, without the message",
        metric="broker_oversize",
    )
    early_max: int = setting(
        256,
        "Live publications of one channel that are buffered while the node subscribes to it",
        ge=1,
        le=100_000,
        policy="drop; the loss is detected and repaired",
        metric="broker_held_dropped",
    )
    held_max_bytes: int = setting(
        16_777_216,
        "Bytes of live publications that are held back while channels are repaired",
        ge=65_536,
        le=1_073_741_824,
        policy="drop; the loss is detected and repaired",
        metric="broker_held_dropped",
    )
    repair_first: int = setting(
        20_000,
        "Channels that are repaired before a reconnected node delivers again: those with the newest publications",
        ge=1,
        le=1_000_000,
        policy="repair the other channels in steps, while the node delivers",
        metric="broker_channels_unverified",
    )
    repair_max_bytes: int = setting(
        67_108_864,
        "Bytes read from the broker in one repair",
        ge=65_536,
        le=1_073_741_824,
        policy="report a gap in the remaining channels",
        metric="gaps_lost",
    )
    doubts_max: int = setting(
        10_000,
        "Channels with doubted cursors: cursors that lack a publication which this node lost",
        ge=1,
        le=10_000_000,
        policy="doubt these cursors in every channel: `recovered: false`",
        metric="doubts_widened",
    )


class ClusterSettings(SettingsModel):
    """Communication between all nodes."""

    control_timeout_s: float = setting(
        2.0,
        "Seconds that a command to all nodes waits for their replies",
        ge=0.05,
        le=60,
        policy="report the nodes that are missing",
        metric="control_unanswered",
    )
    commands_without_epoch: bool = setting(
        default=True,
        about="Execute commands that name no epoch, as version 0.1 sends them, also those of another database",
        policy="if false, ignore them",
        metric="control_without_epoch",
    )
    node_record_s: float = setting(
        5.0,
        "Seconds between two heartbeat records of a node; after three missing records it counts as dead",
        ge=0.1,
        le=300,
    )
