"""The relay's statements, built once: SQLAlchemy needs longer to build one than to execute it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tidings.contrib.outbox.driver_statement import DriverStatement
from tidings.contrib.outbox.table import sqlalchemy_module

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Delete, Select, Table, Update


class OutboxStatements:
    """Statements on one table. `shard`: the expression for a row's shard. `data_max`: longer data is read as NULL.

    Parameters: `shards`, `without` (channels that are left out), `first_rows` (the limit), and `row_nos`.
    """

    def __init__(self, table: Table, shard: ColumnElement[int], *, data_max: int) -> None:
        sa = sqlalchemy_module()
        columns = table.c
        self._table, self._columns, self._shard = table, columns, shard
        self._data = sa.case((sa.func.length(columns.data) <= data_max, columns.data), else_=None)
        is_named = columns.row_no.in_(sa.bindparam("row_nos", expanding=True))
        self.delete: Delete = table.delete().where(is_named)
        self.count_attempt: Update = table.update().where(is_named).values(attempts=columns.attempts + 1)
        self.waiting_shards = cache(self._waiting_shards)
        self.rows = cache(self._rows)
        self.driver_rows = cache(self._driver_rows)
        self.driver_delete = cache(self._driver_delete)

    def _waiting_shards(self, *, has_without: bool) -> Select[Any]:
        """The shards of the first waiting rows, one for each row."""
        return self._first(sqlalchemy_module().select(self._shard), has_without=has_without)

    def _rows(self, *, of_all_shards: bool, has_without: bool) -> Select[Any]:
        """The first rows of some shards or of all, in order."""
        sa, columns = sqlalchemy_module(), self._columns
        query = sa.select(
            *(columns.row_no, columns.id, columns.channel, columns.event, self._data, columns.at_ms, columns.attempts)
        )
        if not of_all_shards:
            query = query.where(self._shard.in_(sa.bindparam("shards", expanding=True)))
        return self._first(query, has_without=has_without)

    def _driver_rows(self) -> DriverStatement:
        """The first rows of all shards, for PostgreSQL. Its parameter is `first_rows`."""
        return DriverStatement(self._rows(of_all_shards=True, has_without=False))

    def _driver_delete(self) -> DriverStatement:
        """Delete rows of PostgreSQL. Its parameter `row_nos` is a list."""
        sa = sqlalchemy_module()
        row_nos = sa.bindparam("row_nos", type_=sa.ARRAY(sa.BigInteger))
        return DriverStatement(self._table.delete().where(self._columns.row_no == sa.any_(row_nos)))

    def _first(self, query: Select[Any], *, has_without: bool) -> Select[Any]:
        sa, columns = sqlalchemy_module(), self._columns
        query = query.where(columns.failed.is_(None))
        if has_without:
            query = query.where(columns.channel.not_in(sa.bindparam("without", expanding=True)))
        return query.order_by(columns.row_no).limit(sa.bindparam("first_rows"))
