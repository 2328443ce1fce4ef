from __future__ import annotations

import json

from tidings_hub.socketio.packet import Packet
from tidings_hub.socketio.packet_inbox import INBOX_MAX, INBOX_MAX_BYTES, PacketInbox


def packet(data: object) -> Packet:
    return Packet(encoded_packet="2" + json.dumps(["event", data]))


def test_work_comes_out_in_the_order_in_which_it_came() -> None:
    first, second = packet(1), packet(2)
    inbox = PacketInbox(first)
    assert inbox.add(second)
    assert inbox.add("transport close")
    assert inbox.first is first
    assert [inbox.pop() for _ in range(len(inbox))] == [first, second, "transport close"]


def test_memory_is_bounded_and_counts_what_data_becomes() -> None:
    lists, text = packet([[]] * 15_000), packet("x" * 60_000)
    inbox = PacketInbox("transport close")
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
    inbox = PacketInbox(packet(0))
    while inbox.add(packet(0)):
        assert len(inbox) <= INBOX_MAX
    assert len(inbox) == INBOX_MAX
    inbox.pop()
    assert inbox.add(packet(0))


def test_packet_that_is_larger_than_the_bound_has_room_if_it_is_the_only_one() -> None:
    inbox = PacketInbox(packet("x" * INBOX_MAX_BYTES))
    assert not inbox.add(packet(0))
    inbox.pop()
    assert inbox.add(packet("x" * INBOX_MAX_BYTES))
