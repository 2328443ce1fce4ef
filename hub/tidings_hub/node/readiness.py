"""Readiness: proof that a publication gets through, not only that a process lives.

Every `canary_interval_s` a canary goes through the broker and back. `/readyz` fails when the last one
did not return, when the pump stands still, or when the node drains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from tidings.errors import TidingsError
from tidings_hub.services.hub import Hub

logger = logging.getLogger("tidings.readiness")

# How soon a link that is up again is noticed.
_LOOK_S = 0.05


class Readiness:
    """What this node knows about its own ability to deliver."""

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
        """Send canaries for ever. Runs in a greenlet of its own."""
        metrics = self._hub.metrics
        while True:
            metrics.broker_connected = int(self._hub.broker.state().connected)
            if not metrics.broker_connected:
                # A canary now would only wait for its time to run out.
                self._sleep(_LOOK_S)
                continue
            try:
                self._trip_s = self._hub.broker.canary()
                self._returned_at_s = self._now_s()
                metrics.canaries += 1
                metrics.greenlets = self._greenlets()
                metrics.canary_s.observe(self._trip_s)
                # Revocations are told by control messages; this is for those that got lost.
                for key, until_s in self._hub.broker.revocations().items():
                    self._hub.revocations.add(key, until_s)
                self._hub.enforce_revocations()
            except TidingsError as error:
                metrics.canaries_lost += 1
                logger.debug("the canary did not come back: %s", error)
            except Exception:
                logger.exception("the canary failed")
            self._sleep(self._hub.settings.canary_interval_s)

    def ready(self) -> tuple[bool, Mapping[str, object]]:
        """Whether clients and publications should be sent here, and the checks behind it."""
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
        # For who looks: clients are served all the same, and the queue keeps what it has.
        if ingress := self._ingress():
            checks["ingress"] = dict(ingress)
        return ready, checks
