"""Flask applications that answer as a node does: `DirectApi` first, and Flask what it leaves."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask

from tidings.errors import BadRequest
from tidings_hub.engine.protocols.http_request import RequestHead, parse_head
from tidings_hub.services.api import NodeApi
from tidings_hub.web.app import create_app
from tidings_hub.web.direct import DirectApi

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class DirectFirst:
    """WSGI middleware with the engine's parser and `DirectApi`. `direct_paths`: of the requests that it answered."""

    def __init__(self, app: WsgiApp, hub: NodeApi) -> None:
        self._app = app
        self._api = DirectApi(hub)
        self.direct_paths: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        head = _head(environ)
        if head is None:
            return self._app(environ, start_response)
        response = self._api.respond(head)
        if response is None and self._api.accepts(head):
            body = environ["wsgi.input"].read(head.length)
            if len(body) != head.length:
                # The engine would wait for the rest.
                return self._app(environ | {"wsgi.input": io.BytesIO(body)}, start_response)
            (response,) = self._api.respond_all([self._api.read(body)])
        if response is None:
            return self._app(environ, start_response)
        self.direct_paths.append(head.path)
        status, *lines = response.head.decode("latin-1").removesuffix("\r\n").split("\r\n")
        pairs = [line.partition(": ") for line in lines]
        start_response(status.removeprefix("HTTP/1.1 "), [(name, value) for name, _, value in pairs])
        return [response.body]


def _head(environ: dict[str, Any]) -> RequestHead | None:
    """The head that the engine would see. None: the engine refuses the request."""
    names = {name: name.removeprefix("HTTP_") for name in environ if name.startswith("HTTP_")}
    # Schemathesis adds this one to each request.
    names.pop("HTTP_X_SCHEMATHESIS_TESTCASEID", None)
    names |= {name: name for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(name)}
    target = environ["PATH_INFO"] + ("?" + environ["QUERY_STRING"] if environ.get("QUERY_STRING") else "")
    lines = [f"{environ['REQUEST_METHOD']} {target} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {environ[key]}" for key, name in names.items()]
    try:
        return parse_head("\r\n".join([*lines, "", ""]).encode("latin-1"))
    except (BadRequest, UnicodeEncodeError):
        return None


def create_direct_app(hub: NodeApi) -> Flask:
    """As `create_app`, with `DirectApi` in front."""
    app = create_app(hub)
    app.wsgi_app = DirectFirst(app.wsgi_app, hub)  # type: ignore[method-assign]
    return app
