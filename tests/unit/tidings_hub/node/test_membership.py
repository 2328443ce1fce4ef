"""The task of the membership, on a broker in memory."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import cast

import pytest

from support.limits import broker_limits
from tidings.errors import BadConfig
from tidings_hub import runtime
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.core.node_directory import NodeDirectory, NodeLeases
from tidings_hub.engine.relay.relay import Relay
from tidings_hub.metrics import Metrics
from tidings_hub.node.membership import Membership, resolve_address


class FailingRelay:
    """A relay that fails with an error that the membership does not expect, `times` times."""

    def __init__(self, times: int) -> None:
        self.refreshes = 0
        self._times = times

    def refresh_started(self) -> None:
        """Do nothing."""

    refresh_failed = refresh_started

    def refreshed(self, _leases: NodeLeases) -> None:
        self.refreshes += 1
        if 1 < self.refreshes <= 1 + self._times:
            raise LookupError("on purpose")


def test_lease_is_still_renewed_after_an_unexpected_error() -> None:
    metrics, relay = Metrics(), FailingRelay(2)
    broker = MemoryBroker("memory://membership", limits=broker_limits(), metrics=metrics)
    membership = Membership(broker, NodeDirectory("n1-", {}, silent_s=9.0), metrics, lease_s=0.3)
    membership.join(cast("Relay", relay), "127.0.0.1:1")
    end_s = runtime.now_s() + 10
    while relay.refreshes < 5 and runtime.now_s() < end_s:
        runtime.sleep(0.01)
    membership.leave()
    assert relay.refreshes >= 5
    assert metrics.task_restarts == {"membership": 2}


@pytest.mark.parametrize(
    ("advertise", "report"),
    [
        # As a hosts file may have it. "127.1" is a name as well as 127.0.0.1 in short.
        ("127.1:1", "127.1, the host of `advertise`, is 127.0.0.1 on this machine: "),
        ("127.0.0.1:1", "nothing accepts connections at 127.0.0.1:1"),
        ("[::1]:1", "nothing accepts connections at [::1]:1"),
        ("localhost:1", "nothing accepts connections at "),
    ],
)
def test_name_that_is_this_machine_for_every_node_is_reported(advertise: str, report: str) -> None:
    metrics = Metrics()
    broker = MemoryBroker("memory://names", limits=broker_limits(), metrics=metrics)
    membership = Membership(broker, NodeDirectory("n1-", {}, silent_s=9.0), metrics, lease_s=9.0)
    membership.join(cast("Relay", FailingRelay(0)), advertise)
    try:
        assert membership.address_error().startswith(report)
    finally:
        membership.leave()


def test_server_that_drips_at_the_address_ends_the_check_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    while True:
                        connection.sendall(b"x")
                        time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        metrics = Metrics()
        broker = MemoryBroker("memory://drips", limits=broker_limits(), metrics=metrics)
        membership = Membership(broker, NodeDirectory("n1-", {}, silent_s=9.0), metrics, lease_s=9.0)
        membership.join(cast("Relay", FailingRelay(0)), address)
        try:
            assert membership.address_error() == ""
        finally:
            membership.leave()
            thread.join()


@pytest.mark.parametrize("host", ["0", "[::0]", "[0::]"])
def test_every_address_is_no_address_of_a_node(host: str) -> None:
    with pytest.raises(BadConfig, match="every address"):
        resolve_address(f"{host}:8000")
