"""`Outbox.push_model` writes the row that the transaction commits, on every database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from support.models import Thing
from support.processes.database import KINDS, start_database
from tidings.contrib.outbox import Outbox, outbox_table
from tidings.errors import BadData
from tidings.models.rules import SHARED


class Base(DeclarativeBase):
    pass


class Sale(Base):
    __tablename__ = "sales"
    __channels__ = ("orders:{id}",)
    id: Mapped[int] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(default=10)
    status: Mapped[str] = mapped_column(sa.String(20), server_default="new")
    note: Mapped[str | None] = mapped_column(sa.String(20))


TABLE = outbox_table(Base.metadata)


@pytest.fixture(scope="module", params=KINDS)
def database_engine(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    database = start_database(request.param)
    engine = database.engine()
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()
    database.stop()


@pytest.fixture
def engine(database_engine: sa.Engine) -> sa.Engine:
    with database_engine.begin() as connection:
        connection.execute(Sale.__table__.delete())
        connection.execute(TABLE.delete())
        connection.execute(Sale.__table__.insert().values(id=1, count=10))
    return database_engine


def pushes(engine: sa.Engine) -> list[dict[str, Any]]:
    """The data of all rows of the outbox, in order."""
    with engine.connect() as connection:
        return [json.loads(data) for data in connection.scalars(sa.select(TABLE.c.data).order_by(TABLE.c.row_no))]


def test_unset_and_computed_columns_are_those_of_the_row(engine: sa.Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(sale := Sale(id=2))
        Outbox(session).push_model(sale, op="created")
        sale.count = Sale.count + 1
        Outbox(session).push_model(sale)
    first, second = pushes(engine)
    assert first["model"] == {"id": 2, "count": 10, "status": "new", "note": None}
    assert second["model"] == {"id": 2, "count": 11, "status": "new", "note": None}
    assert first["version_kind"] == second["version_kind"]
    assert first["version"] < second["version"]


@pytest.mark.parametrize("reread", [True, False])
def test_column_that_another_transaction_changed(engine: sa.Engine, reread: bool) -> None:
    SHARED.register(Sale, reread=reread)
    try:
        with Session(engine) as session:
            sale = session.get_one(Sale, 1)
            with engine.begin() as connection:
                connection.execute(Sale.__table__.update().values(count=20))
            sale.status = "sold"
            Outbox(session).push_model(sale)
            session.commit()
    finally:
        SHARED.register(Sale)
    assert pushes(engine)[0]["model"] == {"id": 1, "count": 20 if reread else 10, "status": "sold", "note": None}


def test_row_that_is_gone_is_only_pushed_as_deleted(engine: sa.Engine) -> None:
    scoped = scoped_session(sessionmaker(engine))
    sale = scoped.get_one(Sale, 1)
    with engine.begin() as connection:
        connection.execute(Sale.__table__.delete())
    with pytest.raises(BadData, match="does not exist any more"):
        Outbox(scoped).push_model(sale)
    Outbox(scoped).push_model(sale, op="deleted")
    scoped.commit()
    scoped.remove()
    assert [(push["op"], push["model"]["id"]) for push in pushes(engine)] == [("deleted", 1)]


def test_deleted_and_other_objects(engine: sa.Engine) -> None:
    with Session(engine) as session, session.begin():
        sale = session.get_one(Sale, 1)
        session.delete(sale)
        Outbox(session).push_model(sale, op="deleted")
        Outbox(session).push_model(Thing(5))
    with engine.begin() as connection:
        Outbox(connection, notify=False).push_model(Thing(6))
    assert [push["model"]["id"] for push in pushes(engine)] == [1, 5, 5, 6, 6]
