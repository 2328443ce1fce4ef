"""Receives what other emitters publish on a Redis, on one node at a time.

Redis pub/sub does not store messages. A message that is published while no node listens is lost without a trace: after
a node died and before its lease ends, or while a link is broken. These formats give no stronger guarantee.
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
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.ingress")

_READ_TIMEOUT_S = 1.0
# Messages that are processed before other greenlets run.
_CHUNK_MAX = 50
_STOP_S = 5.0
_BACKOFF_CAP_S = 1.0
_random = secrets.SystemRandom().random


class MessageSource(Protocol):
    """A subscription to Redis, such as `brokers.pattern_link.PatternSubscriber`."""

    def open(self, patterns: Sequence[bytes]) -> None:
        """Connect and subscribe. Raises Unavailable."""

    def read(self, timeout_s: float) -> list[tuple[bytes, bytes]]:
        """Channel and message of everything received. Raises Unavailable when the link is broken."""

    def interrupt(self) -> None:
        """Make a waiting `read` return."""

    def close(self) -> None:
        """Disconnect. Idempotent."""


class Format(Protocol):
    """A compatibility format: the patterns of its channels, and the parser of its messages."""

    name: str
    patterns: Sequence[bytes]

    def read(self, channel: str, message: bytes) -> Sequence[PublishRequest | CommandRequest]:
        """The requests in a message. Raises CallerError if the hub cannot carry them out. Does no I/O."""


class Listener:
    """The listener of one format. It owns `source` and `lease`."""

    def __init__(
        self,
        compat_format: Format,
        source: MessageSource,
        lease: LeaseKeeper,
        dispatcher: Dispatcher,
        *,
        message_max_bytes: int,
    ) -> None:
        self.name = compat_format.name
        self._format = compat_format
        self._source = source
        self._lease = lease
        self._dispatcher = dispatcher
        self._message_max_bytes = message_max_bytes
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failed = 0

    def start(self) -> None:
        """Start the threads. The listener receives messages as soon as the broker grants the lease."""
        for run, role in ((self._lease.run, "lease"), (self._run, "listener")):
            task = SupervisedTask(role, run, self._dispatcher.metrics)
            thread = threading.Thread(target=task, name=f"{role}-{self.name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Release the lease to another node, and return when no more messages are processed."""
        self._stopping.set()
        self._lease.release()
        self._source.interrupt()
        for thread in self._threads:
            thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._session()
            except TidingsError as error:
                self._back_off("%s does not listen: %s", self.name, error)
            except Exception:
                logger.exception("unexpected error in the listener of the format %s; restarting", self.name)
                self._back_off("%s does not listen", self.name)

    def _back_off(self, message: str, *arguments: object) -> None:
        log_rate_limited(logger, logging.WARNING, f"listen {self.name}", message, *arguments)
        self._failed += 1
        self._stopping.wait(delay_s(self._failed, cap_s=_BACKOFF_CAP_S, random=_random))

    def _session(self) -> None:
        """Listen while this node has the lease."""
        term = self._lease.wait_for_term(_READ_TIMEOUT_S)
        if term is None:
            return
        self._source.open(self._format.patterns)
        try:
            # This Redis may not be the one that granted the lease. So renew the lease now that the link listens.
            self._lease.renew()
            if self._lease.is_unbroken(term):
                self._listen(term)
        finally:
            self._source.close()

    def _listen(self, term: int) -> None:
        metrics = self._dispatcher.metrics
        metrics.wires_listening += 1
        logger.info("this node listens to %s", self.name)
        try:
            while not self._stopping.is_set():
                items = self._source.read(_READ_TIMEOUT_S)
                # Checked after the read: what was read during the lease was sent before another node could listen.
                if not self._lease.is_unbroken(term):
                    metrics.wires_dropped += len(items)
                    return
                self._failed = 0
                for start in range(0, len(items), _CHUNK_MAX):
                    self._process(items[start : start + _CHUNK_MAX])
                    # Let other greenlets run: a flood of rejected messages must not block the node's clients.
                    time.sleep(0)
        finally:
            metrics.wires_listening -= 1

    def _process(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        requests: list[PublishRequest | CommandRequest] = []
        for channel, message in items:
            try:
                requests += self._read(channel, message)
            except TidingsError as error:
                self._dispatcher.reject(self.name, error)
            except Exception as error:
                logger.exception("unexpected error in the parser of the format %s", self.name)
                self._dispatcher.reject(self.name, error)
        self._dispatcher.dispatch(self.name, requests, at_ms=time.time_ns() // 1_000_000)

    def _read(self, channel: bytes, message: bytes) -> Sequence[PublishRequest | CommandRequest]:
        if len(message) > self._message_max_bytes:
            raise TooLarge(f"a message of {len(message)} bytes; raise ingress_message_max_bytes or send less")
        return self._format.read(channel.decode("utf-8", "replace"), message)
