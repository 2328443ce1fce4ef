"""What `autopush` publishes for unusual mappings and values equals the row, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, column_property, mapped_column, relationship, sessionmaker
from sqlalchemy.orm import synonym as other_name

from support.processes.database import KINDS, Database, start_database
from support.programs.example_programs import PublishedHistory
from tidings.contrib.outbox import Outbox, outbox_table
from tidings.contrib.sqlalchemy import autopush
from tidings.emitter import Emitter
from tidings.wire.payload import encode_data


class Color(Enum):
    """Its members have no order."""

    RED = "r"
    BLUE = "b"


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    __channels__ = "orders:all"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric(10, 2))
    is_paid: Mapped[bool | None]
    count: Mapped[int | None]
    weight: Mapped[float | None]
    at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))


class Line(Base):
    __tablename__ = "lines"
    __channels__ = "orders:lines"
    id: Mapped[int] = mapped_column(primary_key=True)
    basket_id: Mapped[int | None] = mapped_column(sa.ForeignKey("baskets.id"))
    name: Mapped[str | None] = mapped_column(sa.String(20))
    version: Mapped[int] = mapped_column(default=1)


class Basket(Base):
    """The rule of a test may name what is not loaded by default."""

    __tablename__ = "baskets"
    __channels__ = "orders:baskets"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(sa.String(20))
    notes: Mapped[str | None] = mapped_column(sa.String(20), deferred=True)
    lines: Mapped[list[Line]] = relationship(cascade="all, delete-orphan")
    title = other_name("name")

    @hybrid_property
    def loud(self) -> str:
        """An expression that exists for objects only."""
        return (self.name or "").upper()


_count = sa.select(sa.func.count(Line.id)).where(Line.basket_id == Basket.id).correlate_except(Line)
Basket.size = column_property(_count.scalar_subquery())


class Animal(Base):
    __tablename__ = "animals"
    __channels__ = "orders:animals"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(10))
    name: Mapped[str | None] = mapped_column(sa.String(20))
    __mapper_args__: ClassVar[dict[str, Any]] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "animal",
        "with_polymorphic": "*",
    }


class Dog(Animal):
    __tablename__ = "dogs"
    id: Mapped[int] = mapped_column(sa.ForeignKey("animals.id"), primary_key=True)
    breed: Mapped[str | None] = mapped_column(sa.String(20))
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "dog"}


class Cat(Animal):
    lives: Mapped[int | None]
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "cat"}


class Paint(Base):
    __tablename__ = "paints"
    __channels__ = "orders:paints"
    color: Mapped[Color] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(sa.String(10))
    name: Mapped[str | None] = mapped_column(sa.String(20))
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_on": "kind", "polymorphic_identity": "paint"}


class Varnish(Paint):
    __tablename__ = "varnishes"
    color: Mapped[Color] = mapped_column(sa.ForeignKey("paints.color"), primary_key=True)
    gloss: Mapped[str | None] = mapped_column(sa.String(20))
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "varnish"}


_heads = sa.Table("heads", Base.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Integer))
_tails = sa.Table("tails", Base.metadata, sa.Column("head_id", sa.ForeignKey("heads.id"), primary_key=True))
_tails.append_column(sa.Column("extra", sa.Integer))


class Fish(Base):
    """Mapped to an outer join. PostgreSQL locks only the rows of `heads`."""

    __table__ = _heads.outerjoin(_tails)
    __channels__ = "orders:fish"
    id = column_property(_heads.c.id, _tails.c.head_id)


outbox_table(Base.metadata)


@pytest.fixture(scope="module", params=KINDS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    database = start_database(request.param)
    Base.metadata.create_all(database.engine())
    yield database
    database.stop()


@pytest.fixture
def engine(database: Database) -> Iterator[sa.Engine]:
    engine = database.engine()
    yield engine
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
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


def row_text(engine: sa.Engine, model: type[Base], key: Any = 1) -> str:
    """The row as JSON text, in which 1 and true differ."""
    with Session(engine) as session:
        obj = session.get_one(model, key)
        return encode_data({column.key: getattr(obj, column.key) for column in sa.inspect(model).column_attrs}).decode()


def last_text(published: PublishedHistory, channel: str) -> str:
    """The model of the last push as JSON text."""
    return json.dumps(published.ops(channel)[-1][1], separators=(",", ":"))


LAGOS = timezone(timedelta(hours=1))  # Values that are equal to what the database returns, but not in JSON.
VALUES: dict[str, list[Any]] = {
    "price": [Decimal("1.5"), 1.5, 2],
    "is_paid": [1, 0],
    "count": [True, 3.0],
    "weight": [3, Decimal("1.5")],
    "at": [datetime(2026, 1, 2, 3, tzinfo=UTC), datetime(2026, 1, 2, 3, tzinfo=LAGOS)],
}


@pytest.mark.parametrize("column", VALUES)
def test_value_has_the_form_of_the_row(
    column: str, maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory
) -> None:
    for value in VALUES[column]:
        with maker() as session:
            session.merge(Order(id=1, **{column: value}))
            session.commit()
        assert last_text(published, "orders:all") == row_text(engine, Order)


def test_rule_may_name_what_is_not_loaded_by_default(
    maker: sessionmaker[Session], engine: sa.Engine, emitter: Emitter, published: PublishedHistory
) -> None:
    emitter.register(Basket, channels="orders:{notes}", fields=["notes", "size", "title", "loud"])
    add(engine, Basket(id=1, name="a", notes="n"))
    with maker() as session:
        basket = session.get_one(Basket, 1)
        assert basket.size == 0
        basket.name = "b"
        session.flush()
        assert basket.size == 0
        session.add(Line(basket_id=1))
        session.commit()
        session.get_one(Basket, 1).lines.clear()
        session.delete(session.get_one(Basket, 1))
        session.commit()
        session.add(Basket(id=2, name="c", notes="n"))
        session.flush()
        Outbox(session).push_model(session.get_one(Basket, 2, populate_existing=True), channel="a:1", fields=["size"])
        session.commit()
    pushed = {"notes": "n", "size": 1, "title": "b", "loud": "B"}
    assert published.ops("orders:n") == [
        ("updated", pushed),
        ("deleted", pushed),
        ("created", {"notes": "n", "size": 0, "title": "c", "loud": "C"}),
    ]


def test_version_may_be_a_deferred_column(
    maker: sessionmaker[Session], engine: sa.Engine, emitter: Emitter, published: PublishedHistory
) -> None:
    emitter.register(Basket, version="notes", fields=["id"])
    add(engine, Basket(id=1, notes="v1"))
    with maker() as session:
        session.get_one(Basket, 1).name = "b"
        session.commit()
    assert [push["version"] for push in published.data("orders:baskets")] == ["v1"]


def test_with_polymorphic(maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory) -> None:
    with maker() as session:
        session.add_all([Animal(id=1), Dog(id=2, breed="pug"), Cat(id=3)])
        session.commit()
        for key, model in enumerate((Animal, Dog, Cat), 1):
            animal = session.get_one(Animal, key)
            animal.name = "rex"
            session.commit()
            assert last_text(published, "orders:animals") == row_text(engine, model, key)
            session.delete(animal)
            session.commit()
    assert [op for op, _ in published.ops("orders:animals")] == ["created"] * 3 + ["updated", "deleted"] * 3


def test_keys_without_an_order(maker: sessionmaker[Session], published: PublishedHistory) -> None:
    with maker() as session:
        session.add_all([Varnish(color=color) for color in Color])
        session.commit()
        for varnish in session.scalars(sa.select(Varnish)):
            varnish.name, varnish.gloss = "n", "g"
        session.commit()
    assert [op for op, _ in published.ops("orders:paints")] == ["created"] * 2 + ["updated"] * 2


def test_outer_join(maker: sessionmaker[Session], engine: sa.Engine, published: PublishedHistory) -> None:
    with maker() as session:
        session.add(Fish(id=1, name=1, extra=1))
        session.commit()
        fish = session.get_one(Fish, 1)
        fish.extra = 2
        session.commit()
        assert last_text(published, "orders:fish") == row_text(engine, Fish)
        Outbox(session).push_model(fish)
        session.delete(fish)
        session.commit()
    assert [op for op, _ in published.ops("orders:fish")] == ["created", "updated", "deleted"]


def test_orphan_is_deleted_as_the_row_was(engine: sa.Engine, emitter: Emitter, published: PublishedHistory) -> None:
    add(engine, Basket(id=1, lines=[Line(id=1), Line(id=2)]))
    maker = sessionmaker(engine, expire_on_commit=False)
    autopush(maker, emitter)
    with maker() as session:
        basket = session.get_one(Basket, 1)
        assert [line.version for line in basket.lines] == [1, 1]
        session.commit()
        # Another backend, which MariaDB and SQLite let in between two transactions.
        with engine.begin() as connection:
            connection.execute(sa.update(Line).values(name="theirs", version=7))
        del basket.lines[0]
        session.commit()
    [push] = published.data("orders:lines")
    assert (push["op"], push["version"], push["model"]["name"]) == ("deleted", 7, "theirs")
