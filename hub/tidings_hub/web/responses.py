"""HTTP responses of the hub: JSON, errors in one format, and security headers on every response."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from flask import Flask, Response, request
from pydantic import BaseModel
from werkzeug.exceptions import HTTPException

from tidings.errors import BadRequest, CallerError, Internal, NotFound, TidingsError, TooLarge, Unauthorized

log = logging.getLogger("tidings.web")

# The page loads only its own files. 'self' includes a WebSocket to the same host (CSP level 3 section 6.7.2.8).
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class UnsupportedMedia(CallerError):
    """The request body is not JSON."""

    code_name = "unsupported_media"


class NotAcceptable(UnsupportedMedia):
    """The Accept header excludes the media type of this address (RFC 9110 section 15.5.7)."""


class MethodNotAllowed(CallerError):
    """The address does not support the request's method."""

    code_name = "not_allowed"


_ERRORS_BY_STATUS: dict[int, type[TidingsError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    413: TooLarge,
    415: UnsupportedMedia,
}


def json_response(body: BaseModel | bytes, status: int = HTTPStatus.OK) -> Response:
    """A JSON response with `body`: a model, or JSON that is already encoded."""
    content = body if isinstance(body, bytes) else body.model_dump_json(exclude_none=False).encode()
    return Response(content, status, content_type="application/json")


def error_body(error: TidingsError) -> dict[str, object]:
    """`{"error": {"code", "message"}}`."""
    return {"error": error.to_wire()}


def error_response(error: TidingsError) -> Response:
    """The response to a request that failed, with the HTTP status of the error's code."""
    status = HTTPStatus.NOT_ACCEPTABLE if isinstance(error, NotAcceptable) else error.code.http_status
    response = json_response(json.dumps(error_body(error)).encode(), status)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="tidings"'
    if isinstance(error, TooLarge):
        # The hub does not read the rest of the body, so the connection cannot be reused.
        response.headers["Connection"] = "close"
    if error.code.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    return response


def install(app: Flask) -> None:
    """Register the error handlers and the response headers with `app`."""
    app.register_error_handler(TidingsError, error_response)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_unexpected_error)
    app.after_request(lambda response: add_headers(response, request.endpoint))


def _on_http_error(error: HTTPException) -> Response:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    if status in _ERRORS_BY_STATUS:
        response = error_response(_ERRORS_BY_STATUS[status]())
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
        response = error_response(BadRequest())
    else:
        response = error_response(Internal())
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _on_unexpected_error(error: Exception) -> Response:
    # Log the rule instead of the path: a path can contain anything, including secrets.
    log.error("%s %s failed", request.method, request.url_rule, exc_info=error)
    return error_response(Internal())


def add_headers(response: Response, endpoint: str | None) -> Response:
    """Add the headers that every response has. `endpoint`: the name of the address; None: there is none."""
    headers = response.headers
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"
    # Pages of other origins may load the SDK.
    headers["Cross-Origin-Resource-Policy"] = "cross-origin" if endpoint == "sdk" else "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers.setdefault("Content-Security-Policy", _POLICY)
    if endpoint not in {"static", "sdk"}:
        headers["Cache-Control"] = "no-store"
    return response
