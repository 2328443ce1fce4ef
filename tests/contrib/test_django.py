"""The Django integration in a real project with SQLite, transactions, rollbacks, savepoints and a real Redis."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.network.http_hub import API_KEY, HttpHub
from support.ports import free_port
from support.processes.hub import environment
from support.programs.django_project import configure
from support.programs.example_programs import PublishedHistory, program_of
from tidings.errors import BadChannel, BadRequest, TooLarge
from tidings.receipts import BatchFailed


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The project's models, with their tables in both databases."""
    configure(tmp_path_factory.mktemp("django"))
    from django.db import connections, models

    from tidings.contrib import django as tidings

    class Order(models.Model):  # type: ignore[misc]  # noqa: DJ008
        __channels__ = ("orders:{id}", "orders:all")
        __autopush__ = True
        status = models.CharField(max_length=10, default="new")
        count = models.IntegerField(default=1)

        class Meta:
            app_label = "stall"

    class Express(Order):  # noqa: DJ008
        hours = models.IntegerField()

        class Meta:
            app_label = "stall"

    class Item(models.Model):  # type: ignore[misc]  # noqa: DJ008
        __channels__ = ("orders:items",)
        __autopush__ = True
        order = models.ForeignKey(Order, on_delete=models.DO_NOTHING)

        class Meta:
            app_label = "stall"

    @tidings.autopush(channels=lambda note: [] if note.text == "secret" else "orders:notes", exclude=["inner"])
    class Note(models.Model):  # type: ignore[misc]  # noqa: DJ008
        text = models.CharField(max_length=10)
        inner = models.CharField(max_length=10, default="")

        class Meta:
            app_label = "stall"

    class Quiet(models.Model):  # type: ignore[misc]  # noqa: DJ008
        __channels__ = ("orders:quiet",)
        status = models.CharField(max_length=10, default="new")

        class Meta:
            app_label = "stall"

    new_models = [Order, Express, Item, Note, Quiet]
    for connection in connections.all():
        with connection.schema_editor() as editor:
            for model in new_models:
                editor.create_model(model)
    yield SimpleNamespace(**{model.__name__: model for model in new_models})
    connections.close_all()


@pytest.fixture
def configured(shop: Any) -> Iterator[Callable[..., None]]:
    """Set TIDINGS for this test."""
    from django.test import override_settings

    from tidings.contrib.django import emitter

    overridden = []

    def set_to(**values: object) -> None:
        overridden.append(override_settings(TIDINGS=values))
        overridden[-1].enable()

    yield set_to
    emitter().close()
    for override in reversed(overridden):
        override.disable()


@pytest.fixture
def project(shop: Any, configured: Callable[..., None], published: PublishedHistory) -> Iterator[Any]:
    """The models with empty tables, and an emitter with a Redis prefix of this test only."""
    configured(URL=published.url, PREFIX=published.prefix)
    yield shop
    for model in (shop.Express, shop.Order, shop.Note, shop.Quiet):
        # Delete without signals, so that nothing is published.
        model.objects.all()._raw_delete("default")


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction or savepoint that is rolled back at the end."""
    from django.db import transaction

    with transaction.atomic():
        yield
        transaction.set_rollback(True)


class TestEmit:
    def test_emit_publishes_after_the_commit(self, project: Any, published: PublishedHistory) -> None:
        from django.db import transaction

        from tidings.contrib.django import emit, push_model

        with transaction.atomic():
            quiet = project.Quiet.objects.create()
            emit("e", 1, channel="a:1")
            push_model(quiet, op="created")
            quiet.status = "later"
            assert published.data("a:1") == published.data("orders:quiet") == []
        assert published.data("a:1") == [1]
        assert published.ops("orders:quiet") == [("created", {"id": quiet.pk, "status": "new"})]

    def test_emit_publishes_nothing_after_a_rollback(self, project: Any, published: PublishedHistory) -> None:
        from django.db import transaction

        from tidings.contrib.django import emit

        with rolled_back():
            emit("e", 1, channel="a:1")
            with transaction.atomic():
                emit("e", 2, channel="a:1")
        with transaction.atomic():
            emit("e", 3, channel="a:1")
        assert published.data("a:1") == [3]

    def test_notify_waits_for_the_commit_and_is_discarded_by_a_rollback(
        self, project: Any, published: PublishedHistory
    ) -> None:
        from django.db import transaction
        from django.utils.translation import gettext_lazy

        from tidings.contrib.django import emit, notify

        with transaction.atomic():
            notify("order_shipped", user="7", title="first")
            emit("e", 1, channel="a:1")
            with rolled_back():
                notify("order_shipped", user="7", title="undone")
            notify("order_shipped", users=["7", "8"], title=gettext_lazy("second"))
            assert published.titles("7") == []
        with rolled_back():
            notify("order_shipped", user="7", title="undone as well")
        with transaction.atomic(), pytest.raises(BadRequest, match="title is missing"):
            notify("order_shipped", user="7")  # type: ignore[call-arg]
        assert (published.titles("7"), published.titles("8")) == (["first", "second"], ["second"])
        assert published.data("a:1") == [1]
        notify("order_shipped", user="7", title="immediately")
        assert published.titles("7")[-1] == "immediately"

    def test_emit_in_a_rolled_back_savepoint_is_discarded(self, project: Any, published: PublishedHistory) -> None:
        from django.db import transaction

        from tidings.contrib.django import emit

        with transaction.atomic():
            emit("e", 1, channel="a:1")
            with rolled_back():
                emit("e", "undone", channel="a:1")
                with transaction.atomic():
                    emit("e", "undone with it", channel="a:1")
            emit("e", 2, channel="a:1")
            with transaction.atomic():
                emit("e", 3, channel="a:1")
            emit("e", 4, channel="a:1")
        assert published.data("a:1") == [1, 2, 3, 4]

    def test_emit_publishes_immediately_outside_of_a_transaction(
        self, project: Any, published: PublishedHistory
    ) -> None:
        from tidings.contrib.django import emit, emitter, push_model

        emit("e", 1, channel="a:1")
        push_model(project.Quiet(id=5), channel="a:1")
        assert emitter().emit("e", 3, channel="a:1").cursor == published.publications("a:1")[-1].cursor
        assert len(published.data("a:1")) == 3

    def test_emitter_publishes_immediately_within_a_transaction(
        self, project: Any, published: PublishedHistory
    ) -> None:

        from tidings.contrib.django import emitter

        with rolled_back():
            emitter().emit("e", 1, channel="a:1")
        assert published.data("a:1") == [1]

    def test_emit_without_autocommit_raises(self, project: Any, published: PublishedHistory) -> None:
        from django.db import transaction

        from tidings.contrib.django import emit

        transaction.set_autocommit(autocommit=False)
        try:
            with pytest.raises(transaction.TransactionManagementError):
                emit("e", 1, channel="a:1")
        finally:
            transaction.rollback()
            transaction.set_autocommit(autocommit=True)
        assert published.data("a:1") == []

    def test_emit_with_the_transaction_of_another_database(self, project: Any, published: PublishedHistory) -> None:
        from django.db import transaction

        from tidings.contrib.django import emit

        with transaction.atomic("other"):
            with rolled_back():
                emit("e", "default", channel="a:1")
                emit("e", "other", channel="a:1", using="other")
            assert published.data("a:1") == []
        assert published.data("a:1") == ["other"]

    def test_emits_of_a_transaction_are_batched(self, shop: Any, configured: Callable[..., None]) -> None:
        from django.db import transaction

        from tidings.contrib.django import emit

        with HttpHub() as hub:
            configured(URL=hub.url, API_KEY=API_KEY, BATCH_MAX=4, CHANGES_MAX=9)
            with transaction.atomic():
                for number in range(9):
                    emit("e", number, channel="a:1")
                with pytest.raises(TooLarge, match="CHANGES_MAX"):
                    emit("e", 9, channel="a:1")
            assert [len(request) for request in hub.requests] == [4, 4, 1]

    def test_invalid_emit_raises_immediately(self, project: Any, published: PublishedHistory) -> None:
        from django.db import transaction

        from tidings.contrib.django import emit

        with transaction.atomic():
            emit("e", 1, channel="a:1")
            with pytest.raises(BadChannel):
                emit("e", 2, channel="nonsense")
            with pytest.raises(TooLarge):
                emit("e", "x" * 70_000, channel="a:1")
        assert published.data("a:1") == [1]

    def test_emit_works_in_a_django_test_case(self, project: Any, published: PublishedHistory) -> None:
        from django.test import TestCase

        from tidings.contrib.django import emit

        class Case(TestCase):  # type: ignore[misc]
            def runTest(self) -> None:  # noqa: N802
                with self.captureOnCommitCallbacks(execute=True) as callbacks:
                    emit("e", 1, channel="a:1")
                    emit("e", 2, channel="a:1")
                assert len(callbacks) == 1
                emit("e", "with the test", channel="a:1")

        outcome = unittest.TestSuite([Case()]).run(unittest.TestResult())
        assert outcome.wasSuccessful(), [*outcome.errors, *outcome.failures]
        assert published.data("a:1") == [1, 2]


class TestAutopush:
    @pytest.mark.parametrize("atomic", [True, False])
    def test_saves_and_deletes_are_pushed(self, atomic: bool, project: Any, published: PublishedHistory) -> None:
        from django.db import transaction

        with transaction.atomic() if atomic else nullcontext():
            order = project.Order.objects.create()
            key = order.pk
            order.status = "paid"
            order.save(update_fields=["status"])
            order.delete()
            assert bool(published.data(f"orders:{key}")) is not atomic
        # A row that no other transaction ever saw is not published.
        everything = [
            ("created", {"id": key, "status": "new", "count": 1}),
            ("updated", {"id": key, "status": "paid", "count": 1}),
            ("deleted", {"id": key, "status": "paid", "count": 1}),
        ]
        assert published.ops(f"orders:{key}") == ([] if atomic else everything)

    def test_rolled_back_changes_are_not_pushed(self, project: Any, published: PublishedHistory) -> None:
        from django.db import transaction

        with rolled_back():
            project.Order.objects.create()
        with transaction.atomic():
            with rolled_back():
                project.Order.objects.create(status="undone")
            project.Order.objects.create(status="kept")
        assert [model["status"] for _, model in published.ops("orders:all")] == ["kept"]

    def test_failed_commit_pushes_nothing(self, project: Any, published: PublishedHistory) -> None:
        from django.db import IntegrityError, transaction

        def work() -> None:
            with transaction.atomic():
                project.Item.objects.create(order_id=404)
                assert project.Item.objects.count() == 1

        with pytest.raises(IntegrityError):
            work()
        assert project.Item.objects.count() == 0
        assert published.data("orders:items") == []

    def test_expression_is_pushed_as_its_value(self, project: Any, published: PublishedHistory) -> None:
        from django.db.models import F

        order = project.Order.objects.create()
        order.count = F("count") + 41
        order.save()
        assert published.ops("orders:all")[-1][1]["count"] == 42

    def test_changes_of_subclasses_are_pushed(self, project: Any, published: PublishedHistory) -> None:
        express = project.Express.objects.create(hours=2)
        express.delete()
        assert [(data["class"], data["op"]) for data in published.data("orders:all")] == [
            ("Express", "created"),
            ("Express", "deleted"),
            ("Order", "deleted"),
        ]

    def test_only_queryset_deletes_are_pushed(self, project: Any, published: PublishedHistory) -> None:
        project.Order.objects.bulk_create([project.Order(), project.Order()])
        project.Order.objects.update(status="bulk")
        assert published.data("orders:all") == []
        project.Order.objects.all().delete()
        assert [op for op, _ in published.ops("orders:all")] == ["deleted", "deleted"]

    def test_channel_function_may_return_no_channel(self, project: Any, published: PublishedHistory) -> None:
        project.Note.objects.create(text="secret")
        note = project.Note.objects.create(text="open", inner="hidden")
        assert published.ops("orders:notes") == [("created", {"id": note.pk, "text": "open"})]

    def test_model_without_autopush_is_not_pushed(self, project: Any, published: PublishedHistory) -> None:
        from django.db.models.signals import post_delete

        project.Quiet.objects.create()
        assert published.data("orders:quiet") == []
        assert not post_delete.has_listeners(project.Quiet)

    def test_loaded_fixture_is_not_pushed(self, project: Any, published: PublishedHistory) -> None:
        from django.core.serializers.base import DeserializedObject

        DeserializedObject(project.Order(id=7)).save()
        assert project.Order.objects.count() == 1
        assert published.data("orders:all") == []


class TestErrors:
    @pytest.fixture
    def unreachable(self) -> dict[str, object]:
        return {"URL": f"redis://127.0.0.1:{free_port()}/0", "TIMEOUT_S": 0.05}

    def test_push_error_is_logged_and_the_commit_stays(
        self, project: Any, configured: Callable[..., None], unreachable: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        from django.db import transaction

        from tidings.contrib.django import emit

        configured(**unreachable)
        with caplog.at_level(logging.ERROR, "tidings"):
            with transaction.atomic():
                project.Order.objects.create(id=1)
            project.Order.objects.create(id=2)
        assert project.Order.objects.count() == 2
        assert len(caplog.records) == 2
        assert "not published to orders:2, orders:all: 2 of 2 publications" in caplog.messages[1]
        with pytest.raises(BatchFailed):
            emit("e", channel="a:1")

    def test_push_error_is_raised_by_choice(
        self, project: Any, configured: Callable[..., None], unreachable: Any
    ) -> None:
        from django.db import transaction

        configured(**unreachable, ON_ERROR="tidings.contrib.delivery.raise_error")
        with pytest.raises(BatchFailed), transaction.atomic():
            project.Order.objects.create(id=1)
        assert project.Order.objects.count() == 1

    def test_invalid_channel_of_an_object_fails_the_transaction(
        self, project: Any, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        from django.db import transaction

        from tidings.contrib.django import emitter

        emitter().register(project.Order, channels="orders:{status}")
        with pytest.raises(BadChannel), transaction.atomic():
            project.Order.objects.create(status="")
        assert project.Order.objects.count() == 0
        # Without a transaction the row is stored in spite of the error.
        project.Order.objects.create(status="")
        assert project.Order.objects.count() == 1
        assert "the work is done, but it was not published: 'orders:{status}'" in caplog.text

    def test_settings_are_checked(self, project: Any, configured: Callable[..., None]) -> None:
        from django.core.checks import run_checks

        assert run_checks() == []
        wrongs: list[dict[str, object]] = [{"URL": "ftp://x"}, {"TIMOUT_S": 1}, {"ON_ERROR": "no.such.thing"}]
        wrongs += [{"ON_ERROR": 5}, {"CHANGES_MAX": "many"}, {"CHANGES_MAX": 0}]
        for wrong in wrongs:
            configured(**wrong)
            assert [error.id for error in run_checks()] == ["tidings.E001"]
        configured(URL="memory://")


MAKE_TABLES_AND_SHIP = """
import django
django.setup()
from django.db import connection
from shop.models import Order, ship
with connection.schema_editor() as editor:
    editor.create_model(Order)
ship(Order.objects.create(id=42, owner="ann"))
"""


def test_program_of_the_page_works(published_by_default: PublishedHistory, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "models.py").write_text(program_of("django.md"))
    database = 'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}\n'
    settings = program_of("django.md", 1).replace("redis://localhost:6379/0", published_by_default.url)
    (tmp_path / "settings.py").write_text(database + settings)
    env = environment() | {"DJANGO_SETTINGS_MODULE": "settings"}
    env["PYTHONPATH"] += os.pathsep + str(tmp_path)
    subprocess.run([sys.executable, "-c", MAKE_TABLES_AND_SHIP], check=True, timeout=60, cwd=tmp_path, env=env)
    assert published_by_default.ops("orders:42") == [
        ("created", {"id": 42, "status": "new", "owner": "ann"}),
        ("updated", {"id": 42, "status": "shipped", "owner": "ann"}),
    ]
    assert published_by_default.data("user:ann") == [{"order": 42}]
