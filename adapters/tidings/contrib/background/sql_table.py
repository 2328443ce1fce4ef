"""The table of jobs in a database of the application."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tidings.contrib.background.job import FUNCTION_MAX, LOCATION_MAX, MESSAGE_MAX
from tidings.contrib.outbox.table import sqlalchemy_module
from tidings.wire.channels import CHANNEL_MAX, ID_MAX

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

NAME = "tidings_job"


def jobs_table(metadata: MetaData, name: str = NAME) -> Table:
    """Add the table to your metadata, so that `create_all` and Alembic's autogenerate include it.

    `user`, `state`, `progress` and `message` are what a page may show; the other columns belong to tidings. `lease_ms`,
    `ended_ms` and `expires_ms` are milliseconds since 1970.
    """
    sa = sqlalchemy_module()
    from sqlalchemy.dialects import mysql

    # MySQL's usual collations treat `a` and `A` as equal. Users are case-sensitive.
    exact: dict[str, Any] = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}

    def text(length: int) -> Any:
        return sa.String(length).with_variant(mysql.VARCHAR(length, **exact), "mysql", "mariadb")

    long_text = sa.Text().with_variant(mysql.LONGTEXT(**exact), "mysql", "mariadb")
    octets = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
    table: Table = sa.Table(
        name,
        metadata,
        sa.Column("id", text(ID_MAX), primary_key=True),
        sa.Column("user", text(CHANNEL_MAX), nullable=False, index=True),
        sa.Column("function", text(FUNCTION_MAX), nullable=False),
        sa.Column("location", text(LOCATION_MAX), nullable=False),
        sa.Column("owner", text(ID_MAX), nullable=False),
        sa.Column("state", text(ID_MAX), nullable=False),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("message", text(MESSAGE_MAX), nullable=False),
        sa.Column("is_cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("request", octets, nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", long_text, nullable=True),
        sa.Column("body", octets, nullable=True),
        sa.Column("failure", long_text, nullable=True),
        # NULL for a job that has ended; the others are few.
        sa.Column("lease_ms", sa.BigInteger(), nullable=True, index=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True, index=True),
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
    return table


@lru_cache(maxsize=8)
def own_jobs_table(name: str = NAME) -> Table:
    """The table of this name, in separate metadata."""
    return jobs_table(sqlalchemy_module().MetaData(), name)
