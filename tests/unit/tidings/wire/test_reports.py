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

PLACED = ReportQuery("x", "orders:1", "e.5")


def said(node: str, *found: tuple[str, str, int, int, bool], behind: bool = False) -> dict[str, Any]:
    names = ("channel", "cursor", "recipients", "acks", "settled")
    return {"node": node, "found": [dict(zip(names, one, strict=True)) for one in found], "behind": behind}


def test_the_question_says_what_is_known() -> None:
    assert json.loads(ReportQuery("x").to_command().to_message("r")) == {"do": "report", "id": "x", "reply": "r"}
    assert PLACED.to_command().arguments == {"id": "x", "channel": "orders:1", "cursor": "e.5"}
    assert ReportQuery("a:b").path() == "/api/publications/a%3Ab"
    assert PLACED.path() == "/api/publications/x?channel=orders%3A1"


def test_the_parts_are_added_up() -> None:
    answers = NodeReplies(
        [said("one", ("orders:1", "e.5", 2, 1, True)), said("other", ("orders:1", "e.5", 3, 3, True)), said("idle")],
        ("gone",),
    )
    nodes = {"one": Count(2, 1), "other": Count(3, 3), "idle": Count(0, 0)}
    assert merge_reports(PLACED, answers) == Report("x", "orders:1", "e.5", 5, 4, nodes, ("gone",), settled=True)


@pytest.mark.parametrize(
    "late", [said("other", behind=True), said("other", ("orders:1", "e.5", 3, 2, False))], ids=["behind", "acks"]
)
def test_one_node_is_enough_for_more_to_be_expected(late: dict[str, Any]) -> None:
    report = merge_reports(PLACED, NodeReplies([said("one", ("orders:1", "e.5", 1, 1, True)), late]))
    assert not report.settled


def test_another_publication_with_this_id_does_not_count() -> None:
    answers = NodeReplies([said("one", ("orders:2", "e.5", 7, 7, False), ("orders:1", "e.4", 7, 7, False))])
    assert merge_reports(PLACED, answers) == Report("x", "orders:1", "e.5", 0, 0, {"one": Count(0, 0)})


def test_a_nodes_refusal_is_raised() -> None:
    answers = NodeReplies([{"node": "one", "error": {"code": "unknown_namespace", "message": "no rule"}}])
    with pytest.raises(UnknownNamespace):
        merge_reports(PLACED, answers)


def test_where_it_is_any_node_may_know() -> None:
    answers = NodeReplies([said("idle"), said("one", ("orders:1", "e.5", 1, 0, True))])
    assert locate(ReportQuery("x"), answers) == PLACED


def test_of_one_channel_the_later_publication_counts() -> None:
    answers = NodeReplies([said(str(at), ("orders:1", f"e.{at}", 1, 0, True)) for at in (5, 4)])
    assert locate(ReportQuery("x"), answers) == PLACED


def test_what_nobody_knows_and_what_is_in_several_channels() -> None:
    with pytest.raises(NotFound, match="report_keep_s"):
        locate(ReportQuery("x"), NodeReplies([said("one")]))
    several = NodeReplies([said("one", ("orders:1", "e.5", 1, 0, True), ("orders:2", "e.6", 1, 0, True))])
    with pytest.raises(BadRequest, match=r"several channels.*channel="):
        locate(ReportQuery("x"), several)
    assert locate(ReportQuery("x", "orders:1"), several) == PLACED
    with pytest.raises(BadRequest, match="several channels"):
        require_unique(PLACED, several)
    require_unique(PLACED, NodeReplies([said("one", ("orders:1", "e.5", 1, 0, True), ("orders:1", "e.4", 1, 0, True))]))


@pytest.mark.parametrize("odd", [{"node": "odd"}, {"node": "odd", "found": [{}]}, {"node": "odd", "found": [3]}])
def test_an_answer_of_another_version_counts_nothing(odd: dict[str, Any]) -> None:
    assert merge_reports(PLACED, NodeReplies([odd])).nodes == {"odd": Count(0, 0)}


def test_while_a_node_is_missing_nobody_can_say_that_there_is_none() -> None:
    with pytest.raises(TimedOut, match="no reply from other"):
        locate(ReportQuery("x"), NodeReplies([said("one")], ("other",)))
    answers = NodeReplies([said("one", ("orders:1", "e.5", 1, 0, True))], ("other",))
    assert locate(ReportQuery("x"), answers) == PLACED


def test_an_answer_over_http() -> None:
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


def test_the_own_place_of_a_cursor_over_several_buckets() -> None:
    assert own_position("e.5~f.7") == own_position("e.5") == "e.5"
