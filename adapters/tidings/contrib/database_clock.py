"""The clock of a database, as a version that all backends of this database share. No I/O.

A transaction reads it while it has the row locked. So the versions of one row grow in the order of its transactions,
whatever the clocks of the backends show. A file of SQLite has no clock of its own: there the emitter's clock counts.
"""

from __future__ import annotations

from tidings.models.versions import DATABASE, VersionOfKind

_MYSQL = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
# By the name that SQLAlchemy gives to a dialect, or Django to a vendor. Not now() of PostgreSQL: that is the time at
# which the transaction began.
_QUERIES = {
    "postgresql": "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
    "mssql": "SELECT DATEDIFF_BIG(MICROSECOND, '1970-01-01', SYSUTCDATETIME())",
}


def clock_query(database: str) -> str | None:
    """The query for microseconds since 1970. None: this database has no clock that we know."""
    return _QUERIES.get(database)


def version_at(clock_us: object) -> VersionOfKind:
    """The version of rows that are locked at this time, which the query returned."""
    return VersionOfKind(int(str(clock_us)), DATABASE)
