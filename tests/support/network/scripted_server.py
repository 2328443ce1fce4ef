"""A TCP server that sends exactly the bytes of a script, whole or one at a time: responses that violate HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

Script = Callable[["Peer"], None]
_HEAD_END = b"\r\n\r\n"


class Peer:
    """One accepted connection. Its methods raise OSError once the client or the server has closed it."""

    def __init__(self, connection: socket.socket, stopped: threading.Event) -> None:
        self._connection = connection
        self._stopped = stopped
        self._input = b""

    def read_request(self) -> bytes:
        """The next request, head and body; raises OSError at the end of the connection."""
        while _HEAD_END not in self._input:
            self._fill()
        head, _, self._input = self._input.partition(_HEAD_END)
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(self._input) < length:
            self._fill()
        body, self._input = self._input[:length], self._input[length:]
        return head + _HEAD_END + body

    def await_input(self) -> None:
        """Wait until the client has sent something more."""
        self._fill()

    def _fill(self) -> None:
        data = self._connection.recv(65_536)
        if not data:
            raise OSError("the client closed the connection")
        self._input += data

    def send(self, data: bytes) -> None:
        """Send bytes at once."""
        self._connection.sendall(data)

    def drip(self, data: bytes, every_s: float = 0.02) -> None:
        """Send one byte at a time."""
        for byte in data:
            self._connection.sendall(bytes([byte]))
            self.wait(every_s)

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than the server lives."""
        if self._stopped.wait(seconds):
            raise OSError("the server stops")


class ScriptedServer:
    """Runs `script` for each connection, in a thread of its own. `script` may be replaced between two connections."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def start(self) -> Self:
        """Accept connections."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop, and end all scripts."""
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), connection:
            self.script(Peer(connection, self._stopped))


def response(body: bytes, *, status: int = 200, headers: bytes = b"") -> bytes:
    """A valid response."""
    return b"HTTP/1.1 %d OK\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers, len(body), body)


def answering(*responses: bytes) -> Script:
    """Respond to one request after the other with these bytes, then to the rest with the last of them."""

    def serve(peer: Peer) -> None:
        remaining = list(responses)
        while True:
            peer.read_request()
            peer.send(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    return serve


def closing_after(data: bytes) -> Script:
    """Respond to one request with these bytes and close the connection."""

    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(data)

    return serve


def dripping(data: bytes, *, reads: bool = True) -> Script:
    """Respond one byte at a time, without end: `data`, then spaces."""

    def serve(peer: Peer) -> None:
        if reads:
            peer.read_request()
        peer.drip(data)
        while True:
            peer.drip(b" ")

    return serve


def silent(peer: Peer) -> None:
    """Accept and never respond."""
    peer.wait(60)
