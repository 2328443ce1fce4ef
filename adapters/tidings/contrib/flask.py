"""`Tidings` for Flask: publications of a request are sent in one batch, after the view has returned.

    push = Tidings(app)

    @app.post("/orders/<int:id>/ship")
    def ship(id):
        …
        push.emit("shipped", {"order": id}, channel=f"orders:{id}")

If a request ends in an exception or with a status of 400 or more, its publications are discarded. See docs/flask.md.
"""

from __future__ import annotations

import logging
from typing import Unpack

from flask import Flask, Response, current_app, has_app_context, has_request_context, request

from tidings.batch import Batch
from tidings.contrib.delivery import OnError, deliver, log_error
from tidings.contrib.settings import emitter_of
from tidings.emitter import Emitter
from tidings.errors import BadConfig
from tidings.options import EventOptions, PushOptions

# Keys of the WSGI environment: the batch of this request, and the status of its response.
_BATCH = "tidings.batch"
_STATUS = "tidings.status"
# The first status that means that the work was not done (RFC 9110 section 15.5).
FAILED_FROM_STATUS = 400

_logger = logging.getLogger("tidings")


class Tidings:
    """The extension. Settings in `app.config`: `TIDINGS_URL`, `TIDINGS_API_KEY` and the other arguments of `Emitter`.

    `on_error` is called if the batch cannot be sent after the response was made (see `delivery`). Create this object
    before anything else registers `after_request` functions: then its own runs last and has the final response.

    Raises:
        BadConfig: an invalid setting, or a second `Tidings` for the same application.
    """

    def __init__(self, app: Flask | None = None, *, on_error: OnError = log_error) -> None:
        self._app = app
        self._on_error = on_error
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up an application. Its configuration must be complete."""
        if "tidings" in app.extensions:
            raise BadConfig("this application already has a Tidings; call init_app once")
        app.extensions["tidings"] = emitter_of(app.config.get_namespace("TIDINGS_", lowercase=False))
        app.after_request(self._after_request)
        app.teardown_request(self._teardown_request)

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

        There is no `ack`: no receipt could wait for it.

        Raises:
            CallerError: as `Emitter.emit`; TooLarge also for more than `TIDINGS_BATCH_MAX` publications in one request.
            Unavailable, TimedOut, BatchFailed: only outside of a request.
        """
        if has_request_context():
            self._batch().emit(event, data, ack=False, **options)
        else:
            with self.now.batch() as batch:
                batch.emit(event, data, ack=False, **options)

    def push_model(self, obj: object, **options: Unpack[PushOptions]) -> None:
        """Publish an object's current state when the response is made, or immediately outside of a request.

        Raises:
            CallerError: as `Emitter.push_model`; otherwise as `emit`.
        """
        if has_request_context():
            self._batch().push_model(obj, **options)
        else:
            with self.now.batch() as batch:
                batch.push_model(obj, **options)

    def _batch(self) -> Batch:
        if _BATCH not in request.environ:
            request.environ[_BATCH] = self.now.batch().begin()
        batch: Batch = request.environ[_BATCH]
        return batch

    def _after_request(self, response: Response) -> Response:
        request.environ[_STATUS] = response.status_code
        self._finish(response.status_code)
        return response

    def _teardown_request(self, error: BaseException | None) -> None:
        # Publications made after the response: in a streamed body, or in another teardown function. Without a response
        # an exception was not handled.
        status: int | None = request.environ.get(_STATUS)
        self._finish(500 if error is not None or status is None else status)

    def _finish(self, status: int) -> None:
        batch: Batch | None = request.environ.pop(_BATCH, None)
        if batch is None:
            return
        if status < FAILED_FROM_STATUS:
            deliver(batch, self._on_error)
        else:
            _logger.info("discarded because the response is a %d: %s", status, ", ".join(batch.channels))
            batch.drop()
