"""Statements that the driver executes, without SQLAlchemy's own execution, which costs as much as PostgreSQL's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


class DriverStatement:
    """A statement for PostgreSQL that returns one value, and commits. SQLAlchemy builds its text once.

    With psycopg the text has numbered parameters (`$1`), so the driver does not parse it for each execution. Other
    drivers execute it through SQLAlchemy.
    """

    def __init__(self, statement: sa.Select[Any]) -> None:
        self._statement = statement
        psycopg: Any = postgresql.psycopg
        dialect: Any = psycopg.dialect(paramstyle="numeric_dollar")
        compiled: Any = statement.compile(dialect=dialect)
        self._text = str(compiled)
        self._names: list[str] = compiled.positiontup
        # Of constants their values, of parameters None.
        self._constants: dict[str, object] = dict(compiled.params)

    def value(self, connection: sa.Connection, values: Mapping[str, object]) -> Any:
        """Execute it with these parameters, and return the value of its only row. `connection`: in AUTOCOMMIT mode.

        Raises:
            DBAPIError: the database failed. If the connection broke, it is invalidated.
        """
        if connection.dialect.driver != "psycopg":
            return connection.scalar(self._statement, values)
        parameters = {**self._constants, **values}
        dbapi: Any = connection.dialect.dbapi
        driver_connection: Any = connection.connection.driver_connection
        try:
            cursor = dbapi.RawCursor(driver_connection)
            return cursor.execute(self._text, [parameters[name] for name in self._names]).fetchone()[0]
        except dbapi.Error as error:
            is_broken = driver_connection.closed
            if is_broken:
                connection.invalidate()
            raise sa.exc.DBAPIError.instance(
                self._text,
                None,
                error,
                dbapi.Error,
                hide_parameters=True,
                connection_invalidated=is_broken,
                dialect=connection.dialect,
            ) from error
