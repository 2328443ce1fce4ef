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
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, overload

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidings.async_emitter import AsyncEmitter
from tidings.batch import AsyncBatch, Collected
from tidings.contrib.background.configured import NO_USER, Executor, check_executor
from tidings.contrib.delivery import OnError, check_on_error, deliver_async, log_error
from tidings.contrib.fastapi_background import AsgiJobs, User, View
from tidings.errors import BadConfig, BadRequest

# The key of the ASGI scope that holds the list with the request's batch.
_KEY = "tidings"
# The first status that means that the work was not done (RFC 9110 section 15.5).
REFUSED = 400

_logger = logging.getLogger("tidings")


class Tidings:
    """Sets up an application: an emitter that is closed with its lifespan, and a middleware that sends.

    `make_emitter` makes the emitter now, and again if the application is restarted. `on_error` is called if the batch
    cannot be sent after the response (see `delivery`). `user` returns the id of a request's user, or None; `background`
    needs it. `celery` is the Celery application for `background(executor="celery")`, and the argument `background` has
    the bounds of jobs and the `URL` of their store (docs/background-jobs.md). Create this object before you add other
    middleware.

    Raises:
        BadConfig, MissingExtra: as `AsyncEmitter`.
    """

    def __init__(
        self,
        app: Starlette,
        make_emitter: Callable[[], AsyncEmitter] = AsyncEmitter.from_env,
        *,
        on_error: OnError = log_error,
        user: User | None = None,
        celery: object = None,
        background: Mapping[str, Any] | None = None,
    ) -> None:
        check_on_error(on_error)
        self._make_emitter = make_emitter
        self._emitter: AsyncEmitter | None = make_emitter()
        self._jobs: AsgiJobs | None = None
        if user is not None:
            self._jobs = AsgiJobs(
                app,
                self._emitter,
                user=user,
                celery=celery,
                settings=background or {},
                on_error=on_error,
                wrap=partial(_Middleware, on_error=on_error),
            )
        app.add_middleware(_Middleware, on_error=on_error, jobs=self._jobs)
        self._inner = app.router.lifespan_context
        app.router.lifespan_context = self._lifespan

    @property
    def now(self) -> AsyncEmitter:
        """The emitter: `await push.now.emit(…)` sends at once, and returns a receipt or raises."""
        if self._emitter is None:
            self._emitter = self._make_emitter()
        return self._emitter

    async def later(self, connection: HTTPConnection) -> Collected:
        """A dependency: the batch of this request. Its `emit`, `notify` and `push_model` only collect.

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

    @overload
    def background(self, view: View, /) -> View: ...
    @overload
    def background(
        self, *, executor: Executor = "threads", only_if_preferred: bool = False
    ) -> Callable[[View], View]: ...
    def background(
        self, view: View | None = None, *, executor: Executor = "threads", only_if_preferred: bool = False
    ) -> View | Callable[[View], View]:
        """Let an endpoint answer 202 with a `Location`, and run its function as a job. The decorator below the route.

        `executor`: "threads" of this process, or "celery". `only_if_preferred`: only for requests with
        `Prefer: respond-async` (RFC 7240). See docs/background-jobs.md.

        Raises:
            BadConfig: this Tidings has no `user` or no `celery`, or an unknown executor.
        """
        jobs = self._jobs
        if jobs is None:
            raise BadConfig(NO_USER)
        check_executor(executor)

        def decorate(function: View) -> View:
            return jobs.view(function, executor, only_if_preferred=only_if_preferred)

        return decorate if view is None else decorate(view)

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[Any]:
        try:
            async with self._inner(app) as state:
                yield state
        finally:
            if self._jobs is not None:
                await self._jobs.close()
            emitter, self._emitter = self._emitter, None
            if emitter is not None:
                await emitter.close()


class _Middleware:
    """Sends the batch of a request after the application, and the exit of its dependencies, has finished."""

    def __init__(self, app: ASGIApp, *, on_error: OnError, jobs: AsgiJobs | None = None) -> None:
        self._app = app
        self._jobs = jobs
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._jobs is not None:
            scope, receive = self._jobs.record(scope, receive)
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
