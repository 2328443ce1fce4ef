"""`@background` in a real Django project, with its middleware, SQLite and a real Redis."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from support.programs.django_project import configure
from support.programs.example_programs import PublishedHistory
from support.waiting import wait_until
from tidings.contrib.background import job
from tidings.errors import BadConfig

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "background_middleware.sign_in",
    "django.middleware.gzip.GZipMiddleware",
]


@pytest.fixture(scope="module", autouse=True)
def _project(tmp_path_factory: pytest.TempPathFactory) -> None:
    configure(tmp_path_factory.mktemp("django"))


class Site:
    """A project with these views, and a client of it."""

    def __init__(self) -> None:
        from django.test import Client
        from django.urls import clear_url_caches, include, path

        self.urls = ModuleType("background_urls")
        self.urls.urlpatterns = [path("tidings/jobs/", include("tidings.contrib.django.urls"))]  # type: ignore[attr-defined]
        self.client = Client(raise_request_exception=False)
        clear_url_caches()

    def add(self, name: str, view: Any, **options: Any) -> None:
        """Add a view as a background job."""
        from django.urls import clear_url_caches, path, set_urlconf

        from tidings.contrib.django import background

        self.urls.urlpatterns.append(path(name, background(**options)(view)))
        clear_url_caches()
        set_urlconf(None)

    def post(self, path: str = "/", headers: dict[str, str] = ANN, data: Any = None, **options: Any) -> Any:
        return self.client.post(path, data, headers=headers, **options)

    def begin(self, path: str = "/", **options: Any) -> str:
        response = self.post(path, **options)
        assert response.status_code == 202, response.content
        return str(response["Location"])

    def get(self, location: str, headers: dict[str, str] = ANN) -> Any:
        return self.client.get(location, headers=headers)

    def ended(self, location: str) -> Any:
        wait_until(lambda: self.get(location)["Tidings-Job"] not in ("queued", "running"), why="the job ends")
        return self.get(location)

    def result(self, path: str = "/", **options: Any) -> Any:
        return self.ended(self.begin(path, **options))


@pytest.fixture
def site(published: PublishedHistory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    from django.test import override_settings

    from tidings.contrib.django.background import background_jobs

    site = Site()
    middleware = ModuleType("background_middleware")
    middleware.sign_in = sign_in  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "background_middleware", middleware)
    celery = Celery("shop", set_as_current=False)
    celery.conf.task_always_eager = True
    background = {"PROGRESS_INTERVAL_S": 0.05, "SHUTDOWN_S": 0, "RESPONSE_MAX_BYTES": 100_000, "CELERY": celery}
    with override_settings(
        TIDINGS={"URL": published.url, "PREFIX": published.prefix, "BACKGROUND": background},
        ROOT_URLCONF=site.urls,
        MIDDLEWARE=MIDDLEWARE,
        ALLOWED_HOSTS=["testserver"],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    ):
        from tidings.contrib.django.background import register_celery

        register_celery()
        yield site
        background_jobs().close()


def sign_in(get_response: Any) -> Any:
    """Middleware of the project: the user of a header."""

    def middleware(request: Any) -> Any:
        name = request.headers.get("X-User")
        request.user = SimpleNamespace(pk=name, is_authenticated=name is not None)
        response = get_response(request)
        response["X-Path"] = request.path
        return response

    return middleware


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def respond(text: str = "done", **options: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse(text, **options)


class TestLocation:
    def test_it_has_the_progress_and_then_the_result(
        self, site: Site, published: PublishedHistory, gate: threading.Event
    ) -> None:
        from tidings.contrib.django import emit

        def work(request: Any, year: int) -> Any:
            job.progress(0.4, "rendering")
            gate.wait()
            emit("e", year, channel="a:1")
            response = respond(f"{request.user.pk} {request.POST['title']} {year}", status=201)
            response["X-Own"] = "yes"
            response.set_cookie("a", "1")
            return response

        site.add("reports/<int:year>", work)
        location = site.begin("/reports/7", data={"title": "Ü"})
        wait_until(lambda: site.get(location).json()["progress"] == 0.4, why="there is progress")
        assert site.get(location).status_code == 202
        assert site.get(location, BOB).status_code == 404
        assert site.get(location, {}).status_code == 401
        gate.set()
        result = site.ended(location)
        assert (result.status_code, result.content.decode(), result["X-Own"]) == (201, "ann Ü 7", "yes")
        assert (result["X-Path"], result["Tidings-Job"]) == (location, "done")
        assert result.cookies["a"].value == "1"
        wait_until(lambda: published.data("user:ann")[-1]["state"] == "done", why="the end is published")
        assert published.data("a:1") == [7]

    def test_exception_is_500_with_the_id_of_the_log(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        def work(_request: Any) -> Any:
            raise ValueError("a secret of the log")

        site.add("", work)
        result = site.result()
        assert (result.status_code, "secret" in result.content.decode()) == (500, False)
        assert f"error_id={result.json()['error_id']}" in caplog.text

    def test_delete_cancels_and_needs_no_token(self, site: Site, gate: threading.Event) -> None:
        from django.test import Client

        def work(_request: Any) -> Any:
            while not gate.wait(0.01):
                job.progress(0.5)
            return respond()

        site.add("", work)
        location = site.begin()
        wait_until(lambda: site.get(location)["Tidings-Job"] == "running", why="it runs")
        strict = Client(enforce_csrf_checks=True)
        assert strict.delete(location, headers=BOB).status_code == 404
        assert strict.delete(location, headers=ANN).status_code == 202
        assert site.ended(location).status_code == 410
        assert strict.put(location, headers=ANN).status_code == 405


class TestViews:
    def test_multipart_form_that_the_csrf_check_reads_is_complete(self, site: Site) -> None:
        from django.middleware.csrf import get_token
        from django.test import Client

        def work(request: Any) -> Any:
            files = [file.read().decode() for file in request.FILES.getlist("file")]
            return respond(f"{request.POST.getlist('title')} {files}")

        site.add("", work)
        site.urls.urlpatterns.append(__import__("django.urls").urls.path("token", lambda it: respond(get_token(it))))
        site.client = Client(enforce_csrf_checks=True)
        token = site.client.get("/token").content.decode()
        files = [io.BytesIO(b"first"), io.BytesIO(b"second")]
        location = site.begin(data={"csrfmiddlewaretoken": token, "title": ["a", "Ü"], "file": files})
        assert site.ended(location).content.decode() == "['a', 'Ü'] ['first', 'second']"

    def test_exceptions_that_django_has_a_response_for(self, site: Site) -> None:
        from django.core.exceptions import PermissionDenied
        from django.http import Http404

        def missing(_request: Any) -> Any:
            raise Http404

        def denied(_request: Any) -> Any:
            raise PermissionDenied

        site.add("missing", missing)
        site.add("denied", denied)
        assert [site.result(path).status_code for path in ("/missing", "/denied")] == [404, 403]

    def test_streams_files_and_async_views(self, site: Site, tmp_path: Path) -> None:
        from django.http import FileResponse, JsonResponse, StreamingHttpResponse

        (tmp_path / "report.pdf").write_bytes(b"%PDF" * 5000)

        def streamed(_request: Any) -> Any:
            return StreamingHttpResponse(iter([b"a", "b"]), status=207)

        def file(_request: Any) -> Any:
            return FileResponse((tmp_path / "report.pdf").open("rb"), as_attachment=True)

        async def asynchronous(request: Any) -> Any:
            async def parts() -> Any:
                yield b"x"
                yield b"y"

            return StreamingHttpResponse(parts()) if request.GET else JsonResponse({"job": job.id is not None})

        def large(_request: Any) -> Any:
            return StreamingHttpResponse(b"x" * 1000 for _ in range(101))

        for view in (streamed, file, asynchronous, large):
            site.add(view.__name__, view)
        result = site.result("/streamed")
        assert (result.status_code, result.content) == (207, b"ab")
        result = site.result("/file")
        assert (len(result.content), result["Content-Disposition"]) == (20_000, 'attachment; filename="report.pdf"')
        assert site.result("/asynchronous").json() == {"job": True}
        assert site.result("/asynchronous?q=1").content == b"xy"
        result = site.result("/large")
        assert (result.status_code, result.json()["code"]) == (500, "too_large")

    def test_only_requests_that_prefer_it_are_jobs(self, site: Site) -> None:
        site.add("", lambda _: respond(str(job.id is not None)), only_if_preferred=True)
        assert site.post().content == b"False"
        location = site.begin(headers={**ANN, "Prefer": "respond-async"})
        assert site.ended(location).content == b"True"

    def test_celery_task_runs_the_stored_request(self, site: Site) -> None:
        # Eager: `test_processes` has a real worker, which runs the same task.
        site.add("<name>", lambda request, name: respond(f"{name} {request.user.pk} {job.id}"), executor="celery")
        location = site.begin("/ü")
        assert site.ended(location).content.decode() == f"ü ann {location.rpartition('/')[2]}"

    def test_request_over_asgi(self, site: Site) -> None:
        import asyncio

        from django.core.handlers.asgi import ASGIHandler
        from django.views.decorators.csrf import csrf_exempt

        def work(request: Any, name: str) -> Any:
            return respond(f"{name} {request.body.decode()} {request.GET['q']}")

        site.add("<name>", csrf_exempt(work))
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/ü",
            "query_string": b"q=%C3%A9",
            "headers": [(b"host", b"testserver"), (b"x-user", b"ann"), (b"content-type", b"text/plain")],
        }
        sent: list[Any] = []

        async def request() -> None:
            messages = [{"type": "http.request", "body": b"body", "more_body": False}]

            async def receive() -> Any:
                return messages.pop() if messages else await asyncio.Event().wait()

            async def send(message: Any) -> None:
                sent.append(message)

            await ASGIHandler()(scope, receive, send)

        asyncio.run(request())
        headers = dict(sent[0]["headers"])
        assert sent[0]["status"] == 202, sent
        assert site.ended(headers[b"Location"].decode()).content.decode() == "ü body é"


class TestSettings:
    def test_missing_urls_are_named(self, site: Site) -> None:
        from tidings.contrib.django.background import _location_of

        site.urls.urlpatterns.clear()  # type: ignore[attr-defined]
        __import__("django.urls").urls.clear_url_caches()
        with pytest.raises(BadConfig, match="include"):
            _location_of("7")

    def test_invalid_settings_are_errors_of_the_check(self, site: Site) -> None:
        from django.core.checks import run_checks
        from django.test import override_settings

        for background in ({"THREADS": 0}, {"QUEUE": 1}, "threads", {"URL": "nothing"}):
            with override_settings(TIDINGS={"BACKGROUND": background}):
                assert [error.id for error in run_checks() if error.id == "tidings.E001"] == ["tidings.E001"]
        with override_settings(TIDINGS={"URL": "http://127.0.0.1:1"}):
            assert [error for error in run_checks() if error.id == "tidings.E001"] == []
