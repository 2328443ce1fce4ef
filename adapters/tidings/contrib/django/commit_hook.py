"""The function that sends a batch after the commit. Errors of other functions do not keep Django from calling it."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any

from tidings.batch import Batch
from tidings.contrib.django.stored import PendingRow, publish_rows

_RUN = "run_and_clear_commit_hooks"


class CommitHook:
    """The function that Django calls after the commit, and discards with the savepoint."""

    def __init__(self, batch: Batch, using: str) -> None:
        self.batch = batch
        self.rows: list[PendingRow] = []
        self.is_sent = False
        self._using = using

    def __call__(self) -> None:
        """Publish the batch, once."""
        if not self.is_sent:
            self.is_sent = True
            publish_rows(self.batch, self.rows, self._using)


def is_unsent(function: object) -> bool:
    """Whether this `on_commit` function is a batch that was not sent yet."""
    # Django's captureOnCommitCallbacks calls the functions during a transaction and leaves them in the list.
    return isinstance(function, CommitHook) and not function.is_sent


def send_also_after_errors(connection: Any) -> None:
    """Let a connection send its batches also if an `on_commit` function raises. Django calls no later one then.

    The order stays, and the error is raised as before. Django has no public place for this: a function that is
    registered with `robust=True` is not called either, once one without it has raised.
    """
    if _RUN in vars(connection):
        return
    # The connection refers to the function: without a circle, it is closed as soon as its thread has ended.
    reference = weakref.ref(connection)

    def run_and_send() -> None:
        current: Any = reference()
        hooks = [function for _, function, _ in current.run_on_commit if is_unsent(function)]
        with ExitStack() as stack:
            if not current.in_atomic_block:
                for hook in reversed(hooks):
                    stack.callback(hook)
            getattr(type(current), _RUN)(current)

    setattr(connection, _RUN, run_and_send)
