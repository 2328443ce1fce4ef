from __future__ import annotations

import itertools

import pytest

from tidings.wire.publication import Publication, decode, encode_body, options_for
from tidings_hub.core.delivery_report import DeliveryReport
from tidings_hub.core.delivery_reports import ACK_ID_MIN, CursorFrame, DeliveryReports, count_written
from tidings_hub.core.frame import Frame

AT_MS = 1_000


def publication(seq: int, *, id: str = "", channel: str = "orders:1", options: str = "ra") -> Publication:
    body = encode_body("updated", b"1", id=id or f"id-{seq}", at_ms=AT_MS, options=options)
    return decode(channel, b"t1 %d %d e %b" % (seq, seq - 1, body), max_bytes=1_000)


def reports_of(*, reports_max: int = 10, acks_max: int = 100, numbers: list[int] | None = None) -> DeliveryReports:
    drawn = iter(numbers) if numbers is not None else itertools.count(ACK_ID_MIN)
    return DeliveryReports(
        keep_s=60, ack_timeout_s=10, reports_max=reports_max, acks_max=acks_max, draw=lambda: next(drawn)
    )


def opened(reports: DeliveryReports, one: Publication, *, now_s: float = 0.0, recipients: int = 0) -> DeliveryReport:
    frames = reports.with_reports([Frame(one)], now_s=now_s)
    count_written(frames, recipients=recipients, awaited=recipients)
    (report,) = reports.find(one.id, one.channel)
    return report


def test_what_asks_for_nothing_stays_what_it_is() -> None:
    frame = Frame(publication(1, options=options_for()))
    reports = reports_of()
    assert reports.with_reports([frame], now_s=0) == [frame]
    assert frame.packet == b'42["updated",1,"orders:1","e.1"]'
    assert (len(reports), frame.report) == (0, None)


def test_options_of_a_later_version_are_passed_over() -> None:
    frame = Frame(publication(1, options="x"))
    assert reports_of().with_reports([frame], now_s=0) == [frame]


def test_a_report_alone_changes_no_byte() -> None:
    (frame,) = reports_of().with_reports([Frame(publication(1, options=options_for(report=True)))], now_s=0)
    assert frame.packet == b'42["updated",1,"orders:1","e.1"]'
    assert frame.report is not None


def test_who_is_to_acknowledge_gets_a_number_and_then_the_cursor() -> None:
    first, behind = reports_of(numbers=[77]).with_reports([Frame(publication(1))], now_s=0)
    assert first.packet == b'4277["updated",1,"orders:1","e.1"]'
    assert first.websocket.endswith(first.packet)
    assert behind.packet == b'42["tidings:cursor",{"cursor":"e.1"},"e.1"]'
    assert first.sse == Frame(publication(1, options="-")).sse
    assert (behind.sse, behind.seq, isinstance(behind, CursorFrame)) == (b"", 1, True)


def test_a_number_is_given_to_one_publication_at_a_time() -> None:
    reports = reports_of(numbers=[5, 5, 5, 6])
    assert [opened(reports, publication(seq)).ack_id for seq in (1, 2)] == [5, 6]


def test_each_connection_counts_once_and_only_with_the_number() -> None:
    reports = reports_of()
    report = opened(reports, publication(1), recipients=2)
    assert [reports.acknowledge(report.ack_id, who) for who in ("a", "a", "b")] == [True, False, True]
    assert reports.acknowledge(report.ack_id + 1, "c") is False
    assert reports.acknowledge(0, "c") is False
    assert report.acked == {"a", "b"}


def test_it_is_settled_once_all_who_can_have_acknowledged_or_had_the_time_to() -> None:
    reports = reports_of()
    report = opened(reports, publication(1), recipients=1)
    assert not reports.is_settled(report, now_s=9.9)
    assert reports.is_settled(report, now_s=10.0)
    reports.acknowledge(report.ack_id, "a")
    assert reports.is_settled(report, now_s=0.1)


def test_only_those_who_can_acknowledge_are_awaited() -> None:
    reports = reports_of()
    frames = reports.with_reports([Frame(publication(1)), Frame(publication(2, options="r"))], now_s=0)
    count_written(frames, recipients=3, awaited=2)
    acked, silent = (next(reports.find(f"id-{seq}")) for seq in (1, 2))
    assert (acked.recipients, acked.awaited) == (3, 2)
    assert (silent.recipients, silent.awaited, reports.is_settled(silent, now_s=0)) == (3, 0, True)


def test_what_this_node_sent_is_known_before_it_arrives() -> None:
    reports = reports_of()
    reports.open("id-1", "orders:1", "e.1", now_s=0)
    (report,) = reports.find("id-1")
    assert (report.arrived, report.ack_id, reports.is_settled(report, now_s=0)) == (False, 0, True)
    assert opened(reports, publication(1)) is report
    assert report.arrived
    assert report.ack_id
    reports.open("id-1", "orders:1", "e.1", now_s=1)
    assert next(reports.find("id-1")) is report


def test_a_second_copy_keeps_the_number() -> None:
    reports = reports_of()
    assert opened(reports, publication(1), recipients=1).ack_id == opened(reports, publication(1)).ack_id
    assert len(reports) == 1


def test_the_same_id_later_is_another_publication() -> None:
    reports = reports_of()
    report = opened(reports, publication(1, id="x"))
    again = opened(reports, publication(9, id="x"))
    assert again.cursor == "e.9"
    assert reports.acknowledge(report.ack_id, "a") is False
    assert reports.acknowledge(again.ack_id, "a") is True


def test_an_id_may_be_in_several_channels() -> None:
    reports = reports_of()
    for seq, channel in ((1, "orders:1"), (2, "orders:2")):
        opened(reports, publication(seq, id="x", channel=channel))
    assert [one.channel for one in reports.find("x")] == ["orders:1", "orders:2"]
    assert [one.cursor for one in reports.find("x", "orders:2")] == ["e.2"]
    assert list(reports.find("y")) == []


def test_it_is_kept_for_its_time() -> None:
    reports = reports_of()
    numbers = [opened(reports, publication(seq), now_s=seq).ack_id for seq in (1, 2)]
    reports.expire(now_s=61.0)
    assert [len(list(reports.find(f"id-{seq}"))) for seq in (1, 2)] == [0, 1]
    assert [reports.acknowledge(number, "a") for number in numbers] == [False, True]
    reports.expire(now_s=62.0)
    assert (len(reports), reports.dropped) == (0, 0)


def test_beyond_the_most_the_oldest_goes() -> None:
    reports = reports_of(reports_max=2)
    for seq in (1, 2, 3):
        opened(reports, publication(seq))
    assert [len(list(reports.find(f"id-{seq}"))) for seq in (1, 2, 3)] == [0, 1, 1]
    assert reports.dropped == 1


def test_acknowledgements_are_bounded_but_for_those_of_the_latest() -> None:
    reports = reports_of(acks_max=3)
    first, second = (opened(reports, publication(seq)) for seq in (1, 2))
    for who in "abc":
        reports.acknowledge(first.ack_id, who)
    assert len(reports) == 2
    for who in "abcdef":
        assert reports.acknowledge(second.ack_id, who)
    assert [one.id for seq in (1, 2) for one in reports.find(f"id-{seq}")] == ["id-2"]
    assert (len(second.acked), reports.dropped) == (6, 1)


@pytest.mark.parametrize(("since_ms", "counted"), [(AT_MS, 1), (AT_MS + 1, 0)])
def test_of_what_is_too_old_to_be_asked_for_there_is_none(since_ms: int, counted: int) -> None:
    reports = reports_of()
    frames = reports.with_reports([Frame(publication(1))], now_s=0, since_ms=since_ms)
    assert len(reports) == counted
    assert (frames[0].report is not None) == bool(counted)


def test_of_what_is_known_a_late_copy_counts() -> None:
    reports = reports_of()
    report = opened(reports, publication(1), recipients=1)
    frames = reports.with_reports([Frame(publication(1))], now_s=50, since_ms=AT_MS + 1)
    count_written(frames, recipients=1, awaited=1)
    assert (report.recipients, report.awaited) == (2, 2)
