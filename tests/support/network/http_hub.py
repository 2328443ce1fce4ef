"""The half of a hub's HTTP API that takes publications and notifications, over a memory store, on a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tidings.errors import BadRequest, TidingsError
from tidings.publishers.base import CALLER_ID_S, OutgoingPublication
from tidings.publishers.memory.store import MemoryStore
from tidings.wire.notification_request import read_request
from tidings.wire.payload import encode_data
from tidings.wire.publication import encode_body

API_KEY = "key-of-the-tests-0123456789abcdef"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # With socketserver's own 5, a burst of connects waits a second for its second SYN.
    request_queue_size = 128


class HttpHub:
    """Answers `POST /api/publish` and `POST /api/notifications` in the documented form; `url` is its base.

    `faults` are taken one per request: functions that get the handler and its answer (already
    carried out), and send whatever they like, or nothing.
    """

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.faults: deque[Callable[[Handler, bytes], None]] = deque()
        self.requests: list[list[dict[str, Any]]] = []
        self.connections = 0
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/base"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def publish(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the hub does with one request."""
        self.requests.append(items)
        return [self._publish(item) for item in items]

    def _publish(self, item: dict[str, Any]) -> dict[str, Any]:
        body = encode_body(item["event"], encode_data(item["data"]), id=item["id"], at_ms=1)
        answer = self.store.publish(OutgoingPublication(item["channel"], body, item["id"], CALLER_ID_S))
        if isinstance(answer, TidingsError):
            return {"error": answer.to_wire()}
        return {"id": answer.id, "cursor": answer.cursor, "duplicate": answer.duplicate}

    def notify(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the hub and its notification service do with one request."""
        self.requests.append(items)
        return [self._notify(item) for item in items]

    def _notify(self, item: dict[str, Any]) -> dict[str, Any]:
        try:
            (notification,) = read_request(item, now_ms=time.time_ns() // 1_000_000)
        except BadRequest as error:
            return {"error": error.to_wire()}
        answer = self.store.notifications.add(notification)
        if isinstance(answer, TidingsError):
            return {"error": answer.to_wire()}
        return {"id": answer.id, "state": answer.state, "duplicate": answer.duplicate}

    def published(self, channel: str) -> list[Any]:
        """The data of what was published in a channel."""
        return [json.loads(item.data_json) for item in self.store.stored(channel)]


_PATHS = {"/base/api/publish": HttpHub.publish, "/base/api/notifications": HttpHub.notify}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: HttpHub
    protocol_version = "HTTP/1.1"
    # A reply in two writes would wait for the other side's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.hub.connections += 1

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:
            # The client's time ran out between the head and the body.
            self.close_connection = True
            return
        if self.headers["Authorization"] != f"Bearer {API_KEY}":
            self.answer(401, {"error": {"code": "unauthorized", "message": "Send a valid token or API key."}})
        elif self.path not in _PATHS or self.headers["Content-Type"] != "application/json":
            self.answer(404, {"error": {"code": "not_found", "message": "There is nothing under this name."}})
        else:
            body = json.dumps({"results": _PATHS[self.path](self.hub, json.loads(body))}).encode()
            if self.hub.faults:
                self.hub.faults.popleft()(self, body)
            else:
                self.answer(200, body)

    def answer(self, status: int, body: object, **headers: str) -> None:
        """A complete answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: a test's output is its own."""


def cut(handler: Handler, _: bytes) -> None:
    """Carry it out, and close without an answer."""
    handler.close_connection = True


def cut_within(handler: Handler, body: bytes) -> None:
    """Promise an answer, and close in its middle."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def stall(handler: Handler, _: bytes) -> None:
    """Never answer."""
    handler.hub.released.wait(60)
    handler.close_connection = True


def trickle(handler: Handler, _: bytes) -> None:
    """Answer one byte of a header at a time, for ever."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not handler.hub.released.wait(0.05):
        handler.wfile.write(b"x")
        try:
            handler.wfile.flush()
        except OSError:
            return


def say(status: int, body: object, **headers: str) -> Callable[[Handler, bytes], None]:
    """Answer something else."""
    return lambda handler, _: handler.answer(status, body, **headers)


def closing(handler: Handler, body: bytes) -> None:
    """Answer well, and close the connection as announced."""
    handler.close_connection = True
    handler.answer(200, body, Connection="close")


def closing_in_silence(handler: Handler, body: bytes) -> None:
    """Answer well, and close the connection without a word."""
    handler.answer(200, body)
    handler.close_connection = True


def chunked(handler: Handler, body: bytes) -> None:
    """Answer well, in chunks."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(body), 20):
        part = body[start : start + 20]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")
