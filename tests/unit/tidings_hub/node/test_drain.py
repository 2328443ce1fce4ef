"""A shutdown ends the process, whatever fails in it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import eventlet
import pytest

from tidings_hub.metrics import Metrics
from tidings_hub.node.drain import Draining, drain


class Parts:
    """The parts of a node. Each call is recorded, and the one named `failing` raises."""

    def __init__(self, failing: str, error: BaseException) -> None:
        self.calls: list[str] = []
        self._failing = failing
        self._error = error
        self.metrics = Metrics()
        self.settings = SimpleNamespace(dev=True, drain_notice_s=0.0, drain_s=0.0)
        self.hub = SimpleNamespace(
            presence=self.part("presence", "stop"),
            session_store=self.part("session_store", "stop"),
            revocations=self.part("revocations", "stop"),
            authorizers=SimpleNamespace(handles=()),
        )
        self.broker = self.part("broker", "stop")
        self.engine = self.part("engine", "stop", "stop_accepting", "drain", "is_flushed")
        self.engine.relay = None
        self.ingress = [self.part("queue", "stop", "stop_consuming")]
        self.pubsub_ingress: list[Any] = []
        self.membership = self.part("membership", "leave")
        self.heartbeat = self.part("heartbeat", "withdraw")

    def part(self, name: str, *methods: str) -> Any:
        return SimpleNamespace(**{method: self._call(f"{name}.{method}") for method in methods})

    def _call(self, name: str) -> Callable[..., bool]:
        def call(*_: object) -> bool:
            self.calls.append(name)
            if name == self._failing:
                raise self._error
            return True

        return call


STOPS = ["queue.stop", "presence.stop", "session_store.stop", "revocations.stop", "broker.stop", "engine.stop"]


@pytest.mark.parametrize("error", [RuntimeError("bug"), eventlet.Timeout(None)], ids=["error", "timeout of eventlet"])
@pytest.mark.parametrize("failing", [*STOPS, "engine.drain", "membership.leave", "queue.stop_consuming", "nothing"])
def test_every_part_is_stopped_whichever_fails(failing: str, error: BaseException) -> None:
    parts = Parts(failing, error)
    stopped: list[int] = []
    drain(cast("Draining", parts), on_stopped=lambda: stopped.append(1))
    assert [call for call in parts.calls if call in STOPS] == STOPS
    assert stopped == [1]
