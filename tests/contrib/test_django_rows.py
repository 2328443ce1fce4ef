"""What Django's `autopush` publishes is the row that the database has, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from support.processes.database import KINDS, start_database
from support.programs.django_project import configure
from support.programs.example_programs import PublishedHistory
from tidings.errors import BadChannel, BadData, BadRequest, TidingsError

ENGINES = {"sqlite": "sqlite3", "postgresql": "postgresql", "mariadb": "mysql"}


@pytest.fixture(scope="module", params=KINDS)
def stall(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Models with tables in one database, whose alias is `using`."""
    import pymysql

    pymysql.install_as_MySQLdb()  # type: ignore[no-untyped-call]
    configure(tmp_path_factory.mktemp("django"))
    from django.conf import settings
    from django.db import connections

    using = f"rows_{request.param}"
    database = start_database(request.param)
    url = make_url(database.url)
    values: dict[str, Any] = {"ENGINE": f"django.db.backends.{ENGINES[request.param]}", "NAME": url.database}
    if request.param != "sqlite":
        values |= {"USER": url.username, "HOST": url.query.get("host") or url.query["unix_socket"]}
    connections.settings[using] = connections.configure_settings({**settings.DATABASES, using: values})[using]
    models = rows_models()
    with connections[using].schema_editor() as editor:
        for model in vars(models).values():
            if not model._meta.proxy:
                editor.create_model(model)
    yield SimpleNamespace(**vars(models), using=using, kind=request.param)
    connections[using].close()
    del connections[using]
    del connections.settings[using]
    database.stop()


def rows_models() -> Any:
    """The models, defined once per process."""
    if MODELS:
        return MODELS[0]
    from django.db import models

    from tidings.contrib import django as tidings

    class Meta:
        app_label = "rows"

    @tidings.autopush(channels="orders:all")
    class Order(models.Model):  # type: ignore[misc]  # noqa: DJ008
        count = models.IntegerField(default=10)
        status = models.CharField(max_length=10, default="new")
        place = models.IntegerField(db_default=3)
        double = models.GeneratedField(
            expression=models.F("count") * 2, output_field=models.IntegerField(), db_persist=True
        )
        updated_at = models.DateTimeField(auto_now=True)
        Meta = type("Meta", (), {"app_label": "rows"})

    class Express(Order):  # noqa: DJ008
        __autopush__ = True
        car = models.CharField(max_length=10, default="")
        Meta = type("Meta", (), {"app_label": "rows"})

    @tidings.autopush(channels="orders:trusted", reread=False)
    class Trusted(models.Model):  # type: ignore[misc]  # noqa: DJ008
        count = models.IntegerField(default=10)
        status = models.CharField(max_length=10, default="new")
        Meta = type("Meta", (), {"app_label": "rows"})

    def channels(row: Any) -> list[str]:
        if row.owner == "boom":
            raise ZeroDivisionError("the application's own")
        return [] if row.owner == "none" else [f"orders:{row.owner}"]

    @tidings.autopush(channels=channels)
    class Owned(models.Model):  # type: ignore[misc]  # noqa: DJ008
        owner = models.CharField(max_length=10, default="ann")
        version = models.IntegerField(default=1)
        Meta = type("Meta", (), {"app_label": "rows"})

    class Person(models.Model):  # type: ignore[misc]  # noqa: DJ008
        name = models.CharField(max_length=10, default="ann")
        Meta = type("Meta", (), {"app_label": "rows"})

    class Member(Person):  # noqa: DJ008
        club = models.CharField(max_length=10, default="")
        Meta = type("Meta", (), {"app_label": "rows"})

    class Guest(Person):  # noqa: DJ008
        Meta = type("Meta", (), {"app_label": "rows", "proxy": True})

    # As `ready()` of another application does it: the subclasses exist already.
    tidings.autopush(channels="orders:people")(Person)

    class Sealed(models.CharField):  # type: ignore[misc]
        def from_db_value(self, value: str, *_: object) -> str:
            if value == "broken":
                raise ValueError("cannot decrypt")
            return value

    @tidings.autopush(channels="orders:seats")
    class Seat(models.Model):  # type: ignore[misc]  # noqa: DJ008
        pk = models.CompositePrimaryKey("line", "number")
        line = models.IntegerField()
        number = models.IntegerField()
        secret = Sealed(max_length=10, default="x")
        Meta = type("Meta", (), {"app_label": "rows"})

    names = SimpleNamespace(Order=Order, Express=Express, Trusted=Trusted, Owned=Owned, Seat=Seat)
    MODELS.append(SimpleNamespace(**vars(names), Person=Person, Member=Member, Guest=Guest))
    return MODELS[0]


MODELS: list[Any] = []


@pytest.fixture
def project(stall: Any, published: PublishedHistory) -> Iterator[Any]:
    """The models with empty tables, and an emitter with a Redis prefix of this test only."""
    from django.test import override_settings

    from tidings.contrib.django import emitter

    with override_settings(TIDINGS={"URL": published.url, "PREFIX": published.prefix}):
        yield stall
        emitter().close()
    for name in ("Express", "Order", "Trusted", "Owned", "Seat", "Member", "Person"):
        model = getattr(stall, name)
        model.objects.using(stall.using).all()._raw_delete(stall.using)


@pytest.fixture
def elsewhere(project: Any) -> Iterator[Callable[..., None]]:
    """Change rows as another process does."""
    from django.db import connections

    other = connections.create_connection(project.using)

    def execute(statement: str) -> None:
        with other.cursor() as cursor:
            cursor.execute(statement)

    yield execute
    other.close()


def atomic(using: str, *, is_atomic: bool = True) -> Any:
    from django.db import transaction

    return transaction.atomic(using) if is_atomic else nullcontext()


def row(project: Any, name: str, **where: Any) -> dict[str, Any]:
    """The row as the database has it, as JSON has it."""
    instance = getattr(project, name).objects.using(project.using).get(**where)
    fields = [field.attname for field in instance._meta.concrete_fields]
    values = {name: getattr(instance, name) for name in fields}
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in values.items()}


def last(published: PublishedHistory, channel: str = "orders:all") -> dict[str, Any]:
    """The model that a page shows: that of the highest version, and of equal versions the latest."""
    pushes = published.data(channel)
    assert len({push["version_kind"] for push in pushes}) == 1
    newest: dict[str, Any] = max(enumerate(pushes), key=lambda item: (item[1]["version"], item[0]))[1]["model"]
    return newest


BOTH = pytest.mark.parametrize("is_atomic", [True, False])


class TestColumns:
    @BOTH
    def test_computed_columns_are_those_of_the_row(
        self, is_atomic: bool, project: Any, published: PublishedHistory
    ) -> None:
        from django.db.models import F

        with atomic(project.using, is_atomic=is_atomic):
            order = project.Order.objects.using(project.using).create()
            order.count = F("count") + 1
            order.save()
            order.count = 21
            order.save()
        assert last(published) == row(project, "Order")
        assert (last(published)["count"], last(published)["double"], last(published)["place"]) == (21, 42, 3)
        kind = published.data("orders:all")[-1]["version_kind"].partition(":")[0]
        assert kind == ("clock" if project.kind == "sqlite" else "database")

    def test_rest_of_the_transaction_is_pushed(self, project: Any, published: PublishedHistory) -> None:
        orders = project.Order.objects.using(project.using)
        with atomic(project.using):
            order = orders.create()
            with atomic(project.using):
                order.save()
            orders.update(status="bulk")
        assert {model["status"] for _, model in published.ops("orders:all")} == {"bulk"}
        assert last(published) == row(project, "Order")

    @BOTH
    def test_partly_loaded_object_is_pushed_whole(
        self, is_atomic: bool, project: Any, published: PublishedHistory
    ) -> None:
        project.Order.objects.using(project.using).bulk_create([project.Order()])
        with atomic(project.using, is_atomic=is_atomic):
            order = project.Order.objects.using(project.using).only("status").get()
            order.status = "shipped"
            order.save()
        assert last(published) == row(project, "Order")
        assert len(published.data("orders:all")) == 1

    def test_key_that_was_set_as_text(self, project: Any, published: PublishedHistory) -> None:
        project.Order(id="7").save(using=project.using)
        with atomic(project.using):
            project.Order(id="8").save(using=project.using)
        assert [(op, model["id"]) for op, model in published.ops("orders:all")] == [("created", 7), ("created", 8)]

    def test_composite_key_that_was_set_as_text(self, project: Any, published: PublishedHistory) -> None:
        seat = project.Seat(line="1", number=2)
        for is_atomic in (False, True):
            with atomic(project.using, is_atomic=is_atomic):
                seat.save(using=project.using)
        assert [(op, model["line"]) for op, model in published.ops("orders:seats")] == [("created", 1), ("updated", 1)]

    def test_subclasses_that_exist_before_autopush(self, project: Any, published: PublishedHistory) -> None:
        for name in ("Person", "Member", "Guest"):
            getattr(project, name).objects.using(project.using).create()
        assert [push["class"] for push in published.data("orders:people")] == ["Person", "Member", "Guest"]

    def test_row_that_is_saved_through_its_model_and_a_proxy_is_published_once(
        self, project: Any, published: PublishedHistory
    ) -> None:
        person = project.Person.objects.using(project.using).create()
        with atomic(project.using):
            project.Guest.objects.using(project.using).get().delete()
            project.Person(id=person.pk, name="bob").save(using=project.using)
        assert published.ops("orders:people")[1:] == [("updated", {"id": person.pk, "name": "bob"})]

    def test_pushes_by_hand_are_complete_or_refused(self, project: Any, published: PublishedHistory) -> None:
        from django.db.models import F

        from tidings.contrib.django import emitter, push_model

        project.Order.objects.using(project.using).bulk_create([project.Order()])
        order = project.Order.objects.using(project.using).only("status").get()
        with pytest.raises(BadData, match="is deferred"):
            emitter().push_model(order)
        push_model(order, using=project.using)
        assert last(published) == row(project, "Order")
        trusted = project.Trusted(id=1, count=F("count") + 1)
        with pytest.raises(BadData, match="is an expression"):
            push_model(trusted, using=project.using)


class TestWriters:
    @BOTH
    @pytest.mark.parametrize("name", ["Order", "Trusted"])
    def test_two_writers_of_different_columns(
        self, name: str, is_atomic: bool, project: Any, elsewhere: Callable[..., None], published: PublishedHistory
    ) -> None:
        model = getattr(project, name)
        model.objects.using(project.using).bulk_create([model()])
        instance = model.objects.using(project.using).get()
        elsewhere(f"UPDATE rows_{name.lower()} SET count = 20")
        instance.status = "shipped"
        with atomic(project.using, is_atomic=is_atomic):
            instance.save(update_fields=["status"])
        stored = row(project, name)
        assert (stored["count"], stored["status"]) == (20, "shipped")
        channel = "orders:all" if name == "Order" else "orders:trusted"
        # Without a second look at the row, the push has the count that the object was loaded with.
        assert last(published, channel) == (stored if name == "Order" else stored | {"count": 10})

    def test_version_does_not_go_back_with_auto_now(self, project: Any, published: PublishedHistory) -> None:
        project.Order.objects.using(project.using).bulk_create([project.Order()])
        mine, theirs = (project.Order.objects.using(project.using).get() for _ in range(2))
        mine.count = 20
        mine.save()
        theirs.status = "shipped"
        theirs.save(update_fields=["status"])
        assert last(published) == row(project, "Order")
        first, second = (push["version"] for push in published.data("orders:all"))
        assert first < second

    def test_writers_of_two_tables_of_one_object(
        self, project: Any, elsewhere: Callable[..., None], published: PublishedHistory
    ) -> None:
        express = project.Express(car="bike")
        express.save(using=project.using)
        express.status = "shipped"
        elsewhere("UPDATE rows_express SET car = 'van'")
        with atomic(project.using):
            express.save(update_fields=["status"])
        assert last(published) == row(project, "Express")
        assert (last(published)["car"], last(published)["status"]) == ("van", "shipped")

    @BOTH
    def test_deletion_has_the_channel_and_the_version_of_the_row(
        self, is_atomic: bool, project: Any, elsewhere: Callable[..., None], published: PublishedHistory
    ) -> None:
        project.Owned.objects.using(project.using).bulk_create([project.Owned()])
        owned = project.Owned.objects.using(project.using).get()
        elsewhere("UPDATE rows_owned SET owner = 'bob', version = 9")
        with atomic(project.using, is_atomic=is_atomic):
            owned.delete()
        assert published.data("orders:ann") == []
        [push] = published.data("orders:bob")
        assert (push["op"], push["version"], push["version_kind"]) == ("deleted", 9, "field:version")
        assert push["model"]["id"] is not None

    def test_channel_is_that_of_the_row(
        self, project: Any, elsewhere: Callable[..., None], published: PublishedHistory
    ) -> None:
        project.Owned.objects.using(project.using).bulk_create([project.Owned(), project.Owned(owner="none")])
        first, second = project.Owned.objects.using(project.using).order_by("id")
        elsewhere(f"UPDATE rows_owned SET owner = 'none' WHERE id = {first.pk}")
        elsewhere(f"UPDATE rows_owned SET owner = 'bob' WHERE id = {second.pk}")
        for owned in (first, second):
            owned.version += 1
            with atomic(project.using):
                owned.save(update_fields=["version"])
        assert published.data("orders:ann") == []
        assert [model["id"] for _, model in published.ops("orders:bob")] == [second.pk]

    def test_row_that_another_process_deleted(
        self, project: Any, elsewhere: Callable[..., None], published: PublishedHistory, caplog: Any
    ) -> None:
        project.Trusted.objects.using(project.using).bulk_create([project.Trusted()])
        owned = project.Owned.objects.using(project.using).create()
        elsewhere("DELETE FROM rows_owned")
        owned.delete(using=project.using)
        assert [op for op, _ in published.ops("orders:ann")] == ["created"]
        with caplog.at_level(logging.WARNING, "tidings"), atomic(project.using):
            owned = project.Owned.objects.using(project.using).create()
            project.Owned.objects.using(project.using).all()._raw_delete(project.using)
        assert len(published.ops("orders:ann")) == 1
        assert "a row of Owned was not published: it is not in the database after its commit" in caplog.text


class TestMoves:
    """A row that leaves a channel is deleted in the lists of that channel."""

    @BOTH
    def test_row_is_deleted_in_the_channel_that_it_left(
        self, is_atomic: bool, project: Any, elsewhere: Callable[..., None], published: PublishedHistory
    ) -> None:
        project.Owned.objects.using(project.using).bulk_create([project.Owned()])
        owned = project.Owned.objects.using(project.using).get()
        elsewhere("UPDATE rows_owned SET owner = 'cid'")
        owned.owner, owned.version = "bob", 2
        with atomic(project.using, is_atomic=is_atomic):
            owned.save()
        assert ops(published, "orders:bob") == [("updated", owned.pk)]
        # Not that of the object, which was loaded earlier; with the fields that the channel knows.
        assert published.data("orders:ann") == []
        [push] = published.data("orders:cid")
        assert push["model"] == {"id": owned.pk, "owner": "cid", "version": 1}
        assert (push["op"], push["version"], push["version_kind"]) == ("deleted", 2, "field:version")

    def test_several_changes_of_one_transaction(self, project: Any, published: PublishedHistory) -> None:
        from django.db import transaction

        manager = project.Owned.objects.using(project.using)
        manager.bulk_create([project.Owned(id=number) for number in range(1, 7)])
        moved, back, rolled, deleted, replaced, none = manager.order_by("id")
        with atomic(project.using):
            for owned in (moved, back, deleted):
                owned.owner = "bob"
                owned.save()
            moved.owner, back.owner, none.owner = "cid", "ann", "none"
            for owned in (moved, back, none):
                owned.save()
            for owned in (deleted, replaced):
                owned.delete()
            with atomic(project.using):
                rolled.owner = "bob"
                rolled.save()
                transaction.set_rollback(True, project.using)
            project.Owned(id=5, owner="cid").save(using=project.using)
            new = manager.create(owner="bob")
            new.owner = "cid"
            new.save()
        assert sorted(ops(published, "orders:ann")) == [
            *(("deleted", 1), ("deleted", 4), ("deleted", 5), ("deleted", 6)),
            ("updated", 2),
        ]
        assert sorted(ops(published, "orders:cid")) == [("created", new.pk), ("updated", 1), ("updated", 5)]
        assert published.data("orders:bob") == []

    def test_nothing_is_read_if_the_channel_cannot_change(self, project: Any, published: PublishedHistory) -> None:
        from django.db import connections
        from django.test.utils import CaptureQueriesContext

        order = project.Order(id=1)
        order.save(using=project.using)
        with CaptureQueriesContext(connections[project.using]) as queries:
            order.save(using=project.using)
        clock = project.kind != "sqlite"
        assert [query["sql"].split()[0] for query in queries] == ["UPDATE", *["SELECT"] * (1 + clock)]

    def test_row_before_that_has_no_channel_can_be_changed(
        self, project: Any, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        manager = project.Owned.objects.using(project.using)
        manager.bulk_create([project.Owned(owner="a b"), project.Owned(owner="boom")])
        with caplog.at_level(logging.WARNING, "tidings"):
            for owned in manager.order_by("id"):
                owned.owner = "bob"
                owned.save()
        assert [op for op, _ in ops(published, "orders:bob")] == ["updated", "updated"]
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "lists may keep a changed Owned: channels of its previous row raised ZeroDivisionError" in caplog.text


def ops(published: PublishedHistory, channel: str) -> list[tuple[str, int]]:
    return [(op, model["id"]) for op, model in published.ops(channel)]


class TestErrors:
    def test_nothing_is_lost_if_a_function_of_the_application_raises(
        self, project: Any, published: PublishedHistory
    ) -> None:
        from django.db import transaction

        from tidings.contrib.django import emit

        calls: list[str] = []

        def fail() -> None:
            calls.append("fail")
            raise ZeroDivisionError("the application's own")

        def block() -> None:
            with transaction.atomic(project.using):
                emit("e", 1, channel="a:1", using=project.using)
                transaction.on_commit(fail, using=project.using)
                transaction.on_commit(lambda: calls.append("later"), using=project.using)
                with transaction.atomic(project.using):
                    emit("e", 2, channel="a:1", using=project.using)
                    project.Order.objects.using(project.using).create()
                with transaction.atomic(project.using):
                    emit("e", 3, channel="a:1", using=project.using)
                    transaction.set_rollback(True, project.using)

        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                block()
        assert published.data("a:1") == [1, 2, 1, 2]
        assert len(published.data("orders:all")) == 2
        assert calls == ["fail", "fail"]

    @BOTH
    def test_row_that_the_application_cannot_load_is_reported_and_others_are_published(
        self, is_atomic: bool, project: Any, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        seats = project.Seat.objects.using(project.using)
        with caplog.at_level(logging.WARNING, "tidings"), atomic(project.using, is_atomic=is_atomic):
            seats.create(line=1, number=1, secret="broken")
            seats.create(line=1, number=2)
        assert seats.count() == 2
        assert [model["number"] for _, model in published.ops("orders:seats")] == [2]
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "a committed row could not be read again: ValueError('cannot decrypt')" in caplog.text

    @pytest.mark.parametrize("name", ["Order", "Trusted"])
    def test_nothing_raises_if_the_connection_is_closed_after_the_commit(
        self, name: str, project: Any, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        from django.db import InterfaceError, connections
        from django.db.models import F

        def fail(execute: Any, sql: str, *arguments: Any) -> Any:
            if sql.startswith("SELECT"):
                raise InterfaceError("connection already closed")
            return execute(sql, *arguments)

        project.Trusted.objects.using(project.using).bulk_create([project.Trusted(id=1)])
        trusted = project.Trusted(id=1, count=F("count") + 1)
        with connections[project.using].execute_wrapper(fail), caplog.at_level(logging.ERROR, "tidings"):
            if name == "Trusted":
                trusted.save(using=project.using, force_update=True)
            else:
                project.Order(id=1).save(using=project.using, force_insert=True)
        assert "the committed rows could not be read again: InterfaceError" in caplog.text
        assert getattr(project, name).objects.using(project.using).count() == 1

    @BOTH
    def test_row_that_cannot_be_read_again_is_reported(
        self, is_atomic: bool, project: Any, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        from django.db import OperationalError, connections

        from tidings.contrib.django import emit

        def fail(execute: Any, sql: str, *arguments: Any) -> Any:
            if sql.startswith("SELECT") and not connections[project.using].in_atomic_block:
                raise OperationalError("the database is away")
            return execute(sql, *arguments)

        with (
            connections[project.using].execute_wrapper(fail),
            caplog.at_level(logging.ERROR, "tidings"),
            atomic(project.using, is_atomic=is_atomic),
        ):
            project.Owned(owner="cid").save(using=project.using)
            emit("e", 1, channel="a:1", using=project.using)
        assert "the committed rows could not be read again: OperationalError" in caplog.text
        assert published.data("orders:cid") == []
        assert published.data("a:1") == [1]
        assert project.Owned.objects.using(project.using).count() == 1

    def test_row_that_cannot_be_published_is_reported_and_others_are_published(
        self, project: Any, elsewhere: Callable[..., None], published: PublishedHistory
    ) -> None:
        from django.test import override_settings

        errors: list[TidingsError] = []
        settings = {"URL": published.url, "PREFIX": published.prefix, "ON_ERROR": lambda error, _: errors.append(error)}
        with override_settings(TIDINGS=settings):
            project.Owned.objects.using(project.using).bulk_create([project.Owned()])
            owned = project.Owned.objects.using(project.using).get()
            for owner in ("a b", "boom"):
                elsewhere(f"UPDATE rows_owned SET owner = '{owner}'")
                owned.version += 1
                owned.save(update_fields=["version"])
            with atomic(project.using):
                owned.save(update_fields=["version"])
                project.Order.objects.using(project.using).create()
        assert [type(error) for error in errors] == [BadChannel, BadRequest, BadRequest]
        assert "channels, version or to_dict() of Owned raised ZeroDivisionError" in str(errors[1])
        assert published.data("orders:ann") == []
        assert len(published.data("orders:all")) == 1
