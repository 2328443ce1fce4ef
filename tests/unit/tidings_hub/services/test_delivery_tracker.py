"""Delivery reports on the memory broker: what a node counts, and what emitters of the same process receive."""

from __future__ import annotations

import asyncio
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest

from support.limits import broker_limits
from support.waiting import wait_until
from tidings import AsyncEmitter, Claims, Cursor, Emitter, Receipt
from tidings.errors import BadRequest, NotFound, TimedOut
from tidings.wire.reports import Count, ReportQuery
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.config.settings import Settings
from tidings_hub.core.frame import OutgoingFrame
from tidings_hub.core.sessions import Session
from tidings_hub.metrics import Metrics
from tidings_hub.node.api import LocalNodeApi
from tidings_hub.node.readiness import Readiness
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.commands import Commands
from tidings_hub.services.hub import Hub
from tidings_hub.services.subscribe import go_live, subscribe

ACK = re.compile(rb"42(\d+)\[")


class Client:
    """A connection that records the packets written to it."""

    def __init__(self, transport: str = "websocket") -> None:
        self.remote = "here"
        self.transport = transport
        self.packets: list[bytes] = []
        self.code: str | None = None

    @property
    def closed(self) -> bool:
        return self.code is not None

    def close(self, code: str, message: str | None = None) -> None:
        self.code = self.code or code

    def numbers(self) -> list[int]:
        """The ack ids of the received packets."""
        return [int(match[1]) for packet in self.packets if (match := ACK.match(packet))]


def fan_out(connections: Iterable[Connection], frames: Sequence[OutgoingFrame]) -> None:
    for connection in connections:
        assert isinstance(connection, Client)
        connection.packets += [frame.packet for frame in frames]


def in_thread(run: Callable[..., object], *arguments: object) -> bool:
    threading.Thread(target=run, args=arguments).start()
    return True


@pytest.fixture
def hub() -> Iterator[Hub]:
    settings = Settings.model_validate(
        {"broker": f"memory://{secrets.token_hex(4)}", "namespaces": {"orders": {"history": 10}}, "node_id": "n1"}
    )
    broker = MemoryBroker(settings.broker, limits=broker_limits())
    new_hub = Hub(settings, broker, settings.access(), None, fan_out=fan_out, metrics=Metrics())
    new_hub.on_command = Commands(new_hub, in_thread).on_command
    broker.write_rules(settings.broker_rules())
    broker.start(new_hub)
    yield new_hub
    broker.stop()


@pytest.fixture
def emitter(hub: Hub) -> Iterator[Emitter]:
    with Emitter(hub.settings.broker) as emitter:
        yield emitter


def open_session(hub: Hub, *channels: str, transport: str = "websocket", since: str = "") -> Session[Connection]:
    session = hub.open(Client(transport), Claims(sub="u", expires_at_s=None, channels=("*",)))
    go_live(hub, session, subscribe(hub, session, channels, Cursor.parse(since) if since else None))
    return session


def client(session: Session[Connection]) -> Client:
    assert isinstance(session.connection, Client)
    return session.connection


def node_api(hub: Hub) -> LocalNodeApi:
    readiness = Readiness(hub, now_s=lambda: 0.0, sleep=lambda _: None, pump_alive=lambda: True, greenlets=lambda: 0)
    return LocalNodeApi(hub, readiness, Commands(hub, in_thread))


def test_recipients_are_the_connections_that_were_written_to(hub: Hub, emitter: Emitter) -> None:
    sessions = [open_session(hub, "orders:1", transport=kind) for kind in ("websocket", "polling", "sse")]
    open_session(hub, "orders:2")
    slow_session = open_session(hub, "orders:1")
    client(slow_session).close("slow")
    receipt = emitter.emit("updated", 1, channel="orders:1", ack=True)
    hub.broker.canary()
    (number,) = client(sessions[0]).numbers()
    assert client(sessions[1]).numbers() == [number]
    # A frame that only repeats the cursor is not a delivery.
    assert hub.metrics.deliveries == 4
    for session in sessions[:2]:
        assert hub.deliveries.acknowledge(session.id, number)
        assert not hub.deliveries.acknowledge(session.id, number)
    report = receipt.wait(acks=2)
    assert (report.recipients, report.acks, report.settled, report.nodes) == (3, 2, True, {"n1": Count(3, 2)})
    assert hub.metrics.acks == 2


def test_publications_of_one_batch_have_separate_reports(hub: Hub, emitter: Emitter) -> None:
    session = open_session(hub, "orders:1", "orders:2")
    with emitter.batch() as batch:
        batch.emit("a", 1, channel="orders:1", ack=True)
        batch.emit("b", 2, channel="orders:2")
        batch.emit("c", 3, channel="orders:2", ack=True)
    hub.broker.canary()
    first, second = client(session).numbers()
    hub.deliveries.acknowledge(session.id, second)
    third = batch.results[2]
    assert isinstance(third, Receipt)
    assert (third.wait().recipients, third.wait().acks) == (1, 1)
    assert first != second
    names = [packet.partition(b'["')[2].partition(b'"')[0] for packet in client(session).packets]
    assert names == [b"a", b"tidings:cursor", b"b", b"c", b"tidings:cursor"]


def test_an_asyncio_receipt_is_awaited(hub: Hub) -> None:
    session = open_session(hub, "orders:1")

    async def emit() -> None:
        async with AsyncEmitter(hub.settings.broker) as emitter:
            receipt = await emitter.emit("updated", 1, channel="orders:1", ack=True)
            assert receipt == Receipt(receipt.id, receipt.cursor)
            with pytest.raises(TimedOut, match="0 of 1"):
                await receipt.wait(timeout_s=0.3)
            hub.deliveries.acknowledge(session.id, client(session).numbers()[0])
            assert (await receipt.wait()).acks == 1
            async with emitter.batch() as batch:
                batch.emit("updated", 2, channel="orders:1", ack=True)
                batch.emit("updated", 3, channel="orders:1")
            with pytest.raises(BadRequest, match="ack=True"):
                await batch.results[1].wait()  # type: ignore[misc, union-attr]

    asyncio.run(emit())


def test_recovered_publication_is_counted_when_it_is_delivered(hub: Hub, emitter: Emitter) -> None:
    before = emitter.emit("updated", 0, channel="orders:1")
    receipt = emitter.emit("updated", 1, channel="orders:1", ack=True)
    hub.broker.canary()
    session = open_session(hub, "orders:1", since=before.cursor)
    (number,) = client(session).numbers()
    assert hub.deliveries.acknowledge(session.id, number)
    assert receipt.wait().nodes == {"n1": Count(1, 1)}


def test_held_publication_is_counted_when_it_is_delivered(hub: Hub, emitter: Emitter) -> None:
    session = hub.open(Client(), Claims(sub="u", expires_at_s=None, channels=("*",)))
    pending = subscribe(hub, session, ["orders:1"], None)
    receipt = emitter.emit("updated", 1, channel="orders:1", ack=True)
    hub.broker.canary()
    assert receipt.wait(acks=0).recipients == 0
    go_live(hub, session, pending)
    hub.deliveries.acknowledge(session.id, client(session).numbers()[0])
    assert receipt.wait().recipients == 1


def test_report_is_not_settled_before_a_node_with_subscribers_reaches_the_position(hub: Hub) -> None:
    open_session(hub, "orders:1")
    position = hub.broker.position
    assert position is not None
    current, next_cursor = str(position), str(Cursor(position.epoch, position.seq + 1))
    api = node_api(hub)
    assert not api.report(ReportQuery("x", "orders:1", next_cursor)).settled
    assert api.report(ReportQuery("x", "orders:1", current)).settled
    assert api.report(ReportQuery("x", "orders:2", next_cursor)).settled, "no subscriber on this node"
    assert api.report(ReportQuery("x", "orders:1", str(Cursor("other", 99)))).settled, (
        "no publication of another epoch will arrive"
    )


def test_node_reports_its_own_publication_without_subscribers(hub: Hub, emitter: Emitter) -> None:
    api = node_api(hub)
    receipt = emitter.emit("updated", 1, channel="orders:1", ack=True)
    hub.broker.canary()
    with pytest.raises(NotFound):
        api.report(ReportQuery(receipt.id))
    api.open_report("orders:1", Receipt(receipt.id, receipt.cursor, duplicate=True))
    with pytest.raises(NotFound):
        api.report(ReportQuery(receipt.id))
    api.open_report("orders:1", receipt)
    report = api.report(ReportQuery(receipt.id))
    assert (report.channel, report.cursor, report.recipients, report.settled) == ("orders:1", receipt.cursor, 0, True)


def test_reply_about_an_id_in_many_channels_is_short(hub: Hub, emitter: Emitter) -> None:
    session = open_session(hub, *(f"orders:{number}" for number in range(20)))
    receipts = emitter.emit("updated", 1, channels=[f"orders:{number}" for number in range(20)], ack=True, id="x")
    hub.broker.canary()
    (reply,) = hub.broker.run_command(ReportQuery("x", "orders:7").to_command(), timeout_s=5).replies
    assert [row["channel"] for row in reply["found"]] == ["orders:7", "orders:0"]
    assert [hub.deliveries.acknowledge(session.id, number) for number in client(session).numbers()] == [True] * 20
    assert [row.wait(acks=0).acks for row in receipts] == [1] * 20


def test_reports_expire(hub: Hub, emitter: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    open_session(hub, "orders:1")
    emitter.emit("updated", 1, channel="orders:1", ack=True)
    hub.broker.canary()
    hub.tick()
    assert hub.metrics.reports == 1
    monkeypatch.setattr(hub.deliveries.reports, "keep_s", 0.0)
    hub.tick()
    assert hub.metrics.reports == 0


def test_malformed_report_query_is_ignored(hub: Hub) -> None:
    for message in ({"do": "report"}, {"do": "report", "id": "x", "channel": "orders:1", "cursor": "nonsense"}):
        hub.on_control(message)
    open_session(hub, "orders:1")
    wait_until(lambda: hub.metrics.control_messages == 2, why="the hub received both")
