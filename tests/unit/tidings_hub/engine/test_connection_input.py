"""The connect timeout, at the visits of the timing wheel."""

from __future__ import annotations

import pytest

from support.engine_mount import engine_mount
from support.limits import engine_options
from tidings_hub import runtime
from tidings_hub.engine.connection import Connection
from tidings_hub.engine.protocols.engineio import TransportKind


@pytest.fixture
def connection() -> Connection:
    mount = engine_mount(options=engine_options(connect_timeout_ms=8_000, ping_interval_ms=600_000))
    return Connection(mount, "sid", TransportKind.POLLING, "here")


def test_silent_client_is_closed_after_the_timeout_and_its_grace(connection: Connection) -> None:
    now_s = runtime.now_s()
    assert connection.next_deadline_s(now_s) == pytest.approx(8, abs=0.5)
    assert connection.on_deadline(now_s + 9) == pytest.approx(2)
    assert connection.on_deadline(now_s + 10) == pytest.approx(1)
    assert connection.on_deadline(now_s + 11) is None
    assert connection.closed


def test_connect_that_waited_in_the_kernel_while_the_node_was_blocked_still_counts(connection: Connection) -> None:
    now_s = runtime.now_s()
    # The visit is late. The pump reads the CONNECT only after it.
    connection.on_deadline(now_s + 60)
    assert connection.establish() > 0
    connection.on_deadline(now_s + 120)
    assert not connection.closed


def test_rest_of_the_timeout_runs_after_a_connect_that_connected_no_namespace(connection: Connection) -> None:
    left_s = connection.establish()
    assert left_s == pytest.approx(8, abs=0.5)
    assert connection.establish() == 0
    connection.await_connect(left_s)
    now_s = runtime.now_s()
    connection.on_deadline(now_s + 9)
    assert connection.on_deadline(now_s + 12) is None
    assert connection.closed
