"""Bytes that wait for one connection: references to shared bytes, in order, with a size."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from tidings_hub import runtime

_os = runtime.original("os")
_writev = _os.writev
# One writev takes at most IOV_MAX (1,024) parts; a socket buffer is full long before.
_PARTS_MAX = 64


class OutBuffer:
    """What could not be written yet, oldest first.

    For a WebSocket or an event stream the parts are bytes of the stream; for a polling
    session each part is one Engine.IO packet. Its owner checks `size` against its limit.
    """

    __slots__ = ("begun", "parts", "sent", "size", "watched")

    def __init__(self) -> None:
        self.parts: deque[bytes | memoryview] = deque()
        self.size = 0
        # Whether the first part is the rest of one that was partly written.
        self.begun = False
        # Bytes that left since this buffer was made: a slow reader that still reads is alive.
        self.sent = 0
        # Whether the pump tells when more can be written.
        self.watched = False

    def add(self, part: bytes | memoryview) -> None:
        """Put `part` at the end."""
        self.parts.append(part)
        self.size += len(part)

    def extend(self, parts: Sequence[bytes], size: int) -> None:
        """Put all `parts`, together `size` bytes, at the end."""
        self.parts.extend(parts)
        self.size += size

    def add_rest(self, blob: bytes, written: int) -> None:
        """Put what is left of `blob` after its first `written` bytes at the end."""
        self.begun = written > 0
        self.add(memoryview(blob)[written:] if written else blob)

    def take(self, count: int) -> list[bytes | memoryview]:
        """The first `count` parts, or all; they are gone from here."""
        parts = self.parts
        if len(parts) <= count:
            taken = list(parts)
            parts.clear()
            self.size = 0
            return taken
        taken = [parts.popleft() for _ in range(count)]
        self.size -= sum(map(len, taken))
        return taken

    def keep_begun(self) -> None:
        """Forget all but the part that the other side has already seen the beginning of."""
        first = self.parts[0] if self.begun and self.parts else None
        self.parts.clear()
        self.size = 0
        if first is not None:
            self.add(first)

    def flush(self, fd: int) -> bool:
        """Write what the kernel takes; whether nothing is left.

        Raises:
            OSError: the connection is broken.
        """
        parts = self.parts
        while parts:
            try:
                written: int = _writev(fd, list(islice(parts, _PARTS_MAX)))
            except (BlockingIOError, InterruptedError):
                return False
            self.size -= written
            self.sent += written
            while parts and written >= len(parts[0]):
                written -= len(parts.popleft())
                self.begun = False
            if written:
                parts[0] = memoryview(parts[0])[written:]
                self.begun = True
        return True
