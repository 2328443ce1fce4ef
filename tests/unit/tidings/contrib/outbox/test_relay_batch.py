"""What a relay decides: what goes next, what is put aside, what waits."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.builder import PublicationBuilder
from tidings.contrib.outbox.relay_batch import (
    BASE_S,
    CAP_S,
    CHANNELS_MAX,
    FORGET_S,
    REASON_MAX,
    ROW_ERRORS,
    ChannelBackoff,
    RelayBatch,
)
from tidings.contrib.outbox.rows import WHITESPACE_FACTOR, Row, columns_of, publication_of
from tidings.errors import (
    BadConfig,
    BadData,
    BadEvent,
    BadId,
    TidingsError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownNamespace,
)
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.http.responses import encode_item
from tidings.receipts import Receipt

AWAY = Unavailable("nobody there")


def row(row_no: int, channel: str = "orders:1", **more: object) -> Row:
    whole = {"id": f"id-{row_no}", "event": "n", "data": str(row_no), "at_ms": 5} | more
    return Row(row_no, channel=channel, **whole)  # type: ignore[arg-type]


def turn_of(*rows: Row, max_bytes: int = 100) -> RelayBatch:
    return RelayBatch(rows, keep_s=77, now_ms=1234, publication_max_bytes=max_bytes)


def receipts(items: Sequence[OutgoingPublication]) -> list[PublishResult]:
    return [Receipt(item.id, "e.1") for item in items]


def ids(items: Sequence[OutgoingPublication]) -> list[str]:
    return [item.id for item in items]


def drained(turn: RelayBatch) -> list[list[str]]:
    waves = []
    while items := turn.next_items():
        waves.append(ids(items))
        turn.on_results(receipts(items))
    return waves


def test_of_each_channel_one_at_a_time_and_in_order() -> None:
    turn = turn_of(row(1), row(2, "orders:2"), row(3), row(4), row(5, "orders:2"))
    assert drained(turn) == [["id-1", "id-2"], ["id-3", "id-5"], ["id-4"]]
    assert sorted(turn.published) == [1, 2, 3, 4, 5]
    assert turn.progressed == {"orders:1", "orders:2"}
    assert not turn.rejected
    assert not turn.postponed


@given(st.lists(st.tuples(st.sampled_from(["a:1", "a:2", "a:3"]), st.sampled_from(["ok", "away", "bad"])), max_size=40))
def test_whatever_is_answered_no_channel_changes_its_order(plan: list[tuple[str, str]]) -> None:
    """What is published of a channel is a beginning of its rows without those that were put aside."""
    answers: dict[str, PublishResult] = {"away": AWAY, "bad": UnknownNamespace("no rule")}
    kinds = {f"id-{number}": kind for number, (_, kind) in enumerate(plan)}
    turn = turn_of(*(row(number, channel) for number, (channel, _) in enumerate(plan)))
    sent: list[str] = []
    while items := turn.next_items():
        said = [answers.get(kinds[item.id], Receipt(item.id, "e.1")) for item in items]
        sent += [item.id for item, answer in zip(items, said, strict=True) if isinstance(answer, Receipt)]
        turn.on_results(said)
    settled = {*turn.published, *turn.rejected}
    for name in {channel for channel, _ in plan}:
        mine = [number for number, (channel, _) in enumerate(plan) if channel == name]
        done = [number for number in mine if number in settled]
        assert done == mine[: len(done)]
        assert [int(each[3:]) for each in sent if int(each[3:]) in mine] == sorted(set(mine) & set(turn.published))
    assert all(kinds[f"id-{number}"] == "bad" for number in turn.rejected)


def test_the_publication_is_the_rows() -> None:
    item = publication_of(row(1, data=' {"a" : [1.5, "é"]}\n'), keep_s=77, now_ms=1234, publication_max_bytes=100)
    assert (item.channel, item.id, item.idempotency_s) == ("orders:1", "id-1", 77)
    assert item.body == 'id-1 5 - 3 "n",{"a":[1.5,"é"]}'.encode()


def test_a_row_without_a_time_is_of_now() -> None:
    assert publication_of(row(1, at_ms=None), keep_s=1, now_ms=1234, publication_max_bytes=9).body.startswith(
        b"id-1 1234 "
    )


def test_what_is_written_is_what_an_emitter_would_send() -> None:
    items = PublicationBuilder(clock_ns=lambda: 9_000_000).build_event(
        'a "quoted", é', {"text": '", é'}, channels=["orders:1", "orders:2"], id="mine"
    )
    rows = columns_of(items)
    assert [(each["channel"], each["id"], each["at_ms"]) for each in rows] == [
        ("orders:1", "mine", 9),
        ("orders:2", "mine", 9),
    ]
    again = [
        publication_of(Row(number, **each), keep_s=300, now_ms=0, publication_max_bytes=999)  # type: ignore[arg-type]
        for number, each in enumerate(rows)
    ]
    assert again == items
    assert json.loads(encode_item(again[0]))["data"] == {"text": '", é'}


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ({"channel": "everyone"}, "bad_channel"),
        ({"event": "connect"}, "bad_event"),
        ({"event": "tidings:ready"}, "bad_event"),
        ({"event": 7}, "bad_event"),
        ({"id": "a b"}, "bad_id"),
        ({"id": None}, "bad_id"),
        ({"data": "{"}, "bad_data"),
        ({"data": "NaN"}, "bad_data"),
        ({"data": "[" * 5000}, "bad_data"),
        ({"data": '"' + "x" * 200 + '"'}, "too_large"),
        ({"data": None}, "too_large"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_row_that_cannot_be_is_put_aside_and_holds_up_nobody(bad: dict[str, str], kind: str) -> None:
    turn = turn_of(row(1, **bad), row(2), row(3, "orders:2"))
    assert drained(turn) == [["id-2", "id-3"]]
    assert turn.rejected.keys() == {1}
    assert turn.rejected[1].startswith(f"{kind}: ")
    assert len(turn.rejected[1]) <= REASON_MAX


def test_data_with_white_space_may_be_longer() -> None:
    assert len(" " * 300 + "1") < WHITESPACE_FACTOR * 100
    assert drained(turn_of(row(1, data=" " * 300 + "1"))) == [["id-1"]]


def test_what_is_refused_among_others_is_asked_alone_before_it_is_put_aside() -> None:
    """A proxy that refuses the whole request must not put everything aside."""
    turn = turn_of(row(1), row(2, "orders:2"))
    refused = TooLarge("HTTP 413")
    assert ids(turn.next_items()) == ["id-1", "id-2"]
    turn.on_results([refused, refused])
    assert ids(turn.next_items()) == ["id-1"]
    turn.on_results(receipts([publication_of(row(1), keep_s=1, now_ms=0, publication_max_bytes=9)]))
    assert ids(turn.next_items()) == ["id-2"]
    turn.on_results([refused])
    assert turn.next_items() == []
    assert turn.published == [1]
    assert turn.rejected == {2: "too_large: HTTP 413"}


@pytest.mark.parametrize("error", [AWAY, Unauthorized("no key"), BadConfig("no hub here")], ids=lambda e: e.code.name)
def test_what_is_not_the_rows_fault_waits(error: TidingsError) -> None:
    assert not isinstance(error, ROW_ERRORS)
    turn = turn_of(row(1), row(2, "orders:2"), row(3), row(4, "orders:2"))
    turn.next_items()
    turn.on_results([error, Receipt("id-2", "e.1", duplicate=True)])
    assert drained(turn) == [["id-4"]]
    assert (turn.published, turn.duplicates, turn.broker_away) == ([2, 4], 1, False)
    assert turn.postponed == {"orders:1": error}


def test_a_broker_that_takes_nothing_ends_the_turn() -> None:
    turn = turn_of(row(1), row(2, "orders:2"), row(3))
    turn.next_items()
    turn.on_results([AWAY, AWAY])
    assert turn.next_items() == []
    assert turn.broker_away
    assert turn.postponed.keys() == {"orders:1", "orders:2"}


def test_the_errors_of_poison_are_the_callers() -> None:
    assert all(issubclass(kind, TidingsError) for kind in ROW_ERRORS)
    assert {BadData, BadEvent, BadId} < set(ROW_ERRORS)


def failed(*channels: str, published: str = "") -> RelayBatch:
    """A turn that held `channels` and published in `published`."""
    rows = [row(number, channel) for number, channel in enumerate((*channels, *([published] if published else [])))]
    turn = turn_of(*rows)
    items = turn.next_items()
    turn.on_results([Receipt(item.id, "e.1") if item.channel == published else AWAY for item in items])
    return turn


def test_pauses_grow_and_end() -> None:
    pauses = ChannelBackoff(random=lambda: 0.5)
    now_s, lengths = 0.0, []
    for _ in range(12):
        pauses.update(failed("a:1"), now_s)
        assert pauses.paused_channels(now_s) == ["a:1"]
        pause_s = pauses.next_retry_s(now_s)
        assert pause_s is not None
        lengths.append(pause_s)
        now_s += pause_s
        assert pauses.paused_channels(now_s) == []
    assert lengths == sorted(lengths)
    assert lengths[0] == pytest.approx(BASE_S * 1.5)
    assert lengths[-1] == pytest.approx(BASE_S + CAP_S / 2)


def test_the_broker_is_back_for_all_when_it_took_one() -> None:
    pauses = ChannelBackoff(random=lambda: 0.0)
    pauses.update(failed("a:1", "a:2"), 0.0)
    pauses.update(failed("a:3", published="a:4"), 0.0)
    # a:3 failed while the broker was there: that is its own trouble.
    assert pauses.paused_channels(0.0) == ["a:3"]
    pauses.update(failed("a:5", published="a:4"), 0.0)
    assert sorted(pauses.paused_channels(0.0)) == ["a:3", "a:5"]
    pauses.update(failed(published="a:3"), 0.0)
    assert pauses.paused_channels(0.0) == ["a:5"]


def test_pauses_are_bounded() -> None:
    pauses = ChannelBackoff(random=lambda: 0.0)
    pauses.update(failed(*(f"a:{number}" for number in range(CHANNELS_MAX))), 0.0)
    assert pauses.is_full(0.0)
    assert not pauses.is_full(BASE_S)
    pauses.update(failed("b:1"), BASE_S + FORGET_S)
    assert pauses.paused_channels(0.0) == ["b:1"]
