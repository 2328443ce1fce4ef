"""Settings of delivery: history and recovery, delivery reports, presence."""

from __future__ import annotations

from tidings_hub.config.fields import Model, setting


class RecoverySettings(Model):
    """What is kept for clients that were away, and how loss is found."""

    history_page_max: int = setting(
        1000,
        "Publications in one history answer",
        ge=1,
        le=10_000,
        policy="answer fewer over HTTP, refuse with `bad_request` over Socket.IO",
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
        "Bytes read from the broker for one recovery or history answer",
        ge=65_536,
        le=268_435_456,
        policy="answer `recovered: false`; a history answer has fewer",
        metric="recoveries_failed",
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
        "Seconds, at least, in which a stock client that was cut off may return as the session that it was (pid);"
        " 0: never",
        ge=0,
        le=86_400,
    )
    recovery_sessions_max: int = setting(
        200_000,
        "Sessions of this node that the broker keeps for a return, the live ones included",
        ge=1,
        le=10_000_000,
        policy="give no pid: such a client begins anew",
        metric="recovery_sessions_refused",
    )
    recovery_session_max_bytes: int = setting(
        32_768,
        "Bytes of what the broker keeps of one session: its channels",
        ge=256,
        le=1_048_576,
        policy="keep nothing of it: such a client begins anew",
        metric="recovery_sessions_too_large",
    )
    idempotency_s: int = setting(300, "Seconds that the broker knows a publication's id", ge=1, le=86_400)
    linger_s: float = setting(30.0, "Seconds a node stays in a channel after its last subscription", ge=0, le=3600)
    canary_interval_s: float = setting(5.0, "Seconds between two canaries through the broker", ge=0.1, le=300)
    canary_timeout_s: float = setting(
        3.0,
        "Seconds a canary has to come back",
        ge=0.1,
        le=300,
        policy="/readyz answers 503",
        metric="canaries_lost",
    )
    position_check_s: float = setting(5.0, "Seconds between two checks for lost publications", ge=0.1, le=300)


class ReportSettings(Model):
    """What is kept of publications that ask what became of them."""

    report_keep_s: float = setting(
        60.0, "Seconds that it is known whom such a publication reached and who acknowledged it", ge=1, le=3600
    )
    ack_timeout_s: float = setting(
        10.0,
        "Seconds after which acknowledgements that have not come are awaited no longer; they still count",
        ge=0,
        le=3600,
    )
    reports_max: int = setting(
        1000,
        "Such publications that a node knows of",
        ge=1,
        le=1_000_000,
        policy="forget the oldest",
        metric="reports_dropped",
    )
    acks_max: int = setting(
        100_000,
        "Acknowledgements of all of them that a node knows of; those of the latest may be more",
        ge=1,
        le=100_000_000,
        policy="forget the oldest publication",
        metric="reports_dropped",
    )


class PresenceSettings(Model):
    """Who is where, in namespaces with the rule `presence`."""

    presence_grace_s: float = setting(
        3.0, "Seconds until a user whose last connection left a channel counts as gone", ge=0, le=600
    )
    presence_lease_s: float = setting(
        15.0, "Seconds without a sign of a node after which its users count as gone", ge=0.4, le=600
    )
    presence_list_max: int = setting(
        1000,
        "Users of a channel up to which they are listed and their joins and leaves told",
        ge=1,
        le=10_000,
        policy="tell their number instead",
        metric="presence_lists_refused",
    )
    presence_info_max_bytes: int = setting(
        512,
        "Bytes of a token's `info` as JSON, if presence is to show it",
        ge=2,
        le=1024,
        policy="show null instead",
        metric="presence_infos_refused",
    )
