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
    items: Mapped[list[Item]] = relationship(cascade="all, delete-orphan")


class Item(Base):
    __tablename__ = "items"
    __channels__ = "orders:items"

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
def maker(engine: Engine, emitter: Emitter) -> sessionmaker[Session]:
    maker = sessionmaker(engine)
    autopush(maker, emitter)
    return maker


class TestCommit:
    def test_creates_updates_and_deletes_are_pushed(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        with maker() as session:
            order = Order(id=1)
            session.add_all([order, Secret(id=1)])
            session.commit()
            order.status = "paid"
            session.commit()
            # The commit expires the object. Its values must be loaded before the row is deleted.
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

    def test_nothing_is_pushed_before_the_commit(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        with maker() as session:
            session.add(Order(id=1))
            session.flush()
            assert published.data("orders:1") == []
            session.commit()
            assert len(published.data("orders:1")) == 1

    def test_change_is_visible_to_other_sessions_when_it_is_pushed(
        self, maker: sessionmaker[Session], engine: Engine, published: PublishedHistory
    ) -> None:
        is_visible = []

        def look(error: object, batch: object) -> None:
            with Session(engine) as other:
                is_visible.append(other.get(Order, 1) is not None)

        maker = sessionmaker(engine)
        with Emitter(f"redis://127.0.0.1:{free_port()}/0", timeout_s=0.05) as lost:
            autopush(maker, lost, on_error=look)
            with maker.begin() as session:
                session.add(Order(id=1))
        assert is_visible == [True]

    def test_each_row_is_pushed_once_with_its_values_at_the_commit(
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

    def test_created_and_deleted_row_is_not_pushed(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        with maker.begin() as session:
            order = Order(id=1)
            session.add(order)
            session.flush()
            session.delete(order)
        assert published.data("orders:1") == []

    def test_unchanged_row_is_not_pushed(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker.begin() as session:
            session.add(Order(id=1))
        with maker.begin() as session:
            order = session.get_one(Order, 1)
            order.status = "new"
            order.items.append(Item(id=5))
        assert len(published.data("orders:1")) == 1
        assert published.ops("orders:items") == [("created", {"id": 5, "order_id": 1})]

    def test_cascades_and_orphans_are_pushed(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker.begin() as session:
            session.add(Order(id=1, items=[Item(id=1), Item(id=2)]))
        with maker.begin() as session:
            order = session.get_one(Order, 1)
            del order.items[0]
        with maker.begin() as session:
            session.delete(session.get_one(Order, 1))
        assert [(op, model["id"]) for op, model in published.ops("orders:items")] == [
            *(("created", 1), ("created", 2)),
            *(("deleted", 1), ("deleted", 2)),
        ]

    def test_bulk_operations_are_not_pushed(self, maker: sessionmaker[Session], published: PublishedHistory) -> None:
        with maker.begin() as session:
            session.bulk_insert_mappings(Order.__mapper__, [{"id": 1}])
        with maker.begin() as session:
            session.execute(update(Order).values(status="x"))
        with maker() as session:
            order = session.get_one(Order, 1)
            session.expire(order, ["status"])
            session.execute(delete(Order).where(Order.id == 1))
            # The bulk delete has removed the changed object from the session. The commit must not fail.
            assert order not in session
            session.commit()
        assert published.data("orders:all") == []

    def test_row_removed_by_a_bulk_delete_is_not_pushed(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        with maker.begin() as session:
            session.add_all([Order(id=1), Item(id=1, order_id=1)])
            session.flush()
            session.execute(delete(Item))
        assert published.ops("orders:items") == []
        assert len(published.ops("orders:1")) == 1

    def test_pushes_keep_the_order_of_the_changes(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        numbers = [*range(20, 0, -1)]
        with maker.begin() as session:
            session.add_all([Order(id=number) for number in numbers])
        with maker.begin() as session:
            for number in numbers:
                session.delete(session.get_one(Order, number))
        assert [model["id"] for _, model in published.ops("orders:all")] == numbers * 2

    def test_change_by_a_before_commit_listener_is_pushed(
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
    def test_rolled_back_transaction_is_not_pushed(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
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

    def test_rolled_back_savepoint_is_not_pushed(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
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

    def test_rollback_after_a_released_savepoint_pushes_nothing(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        with maker() as session:
            with session.begin_nested():
                session.add(Order(id=1))
            session.rollback()
        assert published.data("orders:all") == []

    def test_commit_with_an_open_savepoint_is_pushed(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
        with maker() as session:
            transaction = session.begin()
            session.begin_nested()
            session.add(Order(id=1))
            transaction.commit()
            assert session.scalar(select(func.count()).select_from(Order)) == 1
        assert [model["id"] for _, model in published.ops("orders:all")] == [1]

    def test_commit_that_the_database_refuses_pushes_nothing(
        self, maker: sessionmaker[Session], engine: Engine, published: PublishedHistory
    ) -> None:
        @event.listens_for(engine, "connect")
        def check(connection: Any, _record: object) -> None:
            connection.execute("PRAGMA foreign_keys = ON")

        engine.dispose()
        with maker() as session:
            session.add_all([Order(id=1), Item(id=1, order_id=404)])
            session.flush()
            with pytest.raises(IntegrityError):
                session.commit()
            session.rollback()
            session.add(Order(id=2))
            session.commit()
        assert published.data("orders:items") == []
        assert [model["id"] for _, model in published.ops("orders:all")] == [2]

    def test_commit_that_a_listener_refuses_pushes_nothing(
        self, maker: sessionmaker[Session], published: PublishedHistory
    ) -> None:
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
    def unreachable(self) -> Iterator[Emitter]:
        with Emitter(f"redis://127.0.0.1:{free_port()}/0", timeout_s=0.05) as emitter:
            yield emitter

    def test_push_error_is_logged_once(
        self, engine: Engine, unreachable: Emitter, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Session(engine) as session:
            autopush(session, unreachable)
            session.add_all([Order(id=1), Order(id=2)])
            with caplog.at_level(logging.ERROR, "tidings"):
                session.commit()
            assert session.get_one(Order, 1).status == "new"
        assert len(caplog.records) == 1
        assert "orders:1, orders:all, orders:2: 4 of 4 publications were not taken" in caplog.text

    def test_raised_push_error_leaves_the_session_usable(self, engine: Engine, unreachable: Emitter) -> None:
        with Session(engine) as session:
            autopush(session, unreachable, on_error=raise_error)
            session.add(Order(id=1))
            with pytest.raises(BatchFailed):
                session.commit()
            assert not session.in_transaction()
            assert session.get_one(Order, 1).status == "new"
        maker = sessionmaker(engine)
        autopush(maker, unreachable, on_error=raise_error)
        with pytest.raises(BatchFailed), maker.begin() as session:
            session.add(Order(id=2))
        with Session(engine) as session:
            assert session.get(Order, 2) is not None

    def test_invalid_channel_of_an_object_fails_the_commit(
        self, engine: Engine, emitter: Emitter, published: PublishedHistory
    ) -> None:
        emitter.register(Order, channels="orders:{status}")
        maker = sessionmaker(engine)
        autopush(maker, emitter)
        with pytest.raises(BadChannel), maker.begin() as session:
            session.add_all([Order(id=1), Order(id=2, status="")])
        with Session(engine) as session:
            assert session.get(Order, 1) is None
        assert published.data("orders:new") == []

    def test_too_many_rows_fail_the_commit(self, engine: Engine, emitter: Emitter, published: PublishedHistory) -> None:
        maker = sessionmaker(engine)
        autopush(maker, emitter, changes_max=10)
        with pytest.raises(TooLarge, match="changes_max"), maker.begin() as session:
            session.add_all([Order(id=number) for number in range(1, 12)])
        with maker.begin() as session:
            session.info["autopush"] = False
            session.add_all([Order(id=number) for number in range(1, 12)])
        assert published.data("orders:all") == []

    def test_wrong_kind_of_emitter_raises(self, engine: Engine, emitter: Emitter, published: PublishedHistory) -> None:
        with pytest.raises(BadConfig, match="AsyncEmitter"):
            autopush(async_sessionmaker(), emitter)
        maker = sessionmaker(engine)
        autopush(maker, AsyncEmitter(published.url, prefix=published.prefix))
        with pytest.raises(BadConfig, match="use an Emitter"), maker.begin() as session:
            session.add(Order(id=1))


class TestOptions:
    def test_second_autopush_with_the_same_emitter_pushes_nothing_twice(
        self, engine: Engine, emitter: Emitter, published: PublishedHistory
    ) -> None:
        maker = sessionmaker(engine)
        for models in (None, None, [Order]):
            autopush(maker, emitter, models=models)
            autopush(maker, lambda: emitter)
        with Emitter(published.url, prefix=published.prefix) as other, maker() as session:
            autopush(session, other)
            session.add(order := Order(id=1))
            session.commit()
            session.delete(order)
            session.commit()
        assert [op for op, _ in published.ops("orders:1")] == ["created", "created", "deleted", "deleted"]

    def test_later_autopush_pushes_the_models_that_an_earlier_one_does_not(
        self, engine: Engine, emitter: Emitter, published: PublishedHistory
    ) -> None:
        maker = sessionmaker(engine)
        autopush(maker, emitter, models=[Item])
        autopush(maker, emitter)
        with maker() as session:
            session.add(Order(id=1, items=[Item(id=1)]))
            session.commit()
        assert len(published.data("orders:1")) == len(published.data("orders:items")) == 1

    def test_only_selected_models_are_pushed(
        self, engine: Engine, emitter: Emitter, published: PublishedHistory
    ) -> None:
        maker = sessionmaker(engine)
        autopush(maker, emitter, models=[Item])
        with maker.begin() as session:
            session.add(Order(id=1, items=[Item(id=1)]))
        assert published.data("orders:all") == []
        assert len(published.data("orders:items")) == 1

    def test_channel_function_may_return_no_channel(
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

    def test_scoped_session_with_an_emitter_that_is_created_later(
        self, engine: Engine, published: PublishedHistory
    ) -> None:
        emitters: list[Emitter] = []
        scoped = scoped_session(sessionmaker(engine))
        autopush(scoped, lambda: emitters[0])
        with Emitter(published.url, prefix=published.prefix) as emitter:
            emitters.append(emitter)
            scoped.add(Order(id=1))
            scoped.commit()
            scoped.remove()
        assert len(published.data("orders:1")) == 1

    def test_commit_is_pushed_in_as_few_batches_as_possible(self, engine: Engine) -> None:
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
    def test_commits_rollbacks_and_savepoints_of_async_sessions(
        self, kind: str, engine: Engine, published: PublishedHistory
    ) -> None:
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


def test_greenlet_is_required_only_for_asyncio(published_by_default: PublishedHistory, tmp_path: Path) -> None:
    without = "import sys\nsys.modules['greenlet'] = None\n"
    run_program(without + program_of("sqlalchemy.md"), published_by_default.url, tmp_path)
    assert len(published_by_default.ops("orders:42")) == 2


def test_program_of_the_page_works(published_by_default: PublishedHistory, tmp_path: Path) -> None:
    run_program(program_of("sqlalchemy.md"), published_by_default.url, tmp_path)
    assert published_by_default.ops("orders:42") == [
        ("created", {"id": 42, "status": "new"}),
        ("updated", {"id": 42, "status": "shipped"}),
    ]
