"""HTTP responses of the service: JSON, and errors in one format."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from tidings.errors import BadRequest, Internal, NotFound, TidingsError, TooLarge, Unauthorized

log = logging.getLogger("tidings.notifications")

_BY_STATUS: dict[int, type[TidingsError]] = {404: NotFound, 413: TooLarge}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def json_response(body: object, status: int = HTTPStatus.OK) -> Response:
    """A JSON response."""
    return Response(_encode(body).encode(), status, content_type="application/json")


def error_response(error: TidingsError) -> Response:
    """The response to a request that failed, with the HTTP status of the error's code."""
    response = json_response({"error": error.to_wire()}, error.code.http_status)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="tidings notifications"'
    if error.code.http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "1"
    return response


def install(app: Flask) -> None:
    """Register the error handlers with `app`."""
    app.register_error_handler(TidingsError, error_response)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_unexpected_error)


def _on_http_error(error: HTTPException) -> Response:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        response = json_response(
            {"error": {"code": "not_allowed", "message": "Use a method that this address supports."}}, status
        )
        response.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return response
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return error_response(Internal())
    return error_response(_BY_STATUS.get(status, BadRequest)())


def _on_unexpected_error(error: Exception) -> Response:
    # Log the rule instead of the path: a path can contain anything.
    log.error("%s %s failed", request.method, request.url_rule, exc_info=error)
    return error_response(Internal())
