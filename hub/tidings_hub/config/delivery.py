"""Settings of delivery: history and recovery, delivery reports, presence, channels of clients."""

from __future__ import annotations

from tidings_hub.config.fields import SettingsModel, setting


class RecoverySettings(SettingsModel):
    """What the hub stores for clients that reconnect, and how it detects losses."""

    history_page_max: int = setting(
        1000,
        "Publications in one response of history",
        ge=1,
        le=10_000,
        policy="return fewer over HTTP; reject with `bad_request` over Socket.IO",
        metric="history_limited",
    )
    recovery_max: int = setting(
        1000,
        "Publications recovered per channel",
        ge=1,
        le=10_000,
        policy="answer `recovered: false`",
        metric="recoveries_failed",
    )
    recovery_max_bytes: int = setting(
        4_194_304,
        "Bytes read from the broker for one channel of a recovery, or for one history response",
        ge=65_536,
        le=268_435_456,
        policy="answer `recovered: false`; a history response has fewer publications",
        metric="recoveries_failed",
    )
    recovery_round_max_bytes: int = setting(
        16_777_216,
        "Bytes read from the broker at a time for all clients that recover, and as many for those that request"
        " history; at least `recovery_max_bytes`",
        ge=65_536,
        le=1_073_741_824,
        policy="read for the other clients after these",
        metric="recoveries_deferred",
    )
    hold_max: int = setting(
        10_000,
        "Live publications held back while a connection recovers",
        ge=1,
        le=1_000_000,
        policy="answer `recovered: false`",
        metric="held_overflows",
    )
    recovery_window_s: float = setting(
        120.0,
        "Seconds, at least, during which a stock client can resume its session with a pid; 0: never",
        ge=0,
        le=86_400,
    )
    recovery_away_s: float = setting(
        30.0,
        "Seconds for which a client with a pid is sent back with `unavailable` while the session store does not answer",
        ge=0,
        le=86_400,
        policy="open a new session, without a pid: such a client gets `recovered: false`",
        metric="returns_refused",
    )
    recovery_sessions_max: int = setting(
        200_000,
        "Sessions of this node that the session store holds, live ones included",
        ge=1,
        le=10_000_000,
        policy="give no pid: such a client gets a new session",
        metric="recovery_sessions_refused",
    )
    recovery_session_max_bytes: int = setting(
        32_768,
        "Bytes of one session in the session store: its channels",
        ge=256,
        le=1_048_576,
        policy="do not store it: such a client gets a new session",
        metric="recovery_sessions_too_large",
    )
    idempotency_s: int = setting(300, "Seconds for which the broker remembers the id of a publication", ge=1, le=86_400)
    linger_s: float = setting(
        30.0, "Seconds for which a node stays subscribed to a channel after its last subscription", ge=0, le=3600
    )
    canary_interval_s: float = setting(5.0, "Seconds between two canaries through the broker", ge=0.1, le=300)
    canary_timeout_s: float = setting(
        3.0,
        "Seconds until a canary must return",
        ge=0.1,
        le=300,
        policy="it counts as failed",
        metric="canaries_lost",
    )
    canary_failures: int = setting(
        2,
        "Canaries that must fail in a row until the node is not ready",
        ge=1,
        le=100,
        policy="/readyz answers 503",
        metric="canaries_lost",
    )
    position_check_s: float = setting(5.0, "Seconds between two checks for lost publications", ge=0.1, le=300)


class ReportSettings(SettingsModel):
    """Delivery reports of publications that request one."""

    report_keep_s: float = setting(
        60.0, "Seconds for which a node keeps the delivery report of a publication", ge=1, le=3600
    )
    ack_timeout_s: float = setting(
        10.0,
        "Seconds for which a report expects acknowledgements; later ones still count",
        ge=0,
        le=3600,
    )
    reports_max: int = setting(
        1000,
        "Delivery reports that a node keeps",
        ge=1,
        le=1_000_000,
        policy="drop the oldest",
        metric="reports_dropped",
    )
    acks_max: int = setting(
        100_000,
        "Acknowledgements in all delivery reports of a node; those of the latest publication may exceed it",
        ge=1,
        le=100_000_000,
        policy="drop the oldest report",
        metric="reports_dropped",
    )


class PresenceSettings(SettingsModel):
    """Members of channels, in namespaces with the rule `presence`."""

    presence_grace_s: float = setting(
        3.0, "Seconds for which a user stays a member after the last connection left the channel", ge=0, le=600
    )
    presence_lease_s: float = setting(
        15.0, "Seconds without an update of a node after which its users leave", ge=0.4, le=600
    )
    presence_list_max: int = setting(
        1000,
        "Members of a channel up to which the hub lists them and sends joins and leaves",
        ge=1,
        le=10_000,
        policy="send their number instead",
        metric="presence_lists_refused",
    )
    presence_info_max_bytes: int = setting(
        512,
        "Bytes of a token's `info` as JSON for presence",
        ge=2,
        le=1024,
        policy="show null instead",
        metric="presence_infos_refused",
    )


class ChannelSettings(SettingsModel):
    """Channels of clients, and what clients publish in them. What exceeds a limit is rejected, and nothing else."""

    channels_per_connection: int = setting(
        128,
        "Channels that one connection may subscribe to",
        ge=1,
        le=100_000,
        policy="reject with `too_many_channels`",
        metric="channels_refused",
    )
    request_channels_max: int = setting(
        256,
        "Channels that one request may name; at least twice `channels_per_connection`, whatever the value",
        ge=1,
        le=100_000,
        policy="reject the others with `too_many_channels`, unchecked",
        metric="channels_refused",
    )
    new_channels_per_minute: int = setting(
        120,
        "New channels that one user may subscribe to or publish in, per minute on average; 0: no limit. A channel is"
        " new if it has no subscriber on this node and is not among the latest 10,000 that were new",
        ge=0,
        le=1_000_000,
        policy="reject with `too_fast`",
        metric="new_channels_refused",
    )
    new_channels_burst: int = setting(
        1000,
        "New channels that one user may use at once",
        ge=1,
        le=1_000_000,
        policy="reject with `too_fast`",
        metric="new_channels_refused",
    )
    publish_bytes_per_minute: int = setting(
        2_097_152,
        "Bytes that one user may publish in channels with history, per minute on average; 0: no limit. Each"
        " publication counts with its data, event and id, and 110 bytes that the broker stores beside them",
        ge=0,
        le=1_099_511_627_776,
        policy="reject with `too_fast`",
        metric="publish_bytes_refused",
    )
    publish_burst_bytes: int = setting(
        4_194_304,
        "Bytes that one user may publish in channels with history at once",
        ge=4096,
        le=1_099_511_627_776,
        policy="reject with `too_fast`",
        metric="publish_bytes_refused",
    )
