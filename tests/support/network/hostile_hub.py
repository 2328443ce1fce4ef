"""A hostile hub: it implements Engine.IO over WebSocket and long polling, and sends what a script prescribes.

The first part of a path names the script: `/garbage/socket.io/` is for `garbage`. Each new session runs the script in a
new thread, and passes the number of earlier sessions of this script.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import queue
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

OPEN = '0{"sid":"hostile","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PATIENCE_S = 60.0


class ConnectionEnded(Exception):
    """The client disconnected, or sent nothing for too long."""


def event(name: str, *values: object) -> str:
    """Encode the packet of an event."""
    return "42" + json.dumps([name, *values])


class Session:
    """One Engine.IO session over either transport."""

    def __init__(self) -> None:
        self._packets: queue.Queue[str | None] = queue.Queue()

    def send(self, *packets: str) -> None:
        """Send packets as text messages, in one write."""
        raise NotImplementedError

    def send_bytes(self, *packets: bytes) -> None:
        """Send packets as binary messages, in one write."""
        raise NotImplementedError

    def send_raw(self, data: bytes) -> None:
        """Send raw bytes: WebSocket frames, or the body of the response to a poll."""
        raise NotImplementedError

    def close(self) -> None:
        """Close without a close frame."""
        raise NotImplementedError

    def receive(self, beginning: str = "4") -> str:
        """Wait for the next packet with this beginning."""
        while True:
            try:
                packet = self._packets.get(timeout=_PATIENCE_S)
            except queue.Empty:
                raise ConnectionEnded from None
            if packet is None:
                raise ConnectionEnded
            if packet.startswith(beginning):
                return packet


class WebSocketSession(Session):
    """A session over a WebSocket, after its handshake."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection

    def send(self, *packets: str) -> None:
        self._send(b"".join(_frame(0x81, packet.encode()) for packet in packets))

    def send_bytes(self, *packets: bytes) -> None:
        self._send(b"".join(_frame(0x82, packet) for packet in packets))

    def send_raw(self, data: bytes) -> None:
        self._send(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise ConnectionEnded from error

    def read(self) -> None:
        """Read frames until the client disconnects."""
        with contextlib.suppress(OSError, EOFError), self._connection.makefile("rb") as stream:
            while True:
                first, second = _exactly(stream.read(2), 2)
                size = second & 0x7F
                if size >= 126:
                    size = int.from_bytes(_exactly(stream.read(2 if size == 126 else 8), 2), "big")
                mask = _exactly(stream.read(4), 4)
                data = _exactly(stream.read(size), size)
                if first & 0x0F == 0x8:
                    break
                self._packets.put(bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)).decode())
        self._packets.put(None)


class PollingSession(Session):
    """A session over long polling. Packets wait for the next poll."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: queue.Queue[bytes | None] = queue.Queue()

    def send(self, *packets: str) -> None:
        self.bodies.put("\x1e".join(packets).encode())

    def send_bytes(self, *packets: bytes) -> None:
        self.bodies.put(b"\x1e".join(b"b" + base64.b64encode(packet) for packet in packets))

    def send_raw(self, data: bytes) -> None:
        self.bodies.put(data)

    def close(self) -> None:
        self.bodies.put(None)

    def on_body(self, body: bytes) -> None:
        """Handle the body of a POST."""
        for packet in body.decode().split("\x1e"):
            self._packets.put(packet)


Script = Callable[[Session, int], None]


class HostileHub:
    """A hostile hub that listens on `url`. `sessions` counts the sessions by script."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.sessions: Counter[str] = Counter()
        self.polling: dict[str, PollingSession] = {}
        self._scripts = scripts
        self._lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def begin(self, name: str, session: Session) -> None:
        """Run the script in a thread."""
        with self._lock:
            before = self.sessions[name]
            self.sessions[name] += 1

        def run() -> None:
            with contextlib.suppress(ConnectionEnded):
                self._scripts[name](session, before)

        threading.Thread(target=run, daemon=True).start()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: HostileHub

    def do_GET(self) -> None:
        name = urlsplit(self.path).path.split("/")[1]
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self._upgrade(name)
            return
        session = self._session()
        if session is None:
            session = PollingSession()
            sid = f"s{id(session)}"
            self.owner.polling[sid] = session
            self.owner.begin(name, session)
            body = session.bodies.get(timeout=_PATIENCE_S)
            self._respond(body and body.replace(b'"hostile"', f'"{sid}"'.encode()))
            return
        try:
            self._respond(session.bodies.get(timeout=_PATIENCE_S))
        except queue.Empty:
            self._respond(None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        session = self._session()
        if session is not None:
            session.on_body(body)
        self._respond(None if session is None else b"ok")

    def _session(self) -> PollingSession | None:
        return self.owner.polling.get(parse_qs(urlsplit(self.path).query).get("sid", [""])[0])

    def _respond(self, body: bytes | None) -> None:
        self.send_response(400 if body is None else 200)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body or b"")

    def _upgrade(self, name: str) -> None:
        accept = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _GUID).digest())
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        session = WebSocketSession(self.connection)
        self.owner.begin(name, session)
        session.read()
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Do not log requests into the output of the tests."""


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise EOFError
    return data


def _frame(first: int, data: bytes) -> bytes:
    size = len(data)
    if size < 126:
        return bytes([first, size]) + data
    if size < 65_536:
        return struct.pack(">BBH", first, 126, size) + data
    return struct.pack(">BBQ", first, 127, size) + data
