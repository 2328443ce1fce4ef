"""What the outbox rejects: binds that cannot be written to at once, text in SQLite that is not UTF-8, URL options."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine

from tidings.contrib.background.bounds import JobBounds
from tidings.contrib.background.open_store import open_store
from tidings.contrib.outbox import Outbox, Relay, outbox_table
from tidings.errors import BadConfig, BadRequest
from tidings.publishers.memory.publisher import MemoryPublisher
from tidings.publishers.memory.store import MemoryStore
from tidings.wire.publication import Publication
from tidings_notifications.store.database import Database


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with an empty outbox."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    outbox_table(metadata := sa.MetaData())
    metadata.create_all(engine := sa.create_engine(url))
    engine.dispose()
    return url


NO_NAMES: list[Any] = [None, b"orders", 7, ["orders"], {}, "", "a b", object()]


@pytest.mark.parametrize("name", NO_NAMES, ids=lambda name: type(name).__name__)
def test_what_is_no_name_of_a_table_is_a_wrong_setting(url: str, name: Any) -> None:
    with sa.create_engine(url).connect() as connection:
        calls: list[Callable[[], object]] = [
            lambda: outbox_table(sa.MetaData(), name),
            lambda: Outbox(connection, table=name),
            lambda: Relay(url, MemoryPublisher("memory://x"), table=name),
        ]
        for call in calls:
            with pytest.raises(BadConfig, match="invalid table name"):
                call()


def test_other_arguments_of_an_outbox_are_checked(url: str) -> None:
    with pytest.raises(BadConfig, match=r"Base\.metadata"):
        outbox_table(object())  # type: ignore[arg-type]
    with (
        sa.create_engine(url).connect() as connection,
        pytest.raises(BadConfig, match="publication_max_bytes"),
    ):
        Outbox(connection, publication_max_bytes=["1"])  # type: ignore[arg-type]


def test_binds_of_asyncio_are_rejected_where_they_are_given(url: str) -> None:
    """`execute` of an AsyncConnection returns a coroutine: the outbox would return an id without a row."""

    async def run() -> None:
        engine = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))
        scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
        async with engine.begin() as connection, AsyncSession(engine) as session:
            for bind in (connection, session, scoped):
                with pytest.raises(BadRequest, match="run_sync"):
                    Outbox(bind)  # type: ignore[arg-type]
            await connection.run_sync(lambda blocking: Outbox(blocking).emit("e", 1, channel="a:1"))
        await scoped.remove()
        await engine.dispose()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(run())
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM tidings_outbox")) == 1
        cursor = connection.connection.cursor()
        with pytest.raises(BadRequest, match="not a connection or a session of SQLAlchemy"):
            Outbox(cursor)  # type: ignore[arg-type]
        cursor.close()
    engine.dispose()


def test_text_that_is_not_utf8_is_rejected_and_other_rows_are_published(url: str) -> None:
    """SQLite stores any bytes as text, and reading one such row fails the whole query."""
    engine = sa.create_engine(url)
    values = ["'a', 'a:1', 'e', CAST(x'22ff22' AS TEXT)", "'b', CAST(x'61ff' AS TEXT), 'e', '1'"]
    values += ["CAST(x'61ff' AS TEXT), 'a:1', 'e', '1'", "'d', 'a:1', CAST(x'ff' AS TEXT), '1'", "'e', 'a:1', 'e', '5'"]
    with engine.begin() as connection:
        for row in values:
            connection.exec_driver_sql(f"INSERT INTO tidings_outbox (id, channel, event, data) VALUES ({row})")
    published: list[Publication] = []
    broker = MemoryStore()
    broker.write_rules({"a": (1000, 600)})
    broker.add_listener(published.append)
    with Relay(url, MemoryPublisher(store=broker)) as relay:
        assert relay.once()
    assert [publication.to_wire()["data"] for publication in published] == [5]
    with engine.connect() as connection:
        reasons = connection.scalars(sa.text("SELECT failed FROM tidings_outbox ORDER BY row_no")).all()
    assert [reason.partition(":")[0] for reason in reasons] == ["bad_data", "bad_channel", "bad_id", "bad_event"]
    engine.dispose()


@pytest.mark.parametrize(
    ("query", "cause"),
    [
        ("sslmode=require", "has no option sslmode"),
        ("charset=latin99", "cannot use an option"),
        ("ssl_ca=/no/such/file.pem", "No such file"),
        ("ssl=true", "cannot use an option"),
        ("port=first", "cannot use an option"),
        ("read_default_file=/etc/passwd", "cannot use an option"),
        ("connect_timeout=1&connect_timeout=2", "twice"),
        # The end of a password.
        ("secret@db/shop=1", "cannot use an option"),
    ],
)
def test_option_that_the_driver_cannot_use_is_a_wrong_setting(query: str, cause: str) -> None:
    url = f"mysql://shop:pw@127.0.0.1:1/shop?{query}"
    with pytest.raises(BadConfig, match=cause) as of_outbox, Relay(url, MemoryPublisher()) as relay:
        relay.once()
    with pytest.raises(BadConfig, match=cause):
        open_store(url, JobBounds(), prefix="tidings:").read("x")
    with pytest.raises(BadConfig, match=cause):
        Database(url).read(lambda connection: connection.scalar(sa.text("SELECT 1")))
    assert "secret" not in str(of_outbox.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite+aiosqlite:///shop.db",
        "postgresql+psycopg_async://127.0.0.1:1/shop",
        "postgresql+asyncpg://127.0.0.1:1/shop",
    ],
)
def test_driver_for_asyncio_is_a_wrong_setting(url: str) -> None:
    for use in (
        lambda: Relay(url, MemoryPublisher()),
        lambda: open_store(url, JobBounds(), prefix="tidings:"),
        lambda: Database(url),
    ):
        with pytest.raises(BadConfig, match=r"is for asyncio; write (sqlite|postgresql)://"):
            use()


def test_values_that_sqlite_cannot_use_and_several_hosts_of_postgresql() -> None:
    with pytest.raises(BadConfig, match="twice"):
        Database("sqlite:///shop.db?timeout=1&timeout=2")
    with pytest.raises(BadConfig, match="cannot use an option"):
        open_store("sqlite:///shop.db?detect_types=99999999999999999999", JobBounds(), prefix="tidings:").read("x")
    with pytest.raises(BadConfig, match="cannot open"):
        Database("sqlite:///shop\0.db")
    Database("postgresql://shop:pw@/shop?host=127.0.0.1:1&host=127.0.0.1:2").close()
