"""push_model with real pydantic, SQLAlchemy and Django models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, Field, SecretStr
from sqlalchemy import JSON, ForeignKey, create_engine, event, func, select, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    load_only,
    mapped_column,
    relationship,
)

from support.models import NOW, described, model_of, versioned
from support.programs.django_project import configure
from tidings.errors import BadChannel, BadData
from tidings.models import Rule


class Account(BaseModel):
    id: int
    name: str
    balance: Decimal = Decimal("1.50")
    tags: set[str] = {"a"}
    password: SecretStr = SecretStr("hunter2")
    internal: str = Field(default="x", exclude=True)


class TestPydantic:
    def test_pydantic_model_is_sent_in_its_json_form(self) -> None:
        assert model_of(Account(id=1, name="ann")) == {
            "id": 1,
            "name": "ann",
            "balance": "1.50",
            "tags": ["a"],
            "password": "**********",
        }

    def test_fields_and_templates(self) -> None:
        assert model_of(Account(id=1, name="ann"), fields=["name"]) == {"name": "ann"}
        assert described(Account(id=1, name="ann"), Rule(channels="accounts:{id}"))[1] == ["accounts:1"]

    def test_pydantic_serialization_error_is_bad_data(self) -> None:
        class Odd(BaseModel):
            raw: bytes

        with pytest.raises(BadData, match="Odd has values that JSON cannot represent"):
            model_of(Odd(raw=b"\xff"))


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Purchase(Base):
    __tablename__ = "purchase"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[Decimal]
    note: Mapped[str | None] = mapped_column(deferred=True)
    touched: Mapped[int] = mapped_column(server_default=text("5"), onupdate=text("6"))
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship()
    count: Mapped[int] = column_property(select(func.count(Customer.id)).scalar_subquery())
    __channels__ = ("purchases:{id}", "user:{customer_id}")


class Counter(Base):
    __tablename__ = "counters"
    id: Mapped[int] = mapped_column(primary_key=True)
    turn: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": turn}  # noqa: RUF012


class Tagged(Base):
    __tablename__ = "tagged"
    id: Mapped[int] = mapped_column(primary_key=True)
    tag: Mapped[str] = mapped_column()
    version: Mapped[int] = mapped_column(default=3)
    __mapper_args__ = {"version_id_col": tag, "version_id_generator": lambda _: uuid4().hex}  # noqa: RUF012


class Draft(Base):
    __tablename__ = "drafts"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("customer.id"))
    edits: Mapped[int | None] = mapped_column(onupdate=text("6"))
    hidden: Mapped[str | None] = mapped_column(deferred=True)
    version: Mapped[int | None]


class Memo(Base):
    __tablename__ = "memos"
    id: Mapped[int] = mapped_column(primary_key=True)
    tags: Mapped[Any] = mapped_column(JSON, nullable=True)


class Spoken(Base):
    __tablename__ = "spoken"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "label": self.name.upper()}


FULL = {"id": 1, "total": Decimal("9.99"), "touched": 5, "customer_id": 1}


class TestSqlalchemy:
    @pytest.fixture
    def queries(self) -> list[str]:
        return []

    @pytest.fixture
    def session(self, queries: list[str]) -> Iterator[Session]:
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        event.listen(engine, "before_cursor_execute", lambda *arguments: queries.append(arguments[2]))
        with Session(engine) as session:
            session.add(Customer(id=1, name="ann"))
            session.add(Purchase(id=1, total=Decimal("9.99"), customer_id=1))
            session.commit()
            queries.clear()
            yield session
        engine.dispose()

    def test_columns_without_relationships_and_without_a_query(self, session: Session, queries: list[str]) -> None:
        purchase = session.get_one(Purchase, 1)
        assert purchase.customer.name == "ann"
        queries.clear()
        data, channels = described(purchase)
        assert data["model"] == FULL
        assert channels == ["purchases:1", "user:1"]
        assert queries == []

    def test_attribute_expired_by_a_commit_is_an_error_without_a_query(
        self, session: Session, queries: list[str]
    ) -> None:
        purchase = session.get_one(Purchase, 1)
        session.commit()
        queries.clear()
        with pytest.raises(BadData, match=r"Purchase\.id is not loaded \(.*expired it\); session\.refresh\(\) first"):
            described(purchase)
        assert queries == []
        session.refresh(purchase)
        assert described(purchase)[0]["model"] == FULL

    def test_attribute_expired_by_a_flush_can_be_excluded(self, session: Session, queries: list[str]) -> None:
        purchase = session.get_one(Purchase, 1)
        purchase.total = Decimal(5)
        session.flush()
        queries.clear()
        with pytest.raises(BadData, match=r"Purchase\.touched is not loaded"):
            described(purchase)
        assert model_of(purchase, exclude=["touched"]) == {"id": 1, "total": Decimal(5), "customer_id": 1}
        assert queries == []

    def test_after_a_flush_and_after_a_commit_that_expires_nothing(self, session: Session) -> None:
        purchase = Purchase(total=Decimal(1), customer_id=1)
        session.expire_on_commit = False
        session.add(purchase)
        session.flush()
        flushed = model_of(purchase)
        session.commit()
        assert model_of(purchase) == flushed == {"id": 2, "total": Decimal(1), "touched": 5, "customer_id": 1}

    def test_unset_columns_of_a_stored_row_are_null(self, session: Session, queries: list[str]) -> None:
        session.expire_on_commit = False
        session.add(draft := Draft())
        session.flush()
        queries.clear()
        stored = {"id": 1, "note": None, "owner_id": None, "edits": None, "version": None}
        assert model_of(draft) == stored
        assert versioned(draft) == NOW
        assert model_of(draft, fields=["note"]) == {"note": None}
        session.commit()
        assert model_of(draft) == stored
        session.expunge(draft)
        assert model_of(draft) == stored
        assert queries == []
        with pytest.raises(BadData, match=r"Draft\.hidden is not loaded"):
            model_of(draft, fields=["hidden"])

    def test_null_of_a_json_column_is_null(self, session: Session) -> None:
        session.add(memo := Memo(id=1, tags=JSON.NULL))
        session.flush()
        assert model_of(memo) == {"id": 1, "tags": None}

    def test_expression_is_refused_until_it_is_flushed_and_loaded(self, session: Session, queries: list[str]) -> None:
        purchase = session.get_one(Purchase, 1)
        purchase.total = Purchase.total + 1
        queries.clear()
        with pytest.raises(BadData, match=r"Purchase\.total is an SQL expression; flush the session first"):
            model_of(purchase)
        session.flush()
        queries.clear()
        with pytest.raises(BadData, match=r"Purchase\.total is not loaded"):
            model_of(purchase)
        assert queries == []

    def test_not_yet_flushed(self) -> None:
        with pytest.raises(BadData, match=r"Purchase\.id is not set yet; flush the session first"):
            described(Purchase(total=Decimal(1)))

    def test_detached(self, session: Session, queries: list[str]) -> None:
        loaded, expired = session.get_one(Purchase, 1), session.get_one(Customer, 1)
        session.expire(expired)
        session.expunge_all()
        assert model_of(loaded) == FULL
        queries.clear()
        with pytest.raises(BadData, match=r"Customer\.id is not loaded, and the object has left its session"):
            model_of(expired)
        assert queries == []

    def test_deleted(self, session: Session, queries: list[str]) -> None:
        purchase = session.get_one(Purchase, 1)
        session.delete(purchase)
        session.flush()
        for _ in range(2):
            with pytest.raises(BadData, match="this Purchase was deleted; use push_model"):
                described(purchase)
            queries.clear()
            data, channels = described(purchase, op="deleted")
            assert (data["model"], data["op"], channels) == (FULL, "deleted", ["purchases:1", "user:1"])
            assert queries == []
            session.commit()

    def test_deferred_columns_and_relationships_only_if_loaded_and_named(
        self, session: Session, queries: list[str]
    ) -> None:
        purchase = session.get_one(Purchase, 1)
        queries.clear()
        with pytest.raises(BadData, match=r"Purchase\.note is not loaded"):
            model_of(purchase, fields=["note"])
        with pytest.raises(BadData, match=r"Purchase\.customer is a relationship"):
            model_of(purchase, fields=["customer"])
        assert model_of(purchase, fields=["count"]) == {"count": 1}
        assert queries == []
        assert purchase.note is None
        assert model_of(purchase, fields=["note"]) == {"note": None}

    def test_a_query_that_loaded_some_columns(self, session: Session) -> None:
        purchase = session.scalars(select(Purchase).options(load_only(Purchase.id))).one()
        with pytest.raises(BadData, match=r"Purchase\.total is not loaded"):
            described(purchase)
        assert model_of(purchase, fields=["id"]) == {"id": 1}

    def test_a_channel_from_a_column_that_is_not_loaded(self, session: Session, queries: list[str]) -> None:
        purchase = session.scalars(select(Purchase).options(load_only(Purchase.id))).one()
        queries.clear()
        with pytest.raises(BadData, match=r"Purchase\.customer_id is not loaded"):
            described(purchase, fields=["id"])
        assert queries == []

    def test_its_own_version_column(self, session: Session) -> None:
        counter = Counter(id=1)
        session.add(counter)
        session.flush()
        assert versioned(counter) == (1, "field:turn")

    def test_version_column_that_does_not_count_is_no_version(self, session: Session) -> None:
        session.add(tagged := Tagged(id=1))
        session.flush()
        assert versioned(tagged) == NOW
        assert versioned(tagged, Rule(version="tag")) == (tagged.tag, "field:tag")

    def test_to_dict_without_a_query_of_its_own(self, session: Session, queries: list[str]) -> None:
        session.add(Spoken(id=1, name="ann"))
        session.commit()
        spoken = session.get_one(Spoken, 1)
        assert model_of(spoken) == {"id": 1, "label": "ANN"}
        session.commit()
        queries.clear()
        with pytest.raises(BadData, match=r"Spoken\.id is not loaded"):
            model_of(spoken)
        assert queries == []

    def test_a_row_inside_another_object(self, session: Session) -> None:
        @dataclass
        class Basket:
            customer: Any

        with pytest.raises(BadData, match=r"data\.model\.customer is a Customer, a separate row"):
            model_of(Basket(session.get_one(Customer, 1)))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two Django models in a database, made once."""
    configure(tmp_path_factory.mktemp("django"))
    from django.db import connection, models

    class Owner(models.Model):  # type: ignore[misc]  # noqa: DJ008
        name = models.CharField(max_length=10)

        class Meta:
            app_label = "shop"

    class Pet(models.Model):  # type: ignore[misc]  # noqa: DJ008
        name = models.CharField(max_length=10)
        photo = models.FileField()
        updated_at = models.DateTimeField(auto_now=True)
        owner = models.ForeignKey(Owner, on_delete=models.CASCADE)
        friends = models.ManyToManyField(Owner, related_name="friends")
        __channels__ = ("pets:{id}", "user:{owner_id}")

        class Meta:
            app_label = "shop"

    with connection.schema_editor() as editor:
        editor.create_model(Owner)
        editor.create_model(Pet)
    yield type("Shop", (), {"Owner": Owner, "Pet": Pet, "connection": connection})
    connection.close()


class TestDjango:
    @pytest.fixture
    def pet(self, shop: Any) -> Any:
        owner = shop.Owner.objects.create(name="ann")
        return shop.Pet.objects.create(name="rex", photo="rex.png", owner=owner)

    def test_columns_without_relationships_and_without_a_query(self, shop: Any, pet: Any) -> None:
        from django.test.utils import CaptureQueriesContext

        fresh = shop.Pet.objects.get(pk=pet.pk)
        with CaptureQueriesContext(shop.connection) as queries:
            data, channels = described(fresh)
        assert len(queries) == 0
        assert data["model"] == {
            "id": pet.pk,
            "name": "rex",
            "photo": "rex.png",
            "updated_at": pet.updated_at,
            "owner_id": pet.owner_id,
        }
        assert (data["version"], data["version_kind"]) == NOW
        updated_us = round(pet.updated_at.timestamp() * 1_000_000)
        assert versioned(fresh, Rule(version="updated_at")) == (updated_us, "field:updated_at")
        assert channels == [f"pets:{pet.pk}", f"user:{pet.owner_id}"]

    def test_deferred_columns_are_refused_and_can_be_left_out(self, shop: Any, pet: Any) -> None:
        from django.test.utils import CaptureQueriesContext

        lean = shop.Pet.objects.only("name").get(pk=pet.pk)
        with CaptureQueriesContext(shop.connection) as queries:
            assert model_of(lean, fields=["id", "name"]) == {"id": pet.pk, "name": "rex"}
            assert model_of(lean, exclude=["photo", "updated_at", "owner_id"]) == {"id": pet.pk, "name": "rex"}
            for options in ({}, {"fields": ["photo"]}, {"exclude": ["photo"]}):
                with pytest.raises(BadData, match=r"Pet\.(photo|updated_at) is deferred; call refresh_from_db"):
                    model_of(lean, **options)
        assert len(queries) == 0

    def test_expression_is_refused(self, shop: Any, pet: Any) -> None:
        from django.db.models import F

        pet.name = F("photo")
        with pytest.raises(BadData, match=r"Pet\.name is an expression; call refresh_from_db\(\) first"):
            model_of(pet)
        assert model_of(pet, fields=["photo"]) == {"photo": "rex.png"}

    @pytest.mark.parametrize("name", ["owner", "friends"])
    def test_relationships_are_left_out(self, pet: Any, name: str) -> None:
        with pytest.raises(BadData, match=rf"Pet\.{name} is a relationship"):
            model_of(pet, fields=[name])

    def test_deleted(self, pet: Any) -> None:
        assert model_of(pet, op="deleted")["id"] == pet.pk
        pet.delete()
        with pytest.raises(BadData, match=r"lost its primary key by delete\(\); push before it"):
            described(pet, op="deleted")

    def test_not_yet_saved(self, shop: Any) -> None:
        with pytest.raises(BadChannel, match="id of this Pet is None; push after it was saved"):
            described(shop.Pet(name="new"))


def test_importing_tidings_imports_no_framework() -> None:
    import subprocess
    import sys

    program = (
        "import sys, tidings.emitter, tidings.async_emitter\n"
        "print([name for name in ('django', 'sqlalchemy', 'pydantic', 'redis', 'eventlet', 'gevent') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
