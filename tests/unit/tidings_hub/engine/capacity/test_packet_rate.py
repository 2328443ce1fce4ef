"""The token bucket of one connection."""

from __future__ import annotations

import time

import pytest

from support.engine_metrics import EngineCounters
from support.limits import engine_limits
from tidings_hub.engine.capacity.packet_rate import PacketRate
from tidings_hub.engine.timing_wheel import TimingWheel


class SmallMount:
    """Limits of two packets at once and 20 per second."""

    def __init__(self) -> None:
        self.limits = engine_limits(inbound_burst=2, inbound_rate_per_s=20.0)
        self.metrics = EngineCounters()
        self.wheel = TimingWheel(1.0, lambda *_: None)


class SmallConnection(PacketRate):
    """Remembers the code of its close."""

    def __init__(self) -> None:
        super().__init__()
        self.mount = SmallMount()
        self.code = ""

    def close(self, code: str) -> None:
        self.code = code


def test_burst_is_accepted_and_the_next_packet_closes() -> None:
    connection = SmallConnection()
    assert connection.count_packet()
    assert connection.count_packet()
    assert not connection.code
    assert not connection.count_packet()
    assert connection.code == "too_fast"
    assert connection.mount.metrics.packets_received == 3


def test_several_packets_need_as_many_tokens() -> None:
    connection = SmallConnection()
    assert connection.count_packet(2)
    other = SmallConnection()
    assert not other.count_packet(3)
    assert other.code == "too_fast"


def test_tokens_return_at_the_rate() -> None:
    connection = SmallConnection()
    connection.count_packet(2)
    time.sleep(0.06)
    assert connection.count_packet()


def test_requested_packet_costs_nothing() -> None:
    connection = SmallConnection()
    for _ in range(50):
        assert connection.count_packet()
        connection.refund()


@pytest.mark.parametrize(("after_s", "is_kept"), [(0.01, True), (0.2, False)])
def test_full_bucket_uses_no_memory(after_s: float, is_kept: bool) -> None:
    connection = SmallConnection()
    connection.count_packet(2)
    connection.forget_full_bucket(time.monotonic() + after_s)
    assert (connection._bucket is not None) is is_kept


def block(connection: SmallConnection, seconds: float) -> None:
    """As if the event loop had stood still until now."""
    connection.mount.wheel.stalls.expect(time.monotonic() - seconds, 0.0)


def accepted(connection: SmallConnection) -> int:
    """How many packets are accepted at once, at most 10,000."""
    return next((number for number in range(10_000) if not connection.count_packet()), 10_000)


@pytest.mark.parametrize("is_new", [True, False])
def test_packets_that_arrive_while_the_loop_is_blocked_are_accepted_at_the_rate(is_new: bool) -> None:
    connection = SmallConnection()
    connection.mount.limits = engine_limits(inbound_burst=2, inbound_rate_per_s=10.0)
    if not is_new:
        connection.count_packet(2)
    block(connection, 6.0)
    # At least 10 per second, beside the burst of 2. Beyond it only for the time that this test takes.
    assert 60 <= accepted(connection) <= 66
    assert connection.code == "too_fast"


def test_time_of_a_stall_counts_once() -> None:
    connection = SmallConnection()
    block(connection, 5.0)
    accepted(connection)
    assert accepted(connection) <= 2
    block(connection, 5.0)
    assert accepted(connection) >= 95


def test_endless_stall_allows_a_bounded_number_of_packets() -> None:
    connection = SmallConnection()
    block(connection, 10_000.0)
    assert accepted(connection) <= 20 * 30 + 2 + 4
