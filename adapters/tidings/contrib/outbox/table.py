"""The outbox table, and the only import of SQLAlchemy."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

from tidings.drivers import load_driver
from tidings.errors import BadConfig
from tidings.number_checks import shown
from tidings.wire.channels import CHANNEL_MAX, EVENT_MAX, ID_MAX

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

NAME = "tidings_outbox"
# A name that needs no quotes, and is short enough for the names that are derived from it.
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,47}\.)?[A-Za-z_][A-Za-z0-9_]{0,47}\Z")


@cache
def sqlalchemy_module() -> ModuleType:
    """SQLAlchemy, imported at the first use.

    Raises:
        MissingExtra: it is not installed.
    """
    return load_driver("sqlalchemy", "the outbox needs SQLAlchemy: pip install 'tidings[outbox]'", _load_sqlalchemy)


def _load_sqlalchemy() -> ModuleType:
    import sqlalchemy

    return sqlalchemy


def outbox_table(metadata: MetaData, name: str = NAME) -> Table:
    """Add the table to your metadata, so that `create_all` and Alembic's autogenerate include it.

    `row_no` is the order; `id`, `channel`, `event` and `data` (JSON) are the publication; `at_ms` its time in
    milliseconds since 1970, which may be NULL. `failed`: NULL, or the reason why a relay could not publish the row;
    `attempts`: how often it failed.

    Raises:
        BadConfig: the name is not made of letters, digits and `_`, with an optional schema and a dot before it. Or
            `metadata` is none, such as the class of the models instead of its `metadata`.
    """
    _check_name(name)
    sa = sqlalchemy_module()
    if not isinstance(metadata, sa.MetaData):
        raise BadConfig(f"metadata is SQLAlchemy's MetaData, such as Base.metadata, not {shown(metadata)}")
    from sqlalchemy.dialects import mysql

    # MySQL's usual collations treat `a` and `A` as equal. Channels and ids are case-sensitive.
    exact = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}

    def text(length: int) -> object:
        return sa.String(length).with_variant(mysql.VARCHAR(length, **exact), "mysql", "mariadb")

    long = sa.Text().with_variant(mysql.LONGTEXT(**exact), "mysql", "mariadb")
    schema, _, table_name = name.rpartition(".")
    table: Table = sa.Table(
        table_name,
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
        # Numbers of deleted rows must not be reused: a new row would overtake earlier ones.
        sqlite_autoincrement=True,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
    return table


def own_table(name: object) -> Table:
    """The table of this name, in separate metadata.

    Raises:
        BadConfig: as `outbox_table`.
    """
    return _own_table(_check_name(name))


def _check_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.match(name):
        raise BadConfig(f"invalid table name: {shown(name)}; use at most 48 letters, digits and _, or schema.table")
    return name


@lru_cache(maxsize=64)
def _own_table(name: str) -> Table:
    return outbox_table(sqlalchemy_module().MetaData(), name)
