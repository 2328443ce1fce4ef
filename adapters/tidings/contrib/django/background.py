"""`@background` for Django: the job is the same request, handled again with the middleware of the project.

path("reports/", background(views.report)),
path("tidings/jobs/", include("tidings.contrib.django.urls")),
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, overload

from asgiref.sync import async_to_sync
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest, get_script_name
from django.core.signals import request_started, setting_changed
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.http.request import RawPostDataException
from django.urls import NoReverseMatch, reverse, set_script_prefix
from django.utils.module_loading import import_string
from django.views.decorators.csrf import csrf_exempt

from tidings.contrib.background.answers import (
    accepted,
    prefers_async,
    refusal,
    response_of,
    state_of,
    stored_headers,
)
from tidings.contrib.background.celery_executor import register_task
from tidings.contrib.background.configured import NO_CELERY, Executor, check_executor, jobs_of, user_text
from tidings.contrib.background.current import RunningJob, errors_of, running_job
from tidings.contrib.background.job import StoredResponse
from tidings.contrib.background.jobs import BackgroundJobs, SendTask, collect_body
from tidings.contrib.background.stored_request import WsgiRequest
from tidings.contrib.django.configured import emitter, on_error, tidings_settings
from tidings.errors import BadConfig, Internal, TidingsError

NAME = "tidings-job"
View = Callable[..., Any]
_OWN = ("USER", "CELERY")
_FAILED_FROM_STATUS = 500


@overload
def background(view: View, /) -> View: ...
@overload
def background(*, executor: Executor = "threads", only_if_preferred: bool = False) -> Callable[[View], View]: ...
def background(
    view: View | None = None, /, *, executor: Executor = "threads", only_if_preferred: bool = False
) -> View | Callable[[View], View]:
    """Let a view answer 202 with a `Location`, and run its function as a job. The outermost decorator.

    `executor`: "threads" of this process, or "celery". `only_if_preferred`: only for requests with
    `Prefer: respond-async` (RFC 7240). See docs/background-jobs.md.

    Raises:
        BadConfig: an unknown executor.
    """
    check_executor(executor)

    def decorate(function: View) -> View:
        call = async_to_sync(function) if inspect.iscoroutinefunction(function) else function

        @wraps(function)
        def begin(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if (running := running_job()) is not None:
                return _run_view(running, partial(call, request, *args, **kwargs))
            if only_if_preferred and not prefers_async(request.headers.get("Prefer")):
                response: HttpResponseBase = call(request, *args, **kwargs)
                return response
            return _begin(request, function, executor, applied=only_if_preferred)

        # `wraps` copies this mark of asyncio too, but this function is not asynchronous.
        begin.__dict__.pop("_is_coroutine", None)
        begin.__dict__.pop("_is_coroutine_mark", None)
        return begin

    return decorate if view is None else decorate(view)


@csrf_exempt  # type: ignore[untyped-decorator]  # a page of another site cannot send DELETE without CORS
def location(request: HttpRequest, job_id: str) -> HttpResponse:
    """The resource of a job: GET and DELETE."""
    try:
        if request.method == "DELETE":
            return _django_response(state_of(background_jobs().cancel(job_id, _user_of(request))))
        if request.method in ("GET", "HEAD"):
            return _django_response(response_of(background_jobs().read(job_id, _user_of(request))))
    except BadConfig:
        raise
    except TidingsError as error:
        return _django_response(refusal(error))
    return HttpResponse(status=405, headers={"Allow": "GET, HEAD, DELETE"})


def background_jobs() -> BackgroundJobs:
    """The jobs of this project, made at the first call.

    Raises:
        BadConfig, MissingExtra: an invalid setting.
    """
    jobs = _jobs.get(_CURRENT)
    if jobs is not None:
        return jobs
    options = {name: value for name, value in _options().items() if name not in _OWN}
    return _jobs.setdefault(_CURRENT, jobs_of(options, tidings_settings(), emitter, _on_error))


def register_celery() -> None:
    """Register the task of `executor="celery"`, if the settings name a Celery application."""
    celery = _options().get("CELERY")
    if celery is not None and _CURRENT not in _senders:
        app = import_string(celery) if isinstance(celery, str) else celery
        _senders[_CURRENT] = register_task(
            app,
            lambda job_id, owner: background_jobs().run(job_id, owner, lambda it: _handle(WsgiRequest.from_bytes(it))),
        )


_CURRENT = "background"
_jobs: dict[str, BackgroundJobs] = {}
_senders: dict[str, SendTask] = {}
_handlers: dict[str, BaseHandler] = {}


def _options() -> Mapping[str, Any]:
    options = tidings_settings().get("BACKGROUND", {})
    if not isinstance(options, Mapping):
        raise BadConfig("TIDINGS['BACKGROUND'] must be a dict")
    return options


def _on_error(*details: Any) -> object:
    # The setting may be a dotted path to a module that is not yet imported when the jobs are made.
    return on_error()(*details)


def _user_of(request: HttpRequest) -> str | None:
    user_of = _options().get("USER")
    if user_of is not None:
        function = import_string(user_of) if isinstance(user_of, str) else user_of
        return user_text(function(request))
    user = getattr(request, "user", None)
    return user_text(user.pk) if user is not None and user.is_authenticated else None


def _begin(request: HttpRequest, view: View, executor: Executor, *, applied: bool) -> HttpResponse:
    jobs, name, send = background_jobs(), f"{view.__module__}.{view.__qualname__}", _senders.get(_CURRENT)
    if executor == "celery" and send is None:
        raise BadConfig(NO_CELERY.replace("celery=… to Tidings", "its path as TIDINGS['BACKGROUND']['CELERY']"))
    try:
        jobs.bounds.check_request(int(request.META.get("CONTENT_LENGTH") or 0))
        stored, user = _stored_request(request), _user_of(request)
        jobs.bounds.check_request(len(stored.body))
        if executor == "celery" and send is not None:
            job = jobs.send(name, user, _location_of, stored.to_bytes(), send)
        else:
            job = jobs.begin(name, user, _location_of, lambda: _handle(stored))
    except BadConfig:
        raise
    except TidingsError as error:
        return _django_response(refusal(error))
    return _django_response(accepted(job, applied=applied))


def _stored_request(request: HttpRequest) -> WsgiRequest:
    environ = {**request.META, "wsgi.url_scheme": request.scheme}
    # Django has decoded these two. A WSGI environment has their bytes as Latin-1 (PEP 3333).
    environ |= {name: environ.get(name, "").encode().decode("latin-1") for name in ("PATH_INFO", "SCRIPT_NAME")}
    try:
        body = request.body
    except RawPostDataException:
        # Django parsed the form from the socket, for example for the CSRF token: write the same form again.
        from django.test.client import BOUNDARY, MULTIPART_CONTENT, encode_multipart

        form = {**dict(request.POST.lists()), **dict(request.FILES.lists())}
        body, environ["CONTENT_TYPE"] = encode_multipart(BOUNDARY, form), MULTIPART_CONTENT
    return WsgiRequest.of(environ, body)


def _handle(stored: WsgiRequest) -> StoredResponse:
    """What Django does for a request. What middleware adds to the response belongs to that of the job's location."""
    running = running_job()
    if running is None:
        raise Internal("a stored request is handled in a job only")
    environ = stored.to_environ()
    set_script_prefix(get_script_name(environ))
    request_started.send(sender=_handle, environ=environ)
    request = WSGIRequest(environ)
    # The request that began the job has passed this check, or its view is exempt.
    request._dont_enforce_csrf_checks = True  # noqa: SLF001 - as Django's own test client does
    final = _handler().get_response(request)
    try:
        if running.error is not None and final.status_code >= _FAILED_FROM_STATUS:
            raise running.error
        result = running.result
        if result is None:
            # The view was not called, or raised an exception that Django has a response for, such as Http404.
            if final.status_code >= _FAILED_FROM_STATUS:
                raise Internal(f"the request of the job got a {final.status_code} from middleware")
            return _stored_response(final, with_cookies=False)
        if final.status_code >= _FAILED_FROM_STATUS and final.status_code != result.status:
            raise Internal(f"the work of the view was done, and then ended in a {final.status_code}: see the log")
        return result
    finally:
        # Sends request_finished, which returns database connections.
        final.close()


def _handler() -> BaseHandler:
    handler = _handlers.get(_CURRENT)
    if handler is None:
        handler = BaseHandler()
        handler.load_middleware()
    return _handlers.setdefault(_CURRENT, handler)


def _run_view(running: RunningJob, call: Callable[[], Any]) -> HttpResponse:
    """Call the view's function, and remember its response before middleware changes it."""
    with errors_of(running):
        response = call()
        if callable(getattr(response, "render", None)):
            response = response.render()
        if not isinstance(response, HttpResponseBase):
            raise TypeError(f"the view returned a {type(response).__name__} instead of an HttpResponse")
        try:
            running.result = _stored_response(response, with_cookies=True)
        finally:
            response.close()
    return HttpResponse(status=running.result.status)


def _stored_response(response: HttpResponseBase, *, with_cookies: bool) -> StoredResponse:
    chunks = _chunks_of(response) if response.streaming else [response.content]
    headers = [(str(name), str(value)) for name, value in response.items()]
    if with_cookies:
        headers += [("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values()]
    body = collect_body(chunks, background_jobs().bounds)
    return StoredResponse(response.status_code, stored_headers(headers), body)


def _chunks_of(response: Any) -> Any:
    if not response.is_async:
        return response.streaming_content

    async def chunks() -> list[bytes]:
        return [chunk async for chunk in response.streaming_content]

    return async_to_sync(chunks)()


def _django_response(stored: StoredResponse) -> HttpResponse:
    response = HttpResponse(stored.body, status=stored.status)
    del response["Content-Type"]
    for name, value in stored.headers:
        if name.lower() == "set-cookie":
            response.cookies.load(value)
        else:
            response[name] = value
    return response


def _location_of(job_id: str) -> str:
    try:
        path: str = reverse(NAME, args=[job_id])
    except NoReverseMatch as error:
        raise BadConfig('add path("tidings/jobs/", include("tidings.contrib.django.urls")) to your URLs') from error
    return path


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    """Clear the caches when a test overrides the settings."""
    if setting == "TIDINGS":
        _jobs.clear()
        _senders.clear()
    if setting in ("MIDDLEWARE", "ROOT_URLCONF"):
        _handlers.clear()


setting_changed.connect(_on_setting_changed)
