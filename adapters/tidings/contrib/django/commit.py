"""Publications that wait for the commit of a Django transaction. A rollback, also of a savepoint, discards them."""

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
    """Publish after the transaction of the database `using` is committed, or immediately outside of one.

    Arguments as `Emitter.emit`, without `ack`: no receipt could wait for it. Consecutive publications without a
    savepoint in between go in one batch.

    Raises:
        CallerError: as `Emitter.emit`; TooLarge also for more than `CHANGES_MAX` publications in one transaction.
        BatchFailed: it was not published; only outside of a transaction.
        django.db.transaction.TransactionManagementError: autocommit is off, and there is no `atomic` block.
    """

    def add(batch: Batch) -> None:
        batch.emit(event, data, ack=False, **options)

    publish_on_commit(add, using)


def push_model(obj: object, *, using: str | None = None, **options: Unpack[PushOptions]) -> None:
    """Publish an object's current state after the transaction is committed, or immediately outside of one.

    Raises:
        CallerError: as `Emitter.push_model`; otherwise as `emit`.
    """

    def add(batch: Batch) -> None:
        batch.push_model(obj, **options)

    publish_on_commit(add, using)


def publish_on_commit(add: Callable[[Batch], None], using: str | None) -> None:
    """Call `add` with the batch of the innermost savepoint; outside of a transaction with a batch that is sent now."""
    connection = transaction.get_connection(using)
    if is_open(connection):
        _put(add, connection)
    else:
        with emitter().batch() as batch:
            add(batch)


def is_open(connection: Any) -> bool:
    """Whether a transaction is open. Does not connect to the database, as `get_autocommit` would."""
    manual = connection.connection is not None and not connection.autocommit
    return bool(connection.in_atomic_block or manual)


def _put(add: Callable[[Batch], None], connection: Any) -> None:
    hooks = [(savepoints, hook) for savepoints, hook, _ in connection.run_on_commit if _is_unsent(hook)]
    count = sum(len(hook.batch) for _, hook in hooks)
    if count >= changes_max():
        raise TooLarge(f"{count} publications in one transaction; commit in parts, or raise TIDINGS['CHANGES_MAX']")
    if hooks and hooks[-1][0] == set(connection.savepoint_ids):
        last = hooks[-1][1].batch
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
    """The function that Django calls after the commit, and discards with the savepoint."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.is_sent = False

    def __call__(self) -> None:
        self.is_sent = True
        deliver(self.batch, on_error())


def _is_unsent(function: object) -> bool:
    # Django's captureOnCommitCallbacks calls the functions during a transaction and leaves them in the list.
    return isinstance(function, _CommitHook) and not function.is_sent
