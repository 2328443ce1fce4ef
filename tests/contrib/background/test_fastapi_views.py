"""`@push.background` in real FastAPI and Starlette applications, with a real Redis.

This module does not postpone annotations, because FastAPI evaluates those of functions inside tests.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from celery import Celery
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from fastapi.testclient import TestClient
from httpx import Response
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from support.programs.example_programs import PublishedHistory
from support.waiting import wait_until
from tidings.async_emitter import AsyncEmitter
from tidings.batch import Collected
from tidings.contrib.background import job
from tidings.contrib.fastapi import Tidings
from tidings.errors import BadConfig

ANN, BOB = {"X-User": "ann"}, {"X-User": "bob"}


class Shop:
    """An application, and a client of it whose event loop runs until the end of the test."""

    def __init__(self, published: PublishedHistory, app: Any = None, **background: Any) -> None:
        self.app = FastAPI() if app is None else app
        celery = background.pop("CELERY", None)
        self.push = Tidings(
            self.app,
            lambda: AsyncEmitter(published.url, prefix=published.prefix),
            user=lambda request: request.headers.get("x-user"),
            background={"PROGRESS_INTERVAL_S": 0.05, "SHUTDOWN_S": 0, **background},
            celery=celery,
        )
        self.client = TestClient(self.app, raise_server_exceptions=False)

    def begin(self, path: str = "/", **options: Any) -> str:
        """Begin a job, and return its location."""
        response = self.client.post(path, **{"headers": ANN, **options})
        assert response.status_code == 202, response.text
        return response.headers["Location"]

    def get(self, location: str, headers: dict[str, str] = ANN) -> Response:
        return self.client.get(location, headers=headers, follow_redirects=False)

    def ended(self, location: str) -> Response:
        """The response of the location once the job has ended."""
        wait_until(lambda: self.get(location).headers["Tidings-Job"] not in ("queued", "running"), why="the job ends")
        return self.get(location)

    def result(self, path: str = "/", **options: Any) -> Response:
        return self.ended(self.begin(path, **options))


@pytest.fixture
def shop(published: PublishedHistory) -> Iterator[Shop]:
    shop = Shop(published)
    with shop.client:
        yield shop


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


class Order(BaseModel):
    id: int


class TestFastApi:
    def test_location_has_the_progress_and_then_the_result(
        self, shop: Shop, published: PublishedHistory, gate: threading.Event
    ) -> None:
        @shop.app.post("/reports/{year}", status_code=201)
        @shop.push.background
        async def work(year: int, order: Order) -> Order:
            job.progress(0.4, "rendering")
            await asyncio.to_thread(gate.wait)
            return Order(id=order.id + year)

        location = shop.begin("/reports/2000", json={"id": 26})
        wait_until(lambda: shop.get(location).json()["progress"] == 0.4, why="there is progress")
        assert shop.get(location).status_code == 202
        assert shop.get(location, BOB).status_code == 404
        assert shop.get(location, {}).status_code == 401
        gate.set()
        result = shop.ended(location)
        assert (result.status_code, result.json(), result.headers["Tidings-Job"]) == (201, {"id": 2026}, "done")
        wait_until(lambda: published.data("user:ann")[-1]["state"] == "done", why="the end is published")
        assert {publication.event for publication in published.publications("user:ann")} == {"tidings:job"}

    def test_invalid_request_is_422_at_once(self, shop: Shop) -> None:
        @shop.app.post("/{year}")
        @shop.push.background
        async def work(year: int) -> int:
            return year

        assert shop.client.post("/text", headers=ANN).status_code == 422
        assert shop.result("/7").json() == 7

    def test_async_function_runs_on_the_loop_of_the_server_and_a_sync_one_beside_it(self, shop: Shop) -> None:
        loops: list[Any] = []

        @shop.app.get("/loop")
        async def loop() -> None:
            loops.append(asyncio.get_running_loop())

        @shop.app.post("/async")
        @shop.push.background
        async def asynchronous() -> bool:
            return asyncio.get_running_loop() is loops[0]

        @shop.app.post("/sync")
        @shop.push.background
        def synchronous() -> str | None:
            job.progress(0.5)
            return job.id

        shop.client.get("/loop")
        assert shop.result("/async").json() is True
        location = shop.begin("/sync")
        assert shop.ended(location).json() == location.rpartition("/")[2]

    def test_body_and_dependencies_are_those_of_the_request(self, shop: Shop) -> None:
        steps = []

        async def session() -> AsyncIterator[str]:
            steps.append(f"open {job.id is not None}")
            yield "session"
            steps.append(f"close {job.id is not None}")

        @shop.app.post("/")
        @shop.push.background
        async def work(
            request: Request,
            order: Order,
            inner: Annotated[str, Depends(session)],
        ) -> list[str | None]:
            return [str(order.id), inner, request.headers["x-user"], request.url.query]

        result = shop.result("/?q=1", json={"id": 7})
        assert result.json() == ["7", "session", "ann", "q=1"]
        wait_until(lambda: len(steps) == 4, why="both sessions are closed")
        assert sorted(steps) == ["close False", "close True", "open False", "open True"]

    def test_raw_body_is_complete(self, shop: Shop) -> None:
        @shop.app.post("/")
        @shop.push.background
        async def work(request: Request) -> PlainTextResponse:
            return PlainTextResponse(str(len(await request.body())))

        assert shop.result(content=b"x" * 300_000).text == "300000"

    def test_each_kind_of_response_is_kept(self, shop: Shop) -> None:
        async def streamed() -> StreamingResponse:
            async def parts() -> AsyncIterator[str]:
                yield "a"
                await asyncio.sleep(0)
                yield "b"

            return StreamingResponse(parts(), 207, media_type="text/csv")

        async def cookies() -> JSONResponse:
            response = JSONResponse({"ok": True})
            response.set_cookie("a", "1")
            response.set_cookie("b", "2")
            return response

        async def redirected() -> RedirectResponse:
            return RedirectResponse("/orders/7", 303)

        async def refused() -> None:
            raise HTTPException(409, "sold out", {"X-Reason": "stock"})

        for view in (streamed, cookies, redirected, refused):
            shop.app.post(f"/{view.__name__}")(shop.push.background(view))
        result = shop.result("/streamed")
        assert (result.status_code, result.text, result.headers["content-type"]) == (
            207,
            "ab",
            "text/csv; charset=utf-8",
        )
        assert len(shop.result("/cookies").headers.get_list("set-cookie")) == 2
        result = shop.result("/redirected")
        assert (result.status_code, result.headers["location"]) == (303, "/orders/7")
        result = shop.result("/refused")
        assert (result.status_code, result.json(), result.headers["X-Reason"]) == (409, {"detail": "sold out"}, "stock")

    def test_failure_is_500_with_the_id_of_the_log(self, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
        @shop.app.post("/")
        @shop.push.background
        async def work() -> None:
            raise ValueError("a secret of the log")

        result = shop.result()
        assert result.status_code == 500
        assert f"error_id={result.json()['error_id']}" in caplog.text
        assert "secret" not in result.text

    def test_cancel_ends_the_function(self, shop: Shop, gate: threading.Event) -> None:
        @shop.app.exception_handler(Exception)
        async def handle(_request: Request, _error: Exception) -> PlainTextResponse:
            return PlainTextResponse("handled")

        @shop.app.post("/")
        @shop.push.background
        async def work() -> None:
            while not gate.is_set():
                await asyncio.sleep(0.01)
                job.check()

        location = shop.begin()
        wait_until(lambda: shop.get(location).headers["Tidings-Job"] == "running", why="it runs")
        assert shop.client.delete(location, headers=BOB).status_code == 404
        assert shop.client.delete(location, headers=ANN).status_code == 202
        assert shop.ended(location).status_code == 410

    def test_publications_are_sent_with_a_good_response_only(self, shop: Shop, published: PublishedHistory) -> None:
        @shop.app.post("/{status}")
        @shop.push.background
        async def work(status: int, later: Annotated[Collected, Depends(shop.push.later)]) -> PlainTextResponse:
            later.emit("e", status, channel="a:1")
            return PlainTextResponse("", status)

        assert [shop.result(f"/{status}").status_code for status in (200, 409)] == [200, 409]
        assert published.data("a:1") == [200]

    def test_only_requests_that_prefer_it_are_jobs(self, shop: Shop) -> None:
        @shop.app.post("/")
        @shop.push.background(only_if_preferred=True)
        async def work() -> bool:
            return job.id is not None

        assert shop.client.post("/", headers=ANN).json() is False
        response = shop.client.post("/", headers={**ANN, "Prefer": "respond-async"})
        assert (response.status_code, response.headers["preference-applied"]) == (202, "respond-async")
        assert shop.ended(response.headers["Location"]).json() is True

    def test_middleware_is_applied_once(self, published: PublishedHistory) -> None:
        shop = Shop(published)
        shop.app.add_middleware(CORSMiddleware, allow_origins=["*"])
        shop.app.add_middleware(GZipMiddleware, minimum_size=10)
        shop.app.post("/")(shop.push.background(lambda: "x" * 1000))
        with shop.client:
            result = shop.ended(shop.begin(headers={**ANN, "Origin": "http://a"}))
            again = shop.client.get(result.url, headers={**ANN, "Origin": "http://a"})
        assert again.json() == "x" * 1000
        assert again.headers.get_list("access-control-allow-origin") == ["*"]

    def test_bounds_have_a_status(self, published: PublishedHistory, gate: threading.Event) -> None:
        shop = Shop(published, REQUEST_MAX_BYTES=1000, RESPONSE_MAX_BYTES=1000, USER_JOBS_MAX=1)

        @shop.app.post("/size/{size}")
        @shop.push.background
        async def sized(size: int) -> StreamingResponse:
            async def parts() -> AsyncIterator[bytes]:
                for _ in range(size):
                    yield b"x"

            return StreamingResponse(parts())

        @shop.app.post("/wait")
        @shop.push.background
        def wait() -> None:
            gate.wait()

        with shop.client:
            assert shop.client.post("/size/1", headers=ANN, content=b"x" * 1001).status_code == 413
            assert shop.result("/size/1000").text == "x" * 1000
            result = shop.result("/size/1001")
            assert (result.status_code, result.json()["code"]) == (500, "too_large")
            shop.begin("/wait")
            assert shop.client.post("/wait", headers=ANN).status_code == 429
            assert shop.client.post("/wait").status_code == 401
            gate.set()

    def test_openapi_has_no_parameter_of_tidings(self, shop: Shop) -> None:
        @shop.app.post("/{year}")
        @shop.push.background
        async def work(year: int, **_: Any) -> None: ...

        assert "tidings" not in str(shop.client.get("/openapi.json").json()["paths"])


class TestStarlette:
    def test_endpoints_take_the_request(self, published: PublishedHistory) -> None:
        shop = Shop(published, Starlette())

        async def work(request: Request) -> PlainTextResponse:
            body = await request.json()
            return PlainTextResponse(f"{request.path_params['name']} {body['title']}", 201)

        shop.app.router.routes.append(Route("/{name}", shop.push.background(work), methods=["POST"]))
        with shop.client:
            result = shop.result("/a", json={"title": "b"})
        assert (result.status_code, result.text) == (201, "a b")


class TestSettings:
    def test_background_without_users_is_refused(self) -> None:
        with pytest.raises(BadConfig, match="belong to users"):
            Tidings(FastAPI(), lambda: AsyncEmitter("memory://x")).background(lambda: None)

    def test_celery_without_its_application_is_refused(self, shop: Shop) -> None:
        with pytest.raises(BadConfig, match="pass celery="):
            shop.push.background(executor="celery")(lambda: None)

    def test_celery_task_runs_the_stored_request(self, published: PublishedHistory) -> None:
        # Eager: `test_processes` has a real worker, which runs the same task.
        celery = Celery("shop", set_as_current=False)
        celery.conf.task_always_eager = True
        shop = Shop(published, CELERY=celery)

        @shop.app.post("/{name}")
        @shop.push.background(executor="celery")
        async def work(name: str, order: Order) -> list[Any]:
            return [name, order.id, job.id is not None]

        with shop.client:
            assert shop.result("/ü", json={"id": 7}).json() == ["ü", 7, True]
