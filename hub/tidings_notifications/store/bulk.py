"""Statements on many rows. PostgreSQL receives all of them as one value, so the number of rows costs it no parsing.

With one parameter per value, most of a batch's time went into the parameters. The text of these statements is always
the same, so PostgreSQL also keeps their plans.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

Rows = Sequence[Mapping[str, object]]


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
    """Insert rows, in order. All have the same keys, the names of columns."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(_insert_from_json(table, tuple(rows[0])), {"rows": to_json(rows)})
    else:
        connection.execute(table.insert(), rows)


def update_rows_from_json(connection: sa.Connection, table: sa.Table, rows: Rows) -> None:
    """Update rows of PostgreSQL by their primary key. All have the same keys: it, and the columns to write."""
    if rows:
        connection.execute(_update_from_json(table, tuple(rows[0])), {"rows": to_json(rows)})


def is_one_of(connection: sa.Connection, column: sa.Column[Any], values: Collection[str]) -> sa.ColumnElement[bool]:
    """The condition that a column of text or ids has one of these values."""
    if connection.dialect.name != "postgresql":
        return column.in_(values)
    # As text: SQLAlchemy would make an object of each id.
    array: sa.ColumnElement[Any] = sa.bindparam(None, list(values), type_=postgresql.ARRAY(sa.Text))
    if isinstance(column.type, sa.Uuid):
        array = sa.cast(array, postgresql.ARRAY(column.type))
    return column == sa.any_(array)


@lru_cache(maxsize=16)
def _insert_from_json(table: sa.Table, names: tuple[str, ...]) -> sa.Insert:
    # The function returns the rows in the order of the array, and in that order they receive their numbers.
    return table.insert().from_select(names, sa.select(*rows_from_json(table, names).c))


@lru_cache(maxsize=16)
def _update_from_json(table: sa.Table, names: tuple[str, ...]) -> sa.Update:
    record = rows_from_json(table, names)
    (key,) = table.primary_key
    changes = {name: record.c[name] for name in names if name != key.name}
    return table.update().where(key == record.c[key.name]).values(changes)


def rows_from_json(table: sa.Table, names: Sequence[str], *more: sa.ColumnClause[Any], parameter: str = "rows") -> Any:
    """The rows of a parameter of `to_json`, as a table of PostgreSQL. `more`: columns that the table does not have."""
    columns = [sa.column(name, table.c[name].type) for name in names]
    rows = sa.bindparam(parameter, type_=sa.Text)
    return (
        sa.func.json_to_recordset(sa.cast(rows, postgresql.JSON))
        .table_valued(*columns, *more)
        .render_derived(name=f"new_{parameter}", with_types=True)
    )


def to_json(rows: Rows) -> str:
    """Rows as the value of a parameter."""
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
