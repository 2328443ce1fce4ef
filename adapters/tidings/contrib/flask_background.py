"""`@push.background` for Flask: the job is the same request, dispatched again in a request context of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask, Response, current_app, request, url_for
from flask.globals import request_ctx
from werkzeug.datastructures import Headers

from tidings.contrib.background.answers import (
    accepted,
    prefers_async,
    refusal,
    response_of,
    state_of,
    stored_headers,
)
from tidings.contrib.background.celery_executor import register_task
from tidings.contrib.background.configured import NO_CELERY, PATH, Executor, jobs_of, user_text
from tidings.contrib.background.current import errors_of, running_job
from tidings.contrib.background.job import JobCancelled, StoredResponse
from tidings.contrib.background.jobs import SendTask, collect_body
from tidings.contrib.background.stored_request import WsgiRequest
from tidings.contrib.delivery import OnError
from tidings.emitter import Emitter
from tidings.errors import BadConfig, TidingsError

EXTENSION = "tidings_background"
ENDPOINT = "tidings_job"
User = Callable[[], object]
View = Callable[..., Any]
# Set on the functions of views, so that their body is read before anything parses it.
_MARK = "_tidings_background"


class FlaskJobs:
    """The jobs of one Flask application, and the routes of their locations.

    `finish` is called with each job's response, in the request context of the job.
    """

    def __init__(
        self, app: Flask, user: User, celery: object, on_error: OnError, finish: Callable[[Response], object]
    ) -> None:
        settings = app.config.get_namespace("TIDINGS_", lowercase=False)
        options = dict(settings.get("BACKGROUND") or {})
        path = options.pop("PATH", PATH)
        self._app = app
        self._user = user
        self._finish = finish
        self.jobs = jobs_of(options, settings, self._emitter, on_error)
        self._send: SendTask | None = None
        if celery is not None:
            self._send = register_task(celery, lambda job_id, owner: self.jobs.run(job_id, owner, self._run_stored))
        app.extensions[EXTENSION] = self
        app.before_request(self._read_body)
        app.add_url_rule(f"{path}/<job_id>", ENDPOINT, self._location, methods=["GET", "DELETE"])

    def begin(self, view: View, executor: Executor, *, applied: bool) -> Response:
        """The response to the request that begins a job."""
        stored = WsgiRequest.of(request.environ, request.get_data(cache=True))
        name, user = f"{view.__module__}.{view.__qualname__}", user_text(self._user())
        if executor == "celery" and self._send is None:
            raise BadConfig(NO_CELERY)
        try:
            self.jobs.bounds.check_request(len(stored.body))
            if executor == "celery" and self._send is not None:
                job = self.jobs.send(name, user, _location_of, stored.to_bytes(), self._send)
            else:
                job = self.jobs.begin(name, user, _location_of, lambda: self._dispatch(stored))
        except BadConfig:
            raise
        except TidingsError as error:
            return _flask_response(refusal(error))
        return _flask_response(accepted(job, applied=applied))

    def _location(self, job_id: str) -> Response:
        user = user_text(self._user())
        try:
            if request.method == "DELETE":
                return _flask_response(state_of(self.jobs.cancel(job_id, user)))
            return _flask_response(response_of(self.jobs.read(job_id, user)))
        except BadConfig:
            raise
        except TidingsError as error:
            return _flask_response(refusal(error))

    def _read_body(self) -> Response | None:
        """Read the body of a request for a background view, before a form is parsed from it."""
        if running_job() is not None or not hasattr(self._app.view_functions.get(request.endpoint or ""), _MARK):
            return None
        own_max, length = request.max_content_length, request.content_length or 0
        most = self.jobs.bounds.request_max_bytes
        try:
            self.jobs.bounds.check_request(length)
        except TidingsError as error:
            return _flask_response(refusal(error))
        # Also for a body without a length, of which Werkzeug reads no more than this.
        request.max_content_length = most if own_max is None else min(most, own_max)
        if length and not request.get_data(cache=True):
            raise BadConfig("something has read the body before tidings: create Tidings(app) before other extensions")
        return None

    def _emitter(self) -> Emitter:
        emitter: Emitter = self._app.extensions["tidings"]
        return emitter

    def _run_stored(self, encoded: bytes) -> StoredResponse:
        return self._dispatch(WsgiRequest.from_bytes(encoded))

    def _dispatch(self, stored: WsgiRequest) -> StoredResponse:
        """What Flask does for a request, without the functions of `after_request` and without saving the session.

        Those belong to the response that `GET` on the location sends.
        """
        app = self._app
        with app.request_context(stored.to_environ()):
            try:
                value = app.preprocess_request()
                if value is None:
                    value = app.dispatch_request()
            except JobCancelled:
                raise
            except Exception as error:  # noqa: BLE001 - it raises what the application has no handler for
                value = app.handle_user_exception(error)
            response = app.make_response(value)
            for function in request_ctx._after_request_functions:  # noqa: SLF001 - `after_this_request` of the view
                response = app.ensure_sync(function)(response)
            try:
                response.direct_passthrough = False
                body = collect_body(response.iter_encoded(), self.jobs.bounds)
                headers = stored_headers(response.get_wsgi_headers(request.environ).to_wsgi_list())
                self._finish(response)
            finally:
                response.close()
            return StoredResponse(response.status_code, headers, body)


def background_view(view: View, executor: Executor, *, only_if_preferred: bool) -> View:
    """The view that begins a job, and that runs `view` in one."""

    @wraps(view)
    def begin(*args: Any, **kwargs: Any) -> Any:
        running = running_job()
        if running is not None:
            with errors_of(running):
                return current_app.ensure_sync(view)(*args, **kwargs)
        if only_if_preferred and not prefers_async(request.headers.get("Prefer")):
            return current_app.ensure_sync(view)(*args, **kwargs)
        jobs = current_app.extensions.get(EXTENSION)
        if not isinstance(jobs, FlaskJobs):
            raise BadConfig("this application has no background jobs: call init_app(app) of the same Tidings")
        return jobs.begin(view, executor, applied=only_if_preferred)

    setattr(begin, _MARK, True)
    return begin


def _location_of(job_id: str) -> str:
    return url_for(ENDPOINT, job_id=job_id)


def _flask_response(stored: StoredResponse) -> Response:
    response = current_app.response_class(stored.body, stored.status)
    response.headers = Headers(stored.headers)
    return response
