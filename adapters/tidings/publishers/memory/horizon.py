"""The horizon of a sequence in memory: what a missing pointer proves (docs/architecture.md#why-horizon)."""

from __future__ import annotations

from collections import deque

# A mark is made when the last one is older than this part of the pointers' life, so there are at most this many.
_MARKS_MAX = 16


class Horizon:
    """Marks: the seq that the sequence was at, and until when every later publication has its pointer.

    The oldest mark that holds is the horizon. A channel without a pointer has no publication after it. As in
    `horizon.lua`, for a clock that never goes back and a store that evicts nothing.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[int, float]] = deque()

    def clear(self) -> None:
        """Forget all marks: from now on pointers live shorter."""
        self._marks.clear()

    def seq(self, seq: int, *, life_s: float, now_s: float) -> int:
        """The horizon of a sequence that is at `seq`, and whose pointers live for `life_s`."""
        marks = self._marks
        while marks and marks[0][1] <= now_s:
            marks.popleft()
        step_s = life_s / _MARKS_MAX
        until_s = now_s + life_s - step_s
        if not marks or marks[-1][1] <= until_s - step_s:
            marks.append((seq, until_s))
        return marks[0][0]
