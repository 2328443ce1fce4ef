"""Takes what other emitters publish on a Redis, on one node at a time.

Pub/sub forgets: what is published while no node listens (a node died, its lease not yet ended; a link broke) is lost,
and nobody knows of it. These formats promise no more.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from tidings.backoff import delay_s
from tidings.errors import TidingsError, TooLarge
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest
from tidings_hub.ingress.dispatcher import Dispatcher
from tidings_hub.ingress.lease_keeper import LeaseKeeper
from tidings_hub.log import log_rate_limited

logger = logging.getLogger("tidings.ingress")

_LOOK_S = 1.0
# Messages that are read at a stretch; then others have their turn.
_TURN_MAX = 50
_STOP_S = 5.0
_BACKOFF_CAP_S = 1.0
_random = secrets.SystemRandom().random


class MessageSource(Protocol):
    """What a listener needs of a link to a Redis; `brokers.patterns.Patterns` is one."""

    def open(self, patterns: Sequence[bytes]) -> None:
        """Begin to listen; raises Unavailable."""

    def read(self, timeout_s: float) -> list[tuple[bytes, bytes]]:
        """Channel and message of all that came; raises Unavailable when the link is broken."""

    def interrupt(self) -> None:
        """Make a waiting `read` end."""

    def close(self) -> None:
        """End it."""


class Format(Protocol):
    """One format: where it is heard, and what its messages mean."""

    name: str
    patterns: Sequence[bytes]

    def read(self, channel: str, message: bytes) -> Sequence[PublishRequest | CommandRequest]:
        """What a message asks for; raises CallerError for what cannot be. Pure."""


class Listener:
    """One format's listener. `link` and `lease` are its own."""

    def __init__(
        self, form: Format, source: MessageSource, lease: LeaseKeeper, outlet: Dispatcher, *, message_max_bytes: int
    ) -> None:
        self.name = form.name
        self._form = form
        self._link = source
        self._lease = lease
        self._outlet = outlet
        self._message_max_bytes = message_max_bytes
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failed = 0

    def start(self) -> None:
        """Begin, as soon as the broker gives the lease."""
        for run, what in ((self._lease.run, "lease"), (self._run, "listener")):
            thread = threading.Thread(target=run, name=f"{what}-{self.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Hand over to another node, and return when nothing more is taken."""
        self._stopping.set()
        self._lease.release()
        self._link.interrupt()
        for thread in self._threads:
            thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._session()
            except TidingsError as error:
                self._rest("%s does not listen: %s", self.name, error)
            except Exception:
                logger.exception("a mistake in taking what comes in the format %s; it starts again", self.name)
                self._rest("%s does not listen", self.name)

    def _rest(self, message: str, *about: object) -> None:
        log_rate_limited(logger, logging.WARNING, f"listen {self.name}", message, *about)
        self._failed += 1
        self._stopping.wait(delay_s(self._failed, cap_s=_BACKOFF_CAP_S, random=_random))

    def _session(self) -> None:
        """Listen while this node has the lease."""
        term = self._lease.wait_for_term(_LOOK_S)
        if term is None:
            return
        self._link.open(self._form.patterns)
        try:
            # Redis may be another process than the one that gave the lease: it is asked again, now that it is heard.
            self._lease.renew()
            if self._lease.is_unbroken(term):
                self._listen(term)
        finally:
            self._link.close()

    def _listen(self, term: int) -> None:
        metrics = self._outlet.metrics
        metrics.wires_listening += 1
        logger.info("this node listens to %s", self.name)
        try:
            while not self._stopping.is_set():
                items = self._link.read(_LOOK_S)
                # After reading: what was read while the lease held was sent before another node could listen.
                if not self._lease.is_unbroken(term):
                    metrics.wires_dropped += len(items)
                    return
                self._failed = 0
                for start in range(0, len(items), _TURN_MAX):
                    self._take(items[start : start + _TURN_MAX])
                    # Nor may a flood of what is refused keep the node from its clients.
                    time.sleep(0)
        finally:
            metrics.wires_listening -= 1

    def _take(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        wanted: list[PublishRequest | CommandRequest] = []
        for channel, message in items:
            try:
                wanted += self._read(channel, message)
            except TidingsError as error:
                self._outlet.reject(self.name, error)
            except Exception as error:
                logger.exception("a mistake in reading the format %s", self.name)
                self._outlet.reject(self.name, error)
        self._outlet.dispatch(self.name, wanted, at_ms=time.time_ns() // 1_000_000)

    def _read(self, channel: bytes, message: bytes) -> Sequence[PublishRequest | CommandRequest]:
        if len(message) > self._message_max_bytes:
            raise TooLarge(f"a message of {len(message)} bytes; ingress_message_max_bytes allows less")
        return self._form.read(channel.decode("utf-8", "replace"), message)
