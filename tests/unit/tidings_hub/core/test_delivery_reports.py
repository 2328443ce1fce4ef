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


def new_reports(*, reports_max: int = 10, acks_max: int = 100, ack_ids: list[int] | None = None) -> DeliveryReports:
    drawn = iter(ack_ids) if ack_ids is not None else itertools.count(ACK_ID_MIN)
    return DeliveryReports(
        keep_s=60, ack_timeout_s=10, reports_max=reports_max, acks_max=acks_max, draw=lambda: next(drawn)
    )


def open_report(
    reports: DeliveryReports, item: Publication, *, now_s: float = 0.0, recipients: int = 0
) -> DeliveryReport:
    frames = reports.with_reports([Frame(item)], now_s=now_s)
    count_written(frames, recipients=recipients, awaited=recipients)
    (report,) = reports.find(item.id, item.channel)
    return report


def test_a_publication_without_options_is_unchanged() -> None:
    frame = Frame(publication(1, options=options_for()))
    reports = new_reports()
    assert reports.with_reports([frame], now_s=0) == [frame]
    assert frame.packet == b'42["updated",1,"orders:1","e.1"]'
    assert (len(reports), frame.report) == (0, None)


def test_unknown_options_are_ignored() -> None:
    frame = Frame(publication(1, options="x"))
    assert new_reports().with_reports([frame], now_s=0) == [frame]


def test_a_report_alone_does_not_change_the_packet() -> None:
    (frame,) = new_reports().with_reports([Frame(publication(1, options=options_for(report=True)))], now_s=0)
    assert frame.packet == b'42["updated",1,"orders:1","e.1"]'
    assert frame.report is not None


def test_an_acknowledged_publication_has_an_ack_id_and_is_followed_by_its_cursor() -> None:
    first, behind = new_reports(ack_ids=[77]).with_reports([Frame(publication(1))], now_s=0)
    assert first.packet == b'4277["updated",1,"orders:1","e.1"]'
    assert first.websocket.endswith(first.packet)
    assert behind.packet == b'42["tidings:cursor",{"cursor":"e.1"},"e.1"]'
    assert first.sse == Frame(publication(1, options="-")).sse
    assert (behind.sse, behind.seq, isinstance(behind, CursorFrame)) == (b"", 1, True)


def test_an_ack_id_is_used_by_one_publication_at_a_time() -> None:
    reports = new_reports(ack_ids=[5, 5, 5, 6])
    assert [open_report(reports, publication(seq)).ack_id for seq in (1, 2)] == [5, 6]


def test_each_connection_counts_once_and_only_with_the_right_ack_id() -> None:
    reports = new_reports()
    report = open_report(reports, publication(1), recipients=2)
    assert [reports.acknowledge(report.ack_id, connection_id) for connection_id in ("a", "a", "b")] == [
        True,
        False,
        True,
    ]
    assert reports.acknowledge(report.ack_id + 1, "c") is False
    assert reports.acknowledge(0, "c") is False
    assert report.acked == {"a", "b"}


def test_a_report_is_settled_after_all_acknowledgements_or_the_timeout() -> None:
    reports = new_reports()
    report = open_report(reports, publication(1), recipients=1)
    assert not reports.is_settled(report, now_s=9.9)
    assert reports.is_settled(report, now_s=10.0)
    reports.acknowledge(report.ack_id, "a")
    assert reports.is_settled(report, now_s=0.1)


def test_only_connections_that_can_acknowledge_are_awaited() -> None:
    reports = new_reports()
    frames = reports.with_reports([Frame(publication(1)), Frame(publication(2, options="r"))], now_s=0)
    count_written(frames, recipients=3, awaited=2)
    acked, silent = (next(reports.find(f"id-{seq}")) for seq in (1, 2))
    assert (acked.recipients, acked.awaited) == (3, 2)
    assert (silent.recipients, silent.awaited, reports.is_settled(silent, now_s=0)) == (3, 0, True)


def test_a_report_of_this_nodes_publication_exists_before_it_arrives() -> None:
    reports = new_reports()
    reports.open("id-1", "orders:1", "e.1", now_s=0)
    (report,) = reports.find("id-1")
    assert (report.arrived, report.ack_id, reports.is_settled(report, now_s=0)) == (False, 0, True)
    assert open_report(reports, publication(1)) is report
    assert report.arrived
    assert report.ack_id
    reports.open("id-1", "orders:1", "e.1", now_s=1)
    assert next(reports.find("id-1")) is report


def test_a_second_copy_keeps_the_ack_id() -> None:
    reports = new_reports()
    assert open_report(reports, publication(1), recipients=1).ack_id == open_report(reports, publication(1)).ack_id
    assert len(reports) == 1


def test_the_same_id_later_is_another_publication() -> None:
    reports = new_reports()
    report = open_report(reports, publication(1, id="x"))
    later = open_report(reports, publication(9, id="x"))
    assert later.cursor == "e.9"
    assert reports.acknowledge(report.ack_id, "a") is False
    assert reports.acknowledge(later.ack_id, "a") is True


def test_an_id_may_be_in_several_channels() -> None:
    reports = new_reports()
    for seq, channel in ((1, "orders:1"), (2, "orders:2")):
        open_report(reports, publication(seq, id="x", channel=channel))
    assert [report.channel for report in reports.find("x")] == ["orders:1", "orders:2"]
    assert [report.cursor for report in reports.find("x", "orders:2")] == ["e.2"]
    assert list(reports.find("y")) == []


def test_a_report_expires_after_keep_s() -> None:
    reports = new_reports()
    ack_ids = [open_report(reports, publication(seq), now_s=seq).ack_id for seq in (1, 2)]
    reports.expire(now_s=61.0)
    assert [len(list(reports.find(f"id-{seq}"))) for seq in (1, 2)] == [0, 1]
    assert [reports.acknowledge(number, "a") for number in ack_ids] == [False, True]
    reports.expire(now_s=62.0)
    assert (len(reports), reports.dropped) == (0, 0)


def test_the_oldest_report_is_discarded_beyond_the_maximum() -> None:
    reports = new_reports(reports_max=2)
    for seq in (1, 2, 3):
        open_report(reports, publication(seq))
    assert [len(list(reports.find(f"id-{seq}"))) for seq in (1, 2, 3)] == [0, 1, 1]
    assert reports.dropped == 1


def test_acknowledgements_are_limited_except_for_the_newest_report() -> None:
    reports = new_reports(acks_max=3)
    first, second = (open_report(reports, publication(seq)) for seq in (1, 2))
    for connection_id in "abc":
        reports.acknowledge(first.ack_id, connection_id)
    assert len(reports) == 2
    for connection_id in "abcdef":
        assert reports.acknowledge(second.ack_id, connection_id)
    assert [report.id for seq in (1, 2) for report in reports.find(f"id-{seq}")] == ["id-2"]
    assert (len(second.acked), reports.dropped) == (6, 1)


@pytest.mark.parametrize(("since_ms", "counted"), [(AT_MS, 1), (AT_MS + 1, 0)])
def test_an_old_publication_gets_no_report(since_ms: int, counted: int) -> None:
    reports = new_reports()
    frames = reports.with_reports([Frame(publication(1))], now_s=0, since_ms=since_ms)
    assert len(reports) == counted
    assert (frames[0].report is not None) == bool(counted)


def test_a_late_copy_counts_if_the_report_exists() -> None:
    reports = new_reports()
    report = open_report(reports, publication(1), recipients=1)
    frames = reports.with_reports([Frame(publication(1))], now_s=50, since_ms=AT_MS + 1)
    count_written(frames, recipients=1, awaited=1)
    assert (report.recipients, report.awaited) == (2, 2)
