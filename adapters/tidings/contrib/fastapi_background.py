"""`@push.background` for FastAPI and Starlette: the job is the same request, routed again without user middleware."""

from __future__ import annotations

import asyncio
import base64
import copy
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope

from tidings.async_emitter import AsyncEmitter
from tidings.contrib.background.answers import (
    accepted,
    prefers_async,
    refusal,
    response_of,
    state_of,
)
from tidings.contrib.background.asgi_bodies import RecordedBody, ResponseCollector
from tidings.contrib.background.celery_executor import register_task
from tidings.contrib.background.configured import NO_CELERY, PATH, Executor, jobs_of, user_text
from tidings.contrib.background.current import errors_of, running_job
from tidings.contrib.background.job import Job, StoredResponse
from tidings.contrib.background.jobs import SendTask
from tidings.contrib.delivery import OnError
from tidings.emitter import Emitter
from tidings.errors import BadConfig, TidingsError

ROUTE = "tidings_job"
User = Callable[[Request], object]
View = Callable[..., Any]
# The keys of the ASGI scope that hold the recorded body and the scope before routing.
BODY_KEY = "tidings.body"
_SCOPE_KEY = "tidings.scope"
_PARAMETER = "tidings_request"
# What middleware adds to the scope, and views use.
_FROM_MIDDLEWARE = ("session", "user", "auth", "state")
# Of a scope, what describes the request as text or bytes. A worker in another process gets no more.
_STORED = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers")


class AsgiJobs:
    """The jobs of one application, and the route of their locations.

    `wrap` adds the middleware that sends a request's publications. The events of jobs go to the hub of `emitter`.
    """

    def __init__(
        self,
        app: Starlette,
        emitter: AsyncEmitter,
        *,
        user: User,
        celery: object,
        settings: Mapping[str, Any],
        on_error: OnError,
        wrap: Callable[[ASGIApp], ASGIApp],
    ) -> None:
        options = dict(settings)
        path = options.pop("PATH", PATH)
        own = emitter._options  # noqa: SLF001 - the events of jobs go the same way, from threads
        self._app, self._user, self._wrap = app, user, wrap
        self._stack: ASGIApp | None = None
        self._same = {name: getattr(own, name) for name in own.__slots__}
        self._emitter: Emitter | None = None
        self.jobs = jobs_of(options, {"URL": own.url, "PREFIX": own.prefix}, self._open_emitter, on_error)
        self._send: SendTask | None = None
        if celery is not None:
            self._send = register_task(celery, lambda job_id, owner: self.jobs.run(job_id, owner, self._run_stored))
        app.add_route(f"{path}/{{job_id}}", self._location, methods=["GET", "DELETE"], name=ROUTE)

    def record(self, scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
        """The scope and the `receive` for a request that may begin a job."""
        body = RecordedBody(receive, self.jobs.bounds.request_max_bytes)
        return {**scope, BODY_KEY: body, _SCOPE_KEY: scope}, body.receive

    def view(self, function: View, executor: Executor, *, only_if_preferred: bool) -> View:
        """The endpoint that begins a job, and that calls `function` in one."""
        if executor == "celery" and self._send is None:
            raise BadConfig(NO_CELERY)

        async def call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if inspect.iscoroutinefunction(function):
                return await function(*args, **kwargs)
            return await run_in_threadpool(function, *args, **kwargs)

        @wraps(function)
        async def begin(*args: Any, **kwargs: Any) -> Any:
            own = kwargs.pop(_PARAMETER, None)
            request = own or next(value for value in (*args, *kwargs.values()) if isinstance(value, Request))
            running = running_job()
            if running is not None:
                with errors_of(running):
                    return await call(args, kwargs)
            if only_if_preferred and not prefers_async(request.headers.get("prefer")):
                return await call(args, kwargs)
            return await self._begin(request, function, executor, applied=only_if_preferred)

        signature = inspect.signature(function)
        if not _takes_a_request(function, signature):
            # FastAPI passes what the signature names, and the request only once.
            own = inspect.Parameter(_PARAMETER, inspect.Parameter.KEYWORD_ONLY, annotation=Request)
            parameters = list(signature.parameters.values())
            place = next((n for n, it in enumerate(parameters) if it.kind is it.VAR_KEYWORD), len(parameters))
            parameters.insert(place, own)
            begin.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return begin

    async def close(self) -> None:
        """End the jobs of this process, while the event loop that they run on still runs."""
        await run_in_threadpool(self.jobs.close)
        emitter, self._emitter = self._emitter, None
        if emitter is not None:
            emitter.close()

    def _open_emitter(self) -> Emitter:
        # Again after the application was closed and started once more.
        if self._emitter is None:
            self._emitter = Emitter(**self._same)
        return self._emitter

    async def _begin(self, request: Request, function: View, executor: Executor, *, applied: bool) -> Response:
        try:
            job = await self._begun(request, f"{function.__module__}.{function.__qualname__}", executor)
        except BadConfig:
            raise
        except TidingsError as error:
            return _asgi_response(refusal(error))
        return _asgi_response(accepted(job, applied=applied))

    async def _begun(self, request: Request, name: str, executor: Executor) -> Job:
        recorded: RecordedBody = request.scope[BODY_KEY]
        user, body = await self._user_of(request), await recorded.whole()
        outer: Scope = request.scope[_SCOPE_KEY]
        scope = {**outer, **{key: request.scope[key] for key in _FROM_MIDDLEWARE if key in request.scope}}
        root_path = outer.get("root_path", "")

        def location_of(job_id: str) -> str:
            return f"{root_path}{self._app.url_path_for(ROUTE, job_id=job_id)}"

        if executor == "celery" and self._send is not None:
            stored = _encoded(scope, body)
            return await run_in_threadpool(self.jobs.send, name, user, location_of, stored, self._send)
        loop = asyncio.get_running_loop()

        def run() -> StoredResponse:
            # On the loop of the server, because its connections to databases belong to that loop.
            return asyncio.run_coroutine_threadsafe(self._dispatch(scope, body), loop).result()

        return await run_in_threadpool(self.jobs.begin, name, user, location_of, run)

    async def _location(self, request: Request) -> Response:
        job_id = request.path_params["job_id"]
        try:
            user = await self._user_of(request)
            if request.method == "DELETE":
                return _asgi_response(state_of(await run_in_threadpool(self.jobs.cancel, job_id, user)))
            return _asgi_response(response_of(await run_in_threadpool(self.jobs.read, job_id, user)))
        except BadConfig:
            raise
        except TidingsError as error:
            return _asgi_response(refusal(error))

    async def _user_of(self, request: Request) -> str | None:
        user = self._user(request)
        return user_text(await user if isinstance(user, Awaitable) else user)

    def _run_stored(self, encoded: bytes) -> StoredResponse:
        fields = json.loads(encoded, object_hook=_decoded)
        return asyncio.run(self._dispatch(fields["scope"], fields["body"]))

    async def _dispatch(self, scope: Scope, body: bytes) -> StoredResponse:
        """Route a request again, without the middleware of the application, and collect the response."""
        if self._stack is None:
            inner = copy.copy(self._app)
            inner.user_middleware = []
            self._stack = self._wrap(inner.build_middleware_stack())
        collector = ResponseCollector(self.jobs.bounds, body)
        try:
            await self._stack({**scope, "app": self._app}, collector.receive, collector.send)
        except BaseException as error:
            if collector.error is not None:
                raise collector.error from error
            raise
        return collector.response()


def _takes_a_request(function: View, signature: inspect.Signature) -> bool:
    """Whether the type of a parameter is the request."""
    names = getattr(function, "__globals__", {})
    annotations = [parameter.annotation for parameter in signature.parameters.values()]
    types = [names.get(annotation) if isinstance(annotation, str) else annotation for annotation in annotations]
    return any(isinstance(kind, type) and issubclass(kind, Request) for kind in types)


def _asgi_response(stored: StoredResponse) -> Response:
    response = Response(stored.body, stored.status)
    own = [(b"content-length", str(len(stored.body)).encode())] if stored.body else []
    response.raw_headers = [
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in stored.headers),
        *own,
    ]
    return response


def _encoded(scope: Scope, body: bytes) -> bytes:
    fields = {name: scope[name] for name in _STORED if name in scope}
    fields["client"], fields["server"] = scope.get("client"), scope.get("server")

    def encode(value: Any) -> dict[str, str]:
        if isinstance(value, bytes):
            return {"base64": base64.b64encode(value).decode()}
        raise TypeError(f"a {type(value).__name__} in the scope")

    return json.dumps({"scope": fields, "body": body}, default=encode).encode()


def _decoded(fields: dict[str, Any]) -> Any:
    return base64.b64decode(fields["base64"]) if fields.keys() == {"base64"} else fields
