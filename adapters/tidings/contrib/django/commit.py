"""Publications and notifications that wait for the commit of a Django transaction.

A rollback, also of a savepoint, discards them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from django.db import DEFAULT_DB_ALIAS, transaction

from tidings.batch import Batch
from tidings.contrib.changes import explicit_channels
from tidings.contrib.django.commit_hook import CommitHook, is_unsent, send_also_after_errors
from tidings.contrib.django.configured import changes_max, emitter
from tidings.contrib.django.previous import RowBefore
from tidings.contrib.django.rows import ChangedRow, complete
from tidings.contrib.django.stored import PendingRow, publish_object, publish_rows
from tidings.errors import TooLarge
from tidings.models.describe import Op
from tidings.options import EventOptions, NotifyOptions, PushOptions
from tidings.publishers.base import OutgoingPublication


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


def notify(category: str, *, using: str | None = None, **options: Unpack[NotifyOptions]) -> None:
    """Send a notification after the transaction is committed, or immediately outside of one.

    Raises:
        CallerError: as `Emitter.notify`; otherwise as `emit`.
    """

    def add(batch: Batch) -> None:
        batch.notify(category, **options)

    publish_on_commit(add, using)


def push_model(obj: object, *, using: str | None = None, **options: Unpack[PushOptions]) -> None:
    """Publish an object's current state after the transaction is committed, or immediately outside of one.

    Raises:
        CallerError: as `Emitter.push_model`; otherwise as `emit`.
    """
    name = using or DEFAULT_DB_ALIAS
    is_model = hasattr(type(obj), "_meta") and hasattr(obj, "_state")
    present = complete(obj, name) if is_model and options.get("op") != "deleted" else obj

    def add(batch: Batch) -> None:
        batch.push_model(present, **options)

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


def publish_row_on_commit(
    instance: Any, op: Op, using: str, *, reread: bool, previous: RowBefore | None = None
) -> None:
    """Publish a saved or deleted row after the commit, if `reread` as it is then. `previous`: as it was before.

    Raises:
        CallerError: this object cannot be published.
    """
    present = complete(instance, using) if op != "deleted" else instance
    channels = explicit_channels(emitter().rule(type(present)), present)
    if channels == [] and not reread:
        return
    items: list[OutgoingPublication] = []

    def add(batch: Batch) -> None:
        if channels != []:
            items.extend(batch.push_row(present, None, channels=channels, op=op))

    hook = _put(add, transaction.get_connection(using))
    if reread:
        hook.rows.append(PendingRow(ChangedRow.of(instance, op), items, previous))


def publish_stored_row(instance: Any, op: Op, using: str, *, reread: bool, previous: RowBefore | None = None) -> None:
    """Publish a row that is already committed. Errors are passed to `on_error`."""
    batch = emitter().batch().begin()
    if reread:
        publish_rows(batch, [PendingRow(ChangedRow.of(instance, op), [], previous)], using)
    else:
        publish_object(batch, instance, op, using)


def _put(add: Callable[[Batch], None], connection: Any) -> CommitHook:
    hooks = [(savepoints, hook) for savepoints, hook, _ in connection.run_on_commit if is_unsent(hook)]
    count = sum(len(hook.batch) for _, hook in hooks)
    if count >= changes_max():
        raise TooLarge(f"{count} publications in one transaction; commit in parts, or raise TIDINGS['CHANGES_MAX']")
    # None stands for an `atomic(savepoint=False)`, which shares the fate of the block around it: a delete is one.
    if hooks and hooks[-1][0] - {None} == set(connection.savepoint_ids) - {None}:
        last: CommitHook = hooks[-1][1]
        try:
            add(last.batch)
        except TooLarge:
            if not len(last.batch):
                raise
        else:
            return last
    hook = CommitHook(emitter().batch().begin(), connection.alias)
    add(hook.batch)
    send_also_after_errors(connection)
    transaction.on_commit(hook, using=connection.alias)
    return hook
