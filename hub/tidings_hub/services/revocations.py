"""The revocations of this node, in step with those that the broker and the file store.

Redis may lose its memory. Every node therefore compares what it knows with what the broker stores: at every
`canary_interval_s`, when the broker is reached again, and when a new epoch begins. It writes back what the broker
lacks. A revocation is forgotten only if no node that knows it is left, and no file has it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tidings.errors import HubError
from tidings_hub.brokers.base import Broker
from tidings_hub.config.settings import Settings
from tidings_hub.core.access import Bearer
from tidings_hub.core.revocations.revoked import Revocations, missing_revocations
from tidings_hub.core.sessions import Session
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.services.client_connection import Connection
from tidings_hub.services.revocation_file import RevocationFile
from tidings_hub.services.revocation_writer import RevocationWriter
from tidings_hub.supervised_task import SupervisedTask

logger = logging.getLogger("tidings.revocations")

# Revocations written back in one call: about a millisecond of Redis' time.
_PER_CALL = 500
# Sessions that are looked at, and ended if they are revoked, in one turn of the event loop: a few milliseconds.
_SESSIONS_PER_TURN = 100
# Revocations that are compared in one turn: likewise.
_ENTRIES_PER_TURN = 2_000
# How often the greenlet looks for a new connection or epoch of the broker. It costs no round trip.
_POLL_S = 0.2
# Likewise while the node waits for its first read: shorter, because no client can connect meanwhile.
_FIRST_POLL_S = 0.02
_STOP_S = 5.0


class RevocationService:
    """Which users and tokens are revoked. `end_revoked` ends those of some `sessions`, and returns their number.

    `are_read` is false from `start` until the stored revocations were read once: before that, no token is trusted.
    """

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        metrics: Metrics,
        sessions: Callable[[], Collection[Session[Connection]]],
        end_revoked: Callable[[Sequence[Session[Connection]]], int],
        *,
        wall_s: Callable[[], float],
    ) -> None:
        self._broker = broker
        self._metrics = metrics
        self._sessions = sessions
        self._end_revoked = end_revoked
        self._interval_s = settings.canary_interval_s
        self._wall_s = wall_s
        self._known = Revocations()
        self._file: RevocationFile | None = None
        self._writer: RevocationWriter | None = None
        if settings.revocations_file:
            path = Path(settings.revocations_file)
            self._file = RevocationFile(path, entries_max=settings.revocations_file_max, wall_s=wall_s)
            self._writer = RevocationWriter(self._file)
        self._repairs = 0
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._is_stopping = False
        self._first_read = threading.Event()
        self._first_read.set()

    @property
    def are_read(self) -> bool:
        """Whether the stored revocations were read once since `start`."""
        return self._first_read.is_set()

    def wait_until_read(self, timeout_s: float) -> bool:
        """Wait until the stored revocations were read once; returns whether they were."""
        return self._first_read.wait(timeout_s)

    def start(self) -> None:
        """Read the file, and begin to compare with the broker. Call it before the first client connects.

        Raises:
            BadConfig: the file is unusable, or a line in it is not a revocation.
        """
        if self._file is not None and self._writer is not None:
            for key, until_s in self._file.load().items():
                self._known.add(key, until_s)
            self._writer.start()
        self._first_read.clear()
        self._thread = threading.Thread(
            target=SupervisedTask("revocations", self._run, self._metrics), name="tidings-revocations", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop, with everything in the file that can be written."""
        self._is_stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            if self._writer is not None:
                self._writer.stop()

    def is_revoked(self, bearer: Bearer) -> bool:
        """Whether the bearer's user or token is revoked now."""
        return self._known.is_revoked(bearer, now_s=self._wall_s())

    def add(self, key: str, until_s: float) -> None:
        """Revoke `user:<sub>` or `jti:<jti>` until that unix time. Never waits; the caller enforces it."""
        if self._known.add(key, until_s) and self._writer is not None:
            self._writer.add(key, until_s)

    def flush(self, *, timeout_s: float) -> None:
        """Wait until the file has everything that was added. A failure is logged, and the write is repeated."""
        if self._writer is not None and not self._writer.flush(timeout_s=timeout_s):
            self._report_file(self._writer)

    def sync(self) -> int:
        """Read what the broker stores, enforce it, and write back what it lacks. Returns how many sessions ended.

        Raises:
            Unavailable, TimedOut: the broker did not answer.
        """
        # Taken before: a revocation that arrives during the read is stored, but possibly not in what was read.
        known = self._known.entries()
        stored = self._broker.revocations()
        for key, until_s in _with_turns(stored.items()):
            self.add(key, until_s)
        self._first_read.set()
        ended = self._enforce()
        missing, in_force = self._compare(known, stored)
        self._write_back(missing)
        self._metrics.revocations = len(self._known)
        if self._writer is not None:
            self._report_file(self._writer)
            self._writer.check(in_force)
        return ended

    def _compare(
        self, known: Sequence[tuple[str, float]], stored: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Those of `known` that `stored` lacks, and those in force. Forgets those that ended long ago."""
        missing: dict[str, float] = {}
        in_force: dict[str, float] = {}
        now_s = self._wall_s()
        for start in range(0, len(known), _ENTRIES_PER_TURN):
            part = known[start : start + _ENTRIES_PER_TURN]
            missing |= missing_revocations(part, stored, now_s=now_s)
            in_force |= missing_revocations(part, {}, now_s=now_s)
            self._known.forget_past(part, now_s=now_s)
            if start + _ENTRIES_PER_TURN < len(known):
                time.sleep(0)
        return missing, in_force

    def _enforce(self) -> int:
        """End all sessions that are revoked. Returns how many there were. Lets others run between the steps.

        A session that opens meanwhile is checked by itself: what is revoked here was known before the first step.
        """
        if not self._known:
            return 0
        sessions, ended = list(self._sessions()), 0
        for start in range(0, len(sessions), _SESSIONS_PER_TURN):
            ended += self._end_revoked(sessions[start : start + _SESSIONS_PER_TURN])
            time.sleep(0)
        return ended

    def _write_back(self, missing: Mapping[str, float]) -> None:
        if not missing:
            return
        entries = list(missing.items())
        for start in range(0, len(entries), _PER_CALL):
            self._broker.write_revocations(dict(entries[start : start + _PER_CALL]))
            self._metrics.revocations_restored += len(entries[start : start + _PER_CALL])
        logger.warning("the broker lacked %d revocations that this node knows; they are written back", len(entries))
        # A node that started in between has read too little.
        self._broker.send_control({"do": "read_revocations"})

    def _report_file(self, writer: RevocationWriter) -> None:
        unsaved, error = writer.unsaved, writer.error
        self._metrics.revocations_unsaved = unsaved
        if writer.repairs > self._repairs:
            self._repairs = writer.repairs
            logger.warning("revocations_file was deleted or replaced; this node has written its revocations again")
        if error:
            self._metrics.revocations_file_errors += 1
            log_rate_limited(
                *(logger, logging.ERROR, "revocations file"),
                *("%d revocations are not in revocations_file, retrying; this node has them: %s", unsaved, error),
            )
        elif writer.left_out_count:
            log_rate_limited(
                *(logger, logging.ERROR, "revocations file full"),
                *("%d revocations do not fit into revocations_file; raise revocations_file_max", writer.left_out_count),
            )

    # The greenlet

    def _run(self) -> None:
        while not self._is_stopping:
            link = self._link()
            try:
                state = self._broker.state()
                # Without its link a single Redis would only cost the timeout. A cluster may lack another part.
                if state.connected or len(state.parts) > 1:
                    self.sync()
            except HubError as error:
                self._metrics.revocation_errors += 1
                log_rate_limited(
                    logger, logging.WARNING, "revocations", "the revocations were not compared; retrying: %s", error
                )
            self._wait(link)

    def _wait(self, link: tuple[object, ...]) -> None:
        """Return at the next interval, or when the broker has another connection or epoch than `link`."""
        left_s, poll_s = (self._interval_s, _POLL_S) if self.are_read else (_POLL_S, _FIRST_POLL_S)
        end_s = time.monotonic() + left_s
        # At least once, so that a link that changes all the time keeps no other greenlet from running.
        while left_s > 0 and not self._wake.wait(min(poll_s, left_s)) and self._link() == link:
            left_s = end_s - time.monotonic()

    def _link(self) -> tuple[object, ...]:
        state, position = self._broker.state(), self._broker.position
        since_s = state.since_s if state.connected else None
        served = [part.is_served for part in state.parts]
        return since_s, served, None if position is None else position.epoch


def _with_turns(entries: Iterable[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    """The entries. Other greenlets run in between."""
    for number, entry in enumerate(entries, start=1):
        yield entry
        if number % _ENTRIES_PER_TURN == 0:
            time.sleep(0)
