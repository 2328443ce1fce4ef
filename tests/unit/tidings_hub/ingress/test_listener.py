"""A listener with a link and a lease that the test controls."""

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
    """A link with reads that the test sets. A read raises an exception from the list, and calls a function from it."""

    def __init__(self) -> None:
        self.reads: queue.Queue[Read | TidingsError | Callable[[], Read]] = queue.Queue()
        self.opened: list[Sequence[bytes]] = []
        self.closed = 0
        self.refuses = 0

    def open(self, patterns: Sequence[bytes]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise Unavailable("no reply")
        self.opened.append(patterns)

    def read(self, timeout_s: float) -> Read:
        try:
            entry = self.reads.get(timeout=0.02)
        except queue.Empty:
            return []
        if isinstance(entry, TidingsError):
            raise entry
        return entry if isinstance(entry, list) else entry()

    def interrupt(self) -> None:
        self.reads.put([])

    def close(self) -> None:
        self.closed += 1


class Scene:
    """A listener with everything around it. `lease_reply`: the broker's reply to the next lease requests."""

    def __init__(self) -> None:
        self.link = QueueLink()
        self.lease_reply = LeaseReply.ACQUIRED
        self.requested_leases: list[float] = []
        self.published: list[OutgoingPublication] = []
        self.commands: list[Command] = []
        self.metrics = Metrics()
        self.lease = LeaseKeeper(self._reply_to_lease_request, lease_s=30.0)
        compat_format = FlaskSocketioFormat(FlaskSocketio(), RequestLimits(data_max_bytes=100, channels_max=10))
        dispatcher = Dispatcher(self._publish, self._run_command, self.metrics, batch_max=2)
        self.listener = Listener(compat_format, self.link, self.lease, dispatcher, message_max_bytes=1000)

    def _reply_to_lease_request(self, lease_s: float) -> LeaseReply:
        self.requested_leases.append(lease_s)
        if not lease_s:
            return LeaseReply.DENIED
        reply, self.lease_reply = (
            self.lease_reply,
            LeaseReply.RENEWED if self.lease_reply is LeaseReply.ACQUIRED else self.lease_reply,
        )
        return reply

    def _publish(self, items: Sequence[OutgoingPublication]) -> list[Receipt | TidingsError]:
        assert len(items) <= 2
        self.published += items
        return [UnknownNamespace() if item.channel == "nowhere:a" else Receipt(item.id, "e.1") for item in items]

    def _run_command(self, command: Command) -> None:
        self.commands.append(command)
        if command.arguments.get("user") == "down":
            raise Unavailable

    def settle(self) -> None:
        wait_until(self.link.reads.empty, why="everything was read")
        processed: list[bool] = []
        self.link.reads.put(lambda: processed.append(True) or [])  # type: ignore[func-returns-value]
        wait_until(lambda: processed, why="the last read was processed")


@pytest.fixture
def scene() -> Iterator[Scene]:
    new_scene = Scene()
    yield new_scene
    new_scene.listener.stop()


def reads_of(*messages: bytes) -> Read:
    return [(b"socketio", message) for message in messages]


def test_messages_are_published_in_order_in_batches(scene: Scene) -> None:
    scene.link.reads.put(reads_of(*[GOOD.replace(b"[1]", b"[%d]" % number) for number in range(5)]))
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
    scene.link.reads.put(reads_of(GOOD, end % b"down", GOOD.replace(b"chat", b"nowhere"), b"poison", end % b"7", GOOD))
    scene.listener.start()
    wait_until(lambda: len(scene.published) == 3, why="all were published")
    scene.settle()
    assert [command.arguments for command in scene.commands] == [{"user": "down"}, {"user": "7"}]
    assert scene.metrics.wires_refused == {"bad_request": 1, "unavailable": 1, "unknown_namespace": 1}
    assert scene.metrics.wires_ordered == {"disconnect": 1}


def test_message_that_is_too_large_is_rejected(scene: Scene) -> None:
    scene.link.reads.put(reads_of(b"x" * 1001, GOOD))
    scene.listener.start()
    wait_until(lambda: len(scene.published) == 1, why="the other is published")
    assert scene.metrics.wires_refused == {"too_large": 1}


@pytest.mark.parametrize("lease_reply", [LeaseReply.DENIED, LeaseReply.ACQUIRED])
def test_messages_read_after_the_lease_was_lost_are_dropped(scene: Scene, lease_reply: LeaseReply) -> None:
    def read_after_lease_loss() -> Read:
        # Another node has the lease, or had it in between, so it may have published this too.
        scene.lease_reply = lease_reply
        scene.lease.renew()
        return reads_of(GOOD, GOOD)

    scene.link.reads.put(read_after_lease_loss)
    scene.listener.start()
    wait_until(lambda: scene.metrics.wires_dropped == 2, why="both are dropped")
    wait_until(lambda: scene.link.closed == 1, why="nothing more is read from this link")
    assert scene.published == []
    # It listens again as soon as it has the lease.
    if lease_reply is LeaseReply.DENIED:
        scene.lease_reply = LeaseReply.ACQUIRED
        scene.lease.renew()
    scene.link.reads.put(reads_of(GOOD))
    wait_until(lambda: len(scene.published) == 1, why="it is published")
    assert len(scene.link.opened) == 2


def test_nothing_is_read_while_another_node_has_the_lease(scene: Scene) -> None:
    scene.lease_reply = LeaseReply.DENIED
    scene.link.reads.put(reads_of(GOOD))
    scene.listener.start()
    wait_until(lambda: scene.requested_leases, why="the lease is requested")
    assert scene.link.opened == []
    scene.lease_reply = LeaseReply.ACQUIRED
    scene.lease.renew()
    wait_until(lambda: len(scene.published) == 1, why="it is published")


def test_redis_with_another_lease_holder_is_not_listened_to(scene: Scene) -> None:
    open_link = scene.link.open

    def fail_over(patterns: Sequence[bytes]) -> None:
        scene.lease_reply = LeaseReply.DENIED
        open_link(patterns)

    scene.link.open = fail_over  # type: ignore[method-assign]
    scene.link.reads.put(reads_of(GOOD))
    scene.listener.start()
    wait_until(lambda: scene.link.closed == 1, why="the link is closed")
    assert scene.published == []
    assert scene.metrics.wires_listening == 0


def test_broken_link_is_opened_again(scene: Scene) -> None:
    scene.link.refuses = 2
    scene.link.reads.put(reads_of(GOOD))
    scene.link.reads.put(Unavailable("link broken"))
    scene.link.reads.put(reads_of(GOOD))
    scene.listener.start()
    wait_until(lambda: len(scene.published) == 2, why="both are published")
    assert scene.link.closed == 1


def test_stop_releases_the_lease_and_ends_the_reads(scene: Scene) -> None:
    scene.listener.start()
    wait_until(lambda: scene.metrics.wires_listening == 1, why="it listens")
    scene.listener.stop()
    assert scene.requested_leases[-1] == 0.0
    scene.link.reads.put(reads_of(GOOD))
    assert (scene.published, scene.metrics.wires_listening, scene.link.closed) == ([], 0, 1)
    scene.lease.renew()
    assert scene.requested_leases[-1] == 0.0


def test_unreachable_broker_does_not_end_the_lease_immediately() -> None:
    replies: list[LeaseReply | TidingsError] = [LeaseReply.ACQUIRED, Unavailable(), LeaseReply.RENEWED]

    def reply_to_request(_: float) -> LeaseReply:
        reply = replies.pop(0)
        if isinstance(reply, TidingsError):
            raise reply
        return reply

    lease = LeaseKeeper(reply_to_request, lease_s=30.0)
    assert lease.wait_for_term(0.0) is None
    lease.renew()
    term = lease.wait_for_term(0.0)
    assert term is not None
    for _ in range(2):
        lease.renew()
        assert lease.is_unbroken(term)


def test_unexpected_error_in_a_format_rejects_only_that_message(scene: Scene) -> None:
    read_message = scene.listener._format.read

    def read_with_error(channel: str, message: bytes) -> Sequence[PublishRequest]:
        if message == b"odd":
            raise ZeroDivisionError
        return read_message(channel, message)  # type: ignore[return-value]

    scene.listener._format.read = read_with_error  # type: ignore[method-assign]
    scene.link.reads.put(reads_of(b"odd", GOOD))
    scene.listener.start()
    wait_until(lambda: len(scene.published) == 1, why="the other is published")
    assert scene.metrics.wires_refused == {"internal": 1}


def test_command_is_rejected_if_the_settings_forbid_commands() -> None:
    compat_format = FlaskSocketioFormat(FlaskSocketio(orders=False), RequestLimits(data_max_bytes=100, channels_max=10))
    assert len(compat_format.read("socketio", GOOD)) == 1
    with pytest.raises(TidingsError, match="orders"):
        compat_format.read("socketio", b'{"method":"disconnect","sid":"user:7"}')
    with pytest.raises(BadData):
        compat_format.read("socketio", b"\x80\x04")


def test_unexpected_error_in_a_lease_request_does_not_end_the_renewals() -> None:
    replies: list[Callable[[], LeaseReply]] = [lambda: LeaseReply(1 // 0), lambda: LeaseReply.ACQUIRED]

    def reply_to_request(lease_s: float) -> LeaseReply:
        return replies.pop(0)() if replies and lease_s else LeaseReply.RENEWED

    lease = LeaseKeeper(reply_to_request, lease_s=0.3)
    thread = threading.Thread(target=lease.run, daemon=True)
    thread.start()
    wait_until(lambda: lease.wait_for_term(0.01) == 1, why="the lease is requested again")
    lease.release()
    thread.join(10)
    assert not thread.is_alive()
