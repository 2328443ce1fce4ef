"""push_model with real dataclasses, pydantic, SQLAlchemy and Django models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from pydantic import BaseModel, Field, SecretStr
from sqlalchemy import ForeignKey, create_engine, event, func, select, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    load_only,
    mapped_column,
    relationship,
)

from support.programs.django_project import configure
from tidings.builder import PublicationBuilder
from tidings.errors import BadChannel, BadData, BadRequest
from tidings.models import SHARED, ModelOptions, Registry, Rule, describe, register
from tidings.wire.payload import encode_data

NOW_US = 1_790_000_000_123_456

VECTORS = Path(__file__).parents[3] / "vectors"


def described(obj: object, rule: Rule | None = None, **shape: Any) -> tuple[dict[str, Any], list[str]]:
    data, channels = describe(
        obj, cast("ModelOptions", shape), rule or Registry().rule(type(obj)), channels=None, now_us=NOW_US
    )
    encode_data(data)
    return data, channels


def model_of(obj: object, **shape: Any) -> dict[str, Any]:
    model = described(obj, Rule(channels="any:1").with_defaults(Registry().rule(type(obj))), **shape)[0]["model"]
    assert isinstance(model, dict)
    return model


def version_of(obj: object, rule: Rule | None = None, **shape: Any) -> Any:
    return described(obj, (rule or Rule()).with_defaults(Rule(channels="any:1")), **shape)[0]["version"]


@dataclass
class Line:
    sku: str
    secret: str = "s"
    __push_fields__ = ("sku",)


@dataclass
class Order:
    id: int
    customer: str = "ann"
    lines: list[Line] = field(default_factory=list)
    _private: str = "p"
    __channels__: ClassVar[list[str]] = ["orders:{id}", "user:{customer}"]


class ToDict:
    def __init__(self, **values: Any) -> None:
        self.values = values
        self.id = 7

    def to_dict(self) -> dict[str, Any]:
        return self.values


class TestData:
    def test_the_four_keys(self) -> None:
        data, channels = described(Order(42), op="created", version=3)
        assert data == {
            "class": "Order",
            "model": {"id": 42, "customer": "ann", "lines": []},
            "op": "created",
            "version": 3,
        }
        assert channels == ["orders:42", "user:ann"]

    def test_the_default_op_is_updated(self) -> None:
        assert described(Order(42))[0]["op"] == "updated"

    @pytest.mark.parametrize("op", ["", "delete", None, "UPDATED", 3])
    def test_another_op_is_refused(self, op: Any) -> None:
        with pytest.raises(BadRequest, match="one of created, updated, deleted"):
            described(Order(42), op=op)

    @pytest.mark.parametrize("obj", [{"id": 1}, [1], "text", 42, None, object(), Order, ToDict])
    def test_what_is_no_model_is_refused(self, obj: object) -> None:
        with pytest.raises(BadData, match="is not a model"):
            described(obj)


class TestFields:
    def test_only_those_named(self) -> None:
        assert model_of(Order(42), fields=["customer", "id"]) == {"customer": "ann", "id": 42}

    def test_all_but_those_excluded(self) -> None:
        assert model_of(Order(42), exclude={"lines"}) == {"id": 42, "customer": "ann"}

    def test_a_private_field_only_when_named(self) -> None:
        assert "_private" not in model_of(Order(42))
        assert model_of(Order(42), fields=["_private"]) == {"_private": "p"}

    def test_the_nearest_rule_counts_and_exclusions_add_up(self) -> None:
        rule = Rule(channels="a:1", fields=("id", "customer", "lines"), exclude=("lines",))
        assert described(Order(42), rule)[0]["model"] == {"id": 42, "customer": "ann"}
        assert described(Order(42), rule, exclude=["id"])[0]["model"] == {"customer": "ann"}
        assert described(Order(42), rule, fields=["id", "lines"])[0]["model"] == {"id": 42}

    def test_the_class_says_it(self) -> None:
        assert model_of(Line("x")) == {"sku": "x"}
        assert model_of(Order(1, lines=[Line("x")]))["lines"] == [{"sku": "x"}]

    @pytest.mark.parametrize("option", ["fields", "exclude"])
    def test_a_misspelt_name_is_an_error(self, option: str) -> None:
        with pytest.raises(BadRequest, match="Order has no custmer; it has _private, customer, id, lines"):
            described(Order(42), None, **{option: ["custmer"]})

    @pytest.mark.parametrize("option", ["fields", "exclude"])
    @pytest.mark.parametrize("names", ["id", b"id", 3, [1], [None]])
    def test_names_must_be_a_list(self, option: str, names: Any) -> None:
        with pytest.raises(BadRequest, match=f"{option} must be a list"):
            described(Order(42), **{option: names})

    def test_a_property_can_be_named(self) -> None:
        @dataclass
        class Priced:
            net: int

            @property
            def gross(self) -> int:
                return self.net + 1

        assert model_of(Priced(1)) == {"net": 1}
        assert model_of(Priced(1), fields=["gross"]) == {"gross": 2}

    def test_nested_dataclasses_and_cycles(self) -> None:
        @dataclass
        class Node:
            children: list[Any]

        assert model_of(Node([Node([]), {"x": Node([])}])) == {"children": [{"children": []}, {"x": {"children": []}}]}
        loop = Node([])
        loop.children.append(Node([loop]))
        with pytest.raises(BadData, match=r"data\.model\.children\[0\]\.children\[0\] contains itself"):
            model_of(loop)
        deep = Node([])
        for _ in range(100):
            deep = Node([deep])
        with pytest.raises(BadData, match="deeper than 64"):
            model_of(deep)

    def test_a_value_that_json_cannot_say_names_its_path(self) -> None:
        with pytest.raises(BadData, match=r"data\.model\.customer"):
            described(Order(42, customer=b"x"), Rule(channels="a:1"))  # type: ignore[arg-type]


class TestToDict:
    def test_comes_first(self) -> None:
        assert model_of(ToDict(a=1, _b=2)) == {"a": 1, "_b": 2}

    def test_can_be_limited(self) -> None:
        assert model_of(ToDict(a=1, b=2), fields=["b"]) == {"b": 2}
        assert model_of(ToDict(a=1, b=2), exclude=["b"]) == {"a": 1}

    @pytest.mark.parametrize("said", [None, [("a", 1)], "text", {1: 2}])
    def test_must_be_a_dict(self, said: Any) -> None:
        obj = ToDict()
        obj.values = said
        with pytest.raises(BadData, match=r"ToDict\.to_dict\(\) returned no dict"):
            model_of(obj)

    def test_its_own_exceptions_pass(self) -> None:
        class Broken:
            def to_dict(self) -> dict[str, Any]:
                raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            model_of(Broken())

    def test_templates_read_attributes_and_then_keys(self) -> None:
        assert described(ToDict(a="x"), Rule(channels=["n:{id}", "n:{a}"]))[1] == ["n:7", "n:x"]


class TestChannels:
    def test_given_ones_count_alone(self) -> None:
        builder = PublicationBuilder()
        assert [item.channel for item in builder.build_model(Order(1), user="9")] == ["user:9"]
        assert [item.channel for item in builder.build_model(Order(1))] == ["orders:1", "user:ann"]

    def test_a_function(self) -> None:
        assert described(Order(1), Rule(channels=lambda o: f"o:{o.id}"))[1] == ["o:1"]
        assert described(Order(1), Rule(channels=lambda o: [f"o:{o.id}", "o:1", "o:2"]))[1] == ["o:1", "o:2"]

    def test_a_function_in_the_class(self) -> None:
        @dataclass
        class Told:
            id: int

            def __channels__(self) -> list[str]:
                return [f"told:{self.id}"]

        assert described(Told(3))[1] == ["told:3"]

    @pytest.mark.parametrize("answer", [None, [], "", "orders", [""], [None], 3])
    def test_a_function_that_names_none(self, answer: Any) -> None:
        with pytest.raises(BadChannel):
            described(Order(1), Rule(channels=lambda _: answer))

    def test_none_at_all(self) -> None:
        with pytest.raises(BadChannel, match=r"no channel for a Line: .*Line\.__channels__ = \['name:{id}'\]"):
            described(Line("x"))

    @pytest.mark.parametrize("value", [None, "", "a b", "\n", "x" * 200])
    def test_a_template_that_the_object_cannot_fill(self, value: Any) -> None:
        with pytest.raises(BadChannel):
            described(Order(1, customer=value))

    @pytest.mark.parametrize(
        "template", ["o:{id.real}", "o:{0}", "o:{}", "o:{id!r}", "o:{id:>9}", "o:{id[0]}", "o:{", 3]
    )
    def test_a_template_that_is_none(self, template: Any) -> None:
        with pytest.raises(BadChannel, match=r"not a template|list of templates"):
            described(Order(1), Rule(channels=[template]))

    def test_a_template_that_names_no_attribute(self) -> None:
        with pytest.raises(BadData, match="Order has no attribute 'nothing'"):
            described(Order(1), Rule(channels="o:{nothing}"))

    def test_an_enum_stands_for_its_value(self) -> None:
        class Region(Enum):
            NORTH = "north"

        assert described(Order(1, customer=Region.NORTH))[1][1] == "user:north"  # type: ignore[arg-type]


class TestRegistry:
    def test_nearest_first_and_each_part_for_itself(self) -> None:
        class Special(Order):
            pass

        shared = Registry()
        shared.register(Order, channels=["shared:{id}"], fields=["id"], version="id")
        own = Registry(shared)
        own.register(Special, channels=["special:{id}"])
        assert own.rule(Special) == Rule(("special:{id}",), ("id",), None, "id")
        assert own.rule(Order) == Rule(("shared:{id}",), ("id",), None, "id")
        assert Registry().rule(Special).channels == ["orders:{id}", "user:{customer}"]

    def test_the_whole_process(self) -> None:
        class Everywhere:
            id = 1

            def to_dict(self) -> dict[str, Any]:
                return {"id": self.id}

        register(Everywhere, channels=["everywhere:{id}"])
        assert [item.channel for item in PublicationBuilder(registry=Registry(SHARED)).build_model(Everywhere())] == [
            "everywhere:1"
        ]

    def test_takes_classes_only(self) -> None:
        with pytest.raises(BadRequest, match="not a class"):
            register(Order(1), channels=["a:1"])  # type: ignore[arg-type]


class TestVersion:
    AT = datetime(2026, 11, 22, 12, 0, 0, 5, tzinfo=UTC)
    AT_US = 1_795_348_800_000_005

    def test_the_option_comes_first(self) -> None:
        class Versioned(ToDict):
            version = 5

        assert version_of(Versioned(), Rule(version="id"), version=9) == 9
        assert version_of(Versioned(), Rule(version="id")) == 7
        assert version_of(Versioned(), Rule(version=lambda o: o.id * 2)) == 14
        assert version_of(Versioned()) == 5

    def test_updated_at(self) -> None:
        obj = ToDict()
        obj.updated_at = self.AT  # type: ignore[attr-defined]
        assert version_of(obj) == self.AT_US

    def test_the_vectors_that_javascript_is_held_to(self) -> None:
        for case in json.loads((VECTORS / "model_version.json").read_text())["good"]:
            obj = ToDict()
            for name, value in case["model"].items():
                setattr(obj, name, value if name == "version" else datetime.fromisoformat(value))
            assert version_of(obj) == case["version"]

    def test_datetimes_compare_with_each_other_and_with_the_clock(self) -> None:
        east = self.AT.astimezone(timezone(timedelta(hours=5)))
        assert version_of(ToDict(), version=east) == self.AT_US
        assert version_of(ToDict(), version=self.AT.replace(tzinfo=None)) == self.AT_US
        assert version_of(ToDict()) == NOW_US

    def test_text_that_merely_is_called_version_does_not_count(self) -> None:
        obj = ToDict()
        obj.version = "1.10"  # type: ignore[attr-defined]
        assert version_of(obj) == NOW_US
        assert version_of(obj, Rule(version="version")) == "1.10"

    @pytest.mark.parametrize("version", [True, float("nan"), float("inf"), b"\x01", [1], Decimal(1), object()])
    def test_what_cannot_be_compared_is_refused(self, version: Any) -> None:
        with pytest.raises(BadData, match="a version is a number, a string or a datetime"):
            version_of(ToDict(), version=version)

    def test_a_registered_attribute_that_is_none(self) -> None:
        with pytest.raises(BadData, match=r"Order\.customer is None"):
            version_of(Order(1, customer=None), Rule(version="customer"))  # type: ignore[arg-type]

    def test_the_clock_never_goes_back(self) -> None:
        moments = iter([2_000_000, 2_000_000, 1_000_000, 1_000_000, 3_000_000, 3_000_000])
        builder = PublicationBuilder(clock_ns=lambda: next(moments))
        pushed = [builder.build_model(Line("x"), channel="a:1")[0].body for _ in range(3)]
        assert [b'"version":%d' % number in body for number, body in zip((2000, 2000, 3000), pushed, strict=True)] == (
            [True] * 3
        )


class Account(BaseModel):
    id: int
    name: str
    balance: Decimal = Decimal("1.50")
    tags: set[str] = {"a"}
    password: SecretStr = SecretStr("hunter2")
    internal: str = Field(default="x", exclude=True)


class TestPydantic:
    def test_its_own_json_form(self) -> None:
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

    def test_what_it_cannot_say(self) -> None:
        class Odd(BaseModel):
            raw: bytes

        with pytest.raises(BadData, match="Odd cannot be said in JSON"):
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


class Counted(Base):
    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    turn: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": turn}  # noqa: RUF012


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

    def test_what_a_commit_expired_is_an_error_and_no_query(self, session: Session, queries: list[str]) -> None:
        purchase = session.get_one(Purchase, 1)
        session.commit()
        queries.clear()
        with pytest.raises(BadData, match=r"Purchase\.id is not loaded \(.*expired it\); session\.refresh\(\) first"):
            described(purchase)
        assert queries == []
        session.refresh(purchase)
        assert described(purchase)[0]["model"] == FULL

    def test_what_a_flush_expired_can_be_left_out(self, session: Session, queries: list[str]) -> None:
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
            with pytest.raises(BadData, match="this Purchase was deleted; say push_model"):
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
        counted = Counted(id=1)
        session.add(counted)
        session.flush()
        assert version_of(counted) == 1

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

        with pytest.raises(BadData, match=r"data\.model\.customer is a Customer, a row of its own"):
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
        assert data["version"] == round(pet.updated_at.timestamp() * 1_000_000)
        assert channels == [f"pets:{pet.pk}", f"user:{pet.owner_id}"]

    def test_deferred_columns_only_if_loaded(self, shop: Any, pet: Any) -> None:
        from django.test.utils import CaptureQueriesContext

        lean = shop.Pet.objects.only("name").get(pk=pet.pk)
        with CaptureQueriesContext(shop.connection) as queries:
            assert model_of(lean, version=1) == {"id": pet.pk, "name": "rex"}
            for wanted in ({"fields": ["photo"], "version": 1}, {"fields": ["id"]}):
                with pytest.raises(BadData, match=r"Pet\.(photo|updated_at) is deferred"):
                    model_of(lean, **wanted)
        assert len(queries) == 0

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
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
