"""Delivery reports and acknowledgements: two real hubs on one Redis, with every kind of client."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.network.proxy import Proxy
from support.network.raw_polling import POLL, connect, exchange, poll_packets
from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import AsyncEmitter, Emitter, Receipt
from tidings.errors import BadRequest, NotFound, TimedOut
from tidings.wire.reports import Count

ACK_TIMEOUT_S = 2.0
EXTRA = f'prefix = "reports:"\ncontrol_timeout_s = 10.0\nnode_record_s = 1.0\nack_timeout_s = {ACK_TIMEOUT_S}\n'
ASYNC = {"Prefer": "respond-async"}
Start = Callable[..., ClientProcess]


@dataclass
class TwoNodes:
    """Two nodes on one Redis."""

    redis: RedisProcess
    primary: HubProcess
    other: HubProcess


def hub_of(folder: Path, redis: RedisProcess, name: str, extra: str) -> HubProcess:
    return HubProcess(folder, "--broker", redis.url, "--node-id", name, extra=extra)


@pytest.fixture(scope="module")
def nodes(shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    hubs = [hub_of(tmp_path_factory.mktemp(name), shared_redis, name, EXTRA) for name in ("one", "other")]
    try:
        for hub in hubs:
            hub.start()
        wait_until(lambda: len(hubs[0].get("/api/nodes")[1]["nodes"]) == 2, why="both nodes have a record")
        yield TwoNodes(shared_redis, *hubs)
    finally:
        for hub in hubs:
            hub.stop()
    assert not [hub for hub in hubs if "Traceback" in hub.log.read_text()]


@pytest.fixture
def start(clients: list[ClientProcess]) -> Start:
    def start_client(url: str, kind: str, channel: str, **options: object) -> ClientProcess:
        client = ClientProcess(
            kind, url, token=token("u", "*"), tokens=[token("u", "*")], channels=[channel], **options
        )
        clients.append(client)
        return client.wait_ready()

    return start_client


def publish(hub: HubProcess, channel: str, **extra: object) -> tuple[int, Any, dict[str, str]]:
    body = {"channel": channel, "event": "updated", "data": {"n": 1}, **extra}
    return hub.request("POST", "/api/publish", body, ASYNC)


def wait_settled(hub: HubProcess, location: str) -> Any:
    """Wait until the report is complete, and return it."""
    reports: list[Any] = []

    def is_settled() -> bool:
        status, answer, headers = hub.get(location)
        assert status in {200, 202}, answer
        assert (status == 202) == ("retry-after" in headers)
        reports.append(answer)
        return status == 200

    wait_until(is_settled, why="the report is complete")
    return reports[-1]


@contextmanager
def emitter(nodes: TwoNodes, way: str) -> Iterator[Callable[..., Any]]:
    """Yield `emit` of a synchronous or asynchronous emitter; the receipts have a blocking `wait`."""
    options: dict[str, Any] = {"prefix": "reports:"} if way.startswith("redis") else {"api_key": API_KEY}
    url = nodes.redis.url if way.startswith("redis") else nodes.primary.url
    if not way.endswith("async"):
        with Emitter(url, **options) as plain:
            yield plain.emit
        return
    with asyncio.Runner() as runner:
        backend = AsyncEmitter(url, **options)

        class BlockingReceipt:
            def __init__(self, receipt: Any) -> None:
                self.receipt = receipt

            def wait(self, *args: Any, **named: Any) -> Any:
                return runner.run(self.receipt.wait(*args, **named))

        yield lambda *args, **named: BlockingReceipt(runner.run(backend.emit(*args, **named)))
        runner.run(backend.close())


WAYS = pytest.mark.parametrize("way", ["redis", "redis-async", "http", "http-async"])


def test_every_kind_of_client_is_counted_on_its_node(nodes: TwoNodes, start: Start) -> None:
    channel = "chat:everyone"
    clients = [
        start(nodes.primary.url, "js-websocket", channel, acks=True),
        start(nodes.primary.url, "sse", channel),
        start(nodes.other.url, "js-polling", channel, acks=True),
        start(nodes.other.url, "python-websocket", channel),
        start(nodes.other.url, "python-polling", channel),
    ]
    status, receipt, headers = publish(nodes.primary, channel, ack=True)

    assert status == 202
    assert set(receipt) == {"id", "cursor", "duplicate"}
    assert headers["location"] == f"/api/publications/{receipt['id']}"
    assert headers["preference-applied"] == "respond-async"
    for hub in (nodes.other, nodes.primary):
        report = wait_settled(hub, headers["location"])
        assert (report["id"], report["cursor"], report["channel"]) == (receipt["id"], receipt["cursor"], channel)
        assert (report["recipients"], report["acks"], report["missing"]) == (5, 4, [])
        assert report["nodes"] == {"one": {"recipients": 2, "acks": 1}, "other": {"recipients": 3, "acks": 3}}
    for client in clients:
        client.wait(lambda client: client.records_of("publication"), why="the publication")
        assert [(entry["data"], entry["channel"]) for entry in client.records_of("publication")] == [
            ({"n": 1}, channel)
        ]


def test_a_report_without_acknowledgements_requests_none(nodes: TwoNodes, start: Start) -> None:
    channel = "chat:quiet"
    client = start(nodes.other.url, "js-websocket", channel, acks=True)
    _, _, headers = publish(nodes.primary, channel)
    report = wait_settled(nodes.primary, headers["location"])

    assert (report["recipients"], report["acks"]) == (1, 0)
    assert report["nodes"] == {"one": {"recipients": 0, "acks": 0}, "other": {"recipients": 1, "acks": 0}}
    client.wait(lambda client: client.records_of("publication"), why="the publication")
    assert "ackRequested" not in client.records_of("publication")[0]
    assert client.records_of("cursor") == []


def test_publish_without_the_preference_has_no_report(nodes: TwoNodes) -> None:
    status, receipt, headers = nodes.primary.request(
        "POST", "/api/publish", {"channel": "chat:plain", "event": "updated", "data": 1}
    )
    assert status == 200
    assert "location" not in headers
    assert "preference-applied" not in headers
    for hub in (nodes.primary, nodes.other):
        status, answer, _ = hub.get(f"/api/publications/{receipt['id']}")
        assert (status, answer["error"]["code"]) == (404, "not_found")
    status, answer, _ = nodes.primary.get("/api/publications/never-published")
    assert (status, answer["error"]["code"]) == (404, "not_found")


def test_a_missing_acknowledgement_is_awaited_until_the_timeout(nodes: TwoNodes, start: Start) -> None:
    channel = "chat:silent"
    start(nodes.primary.url, "js-websocket", channel)
    start(nodes.primary.url, "js-websocket", channel, acks=True)
    started_s = time.monotonic()
    _, _, headers = publish(nodes.other, channel, ack=True)
    wait_until(lambda: nodes.other.get(headers["location"])[1]["acks"] == 1, why="one of two clients acknowledged")
    assert nodes.other.get(headers["location"])[0] == 202
    report = wait_settled(nodes.other, headers["location"])
    assert time.monotonic() - started_s > ACK_TIMEOUT_S * 0.9
    assert (report["recipients"], report["acks"]) == (2, 1)


@WAYS
def test_receipt_waits_for_acknowledgements(nodes: TwoNodes, start: Start, way: str) -> None:
    channel = f"chat:{way}"
    start(nodes.primary.url, "js-websocket", channel, acks=True)
    start(nodes.other.url, "python-polling", channel)
    start(nodes.other.url, "sse", channel)
    with emitter(nodes, way) as emit:
        receipt = emit("updated", {"n": 1}, channel=channel, ack=True)
        report = receipt.wait(acks=2, timeout_s=10)
        assert (report.acks, report.recipients, report.missing) == (2, 3, ())
        assert report.nodes == {"one": Count(1, 1), "other": Count(2, 1)}
        started_s = time.monotonic()
        with pytest.raises(TimedOut, match=r"2 of 3 acknowledgements after 0\.7 s, from 3 recipients"):
            receipt.wait(acks=3, timeout_s=0.7)
        assert 0.6 < time.monotonic() - started_s < 5
        # The channel has no subscribers, so there are no acknowledgements.
        unreceived = emit("updated", 1, channel="chat:empty", ack=True)
        assert unreceived.wait(acks=0).recipients == 0
        with pytest.raises(TimedOut, match="0 of 1 acknowledgements"):
            unreceived.wait(timeout_s=0.3)
        with pytest.raises(BadRequest, match="ack=True"):
            emit("updated", 1, channel=channel).wait()


def test_repeated_id_has_the_same_report(nodes: TwoNodes, start: Start) -> None:
    channel = "chat:again"
    client = start(nodes.primary.url, "python-websocket", channel)
    first, second = (publish(hub, channel, id="again-1", ack=True) for hub in (nodes.primary, nodes.other))
    assert (second[0], second[1]) == (202, first[1] | {"duplicate": True})
    assert first[2]["location"] == second[2]["location"]
    report = wait_settled(nodes.other, first[2]["location"])
    assert (report["cursor"], report["recipients"], report["acks"]) == (first[1]["cursor"], 1, 1)
    client.wait(lambda self: self.records_of("publication"), why="the publication")
    assert len(client.records_of("publication")) == 1


def test_report_of_an_id_in_several_channels_requires_the_channel(nodes: TwoNodes, start: Start) -> None:
    start(nodes.primary.url, "python-websocket", "chat:left")
    body = {"channels": ["chat:left", "chat:right"], "event": "updated", "data": 1, "id": "both"}
    status, answer, headers = nodes.primary.request("POST", "/api/publish", body, ASYNC)
    assert (status, len(answer["results"])) == (202, 2)
    assert "location" not in headers
    # The same id from two requests. Each node knows one of the two publications.
    for hub, channel in ((nodes.primary, "chat:left"), (nodes.other, "chat:right")):
        assert publish(hub, channel, id="each")[0] == 202
    for hub in (nodes.primary, nodes.other):
        for id_ in ("both", "each"):
            status, answer, _ = hub.get(f"/api/publications/{id_}")
            assert (status, answer["error"]["code"]) == (400, "bad_request")
            assert "channel=" in answer["error"]["message"]
            assert wait_settled(hub, f"/api/publications/{id_}?channel=chat:left")["recipients"] == 1
            assert wait_settled(hub, f"/api/publications/{id_}?channel=chat:right")["recipients"] == 0
            assert hub.get(f"/api/publications/{id_}?channel=chat:empty")[0] == 404


@pytest.mark.parametrize("kind", ["sdk-websocket", "sdk-polling"])
def test_sdk_acknowledges_automatically(nodes: TwoNodes, start: Start, kind: str) -> None:
    channel = f"chat:{kind}"
    client = start(nodes.primary.url, kind, channel)
    client.wait(lambda client: client.records_of("state"), why="the subscription")
    with emitter(nodes, "redis") as emit:
        report = emit("updated", {"n": 1}, channel=channel, ack=True).wait(acks=1)
        assert (report.recipients, report.acks) == (1, 1)
        emit("updated", {"n": 2}, channel=channel)
    client.wait(lambda client: len(client.data(channel)) == 2, why="both publications")
    assert client.data(channel) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize("kind", ["stock-websocket", "stock-polling", "stock4.6-websocket"])
def test_reconnected_stock_client_receives_acknowledged_publications_once(
    nodes: TwoNodes, start: Start, kind: str
) -> None:
    """Its offset is the last argument of an event. With an acknowledgement, the last argument is a function instead."""
    channel = f"chat:{kind}"
    proxy = Proxy(nodes.primary.port, plain=True)
    try:
        client = start(f"http://127.0.0.1:{proxy.port}", kind, channel, acks=True)
        sid = client.records_of("connect")[0]["id"]
        with nodes.redis.client() as redis:
            wait_until(lambda: redis.keys(f"reports:*:session:{sid}"), why="the session is stored")
        with emitter(nodes, "redis") as emit:
            emit("updated", {"n": 1}, channel=channel, ack=True).wait()
            proxy.refuse()
            client.wait(lambda client: client.records_of("disconnect"), why="the disconnect")
            missed = emit("updated", {"n": 2}, channel=channel, ack=True)
            proxy.accept_again()
            # A recovered publication requests an acknowledgement as well.
            report = missed.wait(timeout_s=20)
            assert (report.recipients, report.acks) == (1, 1)
            emit("updated", {"n": 3}, channel=channel)
        client.wait(lambda client: len(client.data(channel)) >= 3, why="the last publication")
        assert client.data(channel) == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert [entry["recovered"] for entry in client.records_of("connect")] == [False, True]
    finally:
        proxy.close()


def test_killed_node_is_reported_as_missing_without_a_delay(
    shared_redis: RedisProcess, start: Start, tmp_path: Path
) -> None:
    extra = 'prefix = "killed:"\ncontrol_timeout_s = 1.0\nnode_record_s = 2.0\nack_timeout_s = 60\n'
    hubs = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        hubs.append(hub_of(tmp_path / name, shared_redis, name, extra).start())
    primary, other = hubs
    try:
        wait_until(lambda: len(primary.get("/api/nodes")[1]["nodes"]) == 2, why="both nodes have a record")
        start(primary.url, "python-websocket", "chat:x")
        start(other.url, "python-websocket", "chat:x")
        with Emitter(shared_redis.url, prefix="killed:") as backend:
            receipt = backend.emit("updated", 1, channel="chat:x", ack=True)
            assert receipt.wait(acks=2).nodes == {"one": Count(1, 1), "other": Count(1, 1)}
            other.pause()
            started_s = time.monotonic()
            _, report, _ = primary.get(f"/api/publications/{receipt.id}")
            assert (report["recipients"], report["missing"]) == (1, ["other"])
            other.kill()
            status, report, _ = primary.get(f"/api/publications/{receipt.id}")
            assert (status, report["missing"]) == (200, ["other"])
            assert report["nodes"] == {"one": {"recipients": 1, "acks": 1}}
            assert receipt.wait(acks=1).missing == ("other",)
            with pytest.raises(TimedOut, match="no word of other"):
                receipt.wait(acks=2, timeout_s=0.5)
            assert time.monotonic() - started_s < 8
    finally:
        for hub in hubs:
            hub.stop()


@pytest.mark.parametrize("kind", ["js-websocket", "js-polling"])
def test_requested_acknowledgements_do_not_count_against_the_rate_limit(
    shared_redis: RedisProcess, start: Start, tmp_path: Path, kind: str
) -> None:
    """Only acknowledgements that the hub did not request count towards `inbound_burst`."""
    extra = f'prefix = "fast-{kind}:"\ninbound_rate_per_s = 1\ninbound_burst = 20\n'
    hub = hub_of(tmp_path, shared_redis, "only", extra).start()
    try:
        client = start(hub.url, kind, "chat:x", acks=True)
        with Emitter(shared_redis.url, prefix=f"fast-{kind}:") as backend:
            for number in range(5):
                with backend.batch() as batch:
                    for _ in range(20):
                        batch.emit("updated", number, channel="chat:x", ack=True)
                last = batch.results[-1]
                assert isinstance(last, Receipt)
                assert last.wait().acks == 1
        assert hub.metric("tidings_acks_total") == 100
        assert hub.metric("tidings_acks_unknown_total") == 0
        assert client.records_of("disconnect") == []
    finally:
        hub.stop()


def test_unrequested_acknowledgements_are_ignored_and_rate_limited(nodes: TwoNodes) -> None:
    port, before = nodes.primary.port, nodes.primary.metric("tidings_acks_unknown_total")
    sid = connect(port, token("u", "*"), "chat:unasked")
    _, _, headers = publish(nodes.primary, "chat:unasked", ack=True)
    (number,) = (int(body[1]) for packet in poll_packets(port, sid) if (body := re.match(r"42(\d+)\[", packet)))
    unrequested = [number - 1, 7, 0, 999_999_999_999_999]

    def acknowledge(*numbers: int) -> int:
        body = b"\x1e".join(b"43%d[]" % entry for entry in numbers)
        return exchange(port, "POST", f"{POLL}&sid={sid}", body=body)[0]

    assert acknowledge(*unrequested * 10) == 200
    assert nodes.primary.get(headers["location"])[1]["acks"] == 0
    assert acknowledge(number, number, number) == 200
    report = wait_settled(nodes.primary, headers["location"])
    assert (report["recipients"], report["acks"]) == (1, 1)
    assert nodes.primary.metric("tidings_acks_unknown_total") - before == 42
    acknowledge(*unrequested * 50)
    # The last packets of the session, perhaps after a ping, then no session.
    packets = b""
    while b'"code":"too_fast"' not in packets:
        status, body = exchange(port, "GET", f"{POLL}&sid={sid}")[:2]
        assert status == 200, packets
        packets += body
    wait_until(lambda: exchange(port, "GET", f"{POLL}&sid={sid}")[0] == 400, why="the session has ended")


def test_reports_are_limited_in_age_and_number(shared_redis: RedisProcess, start: Start, tmp_path: Path) -> None:
    extra = 'prefix = "kept:"\nreport_keep_s = 3.0\nreports_max = 2\n'
    hub = hub_of(tmp_path, shared_redis, "only", extra).start()
    try:
        start(hub.url, "python-websocket", "chat:x")
        oldest, *recent = (publish(hub, "chat:x", ack=True)[2]["location"] for _ in range(3))
        assert hub.get(oldest)[0] == 404
        assert [wait_settled(hub, location)["acks"] for location in recent] == [1, 1]
        wait_until(lambda: hub.metric("tidings_reports_dropped_total") == 1, why="the discarded report is counted")
        assert hub.metric("tidings_reports") == 2
        wait_until(lambda: hub.get(recent[1])[0] == 404, why="the report expires", within_s=10)
        wait_until(lambda: hub.metric("tidings_reports") == 0, why="no report is stored")
        with Emitter(hub.url, api_key=API_KEY) as backend:
            receipt = backend.emit("updated", 1, channel="chat:x", ack=True)
            assert receipt.wait().acks == 1
            wait_until(lambda: hub.get(f"/api/publications/{receipt.id}")[0] == 404, why="the report expires")
            with pytest.raises(NotFound, match="report_keep_s"):
                receipt.wait()
    finally:
        hub.stop()
