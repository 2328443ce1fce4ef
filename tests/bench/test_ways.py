"""`make bench-ways` works: each publishing API reaches the client, and the page has a place for the table.

Speed is not tested.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import machine
from bench.ingress_hub import Servers
from bench.rig import open_rig
from bench.systems import Rig
from bench.ways import PAGE, PUBLISHING_APIS, Cost, Lengths, PublishingApi, measure, put, table
from support.installed_programs import program
from support.processes.rabbit import RabbitProcess

REDIS = Cost(PUBLISHING_APIS[0], 0.64, 12.25, 4212.0, 21_460.0)


@pytest.fixture
def rig() -> Iterator[Rig]:
    for name in ("cc", "redis-server", "taskset", "node"):
        program(name)
    with open_rig() as opened_rig:
        yield opened_rig


def test_each_publishing_api_reaches_the_client_once_and_in_order(rig: Rig, shared_rabbit: RabbitProcess) -> None:
    # A separate database, since the outbox table has its default name.
    servers = Servers(shared_rabbit.url, f"sqlite:///{rig.folder}/shop.db", poll_s=0.05)
    # `measure` raises for anything lost, duplicated or out of order.
    costs = list(measure(rig, servers, Lengths(paced_s=0.2, flat_s=0.1, first=100), PUBLISHING_APIS))
    assert [cost.api for cost in costs] == list(PUBLISHING_APIS)
    assert all(0 < cost.p50_ms <= cost.p99_ms and cost.one_per_s > 0 for cost in costs)
    assert [cost.api.kind for cost in costs if cost.batch_per_s] == ["redis", "http", "rabbit", "list", "outbox"]


def test_a_row_has_two_digits_of_each_rate() -> None:
    assert table([REDIS]).splitlines()[-1].endswith("| 0.6 | 12.2 | 4,200 | 21,000 |")
    without_batches = Cost(PublishingApi("npm", "an emitter", "nothing"), 1.0, 2.0, 95.4, None)
    assert table([without_batches]).splitlines()[-1] == "| an emitter | nothing | 1.0 | 2.0 | 95 | - |"


def test_the_page_has_the_table_with_every_publishing_api() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [api.name for api in PUBLISHING_APIS if f"| {api.name} | {api.guarantee} |" not in page] == []
    once = put(page, [REDIS], date="today", processor="one")
    twice = put(once, [REDIS], date="today", processor="one")
    assert once == twice
    assert once.count("| 4,200 | 21,000 |") == 1
    before, after = page.split("<!-- ways: ")[0], page.rpartition("<!-- ways: ")[2]
    assert once.startswith(before)
    assert once.endswith(after)
    with pytest.raises(machine.BenchError, match="0 places"):
        put("another page", [REDIS], date="today", processor="one")
