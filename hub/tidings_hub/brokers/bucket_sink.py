"""Events of one bucket of a cluster, with the places of the other buckets added (PROTOCOL.md section 7)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication
from tidings_hub.brokers.base import Sink
from tidings_hub.core.bucket_positions import BucketPositions

# Between the bucket of a command and the token for its reply.
REPLY_SEPARATOR: Final = "~"


class BucketSink:
    """The sink of one bucket: adds the places in the other buckets, and passes calls on, one bucket at a time."""

    def __init__(self, bucket: int, positions: Callable[[], BucketPositions], lock: threading.Lock, sink: Sink) -> None:
        self._bucket = bucket
        self._positions = positions
        self._lock = lock
        self._sink = sink

    def deliver(self, publications: list[Publication]) -> None:
        """See `Sink.deliver`."""
        with self._lock:
            others = self._positions().others(self._bucket)
            for publication in publications:
                publication.other_places = others
            self._sink.deliver(publications)

    def on_loss(self, channels: list[str], position: Cursor) -> None:
        """See `Sink.on_loss`."""
        with self._lock:
            self._sink.on_loss(channels, self._positions().combine({self._bucket: position}))

    def on_doubt(self, channels: list[str], first: int, last: int, position: Cursor) -> bool:
        """See `Sink.on_doubt`."""
        with self._lock:
            return self._sink.on_doubt(channels, first, last, self._positions().combine({self._bucket: position}))

    def on_control(self, message: dict[str, object]) -> None:
        """See `Sink.on_control`. The reply goes to the bucket that the command came from."""
        if reply := message.get("reply"):
            message = {**message, "reply": f"{self._bucket}{REPLY_SEPARATOR}{reply}"}
        with self._lock:
            self._sink.on_control(message)
