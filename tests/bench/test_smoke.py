"""The parts of the benchmark suite work, and a hub loses nothing under its load. Speed is not tested."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from bench.case import Case, Goal, Result, Row, median, spread
from bench.channel_memory import ChannelMemory
from bench.compare import compare
from bench.delivery import FLAT, to_one
from bench.inbox import InboxStore
from bench.report import markdown
from bench.rig import open_rig
from bench.systems import Floor, Rig, Tidings
from bench.web_push import WebPushLoad

CLIENTS = 50
PUBLICATIONS = 100


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    missing = [name for name in ("cc", "redis-server", "taskset") if shutil.which(name) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    with open_rig() as shared_rig:
        yield shared_rig


@pytest.mark.parametrize("transport", ["websocket", "polling"])
def test_every_delivery_arrives_once_and_in_order(rig: Rig, transport: str) -> None:
    measure = to_one(CLIENTS, {"tidings": PUBLICATIONS}, transport="polling" if transport == "polling" else "websocket")
    with Tidings(rig) as hub:
        row = measure(hub, quick=False)
    assert row["delivered_pct"] == 100
    assert row["disorder"] == 0
    assert row["lost_clients"] == 0


def test_memory_per_channel_is_measured(rig: Rig) -> None:
    with Tidings(rig) as hub:
        row = ChannelMemory(200)(hub, quick=False)
    assert 100 < row["bytes_1_200"] < row["bytes_5_200"] < row["bytes_100_200"]


def test_inboxes_store_what_the_case_measures(rig: Rig) -> None:
    with Tidings(rig) as hub:
        row = InboxStore(1.0)(hub, quick=True)
    assert row["sqlite_store_per_s"] > 0
    assert row["postgresql_ratio"] > 0


def test_every_push_is_accepted(rig: Rig) -> None:
    with Tidings(rig) as hub:
        row = WebPushLoad(10_000)(hub, quick=True)
    assert row["sent_pct"] == 100
    assert row["pushes_per_s"] > 0


def test_the_generator_receives_everything_from_the_floor(rig: Rig) -> None:
    floor = Floor(rig)
    floor.clients_expected = CLIENTS
    with floor:
        row = to_one(CLIENTS, {"floor": PUBLICATIONS})(floor, quick=False)
    assert row["delivered_pct"] == 100
    assert row["disorder"] == 0


def test_the_generator_counts_missing_deliveries(rig: Rig) -> None:
    floor = Floor(rig)
    floor.clients_expected = CLIENTS
    with floor, floor.clients(CLIENTS, [["bench:all"]]) as clients:
        clients.connect()
        clients.count(CLIENTS * 10, deadline_s=1)
        floor.emit({"order": [0] * 9})
        outcome = clients.outcome()
    assert (outcome.expected, outcome.deliveries) == (CLIENTS * 10, CLIENTS * 9)
    assert (outcome.client_min, outcome.client_max) == (9, 9)


def test_goals_are_judged_by_medians() -> None:
    rows: dict[str, list[Row]] = {"tidings": [{"x": 30.0}, {"x": 10.0}, {"x": 20.0}], "node": [{"x": 5.0}]}
    assert median(rows["tidings"], "x") == 20
    assert spread(rows["tidings"], "x") == (10, 30)
    assert Goal("", "x", 4, "node").judge(rows) == (4.0, True)
    assert Goal("", "x", 19, at_most=True).judge(rows) == (20.0, False)
    assert Goal("", "x", 1, "floor").judge(rows) is None


def test_the_page_has_the_bottleneck_only_for_a_missed_goal() -> None:
    def page(figure: float) -> str:
        goals = (Goal("≥ 2", "x", 2),)
        case = Case("c", "title", "description", ("tidings",), to_one(1, {}), FLAT, goals, bottleneck="the kernel")
        return markdown([Result(case, rows={"tidings": [{"x": figure}]})], "today", [])

    assert "Bottleneck: the kernel" in page(1.0)
    assert "the kernel" not in page(3.0)


def test_two_runs_are_compared() -> None:
    def results(rate: float) -> dict[str, object]:
        return {"cases": {"fanout-flat": {"rounds": {"tidings": [{"deliveries_per_s": rate}]}}}}

    (line,) = compare(results(100), results(150))
    assert line.startswith("fanout-flat")
    assert line.endswith("1.50 x")


def test_the_page_lists_systems_that_did_not_run() -> None:
    goals = (Goal("≥ 2 x node", "x", 2, "node"),)
    case = Case("c", "title", "description", ("tidings", "node"), to_one(1, {}), FLAT, goals)
    page = markdown([Result(case, failures={"node": "the Node peer needs node and npm"})], "today", ["make bench"])
    assert "node did not run: the Node peer needs node and npm" in page
    assert "| c | ≥ 2 x node | did not run | - |" in page
