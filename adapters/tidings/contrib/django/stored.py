"""Publications of rows that are committed, as the database has them. From here on nothing raises."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from django.db import Error, models

from tidings.batch import Batch
from tidings.contrib.changes import combine, explicit_channels
from tidings.contrib.delivery import deliver
from tidings.contrib.django.configured import emitter, on_error
from tidings.contrib.django.previous import RowBefore, previous_of
from tidings.contrib.django.rows import ChangedRow, clock_version, complete, read_rows
from tidings.errors import BadRequest, TidingsError, Unavailable
from tidings.models.describe import Op
from tidings.models.versions import VersionOfKind
from tidings.publishers.base import OutgoingPublication

_logger = logging.getLogger("tidings")


@dataclass(slots=True)
class PendingRow:
    """A changed row whose publications, as they were before the commit, have their place in a batch.

    `previous`: the row as it was before, if the change may have moved it to other channels.
    """

    row: ChangedRow
    items: list[OutgoingPublication]
    previous: RowBefore | None = None


def publish_rows(batch: Batch, pending: Sequence[PendingRow], using: str) -> None:
    """Replace the publications of rows in a batch by those of the rows as they are now, and send the batch.

    One publication per row; none for a row that was created and deleted. Errors are passed to `on_error`, after the
    other publications were sent.
    """
    errors: list[TidingsError] = []
    rows = _combined(batch, pending)
    try:
        version = clock_version(using) if any(_needs_clock(change.row.model) for change in rows) else None
        instances = _read(rows, using, errors)
    except Error as error:
        for change in rows:
            batch.replace(change.items, [])
        errors.append(_unread(error))
        rows = []
    for change in rows:
        try:
            items = _present_items(batch, change, instances, version)
        except TidingsError as error:
            items = []
            errors.append(error)
        batch.replace(change.items, items)
    with ExitStack() as stack:
        # Each error is reported even if on_error raises for another one.
        for failure in reversed(errors):
            stack.callback(on_error(), failure, emitter().batch())
        stack.callback(deliver, batch, on_error())


def _read(rows: Sequence[PendingRow], using: str, errors: list[TidingsError]) -> dict[tuple[Any, object], Any]:
    """The objects of saved rows by model and key. None: the application's own code could not load it.

    Raises:
        django.db.Error: the database failed.
    """
    changed = [change.row for change in rows]
    try:
        return read_rows(changed, using)
    except Error:
        raise
    except Exception:  # noqa: BLE001
        # A field, a manager or a receiver of `post_init` raised. One by one, so that the other rows are published.
        instances: dict[tuple[Any, object], Any] = {}
        for row in changed:
            try:
                instances |= read_rows([row], using)
            except Error:
                raise
            except Exception as error:  # noqa: BLE001
                instances[row.model, row.key] = None
                errors.append(_unread(error))
        return instances


def _unread(error: Exception) -> TidingsError:
    if isinstance(error, Error):
        return Unavailable(f"the committed rows could not be read again: {type(error).__name__}")
    return BadRequest(f"a committed row could not be read again: {error!r:.100}")


def publish_object(batch: Batch, instance: Any, op: Op, using: str) -> None:
    """Publish an object whose row is committed, with the values that it has. Errors are passed to `on_error`."""
    try:
        present = complete(instance, using) if op != "deleted" else instance
    except Exception as error:  # noqa: BLE001
        on_error()(_unread(error), batch)
        return
    try:
        batch.replace([], _built(batch, present, op, None))
    except TidingsError as error:
        on_error()(error, batch)
    else:
        deliver(batch, on_error())


def _built(batch: Batch, instance: Any, op: Op, version: VersionOfKind | None) -> list[OutgoingPublication]:
    """The publications of a row.

    Raises:
        CallerError: it cannot be published, or the application's own code raised.
    """
    try:
        channels = explicit_channels(emitter().rule(type(instance)), instance)
        return [] if channels == [] else batch.build_row(instance, version, channels=channels, op=op)
    except TidingsError:
        raise
    except Exception as error:
        raise BadRequest(
            f"channels, version or to_dict() of {type(instance).__name__} raised {error!r:.100}"
        ) from error


def _present_items(
    batch: Batch, change: PendingRow, instances: dict[tuple[Any, object], Any], version: VersionOfKind | None
) -> list[OutgoingPublication]:
    """The publications of a row as it is now, and of its deletion in channels that it has left.

    Raises:
        CallerError: it cannot be published.
    """
    row, key = change.row, (change.row.model, change.row.key)
    if row.op == "deleted":
        # A row that was moved and then deleted: its new channels have never shown it.
        items = [] if change.previous else _built(batch, row.deleted, row.op, version)
        return items + _departures(batch, row.deleted, items, change.previous, version)
    if key not in instances:
        _logger.warning("a row of %s was not published: it is not in the database after its commit", row.model.__name__)
        return _departures(batch, None, [], change.previous, version)
    if instances[key] is None:
        # It could not be read, which was reported.
        return []
    items = _built(batch, instances[key], row.op, version)
    return items + _departures(batch, instances[key], items, change.previous, version)


def _departures(
    batch: Batch,
    present: Any,
    items: Sequence[OutgoingPublication],
    previous: RowBefore | None,
    version: VersionOfKind | None,
) -> list[OutgoingPublication]:
    """The deletions of a row in channels that it has left. `present`: None if the row is gone."""
    if previous is None:
        return []
    channels = [name for name in previous.channels if all(item.channel != name for item in items)]
    try:
        latest = previous.obj if present is None else present
        return batch.build_departure(previous.obj, latest, version, channels) if channels else []
    except Exception as error:  # noqa: BLE001
        # The values from before cannot be published. From here on nothing raises.
        shown, name = ", ".join(channels)[:300], type(previous.obj).__name__
        _logger.warning("lists of %s may keep a %s that has left: %s", shown, name, repr(error)[:200])
        return []


def _combined(batch: Batch, pending: Sequence[PendingRow]) -> list[PendingRow]:
    """One change per row, in the place of the first."""
    combined: dict[tuple[Any, object], tuple[PendingRow, Op | None]] = {}
    for change in pending:
        # A proxy has the rows of its model.
        key = (change.row.model._meta.concrete_model, change.row.key)  # noqa: SLF001
        if key not in combined:
            combined[key] = (change, change.row.op)
            continue
        first, op = combined[key]
        previous = first.previous or _replaced(first.row) or change.previous
        combined[key] = (PendingRow(change.row, first.items, previous), combine(op, change.row.op))
        batch.replace(change.items, [])
    for change, op in combined.values():
        if op is None:
            batch.replace(change.items, [])
    return [
        PendingRow(
            ChangedRow(change.row.model, change.row.key, op, change.row.deleted if op == "deleted" else None),
            change.items,
            None if op == "created" else change.previous,
        )
        for change, op in combined.values()
        if op is not None
    ]


def _replaced(row: ChangedRow) -> RowBefore | None:
    """A deleted object, in whose place another one may have been stored."""
    return None if row.deleted is None else previous_of(row.deleted, emitter().rule(row.model))


def _needs_clock(model: Any) -> bool:
    """Whether rows of this model may have no version of their own."""
    counters = (field for field in model._meta.concrete_fields if field.attname == "version")  # noqa: SLF001
    counts = any(isinstance(field, models.IntegerField) and not field.null for field in counters)
    return not counts and emitter().rule(model).version is None
