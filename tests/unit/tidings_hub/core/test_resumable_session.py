"""The stored state of a session, and when a resume is complete."""

from __future__ import annotations

import json

import pytest

from tidings.codes import CODES
from tidings.wire.cursor import Cursor
from tidings_hub.core.resumable_session import (
    ChannelJoin,
    JoinMode,
    ResumableSession,
    Resume,
    ResumeRefusal,
    is_final,
    is_pid,
    plan_resume,
    sid_of,
)

PID = "kept-in-the-client-alone"


def session(*joins: tuple[JoinMode, str, list[str]], stale: str = "") -> ResumableSession:
    stored = ResumableSession(sid_of(PID), "c1", "7", jti="t1", stale_offset=stale)
    for mode, position, channels in joins:
        stored.add_channels(mode, position, channels)
    return stored


def starts(stored: ResumableSession, offset: object, since: str | None = None) -> dict[str, str] | ResumeRefusal:
    resume = plan_resume(stored, offset, None if since is None else Cursor.parse(since))
    if isinstance(resume, ResumeRefusal):
        return resume
    return {"": str(resume.offset)} | {name: str(start) for name, start in resume.starts.items()}


def test_sid_is_derived_from_the_pid() -> None:
    assert sid_of(PID) == sid_of(PID) == "uw8ORvT0Dl_lVay-CzVH"
    assert sid_of(PID + "x") != sid_of(PID)


@pytest.mark.parametrize(
    ("text", "good"), [("a" * 16, True), ("a-_Z9" * 4, True), ("a" * 15, False), ("a" * 65, False)]
)
def test_valid_pids(text: str, good: bool) -> None:
    assert is_pid(text) is good


@pytest.mark.parametrize("other", [None, 7, "a" * 15 + "é", "a" * 20 + "\n", ["a" * 20], "a b" * 8])
def test_invalid_pids(other: object) -> None:
    assert not is_pid(other)


def test_final_reasons() -> None:
    assert [
        name for name in ("draining", "slow", "ping_timeout", "replaced", "transport close", "") if is_final(name)
    ] == []
    assert all(is_final(name) for name in ("client disconnect", "expired", "disconnected", "revoked"))
    assert all(is_final(code.name) for code in CODES.values() if not code.should_reconnect)


def test_decode_reverses_encode() -> None:
    stored = session(
        (JoinMode.FROM_OFFSET, "", ["user:7", "orders:1"]), (JoinMode.FROM_POSITION, "e.5", ["orders:2"]), stale="e.3"
    )
    decoded = ResumableSession.decode(stored.sid, stored.owner, stored.user, stored.encode())
    assert decoded is not None
    assert (decoded.joins, decoded.jti, decoded.stale_offset) == (stored.joins, "t1", "e.3")
    assert decoded.channels == ["user:7", "orders:1", "orders:2"]
    assert PID.encode() not in stored.encode()


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"x", b"[]", b"{}", b"null", b"\xff", b"[" * 100_000),
        json.dumps({"jti": None, "stale": "", "joins": [["other", "", []]]}).encode(),
        json.dumps({"jti": None, "stale": "", "joins": [["since", ""]]}).encode(),
        json.dumps({"jti": None, "stale": "", "joins": [["since", "", 5]]}).encode(),
    ],
)
def test_a_malformed_body_is_not_decoded(body: bytes) -> None:
    assert ResumableSession.decode("s", "c", "u", body) is None


def test_the_last_join_of_a_channel_counts() -> None:
    stored = session(
        (JoinMode.FROM_POSITION, "e.5", ["a:1", "a:2"]),
        (JoinMode.FROM_POSITION, "e.5", ["a:3"]),
        (JoinMode.REPLAYED, "e.7", ["a:1"]),
    )
    assert stored.joins == (
        ChannelJoin(JoinMode.FROM_POSITION, "e.5", ("a:2", "a:3")),
        ChannelJoin(JoinMode.REPLAYED, "e.7", ("a:1",)),
    )
    stored.remove_channels(["a:2", "a:3", "a:9"])
    stored.add_channels(JoinMode.REPLAYING, "", [])
    assert stored.joins == (ChannelJoin(JoinMode.REPLAYED, "e.7", ("a:1",)),)


def test_new_channel_starts_at_the_position_of_its_join() -> None:
    stored = session(
        (JoinMode.FROM_OFFSET, "", ["user:7"]),
        (JoinMode.FROM_POSITION, "e.5", ["a:1"]),
        (JoinMode.FROM_POSITION, "e.9", ["a:2"]),
    )
    assert starts(stored, "e.6") == {"": "e.6", "a:2": "e.9"}
    assert starts(stored, "e.2") == {"": "e.2", "a:1": "e.5", "a:2": "e.9"}
    assert starts(stored, "e.9") == {"": "e.9"}
    clustered = session((JoinMode.FROM_POSITION, "e.5~f.8", ["a:1"]))
    assert starts(clustered, "f.9~e.2") == {"": "f.9~e.2", "a:1": "f.9~e.5"}


def test_replayed_publications_need_a_later_offset() -> None:
    stored = session((JoinMode.REPLAYED, "e.7", ["a:1"]))
    assert starts(stored, "e.8") == {"": "e.8"}
    # The cursor may be from before the replay, so it proves nothing.
    assert starts(stored, "e.7") is ResumeRefusal.UNSETTLED
    assert starts(stored, "e.3") is ResumeRefusal.UNSETTLED
    assert starts(stored, "f.99") is ResumeRefusal.UNSETTLED
    # A cursor that the client sends does not prove it either.
    assert starts(stored, "e.7", since="e.9") is ResumeRefusal.UNSETTLED
    clustered = session((JoinMode.REPLAYED, "e.7~f.4", ["a:1"]))
    assert starts(clustered, "f.5~e.1") == {"": "f.5~e.1"}
    assert starts(clustered, "f.4~e.99") is ResumeRefusal.UNSETTLED
    assert starts(session((JoinMode.REPLAYING, "", ["a:1"])), "e.99") is ResumeRefusal.UNSETTLED


def test_the_later_of_offset_and_since_counts() -> None:
    stored = session((JoinMode.FROM_POSITION, "e.1", ["a:1"]))
    assert starts(stored, "e.6", since="e.4") == {"": "e.6"}
    assert starts(stored, "e.6", since="e.9") == {"": "e.9"}
    assert starts(stored, "e.6", since="old.9") == {"": "e.6"}


@pytest.mark.parametrize("offset", [None, 5, "", "garbage", ["e.1"], "old.9"])
def test_offsets_of_other_sessions_are_refused(offset: object) -> None:
    assert starts(session((JoinMode.FROM_POSITION, "e.1", ["a:1"])), offset) is ResumeRefusal.OFFSET


def test_unknown_position_recovers_nothing() -> None:
    assert starts(session((JoinMode.FROM_POSITION, "", ["a:1"])), "e.1") is ResumeRefusal.OFFSET


def test_offset_of_the_previous_connection_is_rejected() -> None:
    stored = session((JoinMode.FROM_POSITION, "e.1", ["a:1"]), stale="e.6")
    assert starts(stored, "e.6") is ResumeRefusal.UNREADY
    assert starts(stored, "e.7") == {"": "e.7"}


def test_resumed_session_starts_all_channels_in_one_order() -> None:
    stored = session(
        (JoinMode.REPLAYED, "e.7", ["a:1"]),
        (JoinMode.FROM_POSITION, "e.9", ["a:2"]),
        (JoinMode.FROM_OFFSET, "", ["a:3"]),
        stale="e.1",
    )
    resumed = stored.for_connection("c2", None)
    assert (resumed.sid, resumed.owner, resumed.user, resumed.jti, resumed.stale_offset) == (
        stored.sid,
        "c2",
        "7",
        None,
        "",
    )
    assert starts(resumed, "e.8") == {"": "e.8", "a:2": "e.9"}
    assert isinstance(plan_resume(resumed, "e.1"), Resume)
