"""Readiness of a node: whether publications get through it, not only whether its process is alive.

Every `canary_interval_s` a canary publication goes through the broker and back. `/readyz` fails when the last canary
did not return, when the pump is blocked, or when the node drains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from tidings.errors import TidingsError
from tidings_hub.services.hub import Hub

logger = logging.getLogger("tidings.readiness")

# Seconds between two checks of a broker connection that is down.
_RECONNECT_POLL_S = 0.05


class Readiness:
    """Sends canaries and answers `/readyz` from their result."""

    def __init__(
        self,
        hub: Hub,
        *,
        now_s: Callable[[], float],
        sleep: Callable[[float], None],
        pump_alive: Callable[[], bool],
        greenlets: Callable[[], int],
        ingress: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._hub = hub
        self._greenlets = greenlets
        self._ingress = ingress
        self._now_s = now_s
        self._sleep = sleep
        self._pump_alive = pump_alive
        self._returned_at_s: float | None = None
        self._trip_s = 0.0

    def watch(self) -> None:
        """Send a canary at every interval. Runs in its own greenlet."""
        metrics = self._hub.metrics
        while True:
            metrics.broker_connected = int(self._hub.broker.state().connected)
            if not metrics.broker_connected:
                # A canary would only wait for its timeout.
                self._sleep(_RECONNECT_POLL_S)
                continue
            try:
                self._trip_s = self._hub.broker.canary()
                self._returned_at_s = self._now_s()
                metrics.canaries += 1
                metrics.greenlets = self._greenlets()
                metrics.canary_s.observe(self._trip_s)
                # Control messages carry revocations. This finds those whose message was lost.
                for key, until_s in self._hub.broker.revocations().items():
                    self._hub.revocations.add(key, until_s)
                self._hub.enforce_revocations()
            except TidingsError as error:
                metrics.canaries_lost += 1
                logger.debug("the canary did not return: %s", error)
            except Exception:
                logger.exception("the canary failed")
            self._sleep(self._hub.settings.canary_interval_s)

    def ready(self) -> tuple[bool, Mapping[str, object]]:
        """Whether clients and publications should be sent to this node, and the checks that decide it."""
        settings = self._hub.settings
        late_s = settings.canary_interval_s + settings.canary_timeout_s
        age_s = None if self._returned_at_s is None else self._now_s() - self._returned_at_s
        checks: dict[str, object] = {
            "broker": self._hub.broker.state().connected,
            "canary": age_s is not None and age_s <= late_s,
            "pump": self._pump_alive(),
            "accepting": not self._hub.metrics.draining,
        }
        ready = all(checks.values())
        checks["canary_age_s"] = None if age_s is None else round(age_s, 1)
        checks["canary_trip_s"] = round(self._trip_s, 4)
        # Information only: without its queue a node still serves clients, and the queue keeps its messages.
        if ingress := self._ingress():
            checks["ingress"] = dict(ingress)
        return ready, checks
