"""`autopush` with real sessions on SQLite and a real Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, ForeignKey, create_engine, delete, event, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, scoped_session, sessionmaker

from support.network.http_hub import API_KEY, HttpHub
from support.ports import free_port
from support.programs.example_programs import PublishedHistory, program_of, run_program
from tidings.async_emitter import AsyncEmitter
from tidings.contrib.delivery import raise_error
from tidings.contrib.sqlalchemy import autopush
from tidings.emitter import Emitter
from tidings.errors import BadChannel, BadConfig, TooLarge
from tidings.receipts import BatchFailed


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    __channels__: ClassVar[list[str]] = ["orders:{id}", "orders:all"]

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="new")
    changes: Mapped[int] = mapped_column(server_default="1", onupdate=func.abs(-7))
    lines: Mapped[list[Line]] = relationship(cascade="all, delete-orphan")


class Line(Base):
    __tablename__ = "lines"
    __channels__ = "orders:lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", deferrable=True, initially="DEFERRED"))


class Secret(Base):
    __tablename__ = "secrets"

    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def emitter(published: PublishedHistory) -> Iterator[Emitter]:
    with Emitter(published.url, prefix=published.prefix) as emitter:
        yield emitter


@pytest.fixture
def maker(engine: Engine, emitter: Emitter) -> sessionmaker[Session]:
    maker = sessionmaker(engine)
    autopush(maker, emitter)
    return maker


class TestCommit:
    def test_created_updated_and_deleted(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker() as session:
            order = Order(id=1)
            session.add_all([order, Secret(id=1)])
            session.commit()
            order.status = "paid"
            session.commit()
            # Expired by the commit: what is told of it has to be read before the row goes.
            session.delete(order)
            session.commit()
        assert published.ops("orders:1") == [
            ("created", {"id": 1, "status": "new", "changes": 1}),
            ("updated", {"id": 1, "status": "paid", "changes": 7}),
            ("deleted", {"id": 1, "status": "paid", "changes": 7}),
        ]
        assert [data["class"] for data in published.data("orders:all")] == ["Order"] * 3
        versions = [data["version"] for data in published.data("orders:1")]
        assert versions == sorted(set(versions))

    def test_nobody_is_told_before(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker() as session:
            session.add(Order(id=1))
            session.flush()
            assert published.data("orders:1") == []
            session.commit()
            assert len(published.data("orders:1")) == 1

    def test_when_told_others_see_it(
        self, maker: sessionmaker[Session], engine: Engine, published: PublishedHistory
    ) -> None:
        seen = []

        def look(error: object, batch: object) -> None:
            with Session(engine) as other:
                seen.append(other.get(Order, 1) is not None)

        nowhere = sessionmaker(engine)
        with Emitter(f"redis://127.0.0.1:{free_port()}/0", timeout_s=0.05) as lost:
            autopush(nowhere, lost, on_error=look)
            with nowhere.begin() as session:
                session.add(Order(id=1))
        assert seen == [True]

    def test_values_as_of_the_commit_and_one_push_per_row(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        with maker.begin() as session:
            order = Order(id=1)
            session.add(order)
            session.flush()
            for status in ("packed", "shipped"):
                order.status = status
                session.flush()
            session.execute(update(Order).values(status="by hand"))
        assert published.ops("orders:1") == [("created", {"id": 1, "status": "by hand", "changes": 7})]

    def test_what_came_and_went_is_not_told(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker.begin() as session:
            order = Order(id=1)
            session.add(order)
            session.flush()
            session.delete(order)
        assert published.data("orders:1") == []

    def test_what_did_not_change_is_not_told(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker.begin() as session:
            session.add(Order(id=1))
        with maker.begin() as session:
            order = session.get_one(Order, 1)
            order.status = "new"
            order.lines.append(Line(id=5))
        assert len(published.data("orders:1")) == 1
        assert published.ops("orders:lines") == [("created", {"id": 5, "order_id": 1})]

    def test_cascades_and_orphans(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker.begin() as session:
            session.add(Order(id=1, lines=[Line(id=1), Line(id=2)]))
        with maker.begin() as session:
            order = session.get_one(Order, 1)
            del order.lines[0]
        with maker.begin() as session:
            session.delete(session.get_one(Order, 1))
        assert [(op, model["id"]) for op, model in published.ops("orders:lines")] == [
            *(("created", 1), ("created", 2)),
            *(("deleted", 1), ("deleted", 2)),
        ]

    def test_bulk_operations_are_not_seen(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker.begin() as session:
            session.bulk_insert_mappings(Order.__mapper__, [{"id": 1}])
        with maker.begin() as session:
            session.execute(update(Order).values(status="x"))
        with maker() as session:
            order = session.get_one(Order, 1)
            session.expire(order, ["status"])
            session.execute(delete(Order).where(Order.id == 1))
            # It was found in the session, but cannot be said any more: no reason to fail.
            assert order not in session
            session.commit()
        assert published.data("orders:all") == []

    def test_a_change_before_a_bulk_delete(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker.begin() as session:
            session.add_all([Order(id=1), Line(id=1, order_id=1)])
            session.flush()
            session.execute(delete(Line))
        assert published.ops("orders:lines") == []
        assert len(published.ops("orders:1")) == 1

    def test_in_the_order_of_their_creation(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        numbers = [*range(20, 0, -1)]
        with maker.begin() as session:
            session.add_all([Order(id=number) for number in numbers])
        with maker.begin() as session:
            for number in numbers:
                session.delete(session.get_one(Order, number))
        assert [model["id"] for _, model in published.ops("orders:all")] == numbers * 2

    def test_what_another_listener_changes_at_the_last_moment(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        @event.listens_for(maker, "before_commit")
        def sign(session: Session) -> None:
            for obj in session:
                if isinstance(obj, Order):
                    obj.status = "signed"

        with maker.begin() as session:
            session.add(Order(id=1))
        assert [model["status"] for _, model in published.ops("orders:1")] == ["signed"]


class TestRollback:
    def test_of_the_transaction(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker() as session:
            session.add(Order(id=1))
            session.flush()
            session.rollback()
            session.add(Order(id=2))
            session.flush()
        with maker() as session:
            session.add(Order(id=3))
            session.commit()
        assert [model["id"] for _, model in published.ops("orders:all")] == [3]

    def test_of_a_savepoint(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker() as session:
            order = Order(id=1)
            session.add(order)
            with session.begin_nested():
                order.status = "kept"
            with session.begin_nested() as savepoint:
                order.status = "undone"
                session.add(Order(id=2))
                with session.begin_nested():
                    session.add(Order(id=3))
                savepoint.rollback()
            session.commit()
        assert [(op, model["id"], model["status"]) for op, model in published.ops("orders:all")] == [
            ("created", 1, "kept")
        ]

    def test_after_a_released_savepoint(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker() as session:
            with session.begin_nested():
                session.add(Order(id=1))
            session.rollback()
        assert published.data("orders:all") == []

    def test_a_commit_over_the_head_of_a_savepoint(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        with maker() as session:
            transaction = session.begin()
            session.begin_nested()
            session.add(Order(id=1))
            transaction.commit()
            assert session.scalar(select(func.count()).select_from(Order)) == 1
        assert [model["id"] for _, model in published.ops("orders:all")] == [1]

    def test_a_commit_that_the_database_refuses(
        self, maker: sessionmaker[Session], engine: Engine, published: PublishedHistory
    ) -> None:
        @event.listens_for(engine, "connect")
        def check(connection: Any, _record: object) -> None:
            connection.execute("PRAGMA foreign_keys = ON")

        engine.dispose()
        with maker() as session:
            session.add_all([Order(id=1), Line(id=1, order_id=404)])
            session.flush()
            with pytest.raises(IntegrityError):
                session.commit()
            session.rollback()
            session.add(Order(id=2))
            session.commit()
        assert published.data("orders:lines") == []
        assert [model["id"] for _, model in published.ops("orders:all")] == [2]

    def test_a_commit_that_fails(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        @event.listens_for(maker, "before_commit")
        def refuse(_session: Session) -> None:
            raise RuntimeError("no")

        with maker() as session:
            session.add(Order(id=1))
            with pytest.raises(RuntimeError):
                session.commit()
        assert published.data("orders:all") == []


class TestErrors:
    @pytest.fixture
    def lost(self) -> Iterator[Emitter]:
        with Emitter(f"redis://127.0.0.1:{free_port()}/0", timeout_s=0.05) as emitter:
            yield emitter

    def test_are_logged_once(self, engine: Engine, lost: Emitter, caplog: pytest.LogCaptureFixture) -> None:
        with Session(engine) as session:
            autopush(session, lost)
            session.add_all([Order(id=1), Order(id=2)])
            with caplog.at_level(logging.ERROR, "tidings"):
                session.commit()
            assert session.get_one(Order, 1).status == "new"
        assert len(caplog.records) == 1
        assert "orders:1, orders:all, orders:2: 4 of 4 publications were not taken" in caplog.text

    def test_raised_by_choice_they_leave_the_session_usable(self, engine: Engine, lost: Emitter) -> None:
        with Session(engine) as session:
            autopush(session, lost, on_error=raise_error)
            session.add(Order(id=1))
            with pytest.raises(BatchFailed):
                session.commit()
            assert not session.in_transaction()
            assert session.get_one(Order, 1).status == "new"
        maker = sessionmaker(engine)
        autopush(maker, lost, on_error=raise_error)
        with pytest.raises(BatchFailed), maker.begin() as session:
            session.add(Order(id=2))
        with Session(engine) as session:
            assert session.get(Order, 2) is not None

    def test_of_an_object_fail_the_commit(self, engine: Engine, emitter: Emitter, published: PublishedHistory) -> None:
        emitter.register(Order, channels="orders:{status}")
        maker = sessionmaker(engine)
        autopush(maker, emitter)
        with pytest.raises(BadChannel), maker.begin() as session:
            session.add_all([Order(id=1), Order(id=2, status="")])
        with Session(engine) as session:
            assert session.get(Order, 1) is None
        assert published.data("orders:new") == []

    def test_too_many_rows(self, engine: Engine, emitter: Emitter, published: PublishedHistory) -> None:
        maker = sessionmaker(engine)
        autopush(maker, emitter, changes_max=10)
        with pytest.raises(TooLarge, match="changes_max"), maker.begin() as session:
            session.add_all([Order(id=number) for number in range(1, 12)])
        with maker.begin() as session:
            session.info["autopush"] = False
            session.add_all([Order(id=number) for number in range(1, 12)])
        assert published.data("orders:all") == []

    def test_the_wrong_kind_of_emitter(self, engine: Engine, emitter: Emitter, published: PublishedHistory) -> None:
        with pytest.raises(BadConfig, match="AsyncEmitter"):
            autopush(async_sessionmaker(), emitter)
        maker = sessionmaker(engine)
        autopush(maker, AsyncEmitter(published.url, prefix=published.prefix))
        with pytest.raises(BadConfig, match="use an Emitter"), maker.begin() as session:
            session.add(Order(id=1))


class TestChoice:
    def test_only_these_models(self, engine: Engine, emitter: Emitter, published: PublishedHistory) -> None:
        maker = sessionmaker(engine)
        autopush(maker, emitter, models=[Line])
        with maker.begin() as session:
            session.add(Order(id=1, lines=[Line(id=1)]))
        assert published.data("orders:all") == []
        assert len(published.data("orders:lines")) == 1

    def test_a_registered_function_may_name_no_channel(
        self, engine: Engine, emitter: Emitter, published: PublishedHistory
    ) -> None:
        def channels(obj: Secret) -> list[str] | str:
            return [] if obj.id == 1 else "orders:secret"

        emitter.register(Secret, channels=channels)
        maker = sessionmaker(engine)
        autopush(maker, emitter)
        with maker.begin() as session:
            session.add_all([Secret(id=1), Secret(id=2)])
        assert published.ops("orders:secret") == [("created", {"id": 2})]

    def test_a_scoped_session_and_an_emitter_that_is_made_later(
        self, engine: Engine, published: PublishedHistory
    ) -> None:
        made: list[Emitter] = []
        scoped = scoped_session(sessionmaker(engine))
        autopush(scoped, lambda: made[0])
        with Emitter(published.url, prefix=published.prefix) as emitter:
            made.append(emitter)
            scoped.add(Order(id=1))
            scoped.commit()
            scoped.remove()
        assert len(published.data("orders:1")) == 1

    def test_one_batch_per_commit_or_as_few_as_there_can_be(self, engine: Engine) -> None:
        with HttpHub() as hub, Emitter(hub.url, api_key=API_KEY, batch_max=5) as emitter:
            maker = sessionmaker(engine)
            autopush(maker, emitter)
            with maker.begin() as session:
                session.add_all([Order(id=1), Order(id=2)])
            assert [len(request) for request in hub.requests] == [4]
            with maker.begin() as session:
                session.add_all([Order(id=number) for number in range(3, 8)])
            assert [len(request) for request in hub.requests] == [4, 4, 4, 2]


class TestAsync:
    @pytest.mark.parametrize("kind", ["maker", "scoped", "session", "inner"])
    def test_commit_rollback_and_savepoint(self, kind: str, engine: Engine, published: PublishedHistory) -> None:
        async def run() -> None:
            async_engine = create_async_engine(str(engine.url).replace("sqlite:", "sqlite+aiosqlite:"))
            maker = async_sessionmaker(async_engine)
            async with AsyncEmitter(published.url, prefix=published.prefix) as emitter:
                target: Any = maker
                if kind == "scoped":
                    target = async_scoped_session(maker, scopefunc=asyncio.current_task)
                if kind in {"maker", "scoped"}:
                    autopush(target, emitter)
                async with maker() as session:
                    if kind in {"session", "inner"}:
                        autopush(session if kind == "session" else session.sync_session, emitter)
                    await self._work(session)
                async with async_sessionmaker(async_engine).begin() as session:
                    session.add(Order(id=9))
            await async_engine.dispose()

        asyncio.run(run())
        assert [(op, model["id"], model["changes"]) for op, model in published.ops("orders:all")] == [
            *(("created", 1, 1), ("updated", 1, 7), ("deleted", 1, 7)),
        ]

    async def _work(self, session: AsyncSession) -> None:
        order = Order(id=1)
        session.add(order)
        async with session.begin_nested() as savepoint:
            session.add(Order(id=2))
            await savepoint.rollback()
        await session.commit()
        session.add(Order(id=3))
        await session.flush()
        await session.rollback()
        await session.refresh(order)
        order.status = "paid"
        await session.commit()
        await session.delete(order)
        await session.commit()


def test_greenlet_is_only_for_asyncio(published_by_default: PublishedHistory, tmp_path: Path) -> None:
    without = "import sys\nsys.modules['greenlet'] = None\n"
    run_program(without + program_of("sqlalchemy.md"), published_by_default.url, tmp_path)
    assert len(published_by_default.ops("orders:42")) == 2


def test_the_program_of_the_page(published_by_default: PublishedHistory, tmp_path: Path) -> None:
    run_program(program_of("sqlalchemy.md"), published_by_default.url, tmp_path)
    assert published_by_default.ops("orders:42") == [
        ("created", {"id": 42, "status": "new"}),
        ("updated", {"id": 42, "status": "shipped"}),
    ]
