"""Serves the HTTP API: waitress, with room for probes, and a shutdown that finishes what has begun.

Probes have a thread of their own, so they do not wait for requests that wait for the database. If there are more
connections than `connections`, those that have waited longest for a request are closed, and requests of nodes are
refused.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import create_server
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import BadRequest as RefusedRequest
from waitress.utilities import Error

from tidings.errors import BadConfig, BadRequest, TooLarge, Unauthorized, Unavailable
from tidings_hub.config.notifications import REQUEST_HEADER
from tidings_notifications.api.app import KEY_NEEDED, PROBE_PATHS
from tidings_notifications.metrics import ServiceMetrics

if TYPE_CHECKING:
    from flask import Flask

# Connections beyond the limit: for probes, and for the refusal of other requests.
_RESERVE: Final = 64
# How long a connection without a complete request is spared.
_GRACE_S: Final = 0.25
_TOO_LARGE: Final = 413
# Requests in one read. Nodes and programs for metrics send the next one after the response.
_PIPELINED_MAX: Final = 16
# Of a body, before the key is checked. The views reject what is smaller.
_UNAUTHORIZED_MAX_BYTES: Final = 65_536
_BACKLOG: Final = 1024
# The loop wakes up at every event; this is only for waitress' own housekeeping.
_TURN_S: Final = 1.0
_POLL_S: Final = 0.02
# A loop without a turn for so long hangs. Requests are handled in other threads.
_STUCK_S: Final = 5.0


def bind(host: str, port: int) -> socket.socket:
    """A bound socket.

    Raises:
        BadConfig: the address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        advice = "set another `listen` in [notifications]"
        if error.errno == errno.EADDRINUSE:
            advice = (
                "if it is the service of another hub on this machine, set `url` in [notifications] for all hubs and "
                f"start `tidings notifications` once; otherwise {advice}"
            )
        raise BadConfig(f"cannot listen on {host}:{port}: {error.strerror or error}; {advice}") from error
    return listening


class HttpServer:
    """The server on a bound socket. `run` serves until `stop`.

    `admits`: whether an `Authorization` header field has a key. Without it the server reads no large body.
    """

    def __init__(
        self,
        app: Flask,
        listening: socket.socket,
        *,
        threads: int,
        connections: int,
        request_max_bytes: int,
        admits: Callable[[str], bool],
        metrics: ServiceMetrics,
    ) -> None:
        # It writes a line for each request that waits for a thread, which is usual.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._map: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._map,
            sockets=[listening],
            threads=threads,
            # The map also has the listening socket and the trigger.
            connection_limit=connections + _RESERVE + 2,
            # Waitress refuses a body of this size.
            max_request_body_size=request_max_bytes + 1,
            backlog=_BACKLOG,
            ident="tidings",
            asyncore_use_poll=True,
        )
        self._server.channel_class = _channel_class(metrics, _parser_class(admits))
        self._server.task_dispatcher = _Lanes(self._server, connections, metrics)
        self._connections = connections
        self._metrics = metrics
        self._closing = threading.Event()
        self._turned_s = time.monotonic()

    @property
    def is_turning(self) -> bool:
        """Whether its loop works, or ends because of `stop`."""
        return self._closing.is_set() or time.monotonic() - self._turned_s < _STUCK_S

    def run(self) -> None:
        """Serve until the server was stopped."""
        while not self._closing.is_set():
            is_over = self._make_room()
            wasyncore.loop(timeout=_GRACE_S if is_over else _TURN_S, use_poll=True, map=self._map, count=1)
            self._turned_s = time.monotonic()

    def _make_room(self) -> bool:
        """Close those beyond the limit that have waited longest for a request. Return whether there are any."""
        channels = self._server.active_channels
        if len(channels) <= self._connections:
            return False
        remaining = [channel for channel in channels.values() if not channel.will_close]
        now_s = time.monotonic()
        waiting = [channel for channel in remaining if _waits_for_request(channel, now_s)]
        waiting.sort(key=lambda channel: channel.waiting_since_s)
        for channel in waiting[: max(0, len(remaining) - self._connections)]:
            self._metrics.connections_shed.inc()
            # The next turn of the loop closes it.
            channel.will_close = True
        return True

    def stop(self, deadline_s: float) -> None:
        """Accept no further connections, finish the requests that have begun, and end `run`.

        `deadline_s`: a time of `time.monotonic` after which the rest is cut off.
        """
        self._in_loop(lambda: wasyncore.dispatcher.close(self._server))
        while time.monotonic() < deadline_s and self._is_busy():
            time.sleep(_POLL_S)
        self._closing.set()
        self._in_loop(lambda: None)
        self._server.task_dispatcher.shutdown(timeout=max(0.0, deadline_s - time.monotonic()))

    def _is_busy(self) -> bool:
        channels = list(self._server.active_channels.values())
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def _in_loop(self, call: Callable[[], object]) -> None:
        """Run `call` in the thread of the loop, which owns the sockets."""
        self._server.trigger.pull_trigger(call)


class _Busy(Error):  # type: ignore[misc]
    """The error of a request for which there is no connection left."""

    code = 503
    reason = "Service Unavailable"


class _UnauthorizedRequest(Error):  # type: ignore[misc]
    """The error of a request without the key of a node whose body would cost memory or time before it is rejected."""

    code = 401
    reason = "Unauthorized"


class _Lanes:
    """waitress' dispatcher of `server` for requests of nodes, and one more with a single thread for probes.

    While more than `connections` connections have a request, further requests of nodes are refused.
    """

    def __init__(self, server: Any, connections: int, metrics: ServiceMetrics) -> None:
        self._server = server
        self._connections = connections
        self._metrics = metrics
        self._requests = server.task_dispatcher
        self._probes = ThreadedTaskDispatcher()
        self._probes.set_thread_count(1)

    def add_task(self, channel: Any) -> None:
        """Let a thread handle the first request of a channel."""
        request = channel.requests[0]
        if request.error or request.path in PROBE_PATHS:
            self._probes.add_task(channel)
        elif self._is_full():
            self._metrics.refused.inc()
            request.error = _Busy("")
            self._probes.add_task(channel)
        else:
            self._requests.add_task(channel)

    def _is_full(self) -> bool:
        channels = self._server.active_channels
        return len(channels) > self._connections and (
            sum(1 for channel in list(channels.values()) if channel.requests) > self._connections
        )

    def shutdown(self, *, timeout: float) -> None:
        """End the threads."""
        self._requests.shutdown(timeout=timeout)
        self._probes.shutdown(timeout=0)


def _parser_class(admits: Callable[[str], bool]) -> type[Any]:
    """A parser that rejects what would cost memory or time before the key is checked."""

    class Parser(HTTPRequestParser):  # type: ignore[misc]
        completed: bool
        is_one_too_many = False

        def received(self, data: bytes) -> int:
            if self.is_one_too_many:
                self.error, self.completed = RefusedRequest("pipelined"), True
                return len(data)
            consumed: int = super().received(data)
            is_costly = self.chunked or self.body_bytes_received > _UNAUTHORIZED_MAX_BYTES
            if is_costly and not self.completed and not admits(self.headers.get("AUTHORIZATION", "")):
                self.error, self.completed = _UnauthorizedRequest(""), True
            return consumed

    return Parser


def _channel_class(metrics: ServiceMetrics, new_parser: type[Any]) -> type[Any]:
    """A channel whose own errors have the form of the API's, and are counted.

    `waiting_since_s`: since when it has waited for a complete request.
    """

    class JsonErrorTask(ErrorTask):  # type: ignore[misc]
        def execute(self) -> None:
            status = int(self.request.error.code)
            if status == _TOO_LARGE:
                metrics.too_large.inc()
                error = TooLarge("the body is larger than request_max_bytes of [notifications]").to_wire()
            elif status == _UnauthorizedRequest.code:
                metrics.unauthorized.inc()
                error = Unauthorized(KEY_NEEDED).to_wire()
            elif status == _Busy.code:
                error = Unavailable("the notification service has too many requests; try again later").to_wire()
            else:
                error = BadRequest("not an HTTP request that the service understands").to_wire()
            content = json.dumps({"error": error}).encode()
            self.status = f"{status} {self.request.error.reason}"
            self.response_headers.append(("Content-Type", "application/json"))
            if value := self.request.headers.get(REQUEST_HEADER.upper().replace("-", "_")):
                self.response_headers.append((REQUEST_HEADER, value))
            self.set_close_on_finish()
            self.content_length = len(content)
            self.write(content)

    class Channel(HTTPChannel):  # type: ignore[misc]
        error_task_class = JsonErrorTask

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            # A client that sends a byte at a time does not move it on, as it does `last_activity`.
            self.waiting_since_s = time.monotonic()
            self._parsers = 0

        def handle_read(self) -> None:
            self._parsers = 0
            super().handle_read()

        def parser_class(self, options: object) -> Any:
            """A parser for one request, or one empty line: 4,096 of them arrive at once."""
            parser = new_parser(options)
            self._parsers += 1
            parser.is_one_too_many = self._parsers > _PIPELINED_MAX
            return parser

        def service(self) -> None:
            self.waiting_since_s = math.inf
            try:
                super().service()
            finally:
                self.waiting_since_s = time.monotonic()

    return Channel


def _waits_for_request(channel: Any, now_s: float) -> bool:
    """Whether a connection may be closed for others. It may be one whose client sends a request just now."""
    is_busy = channel.requests or channel.total_outbufs_len
    return not is_busy and bool(now_s - channel.waiting_since_s >= _GRACE_S)
