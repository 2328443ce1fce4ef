"""A row that leaves a channel is deleted in the lists of that channel, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
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
from tidings.errors import BadData


class Base(DeclarativeBase):
    pass


class Ward(Base):
    __tablename__ = "wards"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20), default="x")
    patients: Mapped[list[Patient]] = relationship(back_populates="ward")
    beds: Mapped[list[Bed]] = relationship()


class Patient(Base):
    """Its channel is a function that reads a relationship."""

    __tablename__ = "patients"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(20), default="ann")
    ward_id: Mapped[int | None] = mapped_column(sa.ForeignKey("wards.id"))
    ward: Mapped[Ward | None] = relationship(back_populates="patients")

    @staticmethod
    def __channels__(patient: Patient) -> str | None:
        return f"orders:{patient.ward.name}" if patient.ward else None


class Bed(Base):
    """Its channel has a foreign key, which the flush sets."""

    __tablename__ = "beds"
    __channels__ = "orders:ward-{ward_id}"
    id: Mapped[int] = mapped_column(primary_key=True)
    ward_id: Mapped[int] = mapped_column(sa.ForeignKey("wards.id"), nullable=True)
    ward: Mapped[Ward | None] = relationship(overlaps="beds")


class Seat(Base):
    __tablename__ = "seats"
    __channels__: ClassVar[list[str]] = ["orders:all", "orders:{room}"]
    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[str] = mapped_column(sa.String(20), default="red")
    version: Mapped[int] = mapped_column(default=1)


class Trusted(Base):
    __tablename__ = "trusted"
    __channels__ = "orders:{room}"
    __push_reread__ = False
    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[str] = mapped_column(sa.String(20), default="red")
    note: Mapped[str | None] = mapped_column(sa.String(20))


class Shelf(Base):
    """Its channel comes from a property of the class."""

    __tablename__ = "shelves"
    __channels__ = "orders:{wing}"
    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[int] = mapped_column(default=1)
    doubled: Mapped[int] = column_property(room * 2)

    @property
    def wing(self) -> str:
        return f"wing-{self.room // 10}"


class Vehicle(ConcreteBase, Base):
    __tablename__ = "vehicles"
    __channels__ = "orders:{room}"
    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[str] = mapped_column(sa.String(20), default="red")
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_identity": "vehicle", "concrete": True}


class Van(Vehicle):
    __tablename__ = "vans"
    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[str] = mapped_column(sa.String(20), default="red")
    load: Mapped[int | None]
    __mapper_args__: ClassVar[dict[str, object]] = {"polymorphic_identity": "van", "concrete": True}


class Sealed(Base):
    """Its columns are deferred, and one raises when it is read."""

    __tablename__ = "sealed"
    __channels__ = "orders:{room}"
    __push_fields__ = ("id", "note")
    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[str] = mapped_column(sa.String(20), default="red", deferred=True)
    note: Mapped[str | None] = mapped_column(sa.String(20), deferred=True, deferred_raiseload=True)


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


def ops(published: PublishedHistory, channel: str) -> list[tuple[str, int]]:
    return [(op, model["id"]) for op, model in published.ops(channel)]


def test_row_is_deleted_in_the_channel_that_it_left(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, Seat(id=1))
    with maker.begin() as session:
        seat = session.get_one(Seat, 1)
        seat.room, seat.version = "blue", 2
    assert ops(published, "orders:all") == ops(published, "orders:blue") == [("updated", 1)]
    [push] = published.data("orders:red")
    # The fields that the channel knows, so that its clients learn nothing of the new ones.
    assert push["model"] == {"id": 1, "room": "red", "version": 1}
    assert (push["op"], push["version"], push["version_kind"]) == ("deleted", 2, "field:version")
    with maker.begin() as session:
        session.get_one(Seat, 1).version = 3
    assert len(published.data("orders:red")) == 1


def test_channel_before_is_that_of_the_row_not_of_the_session(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, Seat(id=1))
    with maker() as session:
        seat = session.get_one(Seat, 1)
        if engine.dialect.name != "sqlite":
            # Another writer, which pushed it to its channel.
            with maker.begin() as other:
                other.get_one(Seat, 1).room = "green"
        else:
            session.commit()
            session.get_one(Seat, 1)
            add_room(engine, "green")
        seat.room = "blue"
        session.commit()
    assert ops(published, "orders:green")[-1] == ("deleted", 1)
    assert ops(published, "orders:blue") == [("updated", 1)]


def add_room(engine: sa.Engine, room: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(Seat).values(room=room))


def test_several_flushes_and_savepoints(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, *(Seat(id=number) for number in range(1, 6)))
    with maker.begin() as session:
        moved, back, rolled, inner, deleted = session.scalars(sa.select(Seat).order_by(Seat.id)).all()
        moved.room = back.room = deleted.room = "one"
        session.flush()
        moved.room, back.room = "two", "red"
        session.delete(deleted)
        with session.begin_nested():
            inner.room = "two"
        with session.begin_nested() as savepoint:
            rolled.room = "three"
            session.flush()
            savepoint.rollback()
        session.add(new := Seat(id=6, room="one"))
        session.flush()
        new.room = "two"
    assert ops(published, "orders:red") == [("deleted", 1), ("updated", 2), ("deleted", 4), ("deleted", 5)] or sorted(
        ops(published, "orders:red")
    ) == [("deleted", 1), ("deleted", 4), ("deleted", 5), ("updated", 2)]
    assert sorted(ops(published, "orders:two")) == [("created", 6), ("updated", 1), ("updated", 4)]
    assert ops(published, "orders:one") == ops(published, "orders:three") == []
    assert ("deleted", 5) in ops(published, "orders:red")


def test_primary_key_and_a_new_object_under_the_key_of_a_deleted_one(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, Seat(id=1), Seat(id=2))
    with maker.begin() as session:
        session.get_one(Seat, 1).id = 9
        session.delete(session.get_one(Seat, 2))
        session.flush()
        session.add(Seat(id=2, room="blue"))
    assert sorted(ops(published, "orders:red")) == [("deleted", 1), ("deleted", 2), ("updated", 9)]
    assert sorted(ops(published, "orders:all")) == [("deleted", 1), ("updated", 2), ("updated", 9)]


def test_foreign_keys_that_the_flush_sets(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, Ward(id=1), Ward(id=2), *(Bed(id=number, ward_id=1) for number in (1, 2, 3)))
    with maker.begin() as session:
        ward = session.get_one(Ward, 2)
        session.get_one(Bed, 1).ward = ward
        ward.beds.append(session.get_one(Bed, 2))
    assert sorted(ops(published, "orders:ward-1")) == [("deleted", 1), ("deleted", 2)]
    assert sorted(ops(published, "orders:ward-2")) == [("updated", 1), ("updated", 2)]


@pytest.mark.parametrize("archived", [False, True])
def test_function_of_a_relationship(
    archived: bool, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, Ward(id=1, name="one"), Ward(id=2, name="two"), Patient(id=1, ward_id=1))
    with maker.begin() as session:
        session.get_one(Patient, 1).ward = None if archived else session.get_one(Ward, 2)
    assert ops(published, "orders:one") == [("deleted", 1)]
    assert ops(published, "orders:two") == ([] if archived else [("updated", 1)])


def test_property_of_the_class(maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory) -> None:
    add(engine, Shelf(id=1))
    with maker.begin() as session:
        session.get_one(Shelf, 1).room = 5
    with maker.begin() as session:
        session.get_one(Shelf, 1).room = Shelf.room + 10
    assert ops(published, "orders:wing-0") == [("updated", 1), ("deleted", 1)]
    assert ops(published, "orders:wing-1") == [("updated", 1)]


def test_without_reread_the_session_knows_what_it_loaded(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, Trusted(id=1), Trusted(id=2))
    with maker.begin() as session:
        session.get_one(Trusted, 1).room = "blue"
        leaving = session.get_one(Trusted, 2)
        leaving.room = "blue"
        session.delete(leaving)
    assert sorted(ops(published, "orders:red")) == [("deleted", 1), ("deleted", 2)]
    assert ops(published, "orders:blue") == [("updated", 1)]


def test_columns_that_raise_when_they_are_read(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, Trusted(id=1, note="n"), Trusted(id=2))
    with maker.begin() as session:
        query = sa.select(Trusted).options(load_only(Trusted.id, raiseload=True)).order_by(Trusted.id)
        changed, deleted = session.scalars(query)
        changed.room = "blue"
        session.delete(deleted)
    assert published.ops("orders:blue") == [("updated", {"id": 1, "room": "blue", "note": "n"})]
    assert published.ops("orders:red") == [("deleted", {"id": 2, "room": "red", "note": None})]


def test_concrete_inheritance(
    maker: sessionmaker[Session], engine: sa.Engine, emitter: Emitter, published: PublishedHistory
) -> None:
    add(engine, Vehicle(id=1), Van(id=2))
    with maker.begin() as session:
        session.get_one(Vehicle, 1).room = "blue"
        van = session.get_one(Van, 2)
        van.room = "blue"
        session.add(Van(id=3, room="blue"))
    assert sorted(ops(published, "orders:blue")) == [("created", 3), ("updated", 1), ("updated", 2)]
    assert sorted(ops(published, "orders:red")) == [("deleted", 1), ("deleted", 2)]
    with Session(engine) as session:
        emitter.push_model(session.get_one(Van, 3), channel="a:1")
    assert published.ops("a:1") == [("updated", {"id": 3, "room": "blue", "load": None})]


def test_deferred_columns_that_the_rule_names(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    add(engine, Sealed(id=1), Sealed(id=2, note="n"))
    with maker.begin() as session:
        for sealed in session.scalars(sa.select(Sealed)):
            sealed.room = "blue"
    pushes = sorted(published.ops("orders:blue"), key=lambda push: push[1]["id"])
    assert pushes == [("updated", {"id": 1, "note": None}), ("updated", {"id": 2, "note": "n"})]
    assert sorted(ops(published, "orders:red")) == [("deleted", 1), ("deleted", 2)]


def test_row_without_a_valid_channel_before_can_be_changed(
    maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory, caplog: pytest.LogCaptureFixture
) -> None:
    add(engine, Seat(id=1, room=""), Seat(id=2, room="b a d"))
    with caplog.at_level(logging.WARNING, "tidings"), maker.begin() as session:
        for seat in session.scalars(sa.select(Seat)):
            seat.room = "blue"
    assert sorted(ops(published, "orders:blue")) == [("updated", 1), ("updated", 2)]
    assert caplog.records == []


def test_function_that_raises_for_the_row_before_is_logged(
    engine: sa.Engine, emitter: Emitter, published: PublishedHistory, caplog: pytest.LogCaptureFixture
) -> None:
    def channels(seat: Seat) -> str:
        return {"blue": "orders:blue"}[seat.room]

    add(engine, Seat(id=1))
    emitter.register(Seat, channels=channels)
    autopush(maker := sessionmaker(engine), emitter)
    with caplog.at_level(logging.WARNING, "tidings"), maker.begin() as session:
        session.get_one(Seat, 1).room = "blue"
    assert ops(published, "orders:blue") == [("updated", 1)]
    assert "lists may keep a changed Seat: channels of its previous row raised KeyError('red')" in caplog.text


def test_async_sessions(engine: sa.Engine, database: Database, published: PublishedHistory) -> None:
    if database.kind == "mariadb":
        # PyMySQL has no asyncio interface.
        return
    add(engine, Ward(id=1, name="one"), Patient(id=1, ward_id=1), Seat(id=1))

    async def run() -> None:
        async_engine = create_async_engine(database.url.replace("sqlite:", "sqlite+aiosqlite:"))
        maker = async_sessionmaker(async_engine, expire_on_commit=False)
        async with AsyncEmitter(published.url, prefix=published.prefix) as emitter:
            autopush(maker, emitter)
            async with maker.begin() as session:
                (await session.get_one(Patient, 1)).ward_id = None
                (await session.get_one(Seat, 1)).room = "blue"
        await async_engine.dispose()

    asyncio.run(run())
    assert ops(published, "orders:one") == ops(published, "orders:red") == [("deleted", 1)]


def test_row_that_is_gone_is_bad_data(engine: sa.Engine, emitter: Emitter) -> None:
    add(engine, Trusted(id=1))
    autopush(maker := sessionmaker(engine), emitter)
    with maker() as session:
        gone = session.get_one(Trusted, 1)
        session.commit()
        session.execute(sa.delete(Trusted), execution_options={"synchronize_session": False})
        session.delete(gone)
        with pytest.raises(BadData, match="the row of this Trusted does not exist any more"):
            session.commit()
