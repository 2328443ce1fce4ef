"""Readiness of a node: whether it can serve, not only whether its process is alive.

Every `canary_interval_s` a canary publication goes through the broker and back. `/readyz` fails when `canary_failures`
of them in a row failed, when no part of the broker is served, when the pump is blocked, or when the node drains. What
is partly down is in the response and in the metrics.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from tidings.errors import TidingsError
from tidings_hub.brokers.health.eviction import NO_EVICTION
from tidings_hub.core.health.canary_record import CanaryRecord
from tidings_hub.log import log_rate_limited
from tidings_hub.services.hub import Hub

logger = logging.getLogger("tidings.readiness")

# Seconds between two checks of a broker connection that is down.
_RECONNECT_POLL_S = 0.05
# Seconds until the next canary after one that failed, unless canaries are more frequent anyway: short, so that a
# failure is confirmed or over soon.
_RETRY_S = 1.0
# How late a canary may end, because other greenlets run or because one part of the broker answers at the last moment.
_LATE_S = 1.0
# Seconds between two checks of what does not decide readiness: it changes by hand or with a failover.
_DETAILS_CHECK_S = 60.0


class Readiness:
    """Sends canaries and answers `/readyz` from their result."""

    def __init__(  # noqa: PLR0913 - each is the state of one part of the node, by name
        self,
        hub: Hub,
        *,
        now_s: Callable[[], float],
        sleep: Callable[[float], None],
        pump_alive: Callable[[], bool],
        greenlets: Callable[[], int],
        ingress: Callable[[], Mapping[str, str]] = dict,
        keys: Callable[[], Mapping[str, str]] = dict,
        notifications: Callable[[], str] = str,
        address_error: Callable[[], str] = str,
    ) -> None:
        self._hub = hub
        self._greenlets = greenlets
        self._ingress = ingress
        self._keys = keys
        self._notifications = notifications
        self._find_address_error = address_error
        self._address_error = ""
        self._now_s = now_s
        self._sleep = sleep
        self._pump_alive = pump_alive
        self._canaries = CanaryRecord()
        self._eviction = ""

    def watch(self) -> None:
        """Send a canary at every interval. Runs in its own greenlet."""
        while True:
            try:
                pause_s = self._check()
            except Exception:
                logger.exception("unexpected error in the check of the broker; continuing")
                pause_s = _RETRY_S
            self._hub.metrics.node_ready = int(self.ready()[0])
            self._sleep(pause_s)

    def _check(self) -> float:
        """Check the broker once. Returns the seconds until the next check."""
        metrics, state = self._hub.metrics, self._hub.broker.state()
        metrics.broker_connected = int(state.connected)
        metrics.broker_parts_unserved = sum(not part.is_served for part in state.parts)
        if not state.connected and len(state.parts) < 2:
            # A canary would only wait for its timeout. A cluster may still have other parts.
            return _RECONNECT_POLL_S
        metrics.greenlets = self._greenlets()
        self._send_canary()
        metrics.broker_parts_unserved = sum(not part.is_served for part in self._hub.broker.state().parts)
        interval_s = self._hub.settings.canary_interval_s
        return min(interval_s, _RETRY_S) if self._canaries.failures else interval_s

    def _send_canary(self) -> None:
        metrics, failures_max, canaries = self._hub.metrics, self._hub.settings.canary_failures, self._canaries
        try:
            trip_s = self._hub.broker.canary()
        except TidingsError as error:
            metrics.canaries_lost += 1
            canaries.on_failed(str(error))
            level = logging.WARNING if canaries.failures == failures_max else logging.DEBUG
            logger.log(level, "publishing does not work, %d canaries in a row failed: %s", canaries.failures, error)
            return
        if canaries.failures >= failures_max:
            logger.warning("publishing works again after %d failed canaries", canaries.failures)
        canaries.on_returned(trip_s, now_s=self._now_s())
        metrics.canaries += 1
        metrics.canary_s.observe(trip_s)

    def watch_details(self) -> None:
        """Check at an interval what does not decide readiness. Runs in its own greenlet: no canary waits for it."""
        while True:
            try:
                pause_s = self._check_details()
            except Exception:
                logger.exception("unexpected error in the check of the configuration; continuing")
                pause_s = _DETAILS_CHECK_S
            self._sleep(pause_s)

    def _check_details(self) -> float:
        """Check once. Returns the seconds until the next check."""
        state = self._hub.broker.state()
        if not state.connected and not state.can_serve:
            return _RECONNECT_POLL_S
        try:
            self._set_eviction(self._hub.broker.eviction_policy())
        except TidingsError as error:
            log_rate_limited(logger, logging.WARNING, "stored state", "the broker could not be read: %s", error)
        self._check_address()
        return _DETAILS_CHECK_S

    def _check_address(self) -> None:
        address_error = self._find_address_error()
        if address_error and not self._address_error:
            logger.warning("%s", address_error)
        self._address_error = address_error

    def _set_eviction(self, policy: str) -> None:
        is_evicting = policy not in {"", NO_EVICTION}
        self._hub.metrics.broker_evicts = int(is_evicting)
        if is_evicting and policy != self._eviction:
            logger.warning(
                "Redis has maxmemory-policy %s: when its memory is full, it deletes histories and revocations."
                " Set maxmemory-policy to noeviction",
                policy,
            )
        self._eviction = policy

    def ready(self) -> tuple[bool, Mapping[str, object]]:
        """Whether this node can serve clients and publications, and the checks that decide it."""
        settings, state = self._hub.settings, self._hub.broker.state()
        canaries, now_s = self._canaries, self._now_s()
        period_s = settings.canary_interval_s + settings.canary_timeout_s + _LATE_S
        age_s = canaries.age_s(now_s=now_s)
        checks: dict[str, object] = {
            "broker": state.connected or state.can_serve,
            "canary": canaries.is_passing(failures_max=settings.canary_failures, period_s=period_s, now_s=now_s),
            "pump": self._pump_alive(),
            "accepting": not self._hub.metrics.draining,
            "revocations": self._hub.revocations.are_read,
        }
        ready = all(checks.values())
        checks["canary_age_s"] = None if age_s is None else round(age_s, 1)
        checks["canary_trip_s"] = round(canaries.trip_s, 4)
        if canaries.error:
            checks["canary_error"] = canaries.error
        if not state.connected and state.last_error:
            checks["broker_error"] = state.last_error
        # Information only, from here on. The other parts are served.
        if len(state.parts) > 1:
            checks["parts"] = {part.name: "served" if part.is_served else part.last_error for part in state.parts}
        if self._eviction not in {"", NO_EVICTION}:
            checks["eviction"] = self._eviction
        if self._address_error:
            checks["advertise"] = self._address_error
        # Without its queue a node still serves clients, and the queue keeps its messages.
        if ingress := self._ingress():
            checks["ingress"] = dict(ingress)
        # Likewise without its notification service.
        if notifications := self._notifications():
            checks["notifications"] = notifications
        # Likewise: tokens of other issuers are valid, and all nodes have the same issuers.
        if keys := self._keys():
            checks["keys"] = dict(keys)
        return ready, checks
