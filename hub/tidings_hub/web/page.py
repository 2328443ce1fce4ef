"""`GET /`: the demo page with `--dev`, otherwise a line that the hub is running."""

from __future__ import annotations

from flask import Response, render_template, request

from tidings_hub.web.responses import PAGE_POLICY, json_response
from tidings_hub.web.sdk import is_built

CHANNEL = "demo:hello"
_RUNNING = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>tidings</title><p>tidings hub is running</p></html>\n'
)


def dev_page(*, key_needed: bool) -> Response:
    """The demo page. Its scripts and styles are files of the hub."""
    content = render_template("index.html", channel=CHANNEL, key_needed=key_needed, has_sdk=is_built())
    answer = Response(content, content_type="text/html; charset=utf-8")
    answer.headers["Content-Security-Policy"] = PAGE_POLICY
    return answer


def status_page() -> Response:
    """A line that the hub is running, as HTML or JSON. It shows nothing else about the hub."""
    if request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json":
        return json_response(b'{"message":"tidings hub is running"}')
    return Response(_RUNNING, content_type="text/html; charset=utf-8")
