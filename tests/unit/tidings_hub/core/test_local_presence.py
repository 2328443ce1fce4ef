from __future__ import annotations

from tidings.wire.presence import presence_channel
from tidings.wire.publication import decode, encode_body
from tidings_hub.core.local_presence import LocalPresence, presence_frame, split_answers, with_presence_channels

NO_INFO = b"null"


def pop_tuples(presence: LocalPresence, now_s: float = 0.0) -> list[tuple[str, str, bytes | None]]:
    return [(change.channel, change.user, change.info) for change in presence.pop_changes(now_s)]


def test_user_joins_with_the_first_connection_and_leaves_after_the_last() -> None:
    presence = LocalPresence(grace_s=3)
    presence.join(["a:1"], "7", NO_INFO)
    presence.join(["a:1"], "7", NO_INFO)
    assert pop_tuples(presence) == [("a:1", "7", NO_INFO)]
    presence.leave(["a:1"], "7", now_s=10)
    assert (presence.next_expiry_s(), pop_tuples(presence, 100)) == (None, [])
    presence.leave(["a:1"], "7", now_s=10)
    assert presence.next_expiry_s() == 13
    assert pop_tuples(presence, 12.9) == []
    assert pop_tuples(presence, 13) == [("a:1", "7", None)]
    assert len(presence) == 0


def test_reconnect_within_the_grace_period_produces_no_change() -> None:
    presence = LocalPresence(grace_s=3)
    presence.join(["a:1"], "7", NO_INFO)
    pop_tuples(presence)
    for now_s in (1.0, 2.0, 3.0):
        presence.leave(["a:1"], "7", now_s=now_s)
        presence.join(["a:1"], "7", NO_INFO)
    assert pop_tuples(presence, 100) == []
    presence.leave(["a:1"], "7", now_s=100)
    assert pop_tuples(presence, 102) == []
    assert pop_tuples(presence, 103) == [("a:1", "7", None)]


def test_an_older_expiry_does_not_end_a_later_membership() -> None:
    presence = LocalPresence(grace_s=3)
    presence.join(["a:1"], "7", NO_INFO)
    presence.leave(["a:1"], "7", now_s=0)
    presence.join(["a:1"], "7", NO_INFO)
    presence.leave(["a:1"], "7", now_s=2)
    pop_tuples(presence)
    assert pop_tuples(presence, 4) == []
    assert pop_tuples(presence, 5) == [("a:1", "7", None)]


def test_a_change_contains_the_current_state() -> None:
    presence = LocalPresence(grace_s=0)
    presence.join(["a:1", "a:2"], "7", NO_INFO)
    presence.leave(["a:1"], "7", now_s=1)
    presence.update_info(["a:1", "a:2", "a:3"], "7", b"{}")
    assert pop_tuples(presence, 1) == [("a:1", "7", None), ("a:2", "7", b"{}")]
    assert not presence.has_changes


def test_leaving_twice_or_without_joining_is_ignored() -> None:
    presence = LocalPresence(grace_s=0)
    presence.leave(["a:1"], "7", now_s=0)
    presence.join(["a:1"], "7", NO_INFO)
    presence.leave(["a:1"], "7", now_s=0)
    presence.leave(["a:1"], "7", now_s=0)
    assert pop_tuples(presence) == [("a:1", "7", None)]
    assert pop_tuples(presence) == []


def test_restored_changes_contain_the_state_at_the_retry() -> None:
    presence = LocalPresence(grace_s=0)
    presence.join(["a:1", "a:2"], "7", NO_INFO)
    changes = presence.pop_changes(0)
    presence.leave(["a:2"], "7", now_s=0)
    presence.restore_changes(changes)
    assert sorted(pop_tuples(presence), key=str) == [("a:1", "7", NO_INFO), ("a:2", "7", None)]


def test_mark_all_changed_includes_members_only() -> None:
    presence = LocalPresence(grace_s=3)
    presence.join(["a:1", "a:2"], "7", NO_INFO)
    pop_tuples(presence)
    presence.leave(["a:1"], "7", now_s=0)
    presence.mark_all_changed()
    assert pop_tuples(presence, 1) == [("a:1", "7", NO_INFO), ("a:2", "7", NO_INFO)]
    assert pop_tuples(presence, 3) == [("a:1", "7", None)]


def test_answers_are_split_by_kind() -> None:
    yes, no = {"recovered": True}, {"recovered": False}
    assert split_answers({"a:1": yes}) == {"channels": {"a:1": yes}}
    assert split_answers({presence_channel("a:1"): no, "a:1": yes}) == {
        "channels": {"a:1": yes},
        "presence": {"a:1": no},
    }
    channel = presence_channel("a:1")
    assert list(with_presence_channels(["a:1", channel])) == ["a:1", channel, presence_channel(channel)]


def test_a_join_frame_is_an_event_of_the_channel_itself() -> None:
    body = encode_body("join", b'{"members":[],"count":0}', id="i", at_ms=1)
    channel = presence_channel("a:1")
    frame = presence_frame(decode(channel, b"t1 7 3 e " + body, max_bytes=1_000))
    assert frame.packet == b'42["tidings:join",{"members":[],"count":0},"a:1","e.7"]'
    assert frame.websocket[2:] == frame.packet
    assert frame.sse == (b'id: e.7\nevent: tidings:join\ndata: {"channel":"a:1","data":{"members":[],"count":0}}\n\n')
    assert (frame.publication.channel, frame.seq) == (channel, 7)


def test_changes_and_ended_memberships_are_returned_in_parts_the_oldest_first() -> None:
    presence = LocalPresence(grace_s=3)
    for number in range(5):
        presence.join(["a:1"], str(number), NO_INFO)
    parts = [[change.user for change in presence.pop_changes(0, limit=2)] for _ in range(4)]
    assert parts == [["0", "1"], ["2", "3"], ["4"], []]
    for number in range(5):
        presence.leave(["a:1"], str(number), now_s=0)
    parts = [[change.user for change in presence.pop_changes(3, limit=2)] for _ in range(4)]
    assert parts == [["0", "1"], ["2", "3"], ["4"], []]
    assert len(presence) == 0
