"""`@push.background` in real Flask applications, with a real Redis: what a job sees, and what its location answers."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    after_this_request,
    g,
    jsonify,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
)
from flask.views import MethodView
from werkzeug.test import TestResponse

from support.programs.example_programs import PublishedHistory, program_of
from support.waiting import wait_until
from tidings.contrib.background import JobCancelled, job
from tidings.contrib.flask import Tidings
from tidings.errors import BadConfig

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}


class Shop:
    """An application, and a client of it."""

    def __init__(self, published: PublishedHistory, **bounds: Any) -> None:
        self.app = Flask(__name__)
        self.app.secret_key = "secret"
        background = {"PROGRESS_INTERVAL_S": 0.05, "SHUTDOWN_S": 0, **bounds}
        self.app.config.update(
            TIDINGS_URL=published.url, TIDINGS_PREFIX=published.prefix, TIDINGS_BACKGROUND=background
        )
        self.push = Tidings(self.app, user=lambda: request.headers.get("X-User"))
        self.client = self.app.test_client()

    def post(self, path: str = "/", **options: Any) -> TestResponse:
        return self.client.post(path, **{"headers": ANN, **options})

    def begin(self, path: str = "/", **options: Any) -> str:
        """Begin a job, and return its location."""
        response = self.post(path, **options)
        assert response.status_code == 202, response.text
        return response.headers["Location"]

    def get(self, location: str, headers: dict[str, str] = ANN) -> TestResponse:
        return self.client.get(location, headers=headers)

    def ended(self, location: str) -> TestResponse:
        """The response of the location once the job has ended."""
        wait_until(lambda: self.get(location).headers["Tidings-Job"] not in ("queued", "running"), why="the job ends")
        return self.get(location)

    def result(self, path: str = "/", **options: Any) -> TestResponse:
        """Begin a job, and return its result."""
        return self.ended(self.begin(path, **options))


@pytest.fixture
def make_shop(published: PublishedHistory) -> Iterator[Callable[..., Shop]]:
    shops: list[Shop] = []

    def make(**bounds: Any) -> Shop:
        shops.append(Shop(published, **bounds))
        return shops[-1]

    yield make
    for shop in shops:
        shop.app.extensions["tidings_background"].jobs.close()
        shop.app.extensions["tidings"].close()


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a job waits for. Opened at the end, so that no thread waits forever."""
    event = threading.Event()
    yield event
    event.set()


def events(published: PublishedHistory, user: str = "ann") -> list[Any]:
    """The data of the events in a user's channel; each is `tidings:job`."""
    publications = published.publications(f"user:{user}")
    assert {publication.event for publication in publications} <= {"tidings:job"}
    return published.data(f"user:{user}")


def redirected() -> Any:
    return redirect("/orders/7", 303)


def streamed() -> Any:
    def parts() -> Iterator[str]:
        yield request.args["name"]
        yield " end"

    return Response(stream_with_context(parts()), mimetype="text/plain")


def generated() -> Iterator[str]:
    yield "a"
    yield "b"


def file() -> Any:
    return send_file(request.args["path"], as_attachment=True)


def memory_file() -> Any:
    return send_file(io.BytesIO(b"memory"), mimetype="image/png")


def with_cookies() -> Any:
    response = jsonify(ok=True)
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")

    @after_this_request
    def add(response: Response) -> Response:
        response.headers["X-After"] = "yes"
        return response

    return response


def wsgi() -> Any:
    def application(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("207 Multi-Status", [("Content-Type", "application/xml"), ("X-Wsgi", "yes")])
        return [b"<a/>"]

    return application


async def asynchronous() -> str:
    return "later"


def aborted() -> Any:
    abort(Response("no such order", 404))


class TestLocation:
    def test_it_has_the_progress_and_then_the_views_own_response(
        self, shop: Shop, published: PublishedHistory, gate: threading.Event
    ) -> None:
        @shop.app.post("/")
        @shop.push.background
        def work() -> tuple[dict[str, int], int, dict[str, str]]:
            job.progress(0.4, "rendering")
            gate.wait()
            return {"id": 7}, 201, {"X-Own": "yes", "Location": "/orders/7"}

        response = shop.post()
        location = response.headers["Location"]
        assert (response.status_code, response.headers["Tidings-Job"]) == (202, "queued")
        assert location.startswith("/tidings/jobs/")
        assert response.json is not None
        assert response.json == {
            "id": location.rpartition("/")[2],
            "location": location,
            "state": "queued",
            "progress": None,
            "message": "",
        }
        wait_until(lambda: (shop.get(location).json or {})["progress"] == 0.4, why="there is progress")
        waiting = shop.get(location)
        assert (waiting.status_code, waiting.headers["Retry-After"]) == (202, "1")
        assert waiting.json == {**response.json, "state": "running", "progress": 0.4, "message": "rendering"}
        gate.set()
        for result in (shop.ended(location), shop.get(location)):
            assert (result.status_code, result.json, result.headers["X-Own"]) == (201, {"id": 7}, "yes")
            assert result.headers["Location"] == "/orders/7"
            assert (result.headers["Tidings-Job"], result.headers["Cache-Control"]) == ("done", "no-store")
        wait_until(lambda: events(published)[-1]["state"] == "done", why="the end is published")
        assert [event["state"] for event in events(published)][-2:] == ["running", "done"]
        assert events(published)[-1] == {**response.json, "state": "done", "progress": 0.4, "message": "rendering"}

    def test_it_is_only_for_the_user_who_began_it(
        self, shop: Shop, published: PublishedHistory, gate: threading.Event
    ) -> None:
        @shop.app.post("/")
        @shop.push.background
        def work() -> str:
            gate.wait()
            return "secret"

        location = shop.begin()
        for method in (shop.client.get, shop.client.delete):
            assert method(location, headers=BOB).status_code == 404
            assert method(location).status_code == 401
        gate.set()
        assert shop.ended(location).text == "secret"
        foreign, unknown = shop.get(location, BOB), shop.get(location[:-1] + "x", BOB)
        assert (foreign.status_code, foreign.text) == (404, unknown.text)
        assert events(published, "bob") == []

    def test_unhandled_exception_is_500_with_an_id_and_its_traceback_is_in_the_log_only(
        self, shop: Shop, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        @shop.app.post("/")
        @shop.push.background
        def work() -> str:
            shop.push.emit("e", channel="a:1")
            raise ValueError("a secret of the log")

        result = shop.result()
        assert result.status_code == 500
        assert result.json is not None
        assert result.json.keys() == {"code", "message", "error_id"}
        assert "secret" not in result.text
        assert f"error_id={result.json['error_id']}" in caplog.text
        assert "ValueError: a secret of the log" in caplog.text
        wait_until(lambda: events(published)[-1]["state"] == "failed", why="the end is published")
        assert published.data("a:1") == []

    def test_job_expires(self, make_shop: Callable[..., Shop]) -> None:
        shop = make_shop(EXPIRY_S=0.3)

        @shop.app.post("/")
        @shop.push.background
        def work() -> str:
            return "done"

        location = shop.begin()
        wait_until(lambda: shop.get(location).status_code == 404, why="it expires")

    def test_method_that_is_not_allowed(self, shop: Shop) -> None:
        assert shop.post("/tidings/jobs/1").status_code == 405


class TestResponses:
    @pytest.mark.parametrize(
        ("value", "status", "content_type", "body"),
        [
            ("text", 200, "text/html; charset=utf-8", b"text"),
            (b"\x00bytes", 200, "text/html; charset=utf-8", b"\x00bytes"),
            ({"a": 1}, 200, "application/json", b'{"a":1}\n'),
            ([1, 2], 200, "application/json", b"[1,2]\n"),
            (("text", 418), 418, "text/html; charset=utf-8", b"text"),
            (("text", {"Content-Type": "text/csv"}), 200, "text/csv", b"text"),
            (("text", 202, [("Content-Type", "text/csv")]), 202, "text/csv", b"text"),
            (("", 204), 204, "text/html; charset=utf-8", b""),
        ],
    )
    def test_each_kind_of_value_is_kept(
        self, value: Any, status: int, content_type: str, body: bytes, shop: Shop
    ) -> None:
        shop.app.post("/")(shop.push.background(lambda: value))
        result = shop.result()
        assert (result.status_code, result.content_type, result.data) == (status, content_type, body)

    def test_each_kind_of_response_is_kept(self, shop: Shop, tmp_path: Path) -> None:
        (tmp_path / "report.pdf").write_bytes(b"%PDF" * 5000)
        for view in (redirected, streamed, generated, file, memory_file, with_cookies, wsgi, asynchronous, aborted):
            shop.app.post(f"/{view.__name__}")(shop.push.background(view))
        result = shop.result("/redirected")
        assert (result.status_code, result.headers["Location"]) == (303, "/orders/7")
        assert shop.result("/streamed?name=x").text == "x end"
        assert shop.result("/generated").text == "ab"
        result = shop.result(f"/file?path={tmp_path}/report.pdf")
        assert (len(result.data), result.mimetype) == (20_000, "application/pdf")
        assert result.headers["Content-Disposition"] == "attachment; filename=report.pdf"
        assert shop.result("/asynchronous").text == "later"
        assert shop.result("/memory_file").data == b"memory"
        result = shop.result("/with_cookies")
        assert result.headers.getlist("Set-Cookie") == ["a=1; Path=/", "b=2; Path=/"]
        assert result.headers["X-After"] == "yes"
        result = shop.result("/wsgi")
        assert (result.status_code, result.headers["X-Wsgi"], result.text) == (207, "yes", "<a/>")
        assert (shop.result("/aborted").status_code, shop.result("/aborted").text) == (404, "no such order")

    def test_error_handlers_of_the_application_apply(self, shop: Shop) -> None:
        @shop.app.errorhandler(ZeroDivisionError)
        def handle(_error: ZeroDivisionError) -> tuple[str, int]:
            return "divided", 422

        shop.app.post("/")(shop.push.background(lambda: str(1 / 0)))
        assert (shop.result().status_code, shop.result().text) == (422, "divided")

    @pytest.mark.parametrize("is_streamed", [True, False])
    def test_response_that_is_too_large_fails_with_its_bound(
        self, is_streamed: bool, make_shop: Callable[..., Shop]
    ) -> None:
        shop, parts = make_shop(RESPONSE_MAX_BYTES=1000), []

        @shop.app.post("/")
        @shop.push.background
        def work() -> Any:
            def stream() -> Iterator[str]:
                while True:
                    parts.append(1)
                    yield "x" * 100

            return stream() if is_streamed else "x" * 1001

        result = shop.result()
        assert (result.status_code, result.json and result.json["code"]) == (500, "too_large")
        assert "response_max_bytes" in result.text
        assert len(parts) == (11 if is_streamed else 0)

    def test_response_of_the_largest_size_is_kept(self, make_shop: Callable[..., Shop]) -> None:
        shop = make_shop(RESPONSE_MAX_BYTES=3_000_000)
        shop.app.post("/")(shop.push.background(lambda: b"\xff" * 3_000_000))
        assert shop.result().data == b"\xff" * 3_000_000


class TestRequest:
    def test_job_has_the_data_of_the_request(self, shop: Shop) -> None:
        @shop.app.before_request
        def load_user() -> None:
            g.user = request.headers["X-User"]

        @shop.app.post("/<name>")
        @shop.push.background
        def work(name: str) -> dict[str, Any]:
            return {
                "name": name,
                "args": request.args["q"],
                "form": request.form["title"],
                "file": [request.files["file"].filename, request.files["file"].read().decode()],
                "cookie": request.cookies["color"],
                "session": session["cart"],
                "user": g.user,
                "url": request.url,
                "endpoint": request.endpoint,
            }

        @shop.app.post("/login")
        def login() -> str:
            session["cart"] = [1, 2]
            return ""

        shop.post("/login")
        shop.client.set_cookie("color", "blue")
        result = shop.result(
            "/über?q=é",
            data={"title": "Ü", "file": (io.BytesIO(b"content"), "a.txt")},
            content_type="multipart/form-data",
        )
        assert result.json == {
            "name": "über",
            "args": "é",
            "form": "Ü",
            "file": ["a.txt", "content"],
            "cookie": "blue",
            "session": [1, 2],
            "user": "ann",
            "url": "http://localhost/über?q=é",
            "endpoint": "work",
        }

    def test_json_and_raw_bodies_can_be_read(self, shop: Shop) -> None:
        shop.app.post("/json")(shop.push.background(lambda: request.json))

        @shop.app.post("/raw")
        @shop.push.background
        def raw() -> bytes:
            return request.stream.read()

        assert shop.result("/json", json={"a": ["ü"]}).json == {"a": ["ü"]}
        assert shop.result("/raw", data=b"\x00raw").data == b"\x00raw"

    def test_form_that_another_function_reads_first_is_complete(self, shop: Shop) -> None:
        @shop.app.before_request
        def check_csrf() -> None:
            assert request.method == "GET" or request.form["token"] == "1"

        shop.app.post("/")(shop.push.background(lambda: request.form["token"] + request.files["file"].read().decode()))
        data = {"token": "1", "file": (io.BytesIO(b"content"), "a.txt")}
        assert shop.result(data=data, content_type="multipart/form-data").text == "1content"

    def test_body_that_is_gone_is_an_error_with_its_fix(self, published: PublishedHistory) -> None:
        app = Flask(__name__)
        app.config.update(TIDINGS_URL=published.url, TESTING=True)
        app.before_request(lambda: request.stream.read() and None)
        push = Tidings(app, user=lambda: "ann")
        app.post("/")(push.background(lambda: "done"))
        with pytest.raises(BadConfig, match="create Tidings"):
            app.test_client().post("/", data="body")

    def test_request_that_is_too_large_is_413(self, make_shop: Callable[..., Shop]) -> None:
        shop = make_shop(REQUEST_MAX_BYTES=1000)
        shop.app.post("/")(shop.push.background(lambda: request.form["a"]))
        shop.app.post("/other", endpoint="other")(lambda: request.form["a"])
        response = shop.post(data={"a": "x" * 1000})
        assert (response.status_code, response.json and response.json["code"]) == (413, "too_large")
        assert len(shop.result(data={"a": "x" * 900}).text) == 900
        assert shop.post("/other", data={"a": "x" * 1000}).status_code == 200

    def test_after_request_functions_and_the_session_belong_to_the_response_that_is_sent(self, shop: Shop) -> None:
        @shop.app.after_request
        def add(response: Response) -> Response:
            response.headers.add("X-Path", request.path)
            return response

        @shop.app.post("/")
        @shop.push.background
        def work() -> str:
            session["changed"] = True
            return "done"

        location = shop.begin()
        result = shop.ended(location)
        assert result.headers.getlist("X-Path") == [location]
        assert "Set-Cookie" not in result.headers

    def test_publications_are_sent_with_a_good_response_only(self, shop: Shop, published: PublishedHistory) -> None:
        @shop.app.post("/<int:status>")
        @shop.push.background
        def work(status: int) -> tuple[str, int]:
            shop.push.emit("e", status, channel="a:1")
            return "", status

        assert [shop.result(f"/{status}").status_code for status in (200, 409)] == [200, 409]
        assert published.data("a:1") == [200]

    def test_blueprints_classes_and_other_decorators_work(self, shop: Shop) -> None:
        def doubled(view: Callable[..., str]) -> Callable[..., str]:
            def call(**arguments: Any) -> str:
                return view(number=2, **arguments)

            return call

        class Work(MethodView):
            decorators = (shop.push.background,)

            def post(self, name: str) -> str:
                return f"class {name}"

        blueprint = Blueprint("inner", __name__, url_prefix="/inner")

        @blueprint.post("/<name>")
        @shop.push.background
        @doubled
        def work(name: str, number: int) -> str:
            return f"{name} {number}"

        shop.app.register_blueprint(blueprint)
        shop.app.add_url_rule("/class/<name>", view_func=Work.as_view("class"))
        assert shop.result("/inner/a").text == "a 2"
        assert shop.result("/class/a").text == "class a"


class TestCancel:
    def test_running_function_ends_at_its_next_progress(
        self, shop: Shop, published: PublishedHistory, gate: threading.Event
    ) -> None:
        cleaned = threading.Event()

        @shop.app.errorhandler(Exception)
        def handle(_error: Exception) -> str:
            return "handled"

        @shop.app.post("/")
        @shop.push.background
        def work() -> str:
            shop.push.emit("e", channel="a:1")
            try:
                while not gate.is_set():
                    job.progress(0.5)
                    time.sleep(0.01)
            except JobCancelled:
                cleaned.set()
                raise
            return "done"

        location = shop.begin()
        wait_until(lambda: shop.get(location).headers["Tidings-Job"] == "running", why="it runs")
        response = shop.client.delete(location, headers=ANN)
        assert (response.status_code, response.headers["Tidings-Job"]) == (202, "running")
        result = shop.ended(location)
        assert (result.status_code, result.json and result.json["code"]) == (410, "cancelled")
        assert cleaned.is_set()
        assert published.data("a:1") == []
        wait_until(lambda: events(published)[-1]["state"] == "cancelled", why="the end is published")
        assert shop.client.delete(location, headers=ANN).status_code == 200

    def test_function_that_asks_may_return_what_it_has(self, shop: Shop, gate: threading.Event) -> None:
        @shop.app.post("/")
        @shop.push.background
        def work() -> str:
            while not job.cancelled and not gate.is_set():
                time.sleep(0.01)
            return "a part"

        location = shop.begin()
        wait_until(lambda: shop.get(location).headers["Tidings-Job"] == "running", why="it runs")
        shop.client.delete(location, headers=ANN)
        assert shop.ended(location).text == "a part"

    def test_queued_job_does_not_run(
        self, make_shop: Callable[..., Shop], published: PublishedHistory, gate: threading.Event
    ) -> None:
        shop, ran = make_shop(THREADS=1), []

        @shop.app.post("/<int:number>")
        @shop.push.background
        def work(number: int) -> str:
            ran.append(number)
            gate.wait()
            return "done"

        first, second = shop.begin("/1"), shop.begin("/2")
        wait_until(lambda: ran == [1], why="the first runs")
        response = shop.client.delete(second, headers=ANN)
        assert (response.status_code, response.headers["Tidings-Job"]) == (200, "cancelled")
        gate.set()
        assert shop.ended(first).text == "done"
        assert shop.result("/3").text == "done"
        assert ran == [1, 3]
        states = [event["state"] for event in events(published) if event["location"] == second]
        assert states == ["cancelled"]


class TestBounds:
    def test_user_with_too_many_jobs_gets_429_and_others_do_not(
        self, make_shop: Callable[..., Shop], gate: threading.Event
    ) -> None:
        shop = make_shop(USER_JOBS_MAX=2, THREADS=1)

        @shop.app.post("/")
        @shop.push.background
        def work() -> str:
            gate.wait()
            return "done"

        locations = [shop.begin(), shop.begin()]
        response = shop.post()
        assert (response.status_code, response.headers["Retry-After"]) == (429, "5")
        assert shop.post(headers=BOB).status_code == 202
        gate.set()
        assert [shop.ended(location).text for location in locations] == ["done", "done"]
        assert shop.post().status_code == 202

    def test_full_queue_is_503(self, make_shop: Callable[..., Shop], gate: threading.Event) -> None:
        shop, started = make_shop(QUEUE_MAX=1, THREADS=1), threading.Event()

        @shop.app.post("/")
        @shop.push.background
        def work() -> str:
            started.set()
            gate.wait()
            return "done"

        shop.begin()
        assert started.wait(30)
        shop.begin(headers=BOB)
        response = shop.post(headers={"X-User": "eve"})
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert response.json is not None
        assert response.json["code"] == "full"

    def test_progress_is_published_at_most_once_per_interval(
        self, make_shop: Callable[..., Shop], published: PublishedHistory
    ) -> None:
        shop = make_shop(PROGRESS_INTERVAL_S=0.2)

        @shop.app.post("/")
        @shop.push.background
        def work() -> str:
            start_s, number = time.monotonic(), 0
            while time.monotonic() - start_s < 1:
                number += 1
                job.progress(time.monotonic() - start_s, f"part {number}")
            return str(number)

        count = int(shop.result().text)
        wait_until(lambda: events(published)[-1]["state"] == "done", why="the end is published")
        assert count > 1000
        assert 3 <= len(events(published)) <= 8
        assert events(published)[-1]["message"] == f"part {count}"

    def test_nobody_gets_401(self, shop: Shop) -> None:
        shop.app.post("/")(shop.push.background(lambda: "done"))
        response = shop.client.post("/")
        assert (response.status_code, response.json and response.json["code"]) == (401, "unauthorized")

    def test_store_that_is_down_is_503(self, shop: Shop, published: PublishedHistory) -> None:
        app = Flask(__name__)
        background = {"URL": "redis://127.0.0.1:1/0"}
        app.config.update(TIDINGS_URL=published.url, TIDINGS_BACKGROUND=background)
        push = Tidings(app, user=lambda: "ann")
        app.post("/")(push.background(lambda: "done"))
        assert app.test_client().post("/").status_code == 503
        assert app.test_client().get("/tidings/jobs/1").status_code == 503


class TestPreference:
    def test_only_requests_that_prefer_it_are_jobs(self, shop: Shop) -> None:
        @shop.app.post("/")
        @shop.push.background(only_if_preferred=True)
        def work() -> str:
            job.progress(0.5)
            return f"job {job.id is not None}"

        response = shop.post()
        assert (response.status_code, response.text) == (200, "job False")
        response = shop.post(headers={**ANN, "Prefer": "respond-async, wait=5"})
        assert (response.status_code, response.headers["Preference-Applied"]) == (202, "respond-async")
        assert shop.ended(response.headers["Location"]).text == "job True"


class TestSettings:
    def test_background_without_users_is_refused(self, published: PublishedHistory) -> None:
        with pytest.raises(BadConfig, match="belong to users"):
            Tidings().background(lambda: "")

    def test_unknown_executor_is_refused(self, shop: Shop) -> None:
        with pytest.raises(BadConfig, match="threads and celery"):
            shop.push.background(executor="process")  # type: ignore[call-overload]

    def test_celery_without_its_application_is_an_error(self, shop: Shop) -> None:
        shop.app.testing = True
        shop.app.post("/")(shop.push.background(executor="celery")(lambda: ""))
        with pytest.raises(BadConfig, match="pass celery="):
            shop.post()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"TIDINGS_URL": "http://127.0.0.1:1"}, "need a store: set .*TIDINGS_BACKGROUND"),
            ({"TIDINGS_BACKGROUND": {"QUEUE": 1}}, "QUEUE"),
            ({"TIDINGS_BACKGROUND": {"THREADS": 0}}, "threads"),
        ],
    )
    def test_invalid_setting_is_refused(self, settings: dict[str, Any], message: str) -> None:
        app = Flask(__name__)
        app.config.update(settings)
        with pytest.raises(BadConfig, match=message):
            Tidings(app, user=lambda: "ann")

    def test_path_is_a_setting(self, make_shop: Callable[..., Shop]) -> None:
        shop = make_shop(PATH="/own/jobs")
        shop.app.post("/")(shop.push.background(lambda: "done"))
        assert shop.begin().startswith("/own/jobs/")

    def test_application_factory(self, published: PublishedHistory) -> None:
        push = Tidings(user=lambda: "ann")
        view = push.background(lambda: json.dumps(job.id))
        app = Flask(__name__)
        app.config.update(TIDINGS_URL=published.url, TIDINGS_PREFIX=published.prefix)
        push.init_app(app)
        app.post("/")(view)
        location = app.test_client().post("/").headers["Location"]
        wait_until(lambda: app.test_client().get(location).status_code == 200, why="it ends")
        assert app.test_client().get(location).text == json.dumps(location.rpartition("/")[2])
        app.extensions["tidings_background"].jobs.close()


def test_program_of_the_page_works(published_by_default: PublishedHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_URL", published_by_default.url)
    module: dict[str, Any] = {"__name__": "shop"}
    exec(program_of("background-jobs.md"), module)
    app = module["app"]
    app.secret_key = "secret"
    client = app.test_client()
    assert client.post("/reports/2026").status_code == 401
    with client.session_transaction() as transaction:
        transaction["user_id"] = 7
    location = client.post("/reports/2026").headers["Location"]
    wait_until(lambda: client.get(location).headers["Tidings-Job"] == "done", why="it ends")
    result = client.get(location)
    assert (result.status_code, result.json) == (201, {"year": 2026})
    wait_until(lambda: published_by_default.data("user:7"), why="the end is published")
    assert published_by_default.data("user:7")[-1]["message"] == "month 12"
    module["push"].now.close()
    app.extensions["tidings_background"].jobs.close()
