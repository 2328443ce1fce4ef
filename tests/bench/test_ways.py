"""`make bench-ways` works: each way in reaches the client, and the page has a place for what it costs.

Says nothing about speed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import machine
from bench.inlets import Servers
from bench.rig import open_rig
from bench.systems import Rig
from bench.ways import PAGE, WAYS, Cost, Lengths, Way, measure, put, table
from support.installed_programs import program
from support.processes.rabbit import RabbitProcess

REDIS = Cost(WAYS[0], 0.64, 12.25, 4212.0, 21_460.0)


@pytest.fixture
def rig() -> Iterator[Rig]:
    for name in ("cc", "redis-server", "taskset", "node"):
        program(name)
    with open_rig() as made:
        yield made


def test_each_way_reaches_the_client_once_and_in_order(rig: Rig, shared_rabbit: RabbitProcess) -> None:
    # A database of its own, since the table has its usual name.
    servers = Servers(shared_rabbit.url, f"sqlite:///{rig.folder}/shop.db", look_s=0.05)
    # Anything lost, doubled or out of order raises.
    costs = list(measure(rig, servers, Lengths(paced_s=0.2, flat_s=0.1, first=100), WAYS))
    assert [cost.way for cost in costs] == list(WAYS)
    assert all(0 < cost.p50_ms <= cost.p99_ms and cost.one_per_s > 0 for cost in costs)
    assert [cost.way.kind for cost in costs if cost.batch_per_s] == ["redis", "http", "rabbit", "list", "outbox"]


def test_a_row_has_two_digits_of_each_rate() -> None:
    assert table([REDIS]).splitlines()[-1].endswith("| 0.6 | 12.2 | 4,200 | 21,000 |")
    alone = Cost(Way("npm", "an emitter", "nothing"), 1.0, 2.0, 95.4, None)
    assert table([alone]).splitlines()[-1] == "| an emitter | nothing | 1.0 | 2.0 | 95 | - |"


def test_the_page_has_the_place_and_every_way() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [way.name for way in WAYS if f"| {way.name} | {way.promise} |" not in page] == []
    once = put(page, [REDIS], when="today", processor="one")
    again = put(once, [REDIS], when="today", processor="one")
    assert once == again
    assert once.count("| 4,200 | 21,000 |") == 1
    before, after = page.split("<!-- ways: ")[0], page.rpartition("<!-- ways: ")[2]
    assert once.startswith(before)
    assert once.endswith(after)
    with pytest.raises(machine.BenchError, match="0 places"):
        put("another page", [REDIS], when="today", processor="one")
