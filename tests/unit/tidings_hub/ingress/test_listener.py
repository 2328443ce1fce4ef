"""A listener between a link and a lease that do what the test says."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from support.waiting import wait_until
from tidings.errors import BadData, TidingsError, Unavailable, UnknownNamespace
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.wire.control import Command
from tidings.wire.publication import decode
from tidings_hub.config.ingress import FlaskSocketio
from tidings_hub.core.compat.requests import PublishRequest, RequestLimits
from tidings_hub.core.lease import LeaseReply
from tidings_hub.ingress.dispatcher import Dispatcher
from tidings_hub.ingress.flask_socketio import FlaskSocketioFormat
from tidings_hub.ingress.lease_keeper import LeaseKeeper
from tidings_hub.ingress.listener import Listener
from tidings_hub.metrics import Metrics

GOOD = b'{"method":"emit","event":"e","data":[1],"namespace":"/","room":"chat:a"}'
Read = list[tuple[bytes, bytes]]


class QueueLink:
    """A link whose reads are put in by the test; an exception is raised, a call is made while the reader waits."""

    def __init__(self) -> None:
        self.reads: queue.Queue[Read | TidingsError | Callable[[], Read]] = queue.Queue()
        self.opened: list[Sequence[bytes]] = []
        self.closed = 0
        self.refuses = 0

    def open(self, patterns: Sequence[bytes]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise Unavailable("nobody answers")
        self.opened.append(patterns)

    def read(self, timeout_s: float) -> Read:
        try:
            read = self.reads.get(timeout=0.02)
        except queue.Empty:
            return []
        if isinstance(read, TidingsError):
            raise read
        return read if isinstance(read, list) else read()

    def interrupt(self) -> None:
        self.reads.put([])

    def close(self) -> None:
        self.closed += 1


class Scene:
    """A listener with everything around it. `hold` is what the broker says to the next questions."""

    def __init__(self) -> None:
        self.link = QueueLink()
        self.hold = LeaseReply.ACQUIRED
        self.requested_leases: list[float] = []
        self.published: list[OutgoingPublication] = []
        self.orders: list[Command] = []
        self.metrics = Metrics()
        self.lease = LeaseKeeper(self._ask, lease_s=30.0)
        form = FlaskSocketioFormat(FlaskSocketio(), RequestLimits(data_max_bytes=100, channels_max=10))
        outlet = Dispatcher(self._publish, self._order, self.metrics, batch_max=2)
        self.listener = Listener(form, self.link, self.lease, outlet, message_max_bytes=1000)

    def _ask(self, lease_s: float) -> LeaseReply:
        self.requested_leases.append(lease_s)
        if not lease_s:
            return LeaseReply.DENIED
        reply, self.hold = self.hold, LeaseReply.RENEWED if self.hold is LeaseReply.ACQUIRED else self.hold
        return reply

    def _publish(self, items: Sequence[OutgoingPublication]) -> list[Receipt | TidingsError]:
        assert len(items) <= 2
        self.published += items
        return [UnknownNamespace() if item.channel == "nowhere:a" else Receipt(item.id, "e.1") for item in items]

    def _order(self, order: Command) -> None:
        self.orders.append(order)
        if order.arguments.get("user") == "down":
            raise Unavailable

    def settle(self) -> None:
        wait_until(self.link.reads.empty, why="everything was read")
        done: list[bool] = []
        self.link.reads.put(lambda: done.append(True) or [])  # type: ignore[func-returns-value]
        wait_until(lambda: done, why="the last read was taken")


@pytest.fixture
def scene() -> Iterator[Scene]:
    new_scene = Scene()
    yield new_scene
    new_scene.listener.stop()


def heard(*messages: bytes) -> Read:
    return [(b"socketio", message) for message in messages]


def test_messages_are_published_in_order_in_batches(scene: Scene) -> None:
    scene.link.reads.put(heard(*[GOOD.replace(b"[1]", b"[%d]" % number) for number in range(5)]))
    scene.listener.start()
    wait_until(lambda: len(scene.published) == 5, why="all were published")
    publications = [decode(item.channel, b"t1 1 0 e " + item.body, max_bytes=1000) for item in scene.published]
    assert [publication.data_json for publication in publications] == [b"0", b"1", b"2", b"3", b"4"]
    assert len({item.id for item in scene.published}) == 5
    assert scene.link.opened == [[b"socketio", b"flask-socketio"]]
    wait_until(lambda: scene.metrics.wires_published == {"flask_socketio": 5}, why="they are counted")
    assert scene.metrics.wires_listening == 1


def test_commands_keep_their_order_and_failures_are_counted(scene: Scene) -> None:
    end = b'{"method":"disconnect","sid":"user:%b"}'
    scene.link.reads.put(heard(GOOD, end % b"down", GOOD.replace(b"chat", b"nowhere"), b"poison", end % b"7", GOOD))
    scene.listener.start()
    wait_until(lambda: len(scene.published) == 3, why="all were published")
    scene.settle()
    assert [order.arguments for order in scene.orders] == [{"user": "down"}, {"user": "7"}]
    assert scene.metrics.wires_refused == {"bad_request": 1, "unavailable": 1, "unknown_namespace": 1}
    assert scene.metrics.wires_ordered == {"disconnect": 1}


def test_a_message_that_is_too_large_is_not_read(scene: Scene) -> None:
    scene.link.reads.put(heard(b"x" * 1001, GOOD))
    scene.listener.start()
    wait_until(lambda: len(scene.published) == 1, why="the other is published")
    assert scene.metrics.wires_refused == {"too_large": 1}


@pytest.mark.parametrize("hold", [LeaseReply.DENIED, LeaseReply.ACQUIRED])
def test_messages_read_after_the_lease_was_lost_are_dropped(scene: Scene, hold: LeaseReply) -> None:
    def lost() -> Read:
        # Another node has it, or had it in between: both can have published this.
        scene.hold = hold
        scene.lease.renew()
        return heard(GOOD, GOOD)

    scene.link.reads.put(lost)
    scene.listener.start()
    wait_until(lambda: scene.metrics.wires_dropped == 2, why="both are dropped")
    wait_until(lambda: scene.link.closed == 1, why="nothing more is read from this link")
    assert scene.published == []
    # As soon as it has the lease (again), it listens anew.
    if hold is LeaseReply.DENIED:
        scene.hold = LeaseReply.ACQUIRED
        scene.lease.renew()
    scene.link.reads.put(heard(GOOD))
    wait_until(lambda: len(scene.published) == 1, why="it is published")
    assert len(scene.link.opened) == 2


def test_nothing_is_read_while_another_node_has_the_lease(scene: Scene) -> None:
    scene.hold = LeaseReply.DENIED
    scene.link.reads.put(heard(GOOD))
    scene.listener.start()
    wait_until(lambda: scene.requested_leases, why="it asks")
    assert scene.link.opened == []
    scene.hold = LeaseReply.ACQUIRED
    scene.lease.renew()
    wait_until(lambda: len(scene.published) == 1, why="it is published")


def test_redis_with_another_lease_holder_is_not_listened_to(scene: Scene) -> None:
    opened = scene.link.open

    def fail_over(patterns: Sequence[bytes]) -> None:
        scene.hold = LeaseReply.DENIED
        opened(patterns)

    scene.link.open = fail_over  # type: ignore[method-assign]
    scene.link.reads.put(heard(GOOD))
    scene.listener.start()
    wait_until(lambda: scene.link.closed == 1, why="it leaves again")
    assert scene.published == []
    assert scene.metrics.wires_listening == 0


def test_a_link_that_breaks_is_made_again(scene: Scene) -> None:
    scene.link.refuses = 2
    scene.link.reads.put(heard(GOOD))
    scene.link.reads.put(Unavailable("the link broke"))
    scene.link.reads.put(heard(GOOD))
    scene.listener.start()
    wait_until(lambda: len(scene.published) == 2, why="both are published")
    assert scene.link.closed == 1


def test_stopping_releases_the_lease_and_reads_no_more(scene: Scene) -> None:
    scene.listener.start()
    wait_until(lambda: scene.metrics.wires_listening == 1, why="it listens")
    scene.listener.stop()
    assert scene.requested_leases[-1] == 0.0
    scene.link.reads.put(heard(GOOD))
    assert (scene.published, scene.metrics.wires_listening, scene.link.closed) == ([], 0, 1)
    scene.lease.renew()
    assert scene.requested_leases[-1] == 0.0


def test_a_broker_that_is_away_does_not_end_the_lease_at_once() -> None:
    answers: list[LeaseReply | TidingsError] = [LeaseReply.ACQUIRED, Unavailable(), LeaseReply.RENEWED]

    def ask(_: float) -> LeaseReply:
        answer = answers.pop(0)
        if isinstance(answer, TidingsError):
            raise answer
        return answer

    lease = LeaseKeeper(ask, lease_s=30.0)
    assert lease.wait_for_term(0.0) is None
    lease.renew()
    term = lease.wait_for_term(0.0)
    assert term is not None
    for _ in range(2):
        lease.renew()
        assert lease.is_unbroken(term)


def test_unexpected_error_in_a_format_rejects_only_that_message(scene: Scene) -> None:
    read = scene.listener._format.read

    def wrong(channel: str, message: bytes) -> Sequence[PublishRequest]:
        if message == b"odd":
            raise ZeroDivisionError
        return read(channel, message)  # type: ignore[return-value]

    scene.listener._format.read = wrong  # type: ignore[method-assign]
    scene.link.reads.put(heard(b"odd", GOOD))
    scene.listener.start()
    wait_until(lambda: len(scene.published) == 1, why="the other is published")
    assert scene.metrics.wires_refused == {"internal": 1}


def test_command_that_the_settings_forbid() -> None:
    form = FlaskSocketioFormat(FlaskSocketio(orders=False), RequestLimits(data_max_bytes=100, channels_max=10))
    assert len(form.read("socketio", GOOD)) == 1
    with pytest.raises(TidingsError, match="orders"):
        form.read("socketio", b'{"method":"disconnect","sid":"user:7"}')
    with pytest.raises(BadData):
        form.read("socketio", b"\x80\x04")


def test_unexpected_error_in_a_lease_request_does_not_end_the_renewals() -> None:
    answers: list[Callable[[], LeaseReply]] = [lambda: LeaseReply(1 // 0), lambda: LeaseReply.ACQUIRED]

    def ask(lease_s: float) -> LeaseReply:
        return answers.pop(0)() if answers and lease_s else LeaseReply.RENEWED

    lease = LeaseKeeper(ask, lease_s=0.3)
    thread = threading.Thread(target=lease.run, daemon=True)
    thread.start()
    wait_until(lambda: lease.wait_for_term(0.01) == 1, why="it is asked for again")
    lease.release()
    thread.join(10)
    assert not thread.is_alive()
