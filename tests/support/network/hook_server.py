"""A backend that a hub's hooks reach: real HTTP, signatures checked, answers and faults to order."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tidings.hooks import HEADER, verify

SECRET = "hX4qPz8RmT2wV6yB9kLdN3sFgJ7cUeAo"
Answer = Callable[["Handler", dict[str, Any]], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class HookServer:
    """`answer` is called with each hook that was rightly signed; `requests` has them all, in order of arrival.

    `echoes`: its answers have the signature of their hook, so that the hub keeps connections.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.echoes = False
        self.answer: Answer = respond({})
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"hooks": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.port: int = self._server.server_address[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}/tidings?from=hub"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    def requests_of(self, hook: str, user: str | None = None) -> list[dict[str, Any]]:
        """The requests of one hook so far, about one user."""
        return [
            request for request in list(self.requests) if request["hook"] == hook and user in (None, request["user"])
        ]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hooks: HookServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.hooks.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = verify(SECRET, self.headers[HEADER], body)
        self.hooks.requests.append(request)
        self.hooks.answer(self, request)

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """A complete answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.hooks.echoes:
            self.send_header(HEADER, self.headers[HEADER])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: a test's output is its own."""


def respond(answer: object, status: int = 200, **headers: str) -> Answer:
    """Respond with this body."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return lambda handler, _: handler.reply(status, body, **headers)


def refuse(code: str, message: str = "") -> Answer:
    """Respond with a refusal."""
    return respond({"error": {"code": code, "message": message}})


def stall(handler: Handler, _: dict[str, Any]) -> None:
    """Never answer."""
    handler.hooks.released.wait(60)
    handler.close_connection = True


def trickle(handler: Handler, _: dict[str, Any]) -> None:
    """Answer one byte of a header at a time."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not handler.hooks.released.wait(0.05):
        handler.wfile.write(b"x")
        try:
            handler.wfile.flush()
        except OSError:
            return


def closing_in_silence(handler: Handler, _: dict[str, Any]) -> None:
    """Respond, and close the connection without announcing it."""
    handler.reply(200, b"{}")
    handler.close_connection = True
