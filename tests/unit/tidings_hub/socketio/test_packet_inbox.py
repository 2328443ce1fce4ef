from __future__ import annotations

import json

from tidings_hub.metrics import Metrics
from tidings_hub.socketio.packet import Packet
from tidings_hub.socketio.packet_inbox import InboxBounds, PacketInbox

INBOX_MAX = 500
INBOX_MAX_BYTES = 8_000_000
TOTAL_MAX_BYTES = 80_000


def packet(data: object) -> Packet:
    return Packet(encoded_packet="2" + json.dumps(["event", data]))


def inbox_bounds(metrics: Metrics | None = None) -> InboxBounds:
    return InboxBounds(
        packets_max=INBOX_MAX,
        max_bytes=INBOX_MAX_BYTES,
        total_max_bytes=TOTAL_MAX_BYTES,
        metrics=metrics or Metrics(),
    )


class WaitingRecorder:
    """A client whose packets wait. Its end adds the reason, as the engine does."""

    def __init__(self, bounds: InboxBounds, *, packets: int, size: int) -> None:
        self.inbox: PacketInbox | None = PacketInbox(packet("x" * size), bounds)
        self.waiting = self.inbox
        for _ in range(packets - 1):
            assert self.inbox.add(packet("x" * size))
        self.code = ""

    def end(self, code: str) -> None:
        self.code = code
        assert self.waiting.add(code)


def test_work_comes_out_in_the_order_in_which_it_came() -> None:
    first, second = packet(1), packet(2)
    inbox = PacketInbox(first, inbox_bounds())
    assert inbox.add(second)
    assert inbox.add("transport close")
    assert inbox.first is first
    assert [inbox.pop() for _ in range(len(inbox))] == [first, second, "transport close"]


def test_memory_is_bounded_and_counts_what_data_becomes() -> None:
    lists, text = packet([[]] * 15_000), packet("x" * 60_000)
    inbox = PacketInbox("transport close", inbox_bounds())
    for small, large in ((text, lists), (lists, text)):
        inbox.clear()
        counts = [0, 0]
        for index, added in enumerate((large, small)):
            while inbox.add(added):
                counts[index] += 1
        assert 0 < sum(counts) < INBOX_MAX
        assert inbox.add("transport close")
    assert lists.memory_bytes > 15_000 * 56
    inbox.clear()
    assert inbox.add(lists)


def test_number_of_packets_is_bounded() -> None:
    inbox = PacketInbox(packet(0), inbox_bounds())
    while inbox.add(packet(0)):
        assert len(inbox) <= INBOX_MAX
    assert len(inbox) == INBOX_MAX
    inbox.pop()
    assert inbox.add(packet(0))


def test_packet_that_is_larger_than_the_bound_has_room_if_it_is_the_only_one() -> None:
    inbox = PacketInbox(packet("x" * INBOX_MAX_BYTES), inbox_bounds())
    assert not inbox.add(packet(0))
    inbox.pop()
    assert inbox.add(packet("x" * INBOX_MAX_BYTES))


def test_bytes_of_all_clients_are_counted() -> None:
    bounds = inbox_bounds()
    first, second = (WaitingRecorder(bounds, packets=2, size=1_000).waiting for _ in range(2))
    assert bounds.total_bytes == first.memory_bytes + second.memory_bytes > 4_000
    first.pop()
    second.clear()
    assert bounds.total_bytes == first.memory_bytes
    first.pop()
    assert bounds.total_bytes == 0


def test_clients_with_the_most_are_closed_until_there_is_room() -> None:
    metrics = Metrics()
    bounds = inbox_bounds(metrics)
    sizes = (1_000, 30_000, 9_000, 40_000, 1_000)
    clients = [WaitingRecorder(bounds, packets=1, size=size) for size in sizes]
    idle = WaitingRecorder(bounds, packets=1, size=10)
    idle.inbox = None
    bounds.shed([*clients, idle])
    assert [client.code for client in clients] == ["", "", "", "full", ""]
    assert metrics.inboxes_shed == 1
    assert bounds.total_bytes < TOTAL_MAX_BYTES * 7 / 8
    # Its disconnect is still handled.
    assert [clients[3].waiting.pop(), len(clients[3].waiting)] == ["full", 0]
