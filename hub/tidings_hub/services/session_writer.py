"""Notes on their way to the broker: one greenlet writes what has gathered, in few calls, and again what failed.

A later act on a note takes the place of an earlier one that is not written yet, so what waits is bounded by the
sessions there are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from tidings.errors import HubError, Unavailable
from tidings_hub.brokers.base import Broker
from tidings_hub.core.resumable_session import Kept
from tidings_hub.core.session_records import Act, Note, Noted
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.keeping")

# New sessions gather for so long, that a storm of them is few calls; who waits for a write does not wait for this.
_PAUSE_S = 0.02
_AGAIN_S = 0.5
_STOP_S = 5.0
# Notes of one call: about a millisecond of Redis' time.
_CHUNK = 500


class _Wait:
    """Somebody waits until the broker knows."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: HubError | None = None


class Notebook:
    """What has yet to be written. `pack` makes a note of an act, `wrote` hears what came of it.

    `turn` is called before each round, every `idle_s` seconds at least, and may raise what the broker raises.
    """

    def __init__(
        self,
        broker: Broker,
        metrics: Metrics,
        *,
        pack: Callable[[Kept, Act], Note],
        wrote: Callable[[Kept, Act, Noted], None],
        turn: Callable[[], None],
        idle_s: float,
    ) -> None:
        self._broker = broker
        self._metrics = metrics
        self._pack = pack
        self._wrote = wrote
        self._turn = turn
        self._idle_s = idle_s
        self._pending: dict[Kept, Act] = {}
        self._waiting: list[_Wait] = []
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._writing = False
        self._stopping = False

    def start(self) -> None:
        """Begin to write."""
        self._thread = threading.Thread(target=self._run, name="tidings-keeping", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is still to be written, and end."""
        self._stopping = True
        self._wake.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    @property
    def running(self) -> bool:
        """Whether anything is ever written."""
        return self._thread is not None

    @property
    def unwritten(self) -> bool:
        """Whether the broker has yet to be told something."""
        return bool(self._pending or self._waiting or self._writing)

    def put(self, kept: Kept, act: Act) -> None:
        """Write this soon. Never waits."""
        self._pending[kept] = _newest(self._pending.get(kept), act)
        # Each connect comes by here; setting what is set takes locks for nothing.
        if not self._wake.is_set():
            self._wake.set()

    def put_idle(self, kept: Kept, act: Act) -> None:
        """Write this in the round that is about to begin, unless there is more to be written of it."""
        self._pending.setdefault(kept, act)

    def put_away(self, kept: Kept) -> None:
        """Write nothing more of it."""
        self._pending.pop(kept, None)

    def settle(self, kept: Kept, act: Act, *, timeout_s: float) -> None:
        """Write this at once, and wait until the broker knows.

        Raises:
            Unavailable, TimedOut: it could not be told; it will be, with what there is to tell then.
        """
        wait = _Wait()
        self._waiting.append(wait)
        self.put(kept, act)
        self._hurry.set()
        if not wait.done.wait(timeout_s):
            raise Unavailable("the broker was not told in time which channels this session has")
        if wait.error is not None:
            raise wait.error

    def call(self) -> None:
        """Have `turn` called soon."""
        self._wake.set()

    # The greenlet that writes

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._idle_s)
            if not self._waiting:
                self._hurry.wait(_PAUSE_S)
            self._hurry.clear()
            self._wake.clear()
            self._try()
        self._try()

    def _try(self) -> None:
        self._writing = True
        try:
            self._turn()
            self._write_all()
        except HubError as error:
            self._metrics.recovery_errors += 1
            log_rate_limited(logger, logging.WARNING, "kept", "sessions could not be kept for a return: %s", error)
            time.sleep(0.0 if self._stopping else _AGAIN_S)
        except Exception:
            self._metrics.recovery_errors += 1
            logger.exception("a mistake in keeping sessions; it goes on")
            time.sleep(_AGAIN_S)
        finally:
            self._writing = False

    def _write_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        acts = list(self._pending)
        try:
            for start in range(0, len(acts), _CHUNK):
                self._write(acts[start : start + _CHUNK])
        except HubError as error:
            for wait in waiting:
                wait.error = error
            raise
        finally:
            for wait in waiting:
                wait.done.set()

    def _write(self, chunk: Sequence[Kept]) -> None:
        acts = [(kept, self._pending.pop(kept)) for kept in chunk if kept in self._pending]
        notes = [self._pack(kept, act) for kept, act in acts]
        try:
            results = self._broker.note(notes)
        except BaseException:
            for kept, act in acts:
                self._pending[kept] = _newest(act, self._pending.get(kept, act))
            raise
        for (kept, _), note, result in zip(acts, notes, results, strict=True):
            self._wrote(kept, note.act, result)


def _newest(before: Act | None, now: Act) -> Act:
    """What is to be written where `before` was not yet: what is not there cannot be changed."""
    return Act.NEW if before is Act.NEW and now is Act.CHANGE else now
