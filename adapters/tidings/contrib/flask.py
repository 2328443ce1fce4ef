"""`Tidings` for Flask: publications of a request are sent in one batch, after the view has returned.

    push = Tidings(app)

    @app.post("/orders/<int:id>/ship")
    def ship(id):
        …
        push.emit("shipped", {"order": id}, channel=f"orders:{id}")

If a request ends in an exception or with a status of 400 or more, its publications are discarded. Each request context
has its own batch, so a copy of the context, or a context in a job, is sent when it ends. See docs/flask.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Unpack, overload
from weakref import WeakKeyDictionary, finalize

from flask import Flask, Response, current_app, has_app_context, has_request_context
from flask.globals import request_ctx

from tidings.batch import Batch
from tidings.contrib.background.configured import NO_USER, Executor, check_executor
from tidings.contrib.delivery import OnError, check_on_error, deliver, log_error
from tidings.contrib.flask_background import FlaskJobs, View, background_view
from tidings.contrib.settings import emitter_of
from tidings.emitter import Emitter
from tidings.errors import BadConfig
from tidings.options import EventOptions, NotifyOptions, PushOptions

# The first status that means that the work was not done (RFC 9110 section 15.5).
FAILED_FROM_STATUS = 400

_logger = logging.getLogger("tidings")


@dataclass(slots=True)
class _ContextState:
    """What a request context publishes. `status`: that of its response. `ended`: it was torn down after that."""

    batch: Batch | None = None
    status: int | None = None
    ended: bool = False


class Tidings:
    """The extension. Settings in `app.config`: `TIDINGS_URL`, `TIDINGS_API_KEY` and the other arguments of `Emitter`.

    `user` returns the id of the signed-in user of the request, or None; `background` needs it. `celery` is the Celery
    application for `background(executor="celery")`.
    `on_error` is called if the batch cannot be sent after the response was made (see `delivery`). Create this object
    before anything else registers `after_request` functions: then its own runs last and has the final response.

    Raises:
        BadConfig: an invalid setting, or a second `Tidings` for the same application.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        on_error: OnError = log_error,
        user: Callable[[], object] | None = None,
        celery: object = None,
    ) -> None:
        check_on_error(on_error)
        self._app = app
        self._user = user
        self._celery = celery
        self._on_error = on_error
        # By the context's identity: a copy of a context has the same request and the same WSGI environment.
        self._states: MutableMapping[object, _ContextState] = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up an application. Its configuration must be complete."""
        if "tidings" in app.extensions:
            raise BadConfig("this application already has a Tidings; call init_app once")
        app.extensions["tidings"] = emitter_of(app.config.get_namespace("TIDINGS_", lowercase=False))
        app.after_request(self._after_request)
        app.teardown_request(self._teardown_request)
        if self._user is not None:
            FlaskJobs(app, self._user, self._celery, self._on_error, self._after_request)

    @property
    def now(self) -> Emitter:
        """The application's emitter: `push.now.emit(…)` sends at once, and returns a receipt or raises.

        Raises:
            BadConfig: there is no current application, or it is not set up.
        """
        if has_app_context():
            emitter = current_app.extensions.get("tidings")
        else:
            emitter = None if self._app is None else self._app.extensions.get("tidings")
        if not isinstance(emitter, Emitter):
            raise BadConfig(
                "no current application with Tidings: call init_app(app), and use `with app.app_context():`"
            )
        return emitter

    def emit(self, event: str, data: object = None, **options: Unpack[EventOptions]) -> None:
        """Publish when the response is made, or immediately outside of a request. Arguments as `Emitter.emit`.

        A request context without a response (`copy_current_request_context`, `test_request_context`) publishes at its
        end, unless that is an exception.

        There is no `ack`: no receipt could wait for it.

        Raises:
            CallerError: as `Emitter.emit`; TooLarge also for more than `TIDINGS_BATCH_MAX` publications in one request.
            Unavailable, TimedOut, BatchFailed: only outside of a request.
        """
        self._publish(lambda batch: batch.emit(event, data, ack=False, **options))

    def notify(self, category: str, **options: Unpack[NotifyOptions]) -> None:
        """Send a notification when the response is made, or immediately outside of a request.

        Raises:
            CallerError: as `Emitter.notify`; otherwise as `emit`.
        """
        self._publish(lambda batch: batch.notify(category, **options))

    def push_model(self, obj: object, **options: Unpack[PushOptions]) -> None:
        """Publish an object's current state when the response is made, or immediately outside of a request.

        Raises:
            CallerError: as `Emitter.push_model`; otherwise as `emit`.
        """
        self._publish(lambda batch: batch.push_model(obj, **options))

    @overload
    def background(self, view: View, /) -> View: ...
    @overload
    def background(
        self, *, executor: Executor = "threads", only_if_preferred: bool = False
    ) -> Callable[[View], View]: ...
    def background(
        self, view: View | None = None, *, executor: Executor = "threads", only_if_preferred: bool = False
    ) -> View | Callable[[View], View]:
        """Let a view answer 202 with a `Location`, and run its function as a job. The decorator below the route.

        `executor`: "threads" of this process, or "celery". `only_if_preferred`: only for requests with
        `Prefer: respond-async` (RFC 7240). See docs/background-jobs.md.

        Raises:
            BadConfig: this Tidings has no `user`, or an unknown executor.
        """
        if self._user is None:
            raise BadConfig(NO_USER)
        check_executor(executor)

        def decorate(function: View) -> View:
            return background_view(function, executor, only_if_preferred=only_if_preferred)

        return decorate if view is None else decorate(view)

    def _publish(self, add: Callable[[Batch], None]) -> None:
        # `with other.app_context():` in a request: that application has its own emitter, and no request.
        if not has_request_context() or request_ctx.app.extensions is not current_app.extensions:
            with self.now.batch() as batch:
                add(batch)
            return
        state = self._state()
        if state.batch is None:
            state.batch = self.now.batch().begin()
            finalize(request_ctx._get_current_object(), _warn_of_unsent, state)  # type: ignore[attr-defined]  # noqa: SLF001
        add(state.batch)
        if state.ended:
            # In a streamed body, or in code that outlives its request: no other end is certain to come.
            self._finish(state)

    def _state(self) -> _ContextState:
        context = request_ctx._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
        state = self._states.get(context)
        if state is None:
            state = self._states[context] = _ContextState()
        return state

    def _after_request(self, response: Response) -> Response:
        state = self._state()
        state.status = response.status_code
        self._finish(state)
        return response

    def _teardown_request(self, error: BaseException | None) -> None:
        # Publications made after the response, in another teardown function, or in a context that has no response: a
        # copy for a thread, or `test_request_context` in a job.
        state = self._state()
        self._finish(state, error)
        state.ended = state.status is not None

    def _finish(self, state: _ContextState, error: BaseException | None = None) -> None:
        batch, state.batch = state.batch, None
        if batch is None:
            return
        if error is not None:
            _discard(batch, logging.WARNING, f"the request context ended with {type(error).__name__}")
        elif state.status is not None and state.status >= FAILED_FROM_STATUS:
            _discard(batch, logging.INFO, f"the response is a {state.status}")
        else:
            deliver(batch, self._on_error)


def _discard(batch: Batch, level: int, reason: str) -> None:
    _logger.log(level, "discarded because %s: %s", reason, ", ".join(batch.channels))
    batch.drop()


def _warn_of_unsent(state: _ContextState) -> None:
    if state.batch is not None and len(state.batch):
        _discard(state.batch, logging.WARNING, "the request context was pushed and never popped")
