from __future__ import annotations

from tidings.wire.presence import presence_channel
from tidings.wire.publication import decode, encode_body
from tidings_hub.core.local_presence import LocalPresence, presence_frame, split_answers, with_presence_channels

NOBODY = b"null"


def told(roster: LocalPresence, now_s: float = 0.0) -> list[tuple[str, str, bytes | None]]:
    return [(change.channel, change.user, change.info) for change in roster.pop_changes(now_s)]


def test_the_first_connection_enters_and_the_last_one_leaves_after_the_grace() -> None:
    roster = LocalPresence(grace_s=3)
    roster.join(["a:1"], "7", NOBODY)
    roster.join(["a:1"], "7", NOBODY)
    assert told(roster) == [("a:1", "7", NOBODY)]
    roster.leave(["a:1"], "7", now_s=10)
    assert (roster.next_expiry_s(), told(roster, 100)) == (None, [])
    roster.leave(["a:1"], "7", now_s=10)
    assert roster.next_expiry_s() == 13
    assert told(roster, 12.9) == []
    assert told(roster, 13) == [("a:1", "7", None)]
    assert len(roster) == 0


def test_a_page_change_is_nothing_to_tell() -> None:
    roster = LocalPresence(grace_s=3)
    roster.join(["a:1"], "7", NOBODY)
    told(roster)
    for now_s in (1.0, 2.0, 3.0):
        roster.leave(["a:1"], "7", now_s=now_s)
        roster.join(["a:1"], "7", NOBODY)
    assert told(roster, 100) == []
    roster.leave(["a:1"], "7", now_s=100)
    assert told(roster, 102) == []
    assert told(roster, 103) == [("a:1", "7", None)]


def test_an_older_end_does_not_end_a_later_stay() -> None:
    roster = LocalPresence(grace_s=3)
    roster.join(["a:1"], "7", NOBODY)
    roster.leave(["a:1"], "7", now_s=0)
    roster.join(["a:1"], "7", NOBODY)
    roster.leave(["a:1"], "7", now_s=2)
    told(roster)
    assert told(roster, 4) == []
    assert told(roster, 5) == [("a:1", "7", None)]


def test_what_is_told_is_the_state_at_that_moment() -> None:
    roster = LocalPresence(grace_s=0)
    roster.join(["a:1", "a:2"], "7", NOBODY)
    roster.leave(["a:1"], "7", now_s=1)
    roster.update_info(["a:1", "a:2", "a:3"], "7", b"{}")
    assert told(roster, 1) == [("a:1", "7", None), ("a:2", "7", b"{}")]
    assert not roster.has_changes


def test_leaving_twice_or_what_one_is_not_in_is_nothing() -> None:
    roster = LocalPresence(grace_s=0)
    roster.leave(["a:1"], "7", now_s=0)
    roster.join(["a:1"], "7", NOBODY)
    roster.leave(["a:1"], "7", now_s=0)
    roster.leave(["a:1"], "7", now_s=0)
    assert told(roster) == [("a:1", "7", None)]
    assert told(roster) == []


def test_what_could_not_be_told_is_told_as_it_is_then() -> None:
    roster = LocalPresence(grace_s=0)
    roster.join(["a:1", "a:2"], "7", NOBODY)
    changes = roster.pop_changes(0)
    roster.leave(["a:2"], "7", now_s=0)
    roster.restore_changes(changes)
    assert sorted(told(roster), key=str) == [("a:1", "7", NOBODY), ("a:2", "7", None)]


def test_a_new_life_tells_who_is_there_and_not_who_is_not() -> None:
    roster = LocalPresence(grace_s=3)
    roster.join(["a:1", "a:2"], "7", NOBODY)
    told(roster)
    roster.leave(["a:1"], "7", now_s=0)
    roster.mark_all_changed()
    assert told(roster, 1) == [("a:1", "7", NOBODY), ("a:2", "7", NOBODY)]
    assert told(roster, 3) == [("a:1", "7", None)]


def test_answers_are_sorted_by_kind() -> None:
    yes, no = {"recovered": True}, {"recovered": False}
    assert split_answers({"a:1": yes}) == {"channels": {"a:1": yes}}
    assert split_answers({presence_channel("a:1"): no, "a:1": yes}) == {
        "channels": {"a:1": yes},
        "presence": {"a:1": no},
    }
    place = presence_channel("a:1")
    assert list(with_presence_channels(["a:1", place])) == ["a:1", place, presence_channel(place)]


def test_a_join_is_written_as_an_event_of_its_channel() -> None:
    body = encode_body("join", b'{"members":[],"count":0}', id="i", at_ms=1)
    place = presence_channel("a:1")
    frame = presence_frame(decode(place, b"t1 7 3 e " + body, max_bytes=1_000))
    assert frame.packet == b'42["tidings:join",{"members":[],"count":0},"a:1","e.7"]'
    assert frame.websocket[2:] == frame.packet
    assert frame.sse == (b'id: e.7\nevent: tidings:join\ndata: {"channel":"a:1","data":{"members":[],"count":0}}\n\n')
    assert (frame.publication.channel, frame.seq) == (place, 7)
