"""Publications that wait for the commit of a Django transaction, and go with the savepoint they were made in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from django.db import transaction

from tidings.batch import Batch
from tidings.contrib.delivery import deliver
from tidings.contrib.django.configured import changes_max, emitter, on_error
from tidings.errors import TooLarge
from tidings.options import EventOptions, PushOptions


def emit(event: str, data: object = None, *, using: str | None = None, **options: Unpack[EventOptions]) -> None:
    """Publish once the transaction of the database `using` is committed, or at once outside of one.

    Arguments as `Emitter.emit`, without `ack`: no receipt could wait for it. Consecutive publications without a
    savepoint in between go in one batch.

    Raises:
        CallerError: as `Emitter.emit`; TooLarge also for more than `CHANGES_MAX` publications in one transaction.
        BatchFailed: it was not taken; only outside of a transaction.
        django.db.transaction.TransactionManagementError: autocommit is off, and there is no `atomic` block.
    """

    def add(batch: Batch) -> None:
        batch.emit(event, data, ack=False, **options)

    publish_on_commit(add, using)


def push_model(obj: object, *, using: str | None = None, **options: Unpack[PushOptions]) -> None:
    """Publish the state that an object has now once the transaction is committed, or at once outside of one.

    Raises:
        CallerError: as `Emitter.push_model`; otherwise as `emit`.
    """

    def add(batch: Batch) -> None:
        batch.push_model(obj, **options)

    publish_on_commit(add, using)


def publish_on_commit(add: Callable[[Batch], None], using: str | None) -> None:
    """Let `add` put its publications into the batch of the innermost savepoint, or into one that is sent at once."""
    connection = transaction.get_connection(using)
    if is_open(connection):
        _put(add, connection)
    else:
        with emitter().batch() as batch:
            add(batch)


def is_open(connection: Any) -> bool:
    """Whether there is a transaction to wait for. Does not connect to the database, as `get_autocommit` would."""
    manual = connection.connection is not None and not connection.autocommit
    return bool(connection.in_atomic_block or manual)


def _put(add: Callable[[Batch], None], connection: Any) -> None:
    waiting = [(savepoints, each) for savepoints, each, _ in connection.run_on_commit if _is_unsent(each)]
    count = sum(len(each.batch) for _, each in waiting)
    if count >= changes_max():
        raise TooLarge(f"{count} publications in one transaction; commit in parts, or raise TIDINGS['CHANGES_MAX']")
    if waiting and waiting[-1][0] == set(connection.savepoint_ids):
        last = waiting[-1][1].batch
        try:
            add(last)
        except TooLarge:
            if not len(last):
                raise
        else:
            return
    batch = emitter().batch().begin()
    add(batch)
    transaction.on_commit(_CommitHook(batch), using=connection.alias)


class _CommitHook:
    """What Django calls after the commit, and forgets with the savepoint."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.is_sent = False

    def __call__(self) -> None:
        self.is_sent = True
        deliver(self.batch, on_error())


def _is_unsent(function: object) -> bool:
    # Django's captureOnCommitCallbacks calls functions in the middle of a transaction, and leaves them in the list.
    return isinstance(function, _CommitHook) and not function.is_sent
