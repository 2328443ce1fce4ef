"""Encoded frames of publications that several clients missed, so that they are encoded and stored once."""

from __future__ import annotations

from tidings.wire.publication import Publication
from tidings_hub.core.frame import Frame

# A frame has a packet and, once a WebSocket or an event stream needed it, a second form of about the same size.
_FORMS = 2

_Key = tuple[str, int, str, str]


class FrameCache:
    """Frames of two generations, `bytes_max` bytes at most. `age` discards those that were not used for a while.

    A frame that a slow client has not received yet lives on in its out-buffer.
    """

    def __init__(self, bytes_max: int) -> None:
        self._generation_max_bytes = bytes_max // 2
        self._young: dict[_Key, Frame] = {}
        self._old: dict[_Key, Frame] = {}
        self._young_bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def frame(self, publication: Publication) -> Frame:
        """The frame of a publication. The numbers of a publication name its content for ever."""
        key = (publication.channel, publication.seq, publication.epoch, publication.other_places)
        frame = self._young.get(key)
        if frame is None:
            frame = self._old.pop(key, None) or Frame(publication)
            self._add(key, frame)
        return frame

    def _add(self, key: _Key, frame: Frame) -> None:
        size = _FORMS * len(frame.packet)
        if self._young_bytes + size > self._generation_max_bytes:
            self.age()
        self._young[key] = frame
        self._young_bytes += size

    def age(self) -> None:
        """Discard the frames that were not used since the last call."""
        self._old, self._young, self._young_bytes = self._young, {}, 0
