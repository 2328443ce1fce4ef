"""What `autopush` publishes is the row that the database has, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    composite,
    load_only,
    mapped_column,
    relationship,
    sessionmaker,
)

from support.processes.database import KINDS, Database, start_database
from support.programs.example_programs import PublishedHistory
from tidings.async_emitter import AsyncEmitter
from tidings.contrib.sqlalchemy import autopush
from tidings.emitter import Emitter
from tidings.errors import TidingsError


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    __channels__: ClassVar[list[str]] = ["orders:all"]
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=10)
    status: Mapped[str] = mapped_column(sa.String(20), default="new")
    note: Mapped[str | None] = mapped_column(sa.String(20))
    edits: Mapped[int | None] = mapped_column(onupdate=sa.text("7"))
    place: Mapped[int] = mapped_column(server_default="3")
    double: Mapped[int] = mapped_column(sa.Computed("count * 2", persisted=True))
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("orders.id"))
    children: Mapped[list[Order]] = relationship()


class Counted(Base):
    __tablename__ = "counted"
    __channels__ = "orders:counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String(20))
    turn: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": turn}  # noqa: RUF012


class Numbered(Base):
    __tablename__ = "numbered"
    __channels__ = "orders:numbered"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String(20))
    version: Mapped[int] = mapped_column(default=1)


@dataclass
class Point:
    x: int | None
    y: int | None


class Map(Base):
    __tablename__ = "maps"
    __channels__ = "orders:maps"
    id: Mapped[int] = mapped_column(primary_key=True)
    marks: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(sa.JSON), default=dict)
    point: Mapped[Point] = composite(mapped_column("x"), mapped_column("y"))
    turn: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": turn}  # noqa: RUF012


class Tag(MappedAsDataclass, Base):
    """Unhashable, and equal to each other tag of this name."""

    __tablename__ = "tags"
    __channels__ = "orders:tags"
    id: Mapped[int] = mapped_column(primary_key=True, init=False, compare=False)
    name: Mapped[str | None] = mapped_column(sa.String(20), default=None)


class Place(Base):
    __tablename__ = "places"
    __channels__ = "orders:places"
    code: Mapped[str] = mapped_column(sa.CHAR(8), primary_key=True)
    floor: Mapped[int] = mapped_column(primary_key=True)
    open: Mapped[bool] = mapped_column(default=True)


class Staff(Base):
    __tablename__ = "staff"
    __channels__ = "orders:staff"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(10))
    name: Mapped[str | None] = mapped_column(sa.String(20))
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_on": "kind", "polymorphic_identity": "staff"}


class Driver(Staff):
    __tablename__ = "drivers"
    id: Mapped[int] = mapped_column(sa.ForeignKey("staff.id"), primary_key=True)
    car: Mapped[str | None] = mapped_column(sa.String(20))
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "driver"}


class Spoken(Base):
    __tablename__ = "spoken"
    __channels__ = "orders:spoken"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String(20))
    size: Mapped[int | None]

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "text": f"{self.name} {self.size}"}


class Trusted(Base):
    __tablename__ = "trusted"
    __channels__ = "orders:trusted"
    __push_reread__ = False
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=10)
    status: Mapped[str] = mapped_column(sa.String(20), default="new")


@pytest.fixture(scope="module", params=KINDS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    database = start_database(request.param)
    Base.metadata.create_all(database.engine())
    yield database
    database.stop()


@pytest.fixture
def engine(database: Database) -> Iterator[sa.Engine]:
    engine = database.engine()
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.update().values(parent_id=None) if table.name == "orders" else sa.select(1))
            connection.execute(table.delete())
    yield engine
    engine.dispose()


@pytest.fixture
def maker(engine: sa.Engine, emitter: Emitter) -> sessionmaker[Session]:
    maker = sessionmaker(engine)
    autopush(maker, emitter)
    return maker


def add(engine: sa.Engine, *objs: object) -> None:
    """Store objects without a push."""
    with Session(engine) as session, session.begin():
        session.add_all(objs)


def row(engine: sa.Engine, model: type[Base], key: Any = 1) -> dict[str, Any]:
    """The row of a key as the database has it."""
    with Session(engine) as session:
        obj = session.get_one(model, key)
        return {column.key: getattr(obj, column.key) for column in sa.inspect(model).column_attrs}


def last(published: PublishedHistory, channel: str = "orders:all") -> dict[str, Any]:
    """The model that a page shows: that of the highest version, and of equal versions the latest."""
    pushes = published.data(channel)
    assert len({push["version_kind"] for push in pushes}) == 1
    newest: dict[str, Any] = max(enumerate(pushes), key=lambda item: (item[1]["version"], item[0]))[1]["model"]
    return newest


class TestColumns:
    def test_unset_columns_are_null(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        with maker.begin() as session:
            session.add(Order(id=1))
        stored = {"id": 1, "count": 10, "status": "new", "note": None, "edits": None, "place": 3}
        assert last(published) == row(engine, Order) == stored | {"double": 20, "parent_id": None}

    def test_expression_is_pushed_as_its_value(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1), Order(id=2))
        with maker.begin() as session:
            session.get_one(Order, 1).count = Order.count + 1
        assert last(published) == row(engine, Order)
        assert (last(published)["count"], last(published)["double"], last(published)["edits"]) == (11, 22, 7)
        # Only rows with a changed column are pushed, also if a column is expired.
        with maker.begin() as session:
            order, other = session.get_one(Order, 1), session.get_one(Order, 2)
            session.expire(order, ["note"])
            order.children.append(other)
        assert [model["id"] for _, model in published.ops("orders:all")] == [1, 2]

    def test_expression_with_eager_defaults_and_a_later_flush(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        sa.inspect(Order).eager_defaults = True
        try:
            add(engine, Order(id=1))
            with maker.begin() as session:
                order = session.get_one(Order, 1)
                order.count = Order.count + 1
                session.flush()
                order.count = Order.count + 1
            assert last(published) == row(engine, Order)
            assert last(published)["count"] == 12
        finally:
            sa.inspect(Order).eager_defaults = "auto"

    def test_trigger_and_bulk_update_of_the_transaction_are_pushed(
        self, maker: sessionmaker[Session], engine: sa.Engine, database: Database, published: PublishedHistory
    ) -> None:
        with engine.begin() as connection:
            for statement in TRIGGERS[database.kind]:
                connection.exec_driver_sql(statement)
        with maker.begin() as session:
            session.add(Counted(id=1, name="raw"))
            session.add(order := Order(id=1))
            session.flush()
            session.execute(sa.update(Order).values(status="bulk"), execution_options={"synchronize_session": False})
            assert order.status == "new"
        assert last(published)["status"] == row(engine, Order)["status"] == "bulk"
        assert last(published, "orders:counted")["name"] == row(engine, Counted)["name"] == "cooked"

    def test_row_deleted_unnoticed_is_pushed_as_deleted(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1))
        with maker.begin() as session:
            session.get_one(Order, 1).status = "gone"
            session.add(Order(id=2))
            session.flush()
            session.execute(sa.delete(Order), execution_options={"synchronize_session": False})
        assert [(op, model["id"]) for op, model in published.ops("orders:all")] == [("deleted", 1)]

    @pytest.mark.parametrize("is_flushed", [True, False])
    def test_new_object_under_the_key_of_a_deleted_one(
        self, is_flushed: bool, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1, status="old"))
        with maker.begin() as session:
            session.delete(session.get_one(Order, 1))
            if is_flushed:
                session.flush()
            session.add(Order(id=1, status="other"))
        assert published.ops("orders:all") == [("updated", row(engine, Order))]

    def test_padded_and_composite_keys(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        with maker.begin() as session:
            session.add_all([Place(code="ab", floor=floor) for floor in (1, 2)])
        with maker.begin() as session:
            session.get_one(Place, ("ab", 2)).open = False
        assert [(op, model["floor"], model["open"]) for op, model in published.ops("orders:places")] == [
            *(("created", 1, True), ("created", 2, True)),
            ("updated", 2, False),
        ]

    def test_objects_of_the_application_keep_what_they_loaded(
        self, engine: sa.Engine, emitter: Emitter, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1), Order(id=2, parent_id=1))
        maker = sessionmaker(engine, expire_on_commit=False)
        autopush(maker, emitter)
        with maker() as session:
            order = session.get_one(Order, 1)
            assert [child.id for child in order.children] == [2]
            write(engine, count=20)
            order.status = "shipped"
            session.commit()
            assert "children" in order.__dict__
            assert (order.count, order.status) == (20, "shipped")
            assert not session.dirty
            assert not session.in_transaction()

    def test_objects_that_are_equal_and_unhashable(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        with maker() as session:
            session.add_all([Tag(), Tag()])
            session.commit()
            first, second = session.scalars(sa.select(Tag).order_by(Tag.id))
            first.name = second.name = sa.func.lower("B")
            session.commit()
            session.delete(first)
            session.commit()
        ops = [(op, model["name"]) for op, model in published.ops("orders:tags")]
        assert ops == [("created", None)] * 2 + [("updated", "b")] * 2 + [("deleted", "b")]

    def test_object_that_left_the_session_after_the_flush(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1))
        with maker.begin() as session:
            order = session.get_one(Order, 1)
            order.count = Order.count + 1
            session.flush()
            session.expunge(order)
            session.execute(sa.update(Order).values(status="bulk"))
        assert last(published) == row(engine, Order)
        assert (last(published)["count"], last(published)["status"]) == (11, "bulk")

    def test_mutable_and_composite_values_stay_alive(
        self, engine: sa.Engine, emitter: Emitter, published: PublishedHistory
    ) -> None:
        add(engine, Map(id=1, point=Point(1, 1)))
        maker = sessionmaker(engine, expire_on_commit=False)
        autopush(maker, emitter)
        with maker() as session:
            place = session.get_one(Map, 1)
            session.commit()
            assert place.point == Point(1, 1)
            write(engine, "maps", marks={"a": 1}, x=5)
            place.point = Point(1, 2)
            session.commit()
            assert (place.point, place.marks) == (Point(5, 2), {"a": 1})
            place.marks["b"] = 2
            session.commit()
        assert last(published, "orders:maps") == {"id": 1, "marks": {"a": 1, "b": 2}, "x": 5, "y": 2, "turn": 3}


TRIGGERS = {
    "sqlite": [
        """CREATE TRIGGER IF NOT EXISTS cook AFTER INSERT ON counted BEGIN
        UPDATE counted SET name = 'cooked' WHERE id = NEW.id; END"""
    ],
    "postgresql": [
        """CREATE OR REPLACE FUNCTION cook() RETURNS trigger AS
        $$ BEGIN NEW.name := 'cooked'; RETURN NEW; END $$ LANGUAGE plpgsql""",
        "CREATE OR REPLACE TRIGGER cook BEFORE INSERT ON counted FOR EACH ROW EXECUTE FUNCTION cook()",
    ],
    "mariadb": ["CREATE OR REPLACE TRIGGER cook BEFORE INSERT ON counted FOR EACH ROW SET NEW.name = 'cooked'"],
}


def write(engine: sa.Engine, table: str = "orders", **values: object) -> None:
    """Change columns of all rows in a transaction of another program."""
    with engine.begin() as connection:
        connection.execute(Base.metadata.tables[table].update().values(**values))


class TestWriters:
    @pytest.mark.parametrize("model", [Order, Trusted])
    def test_two_writers_of_different_columns(
        self, model: Any, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, model(id=1))
        channel = "orders:all" if model is Order else "orders:trusted"
        with maker() as first, maker() as second:
            mine, theirs = first.get_one(model, 1), second.get_one(model, 1)
            mine.count = 20
            first.commit()
            theirs.status = "shipped"
            second.commit()
        stored = row(engine, model)
        assert (stored["count"], stored["status"]) == (20, "shipped")
        # Without a second look at the row, the last push has the count that the second session loaded.
        assert last(published, channel) == (stored if model is Order else stored | {"count": 10})

    def test_writer_that_changes_nothing_any_more(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1))
        with maker() as session:
            order = session.get_one(Order, 1)
            write(engine, count=20, status="shipped", edits=7)
            order.status = "shipped"
            session.commit()
        assert last(published) == row(engine, Order)
        assert last(published)["count"] == 20

    def test_versions_have_the_order_of_the_transactions(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1))
        first = maker()
        first.get_one(Order, 1).count = 20
        first.flush()

        def change_status() -> None:
            with maker.begin() as second:
                second.get_one(Order, 1).status = "shipped"

        # It waits for the lock of the row, and commits after the first transaction.
        thread = threading.Thread(target=change_status)
        thread.start()
        first.commit()
        first.close()
        thread.join(60)
        assert last(published) == row(engine, Order)
        pushes = {push["model"]["status"]: push["version"] for push in published.data("orders:all")}
        assert pushes["new"] < pushes["shipped"]
        kind = published.data("orders:all")[0]["version_kind"]
        assert kind.partition(":")[0] == ("clock" if engine.dialect.name == "sqlite" else "database")

    def test_writers_of_two_tables_of_one_object(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Driver(id=1))
        first = maker()
        first.get_one(Driver, 1).name = "ann"
        first.flush()

        def change_car() -> None:
            with maker.begin() as second:
                second.get_one(Driver, 1).car = "van"

        thread = threading.Thread(target=change_car)
        thread.start()
        first.commit()
        first.close()
        thread.join(60)
        assert last(published, "orders:staff") == row(engine, Driver)
        assert row(engine, Driver) == {"id": 1, "kind": "driver", "name": "ann", "car": "van"}

    def test_loaded_version_column_is_the_rows(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Numbered(id=1), Counted(id=1))
        with maker() as session:
            numbered, counted = session.get_one(Numbered, 1), session.get_one(Counted, 1)
            write(engine, "numbered", version=5)
            numbered.name = "b"
            counted.name = "b"
            session.commit()
            write(engine, "numbered", version=9)
            session.delete(numbered)
            session.commit()
        assert [(push["op"], push["version"]) for push in published.data("orders:numbered")] == [
            *(("updated", 5), ("deleted", 9))
        ]
        assert {push["version_kind"] for push in published.data("orders:numbered")} == {"field:version"}
        assert [(push["version"], push["version_kind"]) for push in published.data("orders:counted")] == [
            (2, "field:turn")
        ]

    def test_row_that_another_transaction_deleted_first(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1), Order(id=2))
        with maker() as session:
            orders = session.scalars(sa.select(Order).order_by(Order.id)).all()
            session.commit()
            session.refresh(orders[0])
            session.commit()
            with engine.begin() as connection:
                connection.execute(sa.delete(Order).where(Order.id == 1))
            for order in orders:
                with session.no_autoflush:
                    session.delete(order) if order is orders[1] else session.expunge(order)
            session.commit()
        assert [(op, model["id"]) for op, model in published.ops("orders:all")] == [("deleted", 2)]

    def test_partly_loaded_object_is_pushed_whole(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1), Spoken(id=1, name="tea", size=1))
        with maker.begin() as session:
            order = session.scalars(sa.select(Order).options(load_only(Order.id))).one()
            order.status = "shipped"
            spoken = session.scalars(sa.select(Spoken).options(load_only(Spoken.id))).one()
            spoken.size = Spoken.size + 1
        assert last(published) == row(engine, Order)
        assert last(published, "orders:spoken") == {"id": 1, "text": "tea 2"}

    def test_commit_with_an_open_savepoint_reads_the_row(
        self, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
    ) -> None:
        add(engine, Order(id=1), Order(id=2))
        with maker() as session:
            transaction = session.begin()
            deleted = session.get_one(Order, 2)
            session.begin_nested()
            session.get_one(Order, 1).count = Order.count + 1
            session.delete(deleted)
            session.add(Order(id=3, parent_id=1))
            transaction.commit()
        models = {model["id"]: (op, model) for op, model in published.ops("orders:all")}
        assert models[1] == ("updated", row(engine, Order))
        assert models[2][0] == "deleted"
        assert models[3] == ("created", row(engine, Order, 3))


class TestAsync:
    def test_async_sessions_push_the_row(
        self, engine: sa.Engine, database: Database, published: PublishedHistory
    ) -> None:
        if database.kind == "mariadb":
            # PyMySQL has no asyncio interface.
            return
        add(engine, Order(id=1), Spoken(id=1, name="tea", size=1))

        async def run() -> None:
            async_engine = create_async_engine(database.url.replace("sqlite:", "sqlite+aiosqlite:"))
            maker = async_sessionmaker(async_engine, expire_on_commit=False)
            async with AsyncEmitter(published.url, prefix=published.prefix) as emitter:
                autopush(maker, emitter)
                async with maker() as session:
                    order, spoken = await session.get_one(Order, 1), await session.get_one(Spoken, 1)
                    await session.commit()
                    write(engine, count=20)
                    order.status = "shipped"
                    spoken.size = Spoken.size + 1
                    session.add(other := Order(id=2))
                    await session.flush()
                    await emitter.push_model(other, channel="a:1", fields=["id", "note", "parent_id"])
                    await session.commit()
                    assert (order.count, spoken.size) == (20, 2)
            await async_engine.dispose()

        asyncio.run(run())
        models = {model["id"]: model for _, model in published.ops("orders:all")}
        assert models == {key: row(engine, Order, key) for key in (1, 2)}
        assert last(published, "orders:spoken") == {"id": 1, "text": "tea 2"}
        assert published.ops("a:1") == [("updated", {"id": 2, "note": None, "parent_id": None})]


def test_readers_of_replicas_push_what_the_leader_has(
    engine: sa.Engine, emitter: Emitter, published: PublishedHistory
) -> None:
    replica = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    Base.metadata.create_all(replica)
    add(replica, Order(id=1, status="of the replica"))
    add(engine, Order(id=1))
    write(engine, count=20)

    class Routing(Session):
        def get_bind(self, mapper: Any = None, **options: Any) -> Any:
            return engine if self._flushing else options.get("bind") or replica

    maker = sessionmaker(class_=Routing)
    autopush(maker, emitter)
    with maker.begin() as session:
        session.get_one(Order, 1).status = "shipped"
    assert last(published) == row(engine, Order) | {"status": "shipped"}
    replica.dispose()


def test_errors_of_the_second_look_fail_the_commit(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, Order(id=1))
    with maker() as session:
        session.get_one(Order, 1).status = "shipped"
        session.flush()

        @sa.event.listens_for(session.connection(), "before_cursor_execute", retval=True)
        def fail(*arguments: Any) -> tuple[str, Any]:
            statement = arguments[2]
            return statement.replace("SELECT", "SELEKT"), arguments[3]

        with pytest.raises((sa.exc.DBAPIError, TidingsError)):
            session.commit()
    assert row(engine, Order)["status"] == "new"
    assert published.data("orders:all") == []
