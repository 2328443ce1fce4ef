"""The table of the outbox, and the one place where SQLAlchemy is imported."""

from __future__ import annotations

import re
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

from tidings.errors import BadConfig, MissingExtra
from tidings.wire.channels import CHANNEL_MAX, EVENT_MAX, ID_MAX

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

NAME = "tidings_outbox"
# A name that needs no quotes anywhere, and leaves room for what is made of it.
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,47}\.)?[A-Za-z_][A-Za-z0-9_]{0,47}\Z")


def sqlalchemy_module() -> ModuleType:
    """SQLAlchemy, imported when it is first needed.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import sqlalchemy
    except ImportError as error:
        raise MissingExtra("the outbox needs SQLAlchemy: pip install 'tidings[outbox]'") from error
    return sqlalchemy


def outbox_table(metadata: MetaData, name: str = NAME) -> Table:
    """The table, as a part of your metadata: `create_all` and Alembic's autogenerate know it from then on.

    `row_no` is the order; `id`, `channel`, `event` and `data` (JSON) are the publication; `at_ms` its time in
    milliseconds since 1970, which may be missing. `failed`: NULL, or why a relay put the row aside; `attempts`: how
    often.

    Raises:
        BadConfig: not a name of letters, digits and `_`, with the schema's name and a dot before it if you like.
    """
    if not _NAME.match(name):
        raise BadConfig(f"not a table's name: {name!a:.60}; letters, digits and _, at most 48, or schema.table")
    sa = sqlalchemy_module()
    from sqlalchemy.dialects import mysql

    # MySQL's usual collations hold `a` and `A` for equal: channels and ids do not.
    exact = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}

    def text(length: int) -> object:
        return sa.String(length).with_variant(mysql.VARCHAR(length, **exact), "mysql", "mariadb")

    long = sa.Text().with_variant(mysql.LONGTEXT(**exact), "mysql", "mariadb")
    schema, _, own = name.rpartition(".")
    made: Table = sa.Table(
        own,
        metadata,
        sa.Column(
            "row_no",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("id", text(ID_MAX), nullable=False),
        sa.Column("channel", text(CHANNEL_MAX), nullable=False),
        sa.Column("event", text(EVENT_MAX), nullable=False),
        sa.Column("data", long, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("failed", sa.Text(), nullable=True),
        schema=schema or None,
        # Numbers of deleted rows must not come again: a row would pass those before it.
        sqlite_autoincrement=True,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
    return made


@lru_cache(maxsize=64)
def own_table(name: str) -> Table:
    """The table by its name, in a metadata of its own."""
    return outbox_table(sqlalchemy_module().MetaData(), name)
