"""The real engine with an echo on top, as a program: `python echo_server.py [--option=value …]`.

It prints its port and serves until its standard input ends. Options are fields of
EngineLimits and EngineOptions; `--fail` makes the application fail on the message "fail".
"""

from __future__ import annotations

from tidings_hub import runtime

runtime.patch()

import logging  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Iterable, Sequence  # noqa: E402
from dataclasses import fields  # noqa: E402
from ipaddress import ip_network  # noqa: E402
from typing import Any  # noqa: E402

from support.engine_metrics import EngineCounters  # noqa: E402
from support.limits import engine_limits, engine_options  # noqa: E402
from tidings.wire.publication import Publication  # noqa: E402
from tidings_hub.core.frame import Frame  # noqa: E402
from tidings_hub.core.node_directory import NodeDirectory  # noqa: E402
from tidings_hub.core.relay_stamp import stamp_key  # noqa: E402
from tidings_hub.engine.application import HandshakeRequest  # noqa: E402
from tidings_hub.engine.connection import Connection  # noqa: E402
from tidings_hub.engine.fanout import deliver  # noqa: E402
from tidings_hub.engine.limits import AnyOrigin, EngineLimits, EngineOptions  # noqa: E402
from tidings_hub.engine.protocols.http_request import RequestHead  # noqa: E402
from tidings_hub.engine.requests.direct_requests import DirectResponse  # noqa: E402
from tidings_hub.engine.requests.wsgi_handler import Workload  # noqa: E402
from tidings_hub.engine.server import EngineServer  # noqa: E402
from tidings_hub.engine.sse_stream import SseStream  # noqa: E402

CONFORMANCE: dict[str, object] = {
    "ping_interval_ms": 300,
    "ping_timeout_ms": 200,
    "max_payload_bytes": 1_000_000,
    "connect_timeout_ms": 45_000,
}
# Larger than the defaults of the settings, because most abuse tests check another limit.
LIMITS: dict[str, Any] = {"inbound_rate_per_s": 100.0, "inbound_burst": 1000}


class OneOrigin:
    """Allows pages of https://good.example, and clients that are not pages."""

    def allows(self, origin: str | None, host: str, secure: bool) -> bool:
        """Whether the origin is that one, or the origin of the host."""
        own = f"{'https' if secure else 'http'}://{host}"
        return origin is None or origin in ("https://good.example", own)


class Echo:
    """Echoes each message; some messages are commands."""

    def __init__(self, metrics: EngineCounters, *, silent: bool) -> None:
        self.metrics = metrics
        self.connections: dict[str, Connection] = {}
        self.reasons: list[str] = []
        self.silent = silent
        self.number = 0

    def on_open(self, connection: Connection, request: HandshakeRequest) -> None:
        """Add the connection."""
        self.connections[connection.sid] = connection
        if not self.silent:
            connection.establish()
            connection.trust()

    def on_message(self, connection: Connection, data: str | bytes) -> None:  # noqa: C901 - a table of commands
        """Echo the message, or run it as a command."""
        match data:
            case "fail":
                message = "on purpose"
                raise RuntimeError(message)
            case "close":
                connection.close("revoked")
            case "unavailable":
                connection.close("unavailable")
            case "leave":
                runtime.call_later(0.02, self.leave, connection)
            case "corks":
                # Unbalanced calls before and after must not block anything.
                connection.uncork()
                connection.cork()
                connection.cork()
                connection.send("a")
                connection.uncork()
                connection.send("b")
                connection.uncork()
                connection.uncork()
            case "who":
                connection.send(f"{connection.remote} {len(self.connections)} {sorted(self.reasons)}")
            case "requests":
                connection.send(str(self.metrics.http_requests))
            case str() if data.startswith("block "):
                self.block(float(data.split()[1]))
            case str() if data.startswith("flood "):
                self.flood(int(data.split()[1]), int(data.split()[2]))
            case str() if data.startswith("pour "):
                runtime.spawn(self.pour, connection, int(data.split()[1]))
            case _:
                connection.send(data)

    def last_frames(self, connection: Connection, code: str, message: str | None) -> tuple[()]:
        """Return nothing: the client gets the close frame or packet alone."""
        return ()

    def leave(self, connection: Connection) -> None:
        """Close with the reason."""
        connection.send("because")
        connection.close("unauthorized")

    def on_close(self, connection: Connection, reason: str) -> None:
        """Remove the connection."""
        if self.connections.pop(connection.sid, None) is None:
            reason = "closed twice"
        self.reasons.append(reason)

    def flood(self, count: int, size: int) -> None:
        """Send `count` publications of `size` bytes to all connections."""
        for _ in range(count):
            self.number += 1
            body = b'"ev",{"n":%d,"pad":"%b"}' % (self.number, b"x" * size)
            publication = Publication("room:1", self.number, self.number - 1, "e", "i", 0, "-", 4, body)
            deliver(self.connections.values(), [Frame(publication)])

    def block(self, seconds: float) -> None:
        """Let the event loop stand still, as code that never yields. First notify all clients."""
        for other in self.connections.values():
            other.send("blocking")
        runtime.original("time").sleep(seconds)

    def pour(self, connection: Connection, count: int) -> None:
        """Send rising numbers in the background."""
        for number in range(count):
            connection.send(str(number))
            if number % 7 == 0:
                runtime.sleep(0.001)


class Streams(Echo):
    """Event streams. A request with `?refuse=1` is rejected."""

    def last_frames(self, connection: SseStream, code: str, message: str | None) -> tuple[()]:
        """Return nothing: the stream ends without an event."""
        return ()

    def on_open(self, connection: SseStream, request: HandshakeRequest) -> None:  # type: ignore[override]
        """Accept the stream immediately, or later."""
        if "refuse" in request.query:
            connection.refuse("forbidden", "on purpose")
            return
        if "wait" in request.query:
            runtime.call_later(0.05, connection.accept)
            connection.send("event: early\ndata: 1\n\n")
        elif "never" not in request.query:
            connection.accept()
        self.connections[connection.sid] = connection
        connection.send("event: hello\ndata: 1\n\n")


def web(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """A small WSGI application."""
    path = environ["PATH_INFO"]
    if path == "/fail":
        message = "secret in a traceback"
        raise RuntimeError(message)
    if path == "/slow":
        runtime.sleep(0.3)
    if path == "/hang":
        runtime.sleep(60)
    if path in ("/large", "/huge"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        # Larger than the kernel buffers for a client that does not read (net.ipv4.tcp_wmem: 4 MiB).
        return [b"x" * (4_000_000 if path == "/large" else 16_000_000)]
    body = environ["wsgi.input"].read()
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "wsgi.url_scheme", "HTTP_X_FORWARDED_FOR")
    text = " ".join(str(environ.get(name, "")) for name in names).encode() + b"|" + body
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]


class Direct:
    """Answers `/direct`, and `GET /healthz`, without WSGI. A response states how many were answered together."""

    group_max = 3

    def respond(self, head: RequestHead) -> DirectResponse | None:
        """Answer the probe."""
        return self._response(b"direct") if (head.method, head.path) == ("GET", "/healthz") else None

    def accepts(self, head: RequestHead) -> bool:
        """Whether it is no query."""
        return head.path == "/direct" and not head.query

    def read(self, body: bytes) -> bytes:
        """Return the body as it is."""
        return body

    def respond_all(self, requests: Sequence[bytes]) -> list[DirectResponse]:
        """Answer the requests, later if one of them says so."""
        if b"slow" in requests:
            runtime.sleep(0.3)
        if b"hang" in requests:
            runtime.sleep(60)
        return [
            self._response(b"x" * 2_000_000 if body == b"large" else b"%d %b" % (len(requests), body))
            for body in requests
        ]

    @staticmethod
    def _response(body: bytes) -> DirectResponse:
        return DirectResponse(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(body), body)


def _options(words: list[str]) -> tuple[EngineLimits, EngineOptions, set[str]]:
    options = dict(word[2:].split("=", 1) for word in words if "=" in word)
    flags = {word[2:] for word in words if "=" not in word}
    values: dict[str, Any] = {**CONFORMANCE, **options}
    kinds = {field.name: str(field.type) for field in (*fields(EngineLimits), *fields(EngineOptions))}
    typed = {name: float(value) if kinds[name] == "float" else int(value) for name, value in values.items()}
    limit_names = {field.name for field in fields(EngineLimits)}
    limits: dict[str, Any] = {**LIMITS, **{name: value for name, value in typed.items() if name in limit_names}}
    options: dict[str, Any] = {name: value for name, value in typed.items() if name not in limit_names}
    options.setdefault("origins", AnyOrigin())
    if "proxied" in flags:
        limits["trusted_proxies"] = (ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"))
    if "one-origin" in flags:
        options["origins"] = OneOrigin()
    return engine_limits(**limits), engine_options(**options), flags


def main(words: list[str]) -> None:
    """Serve until the standard input ends."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    limits, options, flags = _options(words)
    metrics = EngineCounters()
    server = EngineServer(limits, metrics=metrics, log=logging.getLogger("engine"), node_id="n1-")
    echo = Echo(metrics, silent="silent" in flags)
    server.mount("/engine.io/", echo, options)
    server.mount_sse("/sse", Streams(metrics, silent=False), options)
    workloads = {"/healthz": Workload.PROBES, "/direct": Workload.BACKENDS}
    server.mount_wsgi(
        web,
        workload_of=lambda path: workloads.get(path, Workload.PAGES),
        direct=Direct() if "direct" in flags else None,
    )
    if "relay" in flags:
        nodes = NodeDirectory("n1-", {}, silent_s=1)
        server.enable_relay(nodes, [stamp_key("echo")], request_refresh=lambda: None, cluster_time_s=runtime.unix_s)
    port = server.listen("127.0.0.1", 0)
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    done = runtime.Signal()
    read = runtime.original("os").read
    runtime.watch(0, lambda _fd: None if read(0, 4096) else done.set())
    done.wait()
    server.stop_accepting()
    server.drain(0.2, lambda connection: connection.close("draining"))
    runtime.sleep(0.05)
    counted = {name: value for name, value in vars(metrics).items() if value}
    sys.stdout.write(f"{counted}\n{sorted(echo.reasons)}\n")
    sys.stdout.flush()
    server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
