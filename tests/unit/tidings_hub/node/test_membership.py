"""The task of the membership, on a broker in memory."""

from __future__ import annotations

from typing import cast

from support.limits import broker_limits
from tidings_hub import runtime
from tidings_hub.brokers.memory import MemoryBroker
from tidings_hub.core.node_directory import NodeDirectory, NodeLeases
from tidings_hub.engine.relay.relay import Relay
from tidings_hub.metrics import Metrics
from tidings_hub.node.membership import Membership


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
