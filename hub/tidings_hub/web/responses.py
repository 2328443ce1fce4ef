"""What leaves the hub over HTTP: JSON, errors in their one form, and the headers that go with all of it."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from flask import Flask, Response, request
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException

from tidings.errors import BadRequest, CallerError, Internal, NotFound, TidingsError, TooLarge, Unauthorized

log = logging.getLogger("tidings.web")

# The page's own files only; 'self' covers the WebSocket to the same host (CSP level 3 section 6.7.2.8).
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class UnsupportedMedia(CallerError):
    """A body of another kind than JSON."""

    code_name = "unsupported_media"


class NotAcceptable(UnsupportedMedia):
    """An Accept header that leaves out what this address answers (RFC 9110 section 15.5.7)."""


class NotAllowed(CallerError):
    """A method that this address does not have."""

    code_name = "not_allowed"


_BY_STATUS: dict[int, type[TidingsError]] = {404: NotFound, 405: NotAllowed, 413: TooLarge, 415: UnsupportedMedia}


def json_answer(body: BaseModel | bytes, status: int = HTTPStatus.OK) -> Response:
    """`body`, a model or JSON that is already encoded, as an answer."""
    content = body if isinstance(body, bytes) else body.model_dump_json(exclude_none=False).encode()
    return Response(content, status, content_type="application/json")


def error_body(error: TidingsError) -> dict[str, object]:
    """`{"error": {"code", "message"}}`."""
    return {"error": error.to_wire()}


def error_answer(error: TidingsError) -> Response:
    """The answer to a request that failed; its status is the code's."""
    status = HTTPStatus.NOT_ACCEPTABLE if isinstance(error, NotAcceptable) else error.code.http_status
    answer = json_answer(json.dumps(error_body(error)).encode(), status)
    if isinstance(error, Unauthorized):
        answer.headers["WWW-Authenticate"] = 'Bearer realm="tidings"'
    if isinstance(error, TooLarge):
        # What is left of the body is not worth reading.
        answer.headers["Connection"] = "close"
    if error.code.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = "1"
    return answer


def install(app: Flask) -> None:
    """Every error becomes an answer of the one form, and every answer gets its headers."""
    app.register_error_handler(TidingsError, error_answer)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)
    app.after_request(_headers)


def _http_error(error: HTTPException) -> Response:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    if status in _BY_STATUS:
        answer = error_answer(_BY_STATUS[status]())
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
        answer = error_answer(BadRequest())
    else:
        answer = error_answer(Internal())
    for name, value in error.get_headers():
        if name == "Allow":
            answer.headers[name] = value
    return answer


def _unexpected(error: Exception) -> Response:
    # The rule, not the path: a path can hold anything.
    log.error("%s %s failed", request.method, request.url_rule, exc_info=error)
    return error_answer(Internal())


def _headers(answer: Response) -> Response:
    headers = answer.headers
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"
    # The SDK is for pages of other origins, too.
    headers["Cross-Origin-Resource-Policy"] = "cross-origin" if request.endpoint == "sdk" else "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers.setdefault("Content-Security-Policy", _POLICY)
    if request.endpoint not in {"static", "sdk"}:
        headers["Cache-Control"] = "no-store"
    return answer
