"""The Flask extension in real applications, with and without Flask-SQLAlchemy, with a real Redis."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextvars import Context, copy_context
from pathlib import Path
from threading import Thread

import pytest
from flask import Flask, Response, abort, copy_current_request_context, g, request, stream_with_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from support.network.http_hub import API_KEY, HttpHub
from support.ports import free_port
from support.processes.hub import environment
from support.processes.redis import RedisProcess
from support.programs.example_programs import PublishedHistory, program_of
from tidings.contrib.delivery import raise_error
from tidings.contrib.flask import Tidings
from tidings.contrib.sqlalchemy import autopush
from tidings.errors import BadChannel, BadConfig, BadRequest, TooLarge, Unavailable
from tidings.receipts import BatchFailed


@pytest.fixture
def app(published: PublishedHistory) -> Iterator[Flask]:
    app = Flask(__name__)
    app.config.update(TIDINGS_URL=published.url, TIDINGS_PREFIX=published.prefix, TIDINGS_BATCH_MAX=3)
    yield app
    app.extensions["tidings"].close()


class TestInRequest:
    def test_publications_are_sent_after_the_response_is_built(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings(app)
        published_data = []

        @app.post("/")
        def work() -> str:
            push.emit("e", 1, channel="a:1")
            push.push_model(_Model(), channels=["a:1", "a:2"])
            published_data.append(published.data("a:1"))
            return "done"

        @app.after_request
        def look(response: Response) -> Response:
            published_data.append(published.data("a:1"))
            return response

        assert app.test_client().post("/").status_code == 200
        assert published_data == [[], []]
        assert [publication.event for publication in published.publications("a:1")] == ["e", "updated_model"]
        assert len(published.data("a:2")) == 1

    @pytest.mark.parametrize("status", [200, 500])
    def test_notifications_are_sent_unless_the_request_fails(
        self, status: int, app: Flask, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        push = Tidings(app)

        @app.post("/")
        def work() -> tuple[str, int]:
            push.notify("order_shipped", user="7", title="first")
            push.emit("e", 1, channel="a:1")
            push.notify("order_shipped", user="7", title="second")
            with pytest.raises(BadRequest, match="url is 'javascript:"):
                push.notify("order_shipped", user="7", title="x", url="javascript:alert(1)")
            assert published.titles("7") == []
            return "", status

        app.test_client().post("/")
        is_sent = status == 200
        assert published.titles("7") == (["first", "second"] if is_sent else [])
        assert published.data("a:1") == ([1] if is_sent else [])
        with app.app_context():
            push.notify("order_shipped", user="8", title="now")
        assert published.titles("8") == ["now"]

    def test_unknown_category_is_logged_and_sends_the_others(
        self, app: Flask, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        push = Tidings(app)

        @app.post("/")
        def work() -> str:
            push.notify("order_lost", user="7", title="x")
            push.notify("order_shipped", user="7", title="y")
            return "done"

        assert app.test_client().post("/").status_code == 200
        assert published.titles("7") == ["y"]
        [message] = caplog.messages
        assert "was not published to user:7" in message
        assert "no category 'order_lost'" in message

    def test_publications_of_a_request_are_one_batch(self) -> None:
        with HttpHub() as hub:
            app = Flask(__name__)
            app.config.update(TIDINGS_URL=hub.url, TIDINGS_API_KEY=API_KEY)
            push = Tidings(app)

            @app.get("/")
            def work() -> str:
                for number in range(5):
                    push.emit("e", number, channel="a:1")
                return "done"

            app.test_client().get("/")
            app.test_client().get("/")
            assert [len(request) for request in hub.requests] == [5, 5]
            push.now.close()

    @pytest.mark.parametrize("status", [200, 204, 302, 303, 400, 404, 409, 500, 503])
    def test_response_status_decides_about_publishing(
        self, status: int, app: Flask, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        push = Tidings(app)

        @app.get("/returned")
        def returned() -> tuple[str, int]:
            push.emit("e", channel="a:1")
            return "", status

        with caplog.at_level(logging.INFO, "tidings"):
            assert app.test_client().get("/returned").status_code == status
        assert len(published.data("a:1")) == (status < 400)
        assert caplog.messages == ([] if status < 400 else [f"discarded because the response is a {status}: a:1"])

    @pytest.mark.parametrize("propagate", [True, False])
    def test_exception_discards_the_publications(
        self, propagate: bool, app: Flask, published: PublishedHistory
    ) -> None:
        push = Tidings(app)
        app.config["PROPAGATE_EXCEPTIONS"] = propagate

        @app.get("/bug")
        def bug() -> str:
            push.emit("e", channel="a:1")
            raise RuntimeError("a bug")

        @app.get("/abort")
        def abort_request() -> str:
            push.emit("e", channel="a:1")
            abort(410)

        client = app.test_client()
        if propagate:
            with pytest.raises(RuntimeError):
                client.get("/bug")
        else:
            assert client.get("/bug").status_code == 500
        assert client.get("/abort").status_code == 410
        assert published.data("a:1") == []

    def test_failing_after_request_function_discards_the_publications(
        self, app: Flask, published: PublishedHistory
    ) -> None:
        push = Tidings(app)

        @app.get("/")
        def work() -> str:
            push.emit("e", channel="a:1")
            return "done"

        @app.after_request
        def bug(_response: Response) -> Response:
            raise RuntimeError("a bug")

        app.config["PROPAGATE_EXCEPTIONS"] = False
        assert app.test_client().get("/").status_code == 500
        assert published.data("a:1") == []

    def test_streams_and_teardown_functions_can_publish(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings(app)

        @app.get("/")
        def work() -> Response:
            @stream_with_context
            def stream() -> Iterator[str]:
                push.emit("e", "stream", channel="a:1")
                yield "done"

            push.emit("e", "view", channel="a:1")
            return Response(stream())

        @app.teardown_request
        def tear(_error: BaseException | None) -> None:
            push.emit("e", "teardown", channel="a:1")

        assert app.test_client().get("/").text == "done"
        # Flask calls teardown functions twice: before the stream and after it.
        assert set(published.data("a:1")) == {"stream", "teardown", "view"}

    def test_invalid_emit_raises_immediately(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings(app)

        @app.get("/")
        def work() -> str:
            with pytest.raises(BadChannel):
                push.emit("e", channel="nonsense")
            push.emit("e", channels=["a:1", "a:2", "a:3"])
            with pytest.raises(TooLarge, match="batch_max"):
                push.emit("e", channel="a:1")
            return "done"

        assert app.test_client().get("/").text == "done"
        assert len(published.data("a:1")) == 1

    def test_now_publishes_immediately_with_a_receipt(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings(app)

        @app.get("/")
        def work() -> tuple[str, int]:
            receipt = push.now.emit("e", channel="a:1")
            g.cursor = published.publications("a:1")[0].cursor
            return str(receipt.cursor == g.cursor), 500

        assert app.test_client().get("/").text == "True"

    def test_nested_requests_are_independent(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings(app)

        @app.get("/outer")
        def outer() -> str:
            push.emit("e", "outer", channel="a:1")
            assert app.test_client().get("/inner").status_code == 500
            return "done"

        @app.get("/inner")
        def inner() -> tuple[str, int]:
            push.emit("e", "inner", channel="a:1")
            return "", 500

        assert app.test_client().get("/outer").status_code == 200
        assert published.data("a:1") == ["outer"]


class TestOtherContexts:
    """Each request context has its own batch, which is sent at its own end."""

    def test_copy_of_the_context_in_a_thread_leaves_the_publications_of_the_request(
        self, app: Flask, published: PublishedHistory
    ) -> None:
        push = Tidings(app)

        @app.get("/")
        def work() -> str:
            push.emit("e", "view", channel="a:1")

            @copy_current_request_context
            def job() -> None:
                push.emit("e", "thread", channel="a:1")

            for _ in range(2):
                thread = Thread(target=job)
                thread.start()
                thread.join()
            push.emit("e", "view", channel="a:1")
            return "done"

        assert app.test_client().get("/").status_code == 200
        assert published.data("a:1") == ["thread", "thread", "view", "view"]

    def test_copy_of_a_failed_request_keeps_its_own_publications(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings(app)

        @app.get("/")
        def work() -> tuple[str, int]:
            push.emit("e", "view", channel="a:1")
            copy_current_request_context(lambda: push.emit("e", "copy", channel="a:1"))()
            return "", 500

        assert app.test_client().get("/").status_code == 500
        assert published.data("a:1") == ["copy"]

    def test_context_of_the_same_environ_inside_a_view_has_its_own_batch(
        self, app: Flask, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        push = Tidings(app)

        @app.get("/")
        def work() -> str:
            push.emit("e", "view", channel="a:1")
            with app.request_context(request.environ):
                push.emit("e", "inner", channel="a:1")
            with pytest.raises(RuntimeError):
                fail()
            return "done"

        def fail() -> None:
            with app.request_context(request.environ):
                push.emit("e", "failed", channel="a:2")
                raise RuntimeError("a bug")

        assert app.test_client().get("/").status_code == 200
        assert published.data("a:1") == ["inner", "view"]
        assert published.data("a:2") == []
        assert caplog.messages == ["discarded because the request context ended with RuntimeError: a:2"]

    def test_context_of_another_application_publishes_with_its_emitter(
        self, app: Flask, published: PublishedHistory, shared_redis: RedisProcess
    ) -> None:
        other, of_other = Flask("other"), PublishedHistory(shared_redis, f"{published.prefix}other:")
        other.config.update(TIDINGS_URL=published.url, TIDINGS_PREFIX=of_other.prefix)
        push = Tidings()
        push.init_app(app)
        push.init_app(other)

        @app.get("/")
        def work() -> str:
            push.emit("e", "first", channel="a:1")
            with other.app_context():
                push.emit("e", "other", channel="a:1")
            return "done"

        assert app.test_client().get("/").status_code == 200
        assert (published.data("a:1"), of_other.data("a:1")) == (["first"], ["other"])
        other.extensions["tidings"].close()

    def test_job_in_a_test_request_context_publishes_at_its_end(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings(app)
        with app.test_request_context("/"):
            push.emit("e", 1, channel="a:1")
            push.push_model(_Model(), channel="a:1")
            assert published.data("a:1") == []
        assert [publication.event for publication in published.publications("a:1")] == ["e", "updated_model"]

    def test_context_that_is_never_popped_warns(
        self, app: Flask, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        push = Tidings(app)

        def script() -> None:
            app.test_request_context("/").push()
            push.emit("e", channel="a:1")

        # The context variables of the copy are all that refers to the pushed context.
        copy_context().run(script)
        gc.collect()
        assert caplog.messages == ["discarded because the request context was pushed and never popped: a:1"]
        assert published.data("a:1") == []

    @pytest.mark.parametrize("status", [200, 500])
    def test_code_that_outlives_its_request_publishes_at_once(
        self, status: int, app: Flask, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        push = Tidings(app)
        contexts: list[Context] = []

        @app.get("/")
        def work() -> tuple[str, int]:
            contexts.append(copy_context())
            return "", status

        assert app.test_client().get("/").status_code == status
        with caplog.at_level(logging.INFO, "tidings"):
            contexts[0].run(push.emit, "e", "late", channel="a:1")
        assert published.data("a:1") == (["late"] if status < 400 else [])
        assert len(caplog.messages) == (status >= 400)

    def test_streamed_body_publishes_while_it_is_sent(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings(app)

        @app.get("/")
        def work() -> Response:
            @stream_with_context
            def stream() -> Iterator[str]:
                push.emit("e", "stream", channel="a:1")
                yield str(published.data("a:1"))

            return Response(stream())

        assert app.test_client().get("/").text == "['stream']"


class TestOutsideOfRequest:
    def test_emit_publishes_immediately(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings(app)
        push.emit("e", 1, channel="a:1")
        with app.app_context():
            push.push_model(_Model(), channel="a:1")
        assert [publication.event for publication in published.publications("a:1")] == ["e", "updated_model"]

    def test_emit_without_an_application_raises(self, app: Flask, published: PublishedHistory) -> None:
        push = Tidings()
        with pytest.raises(BadConfig, match="init_app"):
            push.emit("e", channel="a:1")
        push.init_app(app)
        with pytest.raises(BadConfig, match="app_context"):
            push.emit("e", channel="a:1")
        with app.app_context():
            push.emit("e", channel="a:1")
        assert len(published.data("a:1")) == 1

    def test_second_extension_for_one_application_raises(self, app: Flask) -> None:
        Tidings(app)
        with pytest.raises(BadConfig, match="already"):
            Tidings(app)


class TestErrors:
    @pytest.fixture
    def unreachable(self) -> Flask:
        app = Flask(__name__)
        app.config.update(TIDINGS_URL=f"redis://127.0.0.1:{free_port()}/0", TIDINGS_TIMEOUT_S=0.05)
        return app

    def test_push_error_is_logged_and_the_response_stays(
        self, unreachable: Flask, caplog: pytest.LogCaptureFixture
    ) -> None:
        push = Tidings(unreachable)

        @unreachable.get("/")
        def work() -> str:
            push.emit("e", channel="a:1")
            return "done"

        assert unreachable.test_client().get("/").text == "done"
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "a:1: 1 of 1 publications were not taken" in caplog.text
        with pytest.raises(Unavailable):
            push.now.emit("e", channel="a:1")
        with pytest.raises(BatchFailed):
            push.emit("e", channel="a:1")

    def test_push_error_is_raised_by_choice(self, unreachable: Flask) -> None:
        push = Tidings(unreachable, on_error=raise_error)

        @unreachable.get("/")
        def work() -> str:
            push.emit("e", channel="a:1")
            return "done"

        assert unreachable.test_client().get("/").status_code == 500


class TestFlaskSqlalchemy:
    @pytest.mark.parametrize("end", ["commit", "rollback", "nothing", "abort after the commit"])
    def test_committed_changes_are_pushed(
        self, end: str, app: Flask, published: PublishedHistory, tmp_path: Path
    ) -> None:
        class Base(DeclarativeBase):
            pass

        db = SQLAlchemy(model_class=Base)

        class Order(db.Model):  # type: ignore[name-defined,misc]
            __channels__ = "orders:{id}"
            id: Mapped[int] = mapped_column(primary_key=True)

        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'shop.db'}"
        push = Tidings(app)
        db.init_app(app)
        autopush(db.session, lambda: push.now)
        with app.app_context():
            db.create_all()

        @app.post("/")
        def work() -> str:
            db.session.add(Order(id=1))
            push.emit("ordered", channel="a:1")
            if end == "nothing":
                abort(400)
            getattr(db.session, end.rsplit(maxsplit=1)[-1])()
            if end.startswith("abort"):
                abort(400)
            return "done"

        app.test_client().post("/")
        with app.app_context():
            stored = len(db.session.execute(db.select(Order)).all())
            db.engine.dispose()
        assert len(published.ops("orders:1")) == stored == (end in {"commit", "abort after the commit"})
        assert len(published.data("a:1")) == (end in {"commit", "rollback"})


class _Model:
    def to_dict(self) -> dict[str, object]:
        return {"id": 1}


def test_program_of_the_page_works(published_by_default: PublishedHistory, tmp_path: Path) -> None:
    program = program_of("flask.md") + "\nassert app.test_client().post('/orders/42/ship').status_code == 204\n"
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        timeout=60,
        cwd=tmp_path,
        env=environment() | {"TIDINGS_URL": published_by_default.url},
    )
    assert [publication.event for publication in published_by_default.publications("orders:42")] == ["shipped"]
