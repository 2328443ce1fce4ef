"""Sends clients what they missed. Clients that missed the same publications share the encoded frames."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.wire.channels import OWN_PREFIX
from tidings.wire.publication import Publication
from tidings_hub.core.frame import Frame, OutgoingFrame
from tidings_hub.core.herd.frame_cache import FrameCache
from tidings_hub.services.client_connection import Connection, FanOut, Replay
from tidings_hub.services.delivery_tracker import DeliveryTracker
from tidings_hub.services.presence import PresenceService

# As much as one read of the broker for recovering clients: all of them continue before the next read.
_CACHE_MAX_BYTES = 16_777_216


class Replays:
    """The frames of missed publications, and their way to one connection: `replay`, or else `fan_out`."""

    def __init__(
        self, presence: PresenceService, deliveries: DeliveryTracker, fan_out: FanOut, replay: Replay | None
    ) -> None:
        self._presence = presence
        self._deliveries = deliveries
        self._replay = replay or (lambda connection, frames: fan_out((connection,), frames))
        self._cache = FrameCache(_CACHE_MAX_BYTES)

    def frames(self, publications: Sequence[Publication]) -> list[Frame]:
        """The frames of publications that one client missed, or that were held back for it."""
        cached = self._cache.frame
        frames = [
            self._presence.frame(publication) if publication.channel.startswith(OWN_PREFIX) else cached(publication)
            for publication in publications
        ]
        return self._deliveries.catchup_frames(frames)

    def send(self, connection: Connection, frames: Sequence[OutgoingFrame]) -> None:
        """Write frames to one connection, behind what was written to it before."""
        self._replay(connection, frames)

    def tick(self) -> None:
        """Discard frames that no client needed since the last call. Call it every second."""
        self._cache.age()
