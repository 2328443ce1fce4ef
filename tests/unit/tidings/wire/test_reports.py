from __future__ import annotations

import json
from typing import Any

import pytest

from tidings.errors import BadRequest, Internal, NotFound, TimedOut, UnknownNamespace
from tidings.wire.control import NodeReplies
from tidings.wire.reports import (
    Count,
    Report,
    ReportQuery,
    locate,
    merge_reports,
    own_position,
    read_report,
    require_unique,
)

LOCATED = ReportQuery("x", "orders:1", "e.5")


def reply_of(node: str, *rows: tuple[str, str, int, int, bool], behind: bool = False) -> dict[str, Any]:
    names = ("channel", "cursor", "recipients", "acks", "settled")
    return {"node": node, "found": [dict(zip(names, row, strict=True)) for row in rows], "behind": behind}


def test_query_contains_only_the_given_arguments() -> None:
    assert json.loads(ReportQuery("x").to_command().to_message("r")) == {"do": "report", "id": "x", "reply": "r"}
    assert LOCATED.to_command().arguments == {"id": "x", "channel": "orders:1", "cursor": "e.5"}
    assert ReportQuery("a:b").path() == "/api/publications/a%3Ab"
    assert LOCATED.path() == "/api/publications/x?channel=orders%3A1"


def test_counters_of_nodes_are_added_up() -> None:
    replies = NodeReplies(
        [
            reply_of("one", ("orders:1", "e.5", 2, 1, True)),
            reply_of("other", ("orders:1", "e.5", 3, 3, True)),
            reply_of("idle"),
        ],
        ("gone",),
    )
    nodes = {"one": Count(2, 1), "other": Count(3, 3), "idle": Count(0, 0)}
    assert merge_reports(LOCATED, replies) == Report("x", "orders:1", "e.5", 5, 4, nodes, ("gone",), settled=True)


@pytest.mark.parametrize(
    "late",
    [reply_of("other", behind=True), reply_of("other", ("orders:1", "e.5", 3, 2, False))],
    ids=["behind", "acks"],
)
def test_a_report_is_not_settled_while_one_node_is_behind(late: dict[str, Any]) -> None:
    report = merge_reports(LOCATED, NodeReplies([reply_of("one", ("orders:1", "e.5", 1, 1, True)), late]))
    assert not report.settled


def test_another_publication_with_this_id_does_not_count() -> None:
    replies = NodeReplies([reply_of("one", ("orders:2", "e.5", 7, 7, False), ("orders:1", "e.4", 7, 7, False))])
    assert merge_reports(LOCATED, replies) == Report("x", "orders:1", "e.5", 0, 0, {"one": Count(0, 0)})


def test_an_error_reply_is_raised() -> None:
    replies = NodeReplies([{"node": "one", "error": {"code": "unknown_namespace", "message": "no rule"}}])
    with pytest.raises(UnknownNamespace):
        merge_reports(LOCATED, replies)


def test_position_is_found_in_the_reply_of_any_node() -> None:
    replies = NodeReplies([reply_of("idle"), reply_of("one", ("orders:1", "e.5", 1, 0, True))])
    assert locate(ReportQuery("x"), replies) == LOCATED


def test_the_later_publication_in_a_channel_counts() -> None:
    replies = NodeReplies([reply_of(str(at), ("orders:1", f"e.{at}", 1, 0, True)) for at in (5, 4)])
    assert locate(ReportQuery("x"), replies) == LOCATED


def test_unknown_and_ambiguous_publications_are_rejected() -> None:
    with pytest.raises(NotFound, match="report_keep_s"):
        locate(ReportQuery("x"), NodeReplies([reply_of("one")]))
    several = NodeReplies([reply_of("one", ("orders:1", "e.5", 1, 0, True), ("orders:2", "e.6", 1, 0, True))])
    with pytest.raises(BadRequest, match=r"several channels.*channel="):
        locate(ReportQuery("x"), several)
    assert locate(ReportQuery("x", "orders:1"), several) == LOCATED
    with pytest.raises(BadRequest, match="several channels"):
        require_unique(LOCATED, several)
    require_unique(
        LOCATED, NodeReplies([reply_of("one", ("orders:1", "e.5", 1, 0, True), ("orders:1", "e.4", 1, 0, True))])
    )


@pytest.mark.parametrize("odd", [{"node": "odd"}, {"node": "odd", "found": [{}]}, {"node": "odd", "found": [3]}])
def test_malformed_reports_count_as_zero(odd: dict[str, Any]) -> None:
    assert merge_reports(LOCATED, NodeReplies([odd])).nodes == {"odd": Count(0, 0)}


def test_an_unknown_publication_times_out_while_a_node_is_missing() -> None:
    with pytest.raises(TimedOut, match="no reply from other"):
        locate(ReportQuery("x"), NodeReplies([reply_of("one")], ("other",)))
    replies = NodeReplies([reply_of("one", ("orders:1", "e.5", 1, 0, True))], ("other",))
    assert locate(ReportQuery("x"), replies) == LOCATED


def test_response_of_the_http_api_is_read() -> None:
    body = {
        "id": "x",
        "cursor": "e.5",
        "channel": "orders:1",
        "recipients": 2,
        "acks": 1,
        "nodes": {"one": {"recipients": 2, "acks": 1}},
        "missing": ["other"],
    }
    expected = Report("x", "orders:1", "e.5", 2, 1, {"one": Count(2, 1)}, ("other",), settled=False)
    assert read_report({**body, "settled": False}) == expected
    with pytest.raises(Internal):
        read_report({"id": "x"})


def test_own_position_of_a_cursor_over_several_buckets() -> None:
    assert own_position("e.5~f.7") == own_position("e.5") == "e.5"
