"""Statements that the driver of PostgreSQL executes, without SQLAlchemy, which needs as much CPU as PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidings.contrib.outbox.table import sqlalchemy_module

if TYPE_CHECKING:
    from sqlalchemy import ClauseElement, Connection, Engine


def has_driver_statements(engine: Engine) -> bool:
    """Whether this engine's driver can execute a `DriverStatement`: psycopg from 3.2 on."""
    return engine.dialect.driver == "psycopg" and hasattr(engine.dialect.loaded_dbapi, "RawCursor")


class DriverStatement:
    """A statement for PostgreSQL. SQLAlchemy builds its text once.

    The text has numbered parameters (`$1`), so psycopg does not parse it for each execution.
    """

    def __init__(self, statement: ClauseElement) -> None:
        from sqlalchemy.dialects.postgresql import psycopg

        module: Any = psycopg
        compiled: Any = statement.compile(dialect=module.dialect(paramstyle="numeric_dollar"))
        self._text = str(compiled)
        self._names: list[str] = compiled.positiontup
        # Of constants their values, of parameters None.
        self._constants: dict[str, object] = dict(compiled.params)

    def execute(self, connection: Connection, values: Mapping[str, object]) -> Any:
        """Execute it with these parameters. Returns a cursor. `connection`: in a transaction, or in AUTOCOMMIT mode.

        Raises:
            DBAPIError: the database failed. If the connection broke, it is invalidated.
        """
        parameters = {**self._constants, **values}
        dbapi: Any = connection.dialect.dbapi
        driver_connection: Any = connection.connection.driver_connection
        try:
            return dbapi.RawCursor(driver_connection).execute(self._text, [parameters[name] for name in self._names])
        except dbapi.Error as error:
            is_broken = bool(driver_connection.closed)
            if is_broken:
                connection.invalidate()
            raise sqlalchemy_module().exc.DBAPIError.instance(
                self._text,
                None,
                error,
                dbapi.Error,
                hide_parameters=True,
                connection_invalidated=is_broken,
                dialect=connection.dialect,
            ) from error
