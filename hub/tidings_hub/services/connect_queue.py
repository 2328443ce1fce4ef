"""Bounds on CONNECTs that wait for this node or for its broker, shared by Socket.IO and server-sent events.

A client that exceeds a bound did nothing wrong. It is closed with `full`, so it reconnects.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Protocol

from tidings_hub.core.herd.connect_waits import ConnectWaits
from tidings_hub.core.herd.held_refusals import HeldRefusals
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.connect")
# Spreads deadlines. Nothing secret depends on it.
_random = random.Random()  # noqa: S311


class ConnectingClient(Protocol):
    """The part of an engine's connection that this module uses."""

    def establish(self) -> float:
        """Stop the client's connect timeout. Returns the seconds that were left of it; 0: it did not run."""

    def await_connect(self, left_s: float) -> None:
        """Let the client's connect timeout continue with `left_s` seconds."""

    def close(self, code: str) -> None:
        """Close the connection with a code of `tidings.codes`."""


class ConnectQueue:
    """The clients of this node that wait for the answer to their CONNECT."""

    def __init__(
        self,
        *,
        waits_max: int,
        timeout_s: float,
        pause_max_s: float,
        metrics: Metrics,
        now_s: Callable[[], float],
        draw: Callable[[], float] = _random.random,
    ) -> None:
        self._waits: ConnectWaits[ConnectingClient] = ConnectWaits(waits_max=waits_max, timeout_s=timeout_s)
        self._held: HeldRefusals[ConnectingClient] = HeldRefusals(pause_max_s)
        self._metrics = metrics
        self._now_s = now_s
        self._draw = draw

    def begin(self, client: ConnectingClient) -> bool:
        """A CONNECT arrived: from now on the client waits for the hub. False: too many wait; close it with `full`.

        A client that is held stays held: its first CONNECT gets no answer, whatever happens to this one.
        """
        left_s = client.establish()
        if self._waits.begin(client, now_s=self._now_s(), client_left_s=left_s, draw=self._draw()):
            self._metrics.connects_waiting = len(self._waits)
            return True
        self._metrics.connects_refused += 1
        log_rate_limited(
            logger,
            logging.WARNING,
            "connects refused",
            "CONNECT refused with full: %d clients are waiting (connect_queue); they reconnect",
            len(self._waits),
        )
        return False

    def end(self, client: ConnectingClient, *, connected: bool) -> None:
        """A CONNECT is answered. Unless the client is connected, the rest of its own connect timeout runs."""
        left_s = self._waits.end(client)
        self._metrics.connects_waiting = len(self._waits)
        if left_s and not connected and client not in self._held:
            client.await_connect(left_s)

    def hold(self, client: ConnectingClient, code: str) -> None:
        """Close a client with `code`, which lets it reconnect, after a pause. Its CONNECT stays without an answer."""
        client.establish()
        self._held.hold(client, code, now_s=self._now_s(), draw=self._draw())
        self._metrics.connects_held = len(self._held)

    def discard(self, client: ConnectingClient) -> None:
        """The client's connection has closed. Idempotent."""
        self._waits.discard(client)
        self._held.discard(client)
        self._metrics.connects_waiting = len(self._waits)

    def __contains__(self, client: object) -> bool:
        return client in self._waits

    def tick(self) -> None:
        """Close the clients that waited for too long, and those whose pause is over. Call it every second."""
        for refused, code in self._held.pop_due(self._now_s()):
            refused.close(code)
        self._metrics.connects_held = len(self._held)
        overdue = self._waits.pop_overdue(self._now_s())
        if not overdue:
            return
        self._metrics.connects_waiting = len(self._waits)
        self._metrics.connects_expired += len(overdue)
        log_rate_limited(
            logger,
            logging.WARNING,
            "connects expired",
            "%d clients closed with full: no worker or no reply of the broker for their CONNECT within"
            " connect_queue_timeout_s = %g; they reconnect",
            len(overdue),
            self._waits.timeout_s,
        )
        for client in overdue:
            client.close("full")
