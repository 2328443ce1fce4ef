"""A TCP proxy between a program and Redis that simulates network faults.

It cuts, refuses, pauses and delays, and it reads enough RESP to take single pub/sub messages out of
the stream without breaking it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    import threading
    import time
else:
    # A network is no greenlet of the program under test: where the standard library is patched, take the
    # original one, with threads that are threads.
    _load = sys.modules["eventlet.patcher"].original if "eventlet.patcher" in sys.modules else importlib.import_module
    socket, threading, time = _load("socket"), _load("threading"), _load("time")

_READ_BYTES = 65_536
_SIMPLE = b"+-:_,#("
_BULK = b"$=!"
_NESTED = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}


def frame_end(data: bytes, start: int = 0) -> int | None:
    """End of the RESP item at `start`; None if it is incomplete."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, after = data[start], line_end + 2
    if kind in _SIMPLE:
        return after
    size = int(data[start + 1 : line_end])
    if kind in _BULK:
        end = after if size < 0 else after + size + 2
        return end if end <= len(data) else None
    for _ in range(max(0, size) * _NESTED[kind]):
        end = frame_end(data, after)
        if end is None:
            return None
        after = end
    return after


def message_channel(frame: bytes) -> bytes | None:
    """The pub/sub channel of a `message` frame."""
    parts = frame.split(b"\r\n", 6)
    if len(parts) == 7 and parts[0] in {b"*3", b">3"} and parts[2] == b"message":
        return parts[4]
    return None


@dataclass
class _Drop:
    """Drop `left` messages (-1: all) of the pub/sub channels with this ending, after the next `skip` messages."""

    name_end: bytes
    skip: int
    left: int


@dataclass(eq=False)
class _Pair:
    client: socket.socket
    server: socket.socket
    pending: bytes = field(default=b"")

    def close(self) -> None:
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


class Proxy:
    """Listens on a free loopback port and forwards to `port`. `plain`: the protocol is not RESP."""

    def __init__(self, port: int, *, plain: bool = False) -> None:
        self._target = port
        self._plain = plain
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.delay_s = 0.0
        self.dropped = 0
        self.accepted = 0
        self._refusing = False
        # Of `cut`: a connection that is being forwarded meanwhile is broken too.
        self._cuts = 0
        self._flowing = threading.Event()
        self._flowing.set()
        # Of `hold_frames`.
        self._frames_flow = threading.Event()
        self._frames_flow.set()
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._drops: list[_Drop] = []
        self._marker = b""
        self.responses_lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The Redis URL through this proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    def drop(self, channel: str, *, skip: int = 0, times: int = 1) -> None:
        """Drop `times` messages of a channel (-1: all), after forwarding `skip` messages."""
        with self._lock:
            self._drops.append(_Drop(b":c:" + channel.encode(), skip, times))

    def drop_doubts(self, *, times: int = 1) -> None:
        """Drop `times` messages about doubted cursors (-1: all)."""
        with self._lock:
            self._drops.append(_Drop(b":doubts", 0, times))

    def drop_no_more(self) -> None:
        """Forward all messages again."""
        with self._lock:
            self._drops.clear()

    def cut(self) -> None:
        """Break all connections now."""
        with self._lock:
            self._cuts += 1
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.close()

    def lose_response(self, marker: bytes) -> None:
        """Break the connection of the next HTTP response that contains `marker`, instead of forwarding it."""
        with self._lock:
            self._marker = marker

    def _loses(self, data: bytes) -> bool:
        with self._lock:
            if not self._marker or self._marker not in data or not data.startswith(b"HTTP/1.1 200"):
                return False
            self._marker = b""
            self.responses_lost += 1
            return True

    def refuse(self) -> None:
        """Break all connections, and every new one at once."""
        self._refusing = True
        self.cut()

    def accept_again(self) -> None:
        """Take new connections again."""
        self._refusing = False

    def lead_to(self, port: int) -> None:
        """Break all connections; new ones go to this port."""
        self._target = port
        self.cut()

    def pause(self) -> None:
        """Keep all connections open, and forward nothing."""
        self._flowing.clear()

    def resume(self) -> None:
        """Forward again, and all that has waited."""
        self._flowing.set()

    def hold_frames(self) -> None:
        """Forward nothing that clients send after their HTTP requests: the frames of WebSockets."""
        self._frames_flow.clear()

    def forward_frames(self) -> None:
        """Forward them again, and all that have waited."""
        self._frames_flow.set()

    def close(self) -> None:
        """End it."""
        self._refusing = True
        self._frames_flow.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._flowing.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            cuts = self._cuts
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(client, server)
            with self._lock:
                is_cut = cuts != self._cuts
                if not is_cut:
                    self._pairs.add(pair)
            if is_cut:
                pair.close()
                continue
            threading.Thread(target=self._pump, args=(pair, client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(pair, server, client, True), daemon=True).start()

    def _pump(self, pair: _Pair, source: socket.socket, target: socket.socket, replies: bool) -> None:
        # One side is gone: so is the other.
        with contextlib.suppress(OSError):
            while data := source.recv(_READ_BYTES):
                self._flowing.wait()
                if not (replies or data.startswith((b"GET ", b"POST "))):
                    self._frames_flow.wait()
                if replies and self._loses(data):
                    break
                if self.delay_s:
                    time.sleep(self.delay_s)
                target.sendall(self._filter(pair, data) if replies and not self._plain else data)
        with self._lock:
            self._pairs.discard(pair)
        pair.close()

    def _filter(self, pair: _Pair, data: bytes) -> bytes:
        """What of the replies goes on, in whole frames."""
        data = pair.pending + data
        start, frames = 0, []
        while (end := frame_end(data, start) if start < len(data) else None) is not None:
            frame = data[start:end]
            if not self._drops_it(frame):
                frames.append(frame)
            start = end
        pair.pending = data[start:]
        return b"".join(frames)

    def _drops_it(self, frame: bytes) -> bool:
        if not self._drops or (name := message_channel(frame)) is None:
            return False
        with self._lock:
            for drop in self._drops:
                if name.endswith(drop.name_end):
                    if drop.skip:
                        drop.skip -= 1
                    elif drop.left:
                        drop.left -= 1
                        self.dropped += 1
                        return True
        return False
