"""The rows of Django objects as the database has them.

An object knows only what it loaded. Another process, a trigger, `QuerySet.update` or the rest of the transaction may
have changed other columns. So rows are read again after the commit. Their version is the time of the database before
that: of two transactions the one that reads later has the higher version, and what it reads includes the other one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import models, transaction

from tidings.contrib.database_clock import clock_query, version_at
from tidings.models.describe import Op
from tidings.models.versions import EmitterClock, VersionOfKind

# Any: Django has no types. An instance or a class of the application's models.
Instance = Any

ROWS_PER_QUERY = 500
_emitter_clock = EmitterClock()


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row that was saved or deleted. `deleted`: the object as it was, for its publication."""

    model: Any
    key: object
    op: Op
    deleted: Instance | None = None

    @classmethod
    def of(cls, instance: Instance, op: Op) -> ChangedRow:
        """The row of an object that is being saved, or deleted."""
        # Django takes the primary key of a deleted object away.
        return cls(type(instance), key_of(instance), op, copy_of(instance) if op == "deleted" else None)


def clock_version(using: str) -> VersionOfKind:
    """The version of rows that are read after this call: by the database's clock, or by this machine's on SQLite."""
    connection = transaction.get_connection(using)
    query = clock_query(connection.vendor)
    if query is None:
        return _emitter_clock.version()
    with connection.cursor() as cursor:
        cursor.execute(query)
        return version_at(cursor.fetchone()[0])


def read_rows(rows: Iterable[ChangedRow], using: str) -> dict[tuple[Any, object], Instance]:
    """The objects of saved rows that exist, by model and key, with one query per model and 500 rows."""
    keys: dict[Any, list[object]] = {}
    for row in rows:
        if row.deleted is None:
            keys.setdefault(row.model, []).append(row.key)
    return {
        (model, key_of(instance)): instance
        for model, of_model in keys.items()
        for start in range(0, len(of_model), ROWS_PER_QUERY)
        for instance in _manager(model, using).filter(pk__in=of_model[start : start + ROWS_PER_QUERY])
    }


def read_row(instance: Instance, using: str, *, lock: bool = False, no_key: bool = False) -> Instance | None:
    """The object as its row is now; None if there is no row. `lock`: until the end of the transaction.

    `no_key`: other transactions may still refer to the row (PostgreSQL).
    """
    rows = _manager(type(instance), using).filter(pk=instance.pk)
    connection = transaction.get_connection(using)
    can_lock = connection.in_atomic_block and connection.features.has_select_for_update
    if lock and can_lock:
        rows = rows.select_for_update(no_key=no_key and connection.features.has_select_for_no_key_update)
    return rows.first()


def complete(instance: Instance, using: str) -> Instance:
    """The object, read again if values of the database are missing: expressions, deferred and generated columns."""
    if instance._state.adding:  # noqa: SLF001
        return instance
    meta = instance._meta  # noqa: SLF001
    generated = getattr(models, "GeneratedField", ())
    values = (instance.__dict__.get(field.attname) for field in meta.concrete_fields)
    is_incomplete = (
        instance.get_deferred_fields()
        or any(hasattr(value, "resolve_expression") for value in values)
        or any(isinstance(field, generated) for field in meta.concrete_fields)
    )
    return (read_row(instance, using) or instance) if is_incomplete else instance


def key_of(instance: Instance) -> object:
    """The primary key as the database returns it: a number also if it was set as text."""
    key, meta = instance.pk, instance._meta  # noqa: SLF001
    if isinstance(key, tuple):
        return tuple(field.to_python(part) for field, part in zip(meta.pk_fields, key, strict=True))
    return meta.pk.to_python(key)


def copy_of(instance: Instance) -> Instance:
    """A copy that keeps its primary key."""
    model: Any = type(instance)
    copied = model.__new__(model)
    copied.__dict__.update(instance.__dict__)
    return copied


def _manager(model: Any, using: str) -> Any:
    return model._base_manager.using(using)  # noqa: SLF001
