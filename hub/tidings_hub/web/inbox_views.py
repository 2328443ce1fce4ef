"""The inbox of a user over HTTP, with the user's token (PROTOCOL.md section 13).

The engine has checked the origin of a page before a request gets here, and answers preflight requests itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flask import Flask, Response, request

from tidings.errors import BadRequest
from tidings.tokens import Claims
from tidings_hub.services.api import NodeApi
from tidings_hub.services.user_inbox import Fields
from tidings_hub.services.user_push import UserPush
from tidings_hub.web.body import json_body
from tidings_hub.web.responses import json_response

_BLUEPRINT: Final = "inbox"
_SUBSCRIPTIONS: Final = "/inbox/push-subscriptions"
INBOX_PATHS: Final = frozenset(
    {
        *("/inbox", "/inbox/mark", "/inbox/preferences", "/inbox/push-key"),
        *(_SUBSCRIPTIONS, f"{_SUBSCRIPTIONS}/renew", f"{_SUBSCRIPTIONS}/mark"),
    }
)


class InboxViews:
    """The views. Each answers with what the notification service answers."""

    def __init__(self, hub: NodeApi) -> None:
        self._hub = hub

    def install(self, app: Flask) -> None:
        """Add the addresses to `app`."""
        inbox, push = self._hub.inbox, UserPush(self._hub.inbox)
        for method, rule, view in (
            ("GET", "/inbox", self._view(inbox.page)),
            ("POST", "/inbox/mark", self._view(inbox.mark)),
            ("GET", "/inbox/preferences", self._view(inbox.preferences)),
            ("PUT", "/inbox/preferences", self._view(inbox.preferences)),
            ("GET", "/inbox/push-key", self._view(push.public_key)),
            ("POST", _SUBSCRIPTIONS, self._view(push.subscribe)),
            ("DELETE", _SUBSCRIPTIONS, self._view(push.unsubscribe)),
            ("POST", f"{_SUBSCRIPTIONS}/renew", self._open_view(push.renew)),
            ("POST", f"{_SUBSCRIPTIONS}/mark", self._open_view(push.mark)),
        ):
            app.add_url_rule(
                rule, f"{_BLUEPRINT} {method} {rule}", view, methods=[method], provide_automatic_options=False
            )
        app.after_request(_allow_origin)

    def _view(self, answer: Callable[[Claims, Fields], str]) -> Callable[[], Response]:
        def view() -> Response:
            if not self._hub.inbox.has_service:
                # Before the token: what is missing is the same for every user.
                self._hub.inbox.raise_no_service()
            claims = self._hub.authenticate(_token(), request.remote_addr or "")
            return json_response(answer(claims, self._fields()).encode())

        return view

    def _open_view(self, answer: Callable[[str, Fields], str]) -> Callable[[], Response]:
        """A view for service workers, which have no token but the key of their subscription."""

        def view() -> Response:
            return json_response(answer(request.remote_addr or "", self._fields()).encode())

        return view

    def _fields(self) -> Fields:
        arguments = request.args
        if request.method == "GET":
            for name, values in arguments.lists():
                if len(values) > 1:
                    raise BadRequest(f"the parameter {name!a:.60} appears {len(values)} times; send it once")
            return arguments.to_dict()
        if arguments:
            raise BadRequest("send the fields as a JSON object in the body, not in the query")
        body = json_body(request, max_bytes=self._hub.settings.api_body_max_bytes)
        if not isinstance(body, dict) or not body:
            raise BadRequest("send a JSON object with the fields")
        return body


def _token() -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() != "bearer":
        raise BadRequest("send the token as `Authorization: Bearer <token>`")
    return token.strip() or None


def _allow_origin(response: Response) -> Response:
    """Let the page read the response."""
    origin = request.headers.get("Origin")
    if request.path in INBOX_PATHS and origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Vary"] = "Origin"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
