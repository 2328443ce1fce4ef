"""The lease of one format: asked for again and again, until the node ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tidings.errors import TidingsError
from tidings_hub.core.lease import LeaseReply, LeaseTerm

logger = logging.getLogger("tidings.ingress")

# A lease is asked for so often while it lasts: two rounds may fail.
_ROUNDS = 3

Ask = Callable[[float], LeaseReply]


class LeaseKeeper:
    """Keeps a lease. `ask` asks the broker for it, for so many seconds (0 gives it up)."""

    def __init__(self, ask: Ask, *, lease_s: float) -> None:
        self._ask = ask
        self._lease_s = lease_s
        self._tenure = LeaseTerm(lease_s)
        self._held = threading.Event()
        self._leaving = threading.Event()
        # Two questions at once could be answered in another order than they were asked.
        self._asking = threading.Lock()

    def run(self) -> None:
        """Ask until `leave`. Runs in a thread of its own, so that long work does not lose the lease."""
        while True:
            try:
                self.renew()
            except Exception:
                logger.exception("a mistake in asking for a lease; it is asked for again")
            if self._leaving.wait(self._lease_s / _ROUNDS):
                return

    def renew(self) -> None:
        """Ask once."""
        with self._asking:
            if self._leaving.is_set():
                return
            asked_s = time.monotonic()
            try:
                self._tenure.update(self._ask(self._lease_s), requested_s=asked_s)
            except TidingsError as error:
                # It holds for what is left of it.
                logger.debug("a lease could not be asked for: %s", error)
        if self._tenure.is_held(time.monotonic()):
            self._held.set()

    def wait_for_term(self, timeout_s: float) -> int | None:
        """The term that runs, as soon as there is one; None: there is none after `timeout_s`."""
        self._held.wait(timeout_s)
        if not self._tenure.is_held(time.monotonic()):
            self._held.clear()
            return None
        return self._tenure.term

    def is_unbroken(self, term: int) -> bool:
        """Whether this node has had the lease without a break since that term began."""
        return self._tenure.is_unbroken(term, time.monotonic())

    def release(self) -> None:
        """Give it up, so that another node need not wait until it ends. Idempotent."""
        if self._leaving.is_set():
            return
        self._leaving.set()
        with self._asking:
            self._tenure.update(LeaseReply.DENIED, requested_s=0.0)
            try:
                self._ask(0.0)
            except TidingsError as error:
                logger.debug("a lease could not be given up and ends by itself: %s", error)
