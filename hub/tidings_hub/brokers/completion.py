"""`Completion`: an event that happens once."""

from __future__ import annotations

import threading
from typing import Final

_NEVER: Final = -1


class Completion:
    """Like `threading.Event` without `clear`, at a third of its cost: every client that connects waits for one.

    One thread or greenlet sets it, any number wait. A lock is held until then. `threading.Event` has three, and
    allocates another one for each wait.
    """

    __slots__ = ("_lock", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake all that wait. Idempotent."""
        if not self.is_set:
            self.is_set = True
            self._lock.release()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for at most `timeout_s`. Return whether it has happened."""
        if self.is_set:
            return True
        if timeout_s is not None and timeout_s <= 0:
            return False
        if self._lock.acquire(timeout=_NEVER if timeout_s is None else timeout_s):
            # The next one that waits wakes as well.
            self._lock.release()
        return self.is_set
