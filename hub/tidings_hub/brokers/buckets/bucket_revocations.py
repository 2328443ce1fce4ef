"""Revocations in every bucket of a cluster: one bucket that answers is enough to know them.

They are written to each bucket that answers, and read from each that answers. A reader writes back what a bucket lacks:
it was away at the write, or an earlier version of tidings wrote to the first bucket only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from tidings.errors import HubError, TimedOut, Unavailable
from tidings.wire.control import Command, NodeReplies
from tidings_hub.brokers.broker_state import BrokerState
from tidings_hub.core.revocations.revoked import missing_revocations
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.revocations")

# Revocations written in one call: about a millisecond of Redis' time.
_PER_CALL: Final = 500
_Result = TypeVar("_Result")


class _RevocationBucket(Protocol):
    """The part of a broker that stores revocations."""

    def write_revocations(self, until_s: Mapping[str, float]) -> None: ...

    def revocations(self) -> dict[str, float]: ...

    def run_command(self, command: Command, *, timeout_s: float) -> NodeReplies: ...

    def state(self) -> BrokerState: ...


class BucketRevocations:
    """Writes revocations to the buckets, and reads them."""

    def __init__(self, buckets: Sequence[_RevocationBucket], metrics: Metrics) -> None:
        self._buckets = buckets
        self._metrics = metrics

    def send(self, command: Command, *, timeout_s: float) -> NodeReplies:
        """Send a revocation to every node through the first bucket that accepts it, and store it in the others.

        Raises:
            Unavailable, TimedOut: no bucket has accepted it.
        """
        errors: list[HubError] = []
        for bucket in sorted(self._buckets, key=lambda bucket: not bucket.state().connected):
            try:
                replies = bucket.run_command(command, timeout_s=timeout_s)
            except HubError as error:
                errors.append(error)
                continue
            if command.revocation is not None:
                self.write(dict([command.revocation]))
            return replies
        # A bucket that did not reply in time may have it.
        raise next((error for error in errors if isinstance(error, TimedOut)), errors[0])

    def write(self, until_s: Mapping[str, float]) -> None:
        """Write these to every connected bucket, at the same time. The others get them by a later `read`.

        Raises:
            Unavailable: no bucket has stored them.
        """
        connected = [bucket for bucket in self._buckets if bucket.state().connected]
        results = self._on_each(lambda bucket: bucket.write_revocations(until_s), connected or self._buckets)
        self._check_any(results)

    def read(self) -> dict[str, float]:
        """The revocations in force that any bucket stores. Writes back what a bucket lacks.

        Raises:
            Unavailable: no bucket has answered.
        """
        results = self._on_each(lambda bucket: bucket.revocations(), self._buckets)
        self._check_any(results)
        stored = [result for result in results if not isinstance(result, HubError)]
        known: dict[str, float] = {}
        for revocations in stored:
            known |= {key: end_s for key, end_s in revocations.items() if end_s > known.get(key, 0.0)}
            # Other greenlets run between two buckets of many revocations.
            time.sleep(0)
        for bucket, result in zip(self._buckets, results, strict=True):
            if not isinstance(result, HubError):
                self._write_back(bucket, missing_revocations(known.items(), result, now_s=0.0))
                time.sleep(0)
        return known

    def _write_back(self, bucket: _RevocationBucket, missing: Mapping[str, float]) -> None:
        entries = list(missing.items())
        try:
            for start in range(0, len(entries), _PER_CALL):
                bucket.write_revocations(dict(entries[start : start + _PER_CALL]))
                self._metrics.revocations_restored += len(entries[start : start + _PER_CALL])
        except HubError as error:
            self._report(error)

    def _check_any(self, results: Sequence[object]) -> None:
        errors = [result for result in results if isinstance(result, HubError)]
        for error in errors:
            self._report(error)
        if len(errors) == len(results):
            raise Unavailable(f"no bucket of the cluster answered: {errors[0]}") from errors[0]

    def _report(self, error: HubError) -> None:
        self._metrics.revocation_errors += 1
        log_rate_limited(
            *(logger, logging.WARNING, "revocations of a bucket"),
            *("a bucket lacks revocations until it answers; the other buckets have them: %s", error),
        )

    def _on_each(
        self, call: Callable[[_RevocationBucket], _Result], buckets: Sequence[_RevocationBucket]
    ) -> list[_Result | HubError]:
        """The result or the error of a call for each bucket. A bucket that hangs does not delay the others."""
        results: dict[int, _Result | HubError] = {}

        def run(number: int, bucket: _RevocationBucket) -> None:
            try:
                results[number] = call(bucket)
            except HubError as error:
                results[number] = error

        threads = [
            threading.Thread(target=run, args=(number, bucket), name="tidings-revocations", daemon=True)
            for number, bucket in enumerate(buckets)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lost = Unavailable("the call ended unexpectedly")
        return [results.get(number, lost) for number in range(len(buckets))]
