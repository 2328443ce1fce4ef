"""A relay's decisions: the next rows, rejected rows, postponed channels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.builder import PublicationBuilder
from tidings.contrib.outbox.relay_batch import (
    ATTEMPTS_MAX,
    BASE_S,
    CAP_S,
    CHANNELS_MAX,
    FORGET_S,
    REASON_MAX,
    ROW_ERRORS,
    TEMPORARY_ERRORS,
    UNPROVEN_FACTOR,
    ChannelBackoff,
    RelayBatch,
)
from tidings.contrib.outbox.rows import WHITESPACE_FACTOR, Row, columns_of, item_of
from tidings.errors import (
    BadConfig,
    BadData,
    BadEvent,
    BadId,
    BadRequest,
    Draining,
    Forbidden,
    Full,
    Internal,
    TidingsError,
    TooFast,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownNamespace,
)
from tidings.publishers.base import Outgoing, OutgoingNotification, OutgoingPublication, PublishResult
from tidings.publishers.http.responses import encode_item
from tidings.receipts import NotificationReceipt, Receipt

AWAY = Unavailable("unreachable")


def row(row_no: int, channel: str = "orders:1", **columns: object) -> Row:
    values = {"id": f"id-{row_no}", "event": "n", "data": str(row_no), "at_ms": 5} | columns
    return Row(row_no, channel=channel, **values)  # type: ignore[arg-type]


def batch_of(*rows: Row, max_bytes: int = 100, **options: Any) -> RelayBatch:
    return RelayBatch(rows, keep_s=77, now_ms=1234, publication_max_bytes=max_bytes, **options)


def receipts(items: Sequence[Outgoing]) -> list[PublishResult]:
    return [Receipt(item.id, "e.1") for item in items]


def ids(items: Sequence[Outgoing]) -> list[str]:
    return [item.id for item in items]


def publish_all(batch: RelayBatch) -> list[list[str]]:
    requests = []
    while items := batch.next_items():
        requests.append(ids(items))
        batch.on_results(receipts(items))
    return requests


def test_each_request_has_one_row_per_channel_in_order() -> None:
    batch = batch_of(row(1), row(2, "orders:2"), row(3), row(4), row(5, "orders:2"))
    assert publish_all(batch) == [["id-1", "id-2"], ["id-3", "id-5"], ["id-4"]]
    assert sorted(batch.published) == [1, 2, 3, 4, 5]
    assert batch.progressed == {"orders:1", "orders:2"}
    assert not batch.rejected
    assert not batch.postponed


@given(st.lists(st.tuples(st.sampled_from(["a:1", "a:2", "a:3"]), st.sampled_from(["ok", "away", "bad"])), max_size=40))
def test_no_result_changes_the_order_of_a_channel(plan: list[tuple[str, str]]) -> None:
    """The published rows of a channel are its first rows, except rejected ones."""
    results_by_kind: dict[str, PublishResult] = {"away": AWAY, "bad": UnknownNamespace("no rule")}
    kinds = {f"id-{number}": kind for number, (_, kind) in enumerate(plan)}
    batch = batch_of(*(row(number, channel) for number, (channel, _) in enumerate(plan)))
    published: list[str] = []
    while items := batch.next_items():
        results = [results_by_kind.get(kinds[item.id], Receipt(item.id, "e.1")) for item in items]
        published += [item.id for item, result in zip(items, results, strict=True) if isinstance(result, Receipt)]
        batch.on_results(results)
    closed = {*batch.published, *batch.rejected}
    for name in {channel for channel, _ in plan}:
        own_rows = [number for number, (channel, _) in enumerate(plan) if channel == name]
        closed_rows = [number for number in own_rows if number in closed]
        assert closed_rows == own_rows[: len(closed_rows)]
        numbers = [int(id[3:]) for id in published]
        assert [number for number in numbers if number in own_rows] == sorted(set(own_rows) & set(batch.published))
    assert all(kinds[f"id-{number}"] == "bad" for number in batch.rejected)


def test_publication_has_the_columns_of_its_row() -> None:
    item = item_of(row(1, data=' {"a" : [1.5, "é"]}\n'), keep_s=77, now_ms=1234, publication_max_bytes=100)
    assert isinstance(item, OutgoingPublication)
    assert (item.channel, item.id, item.idempotency_s) == ("orders:1", "id-1", 77)
    assert item.body == 'id-1 5 - 3 "n",{"a":[1.5,"é"]}'.encode()


def test_row_without_a_time_gets_the_current_time() -> None:
    assert item_of(row(1, at_ms=None), keep_s=1, now_ms=1234, publication_max_bytes=9).body.startswith(b"id-1 1234 ")


def test_written_row_becomes_the_publication_of_an_emitter() -> None:
    items = PublicationBuilder(clock_ns=lambda: 9_000_000).build_event(
        'a "quoted", é', {"text": '", é'}, channels=["orders:1", "orders:2"], id="mine"
    )
    rows = columns_of(items)
    assert [(values["channel"], values["id"], values["at_ms"]) for values in rows] == [
        ("orders:1", "mine", 9),
        ("orders:2", "mine", 9),
    ]
    publications = [
        item_of(Row(number, **values), keep_s=300, now_ms=0, publication_max_bytes=999)  # type: ignore[arg-type]
        for number, values in enumerate(rows)
    ]
    assert publications == items
    assert isinstance(publications[0], OutgoingPublication)
    assert json.loads(encode_item(publications[0]))["data"] == {"text": '", é'}


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
def test_invalid_row_is_rejected_and_does_not_stop_others(bad: dict[str, str], kind: str) -> None:
    batch = batch_of(row(1, **bad), row(2), row(3, "orders:2"))
    assert publish_all(batch) == [["id-2", "id-3"]]
    assert batch.rejected.keys() == {1}
    assert batch.rejected[1].startswith(f"{kind}: ")
    assert len(batch.rejected[1]) <= REASON_MAX


def test_data_with_white_space_may_be_longer() -> None:
    assert len(" " * 300 + "1") < WHITESPACE_FACTOR * 100
    assert publish_all(batch_of(row(1, data=" " * 300 + "1"))) == [["id-1"]]


def test_row_rejected_among_others_is_retried_alone_first() -> None:
    """A proxy that rejects the whole request must not cause all rows to be rejected."""
    batch = batch_of(row(1), row(2, "orders:2"))
    too_large = TooLarge("HTTP 413")
    assert ids(batch.next_items()) == ["id-1", "id-2"]
    batch.on_results([too_large, too_large])
    assert ids(batch.next_items()) == ["id-1"]
    batch.on_results(receipts([item_of(row(1), keep_s=1, now_ms=0, publication_max_bytes=9)]))
    assert ids(batch.next_items()) == ["id-2"]
    batch.on_results([too_large])
    assert batch.next_items() == []
    assert batch.published == [1]
    assert batch.rejected == {2: "too_large: HTTP 413"}


@pytest.mark.parametrize(
    "error",
    [AWAY, Unauthorized("no key"), BadConfig("no hub here"), Draining(), Full(), TooFast()],
    ids=lambda error: error.code.name,
)
def test_temporary_error_postpones_the_channel(error: TidingsError) -> None:
    assert isinstance(error, TEMPORARY_ERRORS)
    assert not isinstance(error, ROW_ERRORS)
    batch = batch_of(row(1), row(2, "orders:2"), row(3), row(4, "orders:2"))
    batch.next_items()
    batch.on_results([error, Receipt("id-2", "e.1", duplicate=True)])
    assert publish_all(batch) == [["id-4"]]
    assert (batch.published, batch.duplicates, batch.broker_away) == ([2, 4], 1, False)
    assert batch.postponed == {"orders:1": error}
    assert batch.refused == []


REFUSALS = pytest.mark.parametrize(
    "error", [Forbidden("not here"), Internal("a bug")], ids=lambda error: error.code.name
)


@REFUSALS
def test_refused_row_is_counted_if_it_was_alone(error: TidingsError) -> None:
    batch = batch_of(row(1), row(2, "orders:2"), row(3))
    assert ids(batch.next_items()) == ["id-1", "id-2"]
    batch.on_results([error, error])
    assert (batch.refused, batch.postponed) == ([], {})
    assert ids(batch.next_items()) == ["id-1"]
    batch.on_results([error])
    assert ids(batch.next_items()) == ["id-2"]
    batch.on_results([Receipt("id-2", "e.1")])
    assert batch.next_items() == []
    assert (batch.refused, batch.postponed, batch.published) == ([1], {"orders:1": error}, [2])
    assert not batch.rejected


@REFUSALS
def test_row_that_was_refused_before_is_tried_alone_after_the_others(error: TidingsError) -> None:
    batch = batch_of(row(1, attempts=2), row(2, "orders:2"), row(3), row(4, "orders:2"), attempts_max=3)
    assert ids(batch.next_items()) == ["id-2"]
    batch.on_results([Receipt("id-2", "e.1")])
    assert ids(batch.next_items()) == ["id-1"]
    batch.on_results([error])
    assert batch.rejected == {1: f"{error.code.name}: {error} (after 3 attempts)"}
    # The next row of the channel is published.
    assert publish_all(batch) == [["id-3", "id-4"]]


@pytest.mark.parametrize(
    ("attempts", "proven", "is_rejected"),
    [
        (ATTEMPTS_MAX - 2, ["orders:1"], False),
        (ATTEMPTS_MAX - 1, ["orders:1"], True),
        (ATTEMPTS_MAX - 1, ["orders:2"], False),
        (ATTEMPTS_MAX * UNPROVEN_FACTOR - 2, [], False),
        (ATTEMPTS_MAX * UNPROVEN_FACTOR - 1, [], True),
        ("many", ["orders:1"], False),
    ],
)
def test_row_is_rejected_earlier_if_the_hub_accepts_others(
    attempts: object, proven: list[str], is_rejected: bool
) -> None:
    batch = batch_of(row(1, attempts=attempts), proven=proven)
    batch.next_items()
    batch.on_results([Internal("a bug")])
    assert (list(batch.rejected), batch.refused) == (([1], []) if is_rejected else ([], [1]))


def test_long_reason_keeps_the_number_of_attempts() -> None:
    batch = batch_of(row(1), attempts_max=1, proven=["orders:1"])
    batch.next_items()
    batch.on_results([Internal("x" * 2 * REASON_MAX)])
    assert len(batch.rejected[1]) == REASON_MAX
    assert batch.rejected[1].endswith(" (after 1 attempts)")


def test_refused_row_waits_while_the_broker_is_away() -> None:
    batch = batch_of(row(1, attempts=1), row(2, "orders:2"))
    batch.next_items()
    batch.on_results([AWAY])
    assert batch.next_items() == []
    assert (batch.broker_away, batch.refused) == (True, [])


def test_channel_is_proven_by_publications_since_its_last_attempt() -> None:
    def refused(channel: str) -> RelayBatch:
        batch = batch_of(row(1, channel))
        batch.next_items()
        batch.on_results([Internal("a bug")])
        return batch

    backoff = ChannelBackoff(random=lambda: 0.0)
    backoff.update(refused("a:1"), 0.0)
    assert backoff.proven_channels() == []
    backoff.update(failed(published="a:2"), 0.0)
    assert backoff.proven_channels() == ["a:1"]
    backoff.update(refused("a:1"), 1.0)
    assert backoff.proven_channels() == []


def test_broker_that_accepts_nothing_ends_the_batch() -> None:
    batch = batch_of(row(1), row(2, "orders:2"), row(3))
    batch.next_items()
    batch.on_results([AWAY, AWAY])
    assert batch.next_items() == []
    assert batch.broker_away
    assert batch.postponed.keys() == {"orders:1", "orders:2"}


def test_row_errors_are_errors_of_the_caller() -> None:
    assert all(issubclass(kind, TidingsError) for kind in ROW_ERRORS)
    assert {BadData, BadEvent, BadId} < set(ROW_ERRORS)


def failed(*channels: str, published: str = "") -> RelayBatch:
    """A batch that postponed `channels` and published in `published`."""
    rows = [row(number, channel) for number, channel in enumerate((*channels, *([published] if published else [])))]
    batch = batch_of(*rows)
    items = batch.next_items()
    batch.on_results([Receipt(item.id, "e.1") if item.channel == published else AWAY for item in items])
    return batch


def test_pauses_grow_and_end() -> None:
    backoff = ChannelBackoff(random=lambda: 0.5)
    now_s, lengths = 0.0, []
    for _ in range(12):
        backoff.update(failed("a:1"), now_s)
        assert backoff.paused_channels(now_s) == ["a:1"]
        pause_s = backoff.next_retry_s(now_s)
        assert pause_s is not None
        lengths.append(pause_s)
        now_s += pause_s
        assert backoff.paused_channels(now_s) == []
    assert lengths == sorted(lengths)
    assert lengths[0] == pytest.approx(BASE_S * 1.5)
    assert lengths[-1] == pytest.approx(BASE_S + CAP_S / 2)


def test_one_publication_ends_the_pauses_of_an_unreachable_broker() -> None:
    backoff = ChannelBackoff(random=lambda: 0.0)
    backoff.update(failed("a:1", "a:2"), 0.0)
    backoff.update(failed("a:3", published="a:4"), 0.0)
    # a:3 failed while the broker was reachable, so its pause continues.
    assert backoff.paused_channels(0.0) == ["a:3"]
    backoff.update(failed("a:5", published="a:4"), 0.0)
    assert sorted(backoff.paused_channels(0.0)) == ["a:3", "a:5"]
    backoff.update(failed(published="a:3"), 0.0)
    assert backoff.paused_channels(0.0) == ["a:5"]


def test_pauses_are_bounded() -> None:
    backoff = ChannelBackoff(random=lambda: 0.0)
    backoff.update(failed(*(f"a:{number}" for number in range(CHANNELS_MAX))), 0.0)
    assert backoff.is_full(0.0)
    assert not backoff.is_full(BASE_S)
    backoff.update(failed("b:1"), BASE_S + FORGET_S)
    assert backoff.paused_channels(0.0) == ["b:1"]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"data": f'{{"n": 1{"0" * 309}}}'}, "bad_data: data.n is too large"),
        ({"data": f"{'9' * 5000}"}, "bad_data: the data is not JSON"),
        ({"data": '{"a": {"b": 1, "b": 2}}'}, "bad_data: the data has an object with the same name twice"),
        ({"data": '{"\\u0000\\ud800": NaN}'}, "bad_data: "),
        ({"at_ms": "yesterday"}, "bad_data: at_ms"),
        ({"at_ms": 5.5}, "bad_data: at_ms"),
    ],
)
def test_row_that_no_hub_takes_is_put_aside_and_the_next_one_is_published(
    columns: dict[str, object], reason: str
) -> None:
    batch = batch_of(row(1, **columns), row(2), max_bytes=20_000)
    assert batch.rejected[1].startswith(reason)
    assert batch.rejected[1].isprintable()
    assert publish_all(batch) == [["id-2"]]


def test_row_that_the_hub_rejects_for_an_unknown_reason_is_put_aside() -> None:
    batch = batch_of(row(1), row(2))
    batch.next_items()
    batch.on_results([BadRequest("an object has the name 'a' twice")])
    assert list(batch.rejected) == [1]
    assert ids(batch.next_items()) == ["id-2"]


def test_notification_and_publication_of_one_user_keep_their_order() -> None:
    shipped = row(1, "user:7", event="tidings:notify", data='{"category": "order_shipped", "title": "x"}')
    batch = batch_of(shipped, row(2, "user:7"), max_bytes=2_000)
    [first] = batch.next_items()
    assert isinstance(first, OutgoingNotification)
    assert (first.id, first.channel, first.notification.at_ms) == ("id-1", "user:7", 5)
    batch.on_results([NotificationReceipt("id-1", "accepted")])
    [second] = batch.next_items()
    assert isinstance(second, OutgoingPublication)
    batch.on_results(receipts([second]))
    assert batch.published == [1, 2]


def test_notification_becomes_a_row_and_the_same_notification_again() -> None:
    items = PublicationBuilder(clock_ns=lambda: 9_000_000).build_notifications(
        "order_shipped", users=["7", "8"], title="é", data={"n": 1}, expires_in_s=60
    )
    rows = columns_of(items)
    assert [(values["channel"], values["event"], values["at_ms"]) for values in rows] == [
        ("user:7", "tidings:notify", 9),
        ("user:8", "tidings:notify", 9),
    ]
    read = [
        item_of(Row(number, **values), keep_s=300, now_ms=0, publication_max_bytes=999)  # type: ignore[arg-type]
        for number, values in enumerate(rows)
    ]
    assert [item.body for item in read] == [item.body for item in items]
