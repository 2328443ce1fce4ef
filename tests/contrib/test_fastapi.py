"""The integration in real FastAPI and Starlette applications, with a real Redis.

This module does not postpone annotations, because FastAPI evaluates those of functions inside tests.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from support.network.http_hub import API_KEY, HttpHub
from support.ports import free_port
from support.programs.example_programs import PublishedHistory, program_of, run_program
from tidings.async_emitter import AsyncEmitter
from tidings.batch import Collected
from tidings.contrib.fastapi import Tidings
from tidings.errors import BadChannel, BadRequest, TooLarge


class App:
    """A FastAPI application with tidings, and a `client` that does not raise the application's exceptions."""

    def __init__(self, published: PublishedHistory, **settings: Any) -> None:
        self.app = FastAPI(**settings)
        self.push = Tidings(self.app, lambda: AsyncEmitter(published.url, prefix=published.prefix, batch_max=3))
        self.client = TestClient(self.app, raise_server_exceptions=False)


@pytest.fixture
def shop(published: PublishedHistory) -> App:
    return App(published)


class TestLater:
    def test_publications_are_sent_after_the_response(self, shop: App, published: PublishedHistory) -> None:
        published_data = []

        async def session() -> AsyncIterator[None]:
            yield
            # A database session would be committed here.
            published_data.append(published.data("a:1"))

        def look() -> None:
            published_data.append(published.data("a:1"))

        @shop.app.post("/", dependencies=[Depends(session)])
        async def work(later: Annotated[Collected, Depends(shop.push.later)]) -> Response:
            later.emit("e", 1, channel="a:1")
            later.push_model(_Model(), channels=["a:1", "a:2"])
            look()
            return JSONResponse("done", background=BackgroundTask(look))

        with shop.client as client:
            assert client.post("/").json() == "done"
        assert published_data == [[], [], []]
        assert [publication.event for publication in published.publications("a:1")] == ["e", "updated_model"]
        assert len(published.data("a:2")) == 1

    @pytest.mark.parametrize("status", [200, 409])
    def test_notifications_are_sent_after_a_successful_response(
        self, status: int, shop: App, published: PublishedHistory
    ) -> None:
        @shop.app.post("/")
        async def work(later: Annotated[Collected, Depends(shop.push.later)]) -> Response:
            later.notify("order_shipped", user="7", title="later")
            later.emit("e", 1, channel="a:1")
            with pytest.raises(BadChannel, match="user is ''"):
                later.notify("order_shipped", user="", title="x")
            assert published.titles("7") == []
            return Response(status_code=status)

        with shop.client as client:
            assert client.post("/").status_code == status
        assert published.titles("7") == (["later"] if status == 200 else [])
        assert published.data("a:1") == ([1] if status == 200 else [])

    def test_publications_of_a_request_are_one_batch(self) -> None:
        with HttpHub() as hub:
            app = FastAPI()
            push = Tidings(app, lambda: AsyncEmitter(hub.url, api_key=API_KEY))

            def inner(later: Annotated[Collected, Depends(push.later)]) -> None:
                later.emit("e", 0, channel="a:1")

            @app.get("/", dependencies=[Depends(inner)])
            def work(later: Annotated[Collected, Depends(push.later)]) -> str:
                later.emit("e", 1, channel="a:1")
                return "done"

            with TestClient(app) as client:
                client.get("/")
                client.get("/")
            assert [len(request) for request in hub.requests] == [2, 2]

    @pytest.mark.parametrize("status", [200, 204, 303, 400, 404, 422, 500])
    @pytest.mark.parametrize("raised", [True, False])
    def test_response_status_decides_about_publishing(
        self, status: int, raised: bool, shop: App, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        @shop.app.get("/")
        async def work(later: Annotated[Collected, Depends(shop.push.later)]) -> Response:
            later.emit("e", channel="a:1")
            if raised:
                raise HTTPException(status)
            return Response(status_code=status)

        with shop.client as client, caplog.at_level(logging.INFO, "tidings"):
            assert client.get("/", follow_redirects=False).status_code == status
        assert len(published.data("a:1")) == (status < 400)
        messages = [record.getMessage() for record in caplog.records if record.name == "tidings"]
        assert messages == ([] if status < 400 else [f"discarded because the response is a {status}: a:1"])

    def test_exception_discards_the_publications(
        self, shop: App, published: PublishedHistory, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def session() -> AsyncIterator[None]:
            yield
            raise RuntimeError("the commit failed")

        @shop.app.get("/bug")
        async def bug(later: Annotated[Collected, Depends(shop.push.later)]) -> None:
            later.emit("e", channel="a:1")
            raise RuntimeError("a bug")

        @shop.app.get("/commit", dependencies=[Depends(session)])
        async def commit(later: Annotated[Collected, Depends(shop.push.later)]) -> None:
            later.emit("e", channel="a:1")

        @shop.app.get("/stream")
        async def stream(later: Annotated[Collected, Depends(shop.push.later)]) -> Response:
            async def parts() -> AsyncIterator[str]:
                yield "half"
                raise RuntimeError("a bug")

            later.emit("e", channel="a:1")
            return StreamingResponse(parts())

        @shop.app.get("/background")
        async def background(later: Annotated[Collected, Depends(shop.push.later)]) -> Response:
            def fail() -> None:
                raise RuntimeError("a bug")

            later.emit("e", channel="a:1")
            return JSONResponse("done", background=BackgroundTask(fail))

        with shop.client as client, caplog.at_level(logging.INFO, "tidings"):
            statuses = [client.get(path).status_code for path in ("/bug", "/commit", "/stream", "/background")]
        assert published.data("a:1") == []
        levels = [record.levelname for record in caplog.records if record.name == "tidings"]
        # An answer of 200 says that the work is done.
        assert levels == ["INFO" if status == 500 else "WARNING" for status in statuses]
        assert (statuses[0], statuses[-1]) == (500, 200)
        assert "the request ended with RuntimeError after its response: a:1" in caplog.text

    def test_invalid_emit_raises_immediately(self, shop: App, published: PublishedHistory) -> None:
        @shop.app.get("/")
        async def work(later: Annotated[Collected, Depends(shop.push.later)]) -> str:
            with pytest.raises(BadChannel):
                later.emit("e", channel="nonsense")
            later.emit("e", channels=["a:1", "a:2", "a:3"])
            with pytest.raises(TooLarge, match="batch_max"):
                later.emit("e", channel="a:1")
            return "done"

        with shop.client as client:
            assert client.get("/").status_code == 200
        assert len(published.data("a:1")) == 1

    def test_publications_can_be_dropped(self, shop: App, published: PublishedHistory) -> None:
        @shop.app.get("/")
        async def work(later: Annotated[Collected, Depends(shop.push.later)]) -> None:
            later.emit("e", channel="a:1")
            later.drop()

        with shop.client as client:
            assert client.get("/").status_code == 200
        assert published.data("a:1") == []

    def test_later_is_refused_for_a_websocket(self, shop: App, published: PublishedHistory) -> None:
        @shop.app.websocket("/")
        async def work(socket: WebSocket) -> None:
            await socket.accept()
            with pytest.raises(BadRequest, match="WebSocket"):
                await shop.push.later(socket)
            await shop.push.now.emit("e", 1, channel="a:1")
            await socket.send_text("done")

        with shop.client as client, client.websocket_connect("/") as socket:
            assert socket.receive_text() == "done"
        assert published.data("a:1") == [1]

    def test_later_works_in_routers_and_mounted_applications(self, shop: App, published: PublishedHistory) -> None:
        router, inner = APIRouter(), FastAPI()

        @router.get("/router")
        @inner.get("/")
        async def work(later: Annotated[Collected, Depends(shop.push.later)]) -> None:
            later.emit("e", channel="a:1")

        shop.app.include_router(router)
        shop.app.mount("/inner", inner)
        with shop.client as client:
            assert client.get("/router").status_code == client.get("/inner/").status_code == 200
        assert len(published.data("a:1")) == 2


class TestNow:
    def test_now_publishes_immediately_with_a_receipt(self, shop: App, published: PublishedHistory) -> None:
        @shop.app.get("/")
        async def work() -> Response:
            receipt = await shop.push.now.emit("e", channel="a:1")
            assert receipt.cursor == published.publications("a:1")[0].cursor
            return Response(status_code=500)

        with shop.client as client:
            assert client.get("/").status_code == 500
        assert len(published.data("a:1")) == 1

    def test_emitter_works_in_a_lifespan_that_runs_twice(self, published: PublishedHistory) -> None:
        state_numbers = []

        @asynccontextmanager
        async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, int]]:
            await shop.push.now.emit("e", "start", channel="a:1")
            yield {"number": 7}
            await shop.push.now.emit("e", "end", channel="a:1")

        shop = App(published, lifespan=lifespan)

        @shop.app.get("/")
        async def work(request: Request, later: Annotated[Collected, Depends(shop.push.later)]) -> None:
            state_numbers.append(request.state.number)
            later.emit("e", "request", channel="a:1")

        for _ in range(2):
            with TestClient(shop.app) as client:
                client.get("/")
        assert state_numbers == [7, 7]
        assert published.data("a:1") == ["start", "request", "end"] * 2


@pytest.mark.parametrize("has_error_handler", [False, True])
def test_unreachable_broker_does_not_fail_the_response(
    has_error_handler: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app, errors = FastAPI(), []
    options = {"on_error": lambda error, batch: errors.append((error, batch.channels))} if has_error_handler else {}
    push = Tidings(app, lambda: AsyncEmitter(f"redis://127.0.0.1:{free_port()}/0", timeout_s=0.05), **options)

    @app.get("/")
    async def work(later: Annotated[Collected, Depends(push.later)]) -> str:
        later.emit("e", channel="a:1")
        return "done"

    with TestClient(app) as client:
        assert client.get("/").json() == "done"
    logged = [record.levelname for record in caplog.records if record.name == "tidings"]
    assert logged == ([] if has_error_handler else ["ERROR"])
    assert [channels for _, channels in errors] == ([["a:1"]] if has_error_handler else [])


def test_later_works_in_starlette(published: PublishedHistory) -> None:
    async def work(request: Request) -> Response:
        later = await push.later(request)
        later.emit("e", 1, channel="a:1")
        return Response("done")

    app = Starlette(routes=[Route("/", work)])
    push = Tidings(app, lambda: AsyncEmitter(published.url, prefix=published.prefix))
    with TestClient(app) as client:
        assert client.get("/").text == "done"
    assert published.data("a:1") == [1]


class _Model:
    def to_dict(self) -> dict[str, object]:
        return {"id": 1}


def test_program_of_the_page_works(published_by_default: PublishedHistory, tmp_path: Path) -> None:
    send_request = """
from fastapi.testclient import TestClient
with TestClient(app) as client:
    print(client.post("/orders/42/ship").status_code)
"""
    program = program_of("fastapi.md") + send_request
    assert run_program(program, published_by_default.url, tmp_path) == "204\n"
    assert published_by_default.data("orders:42") == [{"order": 42}]
