"""A plain balancer of our own: every HTTP request goes to any node, sticky to nothing. WebSockets stay joined."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator

_READ_BYTES = 65_536
_END = b"\r\n\r\n"


class Balancer:
    """Listens on a free port of the loopback and spreads requests over `ports`, one connection each."""

    def __init__(self, *ports: int) -> None:
        # Not in turn: a client with requests in turn, too, could meet its own node each time.
        self._random = random.Random(4)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        # Statuses by node; 502 where a node took a request and gave no answer.
        self.answers: dict[int, list[int]] = {port: [] for port in ports}
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def statuses(self) -> set[int]:
        """Every status that any node answered with."""
        return {status for statuses in self.answers.values() for status in list(statuses)}

    def close(self) -> None:
        """End it and all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._held(client), contextlib.suppress(OSError):
            rest = b""
            while (request := _message(client, rest)) is not None:
                head, body, rest = request
                if not self._forward(client, head, body):
                    return

    @contextlib.contextmanager
    def _held(self, connection: socket.socket) -> Iterator[None]:
        with self._lock:
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _connect(self) -> tuple[int, socket.socket]:
        """A connection to a node that takes one: balancers pass over those that do not."""
        with self._lock:
            order = self._random.sample([*self.answers], len(self.answers))
        for port in order:
            with contextlib.suppress(OSError):
                return port, socket.create_connection(("127.0.0.1", port), timeout=60)
        raise OSError("no node takes connections")

    def _forward(self, client: socket.socket, head: bytes, body: bytes) -> bool:
        """One request and its answer; whether the client's connection goes on."""
        port, node = self._connect()
        with self._held(node):
            node.sendall(head + body)
            answer = _message(node, b"")
            if answer is None:
                self.answers[port].append(502)
                return False
            answer_head, answer_body, rest = answer
            status = int(answer_head[9:12])
            self.answers[port].append(status)
            client.sendall(answer_head + answer_body)
            if status != 101:
                return b"connection: close" not in answer_head.lower()
            client.sendall(rest)
            node.settimeout(None)
            back = threading.Thread(target=_watch, args=(node, client), daemon=True)
            back.start()
            _watch(client, node)
            back.join(10)
            return False


def _watch(source: socket.socket, target: socket.socket) -> None:
    """Hand bytes on until one side ends, then end both."""
    with contextlib.suppress(OSError):
        while data := source.recv(_READ_BYTES):
            target.sendall(data)
    for connection in (source, target):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _message(source: socket.socket, data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Head, body and what follows of one HTTP message with a Content-Length; None at the end."""
    while _END not in data:
        more = source.recv(_READ_BYTES)
        if not more:
            return None
        data += more
    head, _, data = data.partition(_END)
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(data) < length:
        more = source.recv(_READ_BYTES)
        if not more:
            return None
        data += more
    return head + _END, data[:length], data[length:]
