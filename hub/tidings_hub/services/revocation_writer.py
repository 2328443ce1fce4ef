"""Writes revocations to their file in a thread of its own: a disk may take long, and nothing else may wait for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, Protocol

from tidings.errors import BadConfig
from tidings_hub import runtime

# Seconds until a write that failed is repeated.
_RETRY_S: Final = 1.0
_STOP_S: Final = 5.0
# How often a greenlet looks whether the thread has finished.
_POLL_S: Final = 0.005
_threading = runtime.original("threading")


class RevocationStore(Protocol):
    """Where revocations are saved: `RevocationFile`."""

    def is_replaced(self) -> bool:
        """Whether it no longer has what was saved. Blocks."""

    def save(self, until_s: Mapping[str, float]) -> dict[str, float]:
        """Save these; returns those that do not fit. Blocks. May raise OSError or BadConfig."""


class RevocationWriter:
    """Saves revocations in the background, again and again until it succeeds. Never loses one that is not saved.

    `error`: why the last attempt failed; empty: it did not. `repairs`: how often it saved what the store had lost.
    A native thread calls the store, so nothing here logs.
    """

    def __init__(self, store: RevocationStore) -> None:
        self._store = store
        self._changed = _threading.Condition()
        self._waiting: dict[str, float] = {}
        self._left_out: dict[str, float] = {}
        self._known: Mapping[str, float] | None = None
        self._is_saving = False
        self._is_stopping = False
        self._attempts = 0
        self._thread = _threading.Thread(target=self._run, name="tidings-revocations", daemon=True)
        self.error = ""
        self.repairs = 0

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Save what waits, and stop. Waits at most 5 s."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        end_s = time.monotonic() + _STOP_S
        while self._thread.is_alive() and time.monotonic() < end_s:
            time.sleep(_POLL_S)

    def add(self, key: str, until_s: float) -> None:
        """Save this revocation soon. Never waits."""
        with self._changed:
            self._waiting[key] = max(until_s, self._waiting.get(key, until_s))
            self._changed.notify()

    def check(self, known: Mapping[str, float]) -> None:
        """Save all of `known` again if the store has lost what was saved. Never waits."""
        with self._changed:
            self._known = known
            self._changed.notify()

    @property
    def left_out_count(self) -> int:
        """How many revocations do not fit."""
        with self._changed:
            return len(self._left_out)

    @property
    def unsaved(self) -> int:
        """How many revocations are not in the file: they wait, could not be written, or do not fit."""
        with self._changed:
            return len(self._waiting) + len(self._left_out)

    def flush(self, *, timeout_s: float) -> bool:
        """Wait until everything that was added before is saved. False: it failed, or takes longer."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            # An attempt that runs now may have begun before the last `add`.
            attempts = self._attempts + 1 + self._is_saving
        while time.monotonic() < end_s:
            with self._changed:
                if not self._waiting and not self._is_saving:
                    return True
                if self._attempts >= attempts and self.error:
                    return False
            time.sleep(_POLL_S)
        return False

    # In the native thread

    def _run(self) -> None:
        is_repair = False
        while True:
            with self._changed:
                while not self._waiting and self._known is None and not self._is_stopping:
                    self._changed.wait()
                known, self._known = self._known, None
            lost = known if known and self._store.is_replaced() else {}
            with self._changed:
                is_repair = is_repair or bool(lost)
                self._waiting = _latest(lost, self._waiting)
                if not self._waiting and self._is_stopping:
                    return
                if not self._waiting:
                    continue
                batch = {**self._left_out, **self._waiting}
                self._waiting, self._left_out = {}, {}
                self._is_saving = True
            error, left_out = self._save(batch)
            with self._changed:
                self._is_saving = False
                self._attempts += 1
                self.error = error
                if not error:
                    self._left_out = left_out
                    self.repairs += is_repair
                    is_repair = False
                    continue
                self._waiting = _latest(batch, self._waiting)
                if self._is_stopping:
                    return
                self._changed.wait(_RETRY_S)

    def _save(self, batch: Mapping[str, float]) -> tuple[str, dict[str, float]]:
        try:
            return "", self._store.save(batch)
        except OSError as error:
            return error.strerror or str(error), {}
        except BadConfig as error:
            return str(error), {}
        except Exception as error:  # noqa: BLE001 - the thread must outlive it; the greenlets log it
            return f"{type(error).__name__}: {error}", {}


def _latest(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Both, each key with its later end."""
    return {**first, **{key: max(end_s, first.get(key, end_s)) for key, end_s in second.items()}}
