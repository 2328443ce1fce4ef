"""`Tidings` for FastAPI and Starlette: publications of a request are sent after its response, in one batch.

    app = FastAPI()
    push = Tidings(app)

    @app.post("/orders/{order}/ship")
    async def ship(order: int, later: Annotated[Collected, Depends(push.later)]) -> None:
        …
        later.emit("shipped", {"order": order}, channel=f"orders:{order}")

If a request ends in an exception or with a status of 400 or more, its publications are discarded. See docs/fastapi.md.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidings.async_emitter import AsyncEmitter
from tidings.batch import AsyncBatch, Collected
from tidings.contrib.delivery import OnError, check_on_error, deliver_async, log_error
from tidings.errors import BadRequest

# The key of the ASGI scope that holds the list with the request's batch.
_KEY = "tidings"
# The first status that means that the work was not done (RFC 9110 section 15.5).
REFUSED = 400

_logger = logging.getLogger("tidings")


class Tidings:
    """Sets up an application: an emitter that is closed with its lifespan, and a middleware that sends.

    `make_emitter` makes the emitter now, and again if the application is restarted. `on_error` is called if the batch
    cannot be sent after the response (see `delivery`). Create this object before you add other middleware.

    Raises:
        BadConfig, MissingExtra: as `AsyncEmitter`.
    """

    def __init__(
        self,
        app: Starlette,
        make_emitter: Callable[[], AsyncEmitter] = AsyncEmitter.from_env,
        *,
        on_error: OnError = log_error,
    ) -> None:
        check_on_error(on_error)
        self._make_emitter = make_emitter
        self._emitter: AsyncEmitter | None = make_emitter()
        app.add_middleware(_Middleware, on_error=on_error)
        self._inner = app.router.lifespan_context
        app.router.lifespan_context = self._lifespan

    @property
    def now(self) -> AsyncEmitter:
        """The emitter: `await push.now.emit(…)` sends at once, and returns a receipt or raises."""
        if self._emitter is None:
            self._emitter = self._make_emitter()
        return self._emitter

    async def later(self, connection: HTTPConnection) -> Collected:
        """A dependency: the batch of this request. Its `emit` and `push_model` only collect.

        Raises:
            BadRequest: a WebSocket, which has no response, or a request of another application.
        """
        batches: list[AsyncBatch] | None = connection.scope.get(_KEY)
        if batches is None:
            raise BadRequest(
                "not a request of an application with Tidings; in a WebSocket use `await push.now.emit(…)`"
            )
        if not batches:
            batches.append(self.now.batch().begin())
        return batches[0]

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[Any]:
        try:
            async with self._inner(app) as state:
                yield state
        finally:
            emitter, self._emitter = self._emitter, None
            if emitter is not None:
                await emitter.close()


class _Middleware:
    """Sends the batch of a request after the application, and the exit of its dependencies, has finished."""

    def __init__(self, app: ASGIApp, *, on_error: OnError) -> None:
        self._app = app
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        batches: list[AsyncBatch] = []
        # Without a response the work counts as not done.
        status = 500
        failure: BaseException | None = None

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app({**scope, _KEY: batches}, receive, watch)
        except BaseException as error:
            failure = error
            raise
        finally:
            for batch in batches:
                await self._finish(batch, status, failure)

    async def _finish(self, batch: AsyncBatch, status: int, failure: BaseException | None) -> None:
        channels = ", ".join(batch.channels)
        if status >= REFUSED:
            _logger.info("discarded because the response is a %d: %s", status, channels)
            batch.drop()
        elif failure is not None:
            # The client has a response that says that the work is done.
            kind = type(failure).__name__
            _logger.warning("discarded because the request ended with %s after its response: %s", kind, channels)
            batch.drop()
        else:
            await deliver_async(batch, self._on_error)
