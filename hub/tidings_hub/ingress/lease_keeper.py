"""Keeps the lease of one compatibility format until the node stops."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tidings.errors import TidingsError
from tidings_hub.core.lease import LeaseReply, LeaseTerm

logger = logging.getLogger("tidings.ingress")

# Requests per duration of the lease: two of them may fail.
_ROUNDS = 3

Acquire = Callable[[float], LeaseReply]


class LeaseKeeper:
    """Acquires a lease and renews it. `acquire` requests it from the broker for so many seconds; 0 releases it."""

    def __init__(self, acquire: Acquire, *, lease_s: float) -> None:
        self._acquire = acquire
        self._lease_s = lease_s
        self._term = LeaseTerm(lease_s)
        self._is_held = threading.Event()
        self._is_released = threading.Event()
        # Two requests at the same time could be answered in another order than they were sent.
        self._request_lock = threading.Lock()

    def run(self) -> None:
        """Renew the lease until `release`. Runs in its own thread, so that long work does not lose the lease."""
        while True:
            try:
                self.renew()
            except Exception:
                logger.exception("unexpected error while renewing an ingress lease; retrying")
            if self._is_released.wait(self._lease_s / _ROUNDS):
                return

    def renew(self) -> None:
        """Request the lease once."""
        with self._request_lock:
            if self._is_released.is_set():
                return
            requested_s = time.monotonic()
            try:
                self._term.update(self._acquire(self._lease_s), requested_s=requested_s)
            except TidingsError as error:
                # The lease stays valid until its end.
                logger.debug("an ingress lease could not be renewed: %s", error)
        if self._term.is_held(time.monotonic()):
            self._is_held.set()

    def wait_for_term(self, timeout_s: float) -> int | None:
        """Wait until this node has the lease, and return the number of its term; None after `timeout_s`."""
        self._is_held.wait(timeout_s)
        if not self._term.is_held(time.monotonic()):
            self._is_held.clear()
            return None
        return self._term.term

    def is_unbroken(self, term: int) -> bool:
        """Whether this node has had the lease without interruption since that term began."""
        return self._term.is_unbroken(term, time.monotonic())

    def release(self) -> None:
        """Release the lease, so that another node need not wait for its end. Idempotent."""
        if self._is_released.is_set():
            return
        self._is_released.set()
        with self._request_lock:
            self._term.update(LeaseReply.DENIED, requested_s=0.0)
            try:
                self._acquire(0.0)
            except TidingsError as error:
                logger.debug("an ingress lease could not be released; it ends by itself: %s", error)
