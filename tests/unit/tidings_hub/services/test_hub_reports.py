"""Reports on the memory broker: what a node counts, and what emitters of the same process are told of it."""

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
    """A connection that keeps what is written to it."""

    def __init__(self, transport: str = "websocket") -> None:
        self.remote = "here"
        self.transport = transport
        self.packets: list[bytes] = []
        self.code: str | None = None

    @property
    def closed(self) -> bool:
        return self.code is not None

    def close(self, code: str) -> None:
        self.code = self.code or code

    def numbers(self) -> list[int]:
        """The ack ids of what came."""
        return [int(found[1]) for packet in self.packets if (found := ACK.match(packet))]


def fan_out(connections: Iterable[Connection], said: Sequence[OutgoingFrame]) -> None:
    for connection in connections:
        assert isinstance(connection, Client)
        connection.packets += [each.packet for each in said]


def in_thread(run: Callable[..., object], *arguments: object) -> bool:
    threading.Thread(target=run, args=arguments).start()
    return True


@pytest.fixture
def hub() -> Iterator[Hub]:
    settings = Settings.model_validate(
        {"broker": f"memory://{secrets.token_hex(4)}", "namespaces": {"orders": {"history": 10}}, "node_id": "n1"}
    )
    broker = MemoryBroker(settings.broker, limits=broker_limits())
    made = Hub(settings, broker, settings.access(), None, fan_out=fan_out, metrics=Metrics())
    made.on_command = Commands(made, in_thread).on_command
    broker.write_rules(settings.broker_rules())
    broker.start(made)
    yield made
    broker.stop()


@pytest.fixture
def emitter(hub: Hub) -> Iterator[Emitter]:
    with Emitter(hub.settings.broker) as made:
        yield made


def opened(hub: Hub, *channels: str, transport: str = "websocket", since: str = "") -> Session[Connection]:
    session = hub.open(Client(transport), Claims(sub="u", expires_at_s=None, channels=("*",)))
    go_live(hub, session, subscribe(hub, session, channels, Cursor.parse(since) if since else None))
    return session


def client(session: Session[Connection]) -> Client:
    assert isinstance(session.connection, Client)
    return session.connection


def backends(hub: Hub) -> LocalNodeApi:
    readiness = Readiness(hub, now_s=lambda: 0.0, sleep=lambda _: None, pump_alive=lambda: True, greenlets=lambda: 0)
    return LocalNodeApi(hub, readiness, Commands(hub, in_thread))


def test_the_recipients_are_those_it_was_written_to(hub: Hub, emitter: Emitter) -> None:
    sessions = [opened(hub, "orders:1", transport=kind) for kind in ("websocket", "polling", "sse")]
    opened(hub, "orders:2")
    gone = opened(hub, "orders:1")
    client(gone).close("slow")
    receipt = emitter.emit("updated", 1, channel="orders:1", ack=True)
    hub.broker.canary()
    (number,) = client(sessions[0]).numbers()
    assert client(sessions[1]).numbers() == [number]
    # A frame that only says the cursor once more is no delivery.
    assert hub.metrics.deliveries == 4
    for session in sessions[:2]:
        assert hub.deliveries.acknowledge(session.id, number)
        assert not hub.deliveries.acknowledge(session.id, number)
    report = receipt.wait(acks=2)
    assert (report.recipients, report.acks, report.settled, report.nodes) == (3, 2, True, {"n1": Count(3, 2)})
    assert hub.metrics.acks == 2


def test_more_than_one_publication_in_one_turn_and_several_channels(hub: Hub, emitter: Emitter) -> None:
    session = opened(hub, "orders:1", "orders:2")
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
    session = opened(hub, "orders:1")

    async def emit() -> None:
        async with AsyncEmitter(hub.settings.broker) as made:
            receipt = await made.emit("updated", 1, channel="orders:1", ack=True)
            assert receipt == Receipt(receipt.id, receipt.cursor)
            with pytest.raises(TimedOut, match="0 of 1"):
                await receipt.wait(timeout_s=0.3)
            hub.deliveries.acknowledge(session.id, client(session).numbers()[0])
            assert (await receipt.wait()).acks == 1
            async with made.batch() as batch:
                batch.emit("updated", 2, channel="orders:1", ack=True)
                batch.emit("updated", 3, channel="orders:1")
            with pytest.raises(BadRequest, match="ack=True"):
                await batch.results[1].wait()  # type: ignore[misc, union-attr]

    asyncio.run(emit())


def test_what_was_missed_is_counted_when_it_is_given(hub: Hub, emitter: Emitter) -> None:
    before = emitter.emit("updated", 0, channel="orders:1")
    receipt = emitter.emit("updated", 1, channel="orders:1", ack=True)
    hub.broker.canary()
    session = opened(hub, "orders:1", since=before.cursor)
    (number,) = client(session).numbers()
    assert hub.deliveries.acknowledge(session.id, number)
    assert receipt.wait().nodes == {"n1": Count(1, 1)}


def test_what_was_held_back_is_counted_when_it_is_given(hub: Hub, emitter: Emitter) -> None:
    session = hub.open(Client(), Claims(sub="u", expires_at_s=None, channels=("*",)))
    joined = subscribe(hub, session, ["orders:1"], None)
    receipt = emitter.emit("updated", 1, channel="orders:1", ack=True)
    hub.broker.canary()
    assert receipt.wait(acks=0).recipients == 0
    go_live(hub, session, joined)
    hub.deliveries.acknowledge(session.id, client(session).numbers()[0])
    assert receipt.wait().recipients == 1


def test_a_node_with_subscribers_that_has_not_got_so_far_is_waited_for(hub: Hub) -> None:
    opened(hub, "orders:1")
    place = hub.broker.position
    assert place is not None
    there, behind = str(place), str(Cursor(place.epoch, place.seq + 1))
    api = backends(hub)
    assert not api.report(ReportQuery("x", "orders:1", behind)).settled
    assert api.report(ReportQuery("x", "orders:1", there)).settled
    assert api.report(ReportQuery("x", "orders:2", behind)).settled, "nobody here listens"
    assert api.report(ReportQuery("x", "orders:1", str(Cursor("other", 99)))).settled, "it will never come"


def test_what_this_node_sent_is_known_though_nobody_listens(hub: Hub, emitter: Emitter) -> None:
    api = backends(hub)
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


def test_an_id_in_many_channels_makes_no_long_answer(hub: Hub, emitter: Emitter) -> None:
    session = opened(hub, *(f"orders:{number}" for number in range(20)))
    receipts = emitter.emit("updated", 1, channels=[f"orders:{number}" for number in range(20)], ack=True, id="x")
    hub.broker.canary()
    (said,) = hub.broker.run_command(ReportQuery("x", "orders:7").to_command(), timeout_s=5).replies
    assert [one["channel"] for one in said["found"]] == ["orders:7", "orders:0"]
    assert [hub.deliveries.acknowledge(session.id, number) for number in client(session).numbers()] == [True] * 20
    assert [one.wait(acks=0).acks for one in receipts] == [1] * 20


def test_reports_end_with_their_time(hub: Hub, emitter: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(hub, "orders:1")
    emitter.emit("updated", 1, channel="orders:1", ack=True)
    hub.broker.canary()
    hub.tick()
    assert hub.metrics.reports == 1
    monkeypatch.setattr(hub.deliveries.reports, "keep_s", 0.0)
    hub.tick()
    assert hub.metrics.reports == 0


def test_a_question_of_another_form_is_ignored(hub: Hub) -> None:
    for message in ({"do": "report"}, {"do": "report", "id": "x", "channel": "orders:1", "cursor": "nonsense"}):
        hub.on_control(message)
    opened(hub, "orders:1")
    wait_until(lambda: hub.metrics.control_messages == 2, why="both were heard")
