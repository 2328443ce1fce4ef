"""Small clients for conformance tests: raw HTTP and raw WebSocket over one TCP connection."""

from __future__ import annotations

import base64
import ctypes
import json
import select
import socket
import struct
from dataclasses import dataclass, field
from typing import Self

WAIT_S = 10.0
POLLING = "/engine.io/?EIO=4&transport=polling"
SOCKET = "/engine.io/?EIO=4&transport=websocket"
# asm-generic/socket.h, linux/bpf_common.h
_SO_ATTACH_FILTER = 26
_BPF_RET = 6


@dataclass
class RawResponse:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> tuple[int, str]:
        """Engine.IO's error body."""
        response = json.loads(self.body)
        return response["code"], response["message"]


@dataclass
class RawClient:
    """A raw TCP connection that can speak HTTP.

    `receive_bytes`: the size of its receive buffer; 0: as usual. `address`: its own one on loopback; "": as usual.
    """

    port: int
    buffer: bytes = b""
    receive_bytes: int = 0
    address: str = ""
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(WAIT_S)
        if self.receive_bytes:
            # Only before the handshake it limits the window.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_bytes)
        if self.address:
            self.socket.bind((self.address, 0))
        self.socket.connect(("127.0.0.1", self.port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def __del__(self) -> None:
        # Most tests are over when their client goes out of scope.
        if "socket" in vars(self):
            self.socket.close()

    def send(self, data: bytes) -> None:
        """All of `data`."""
        self.socket.sendall(data)

    def send_request(self, method: str, path: str, body: bytes = b"", /, **headers: str) -> None:
        """Send a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def read(self) -> bytes:
        """Some bytes; empty at the end."""
        try:
            return self.socket.recv(65_536)
        except ConnectionResetError:
            return b""

    def response(self) -> RawResponse:
        """One complete answer."""
        while b"\r\n\r\n" not in self.buffer:
            data = self.read()
            assert data, f"the connection ended after {self.buffer!r}"
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self.buffer) < length:
            data = self.read()
            assert data, "the connection ended within a body"
            self.buffer += data
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return RawResponse(int(first.split()[1]), headers, body)

    def drop_everything(self) -> None:
        """From now on this machine drops and does not acknowledge what arrives for this connection (socket(7))."""
        # One instruction of the classic packet filter: accept 0 bytes.
        program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET, 0, 0, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        return not self.buffer and not select.select([self.socket], [], [], seconds)[0]

    def is_closed(self) -> bool:
        """Read to the end of the connection and discard the data. Fails if the server leaves it open."""
        self.buffer = b""
        while data := self.read():
            assert data
        return True


def request(port: int, method: str, path: str, body: bytes = b"", /, **headers: str) -> RawResponse:
    """Send one request on a new connection and return the response."""
    with RawClient(port) as raw:
        raw.send_request(method, path, body, **headers)
        return raw.response()


def open_polling(port: int) -> str:
    """A new polling session's id."""
    response = request(port, "GET", POLLING)
    assert response.status == 200
    return str(json.loads(response.body[1:])["sid"])


def poll(port: int, sid: str) -> RawResponse:
    """One poll."""
    return request(port, "GET", f"{POLLING}&sid={sid}")


def post(port: int, sid: str, body: bytes) -> RawResponse:
    """One post."""
    return request(port, "POST", f"{POLLING}&sid={sid}", body)


def masked_frame(
    opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bytes = b"\x01\x02\x03\x04"
) -> bytes:
    """A client's frame."""
    size = len(payload)
    if size <= 125:
        length = bytes([0x80 | size])
    elif size <= 65_535:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([(0x80 if fin else 0) | rsv | opcode]) + length + mask + body


HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": base64.b64encode(b"0123456789abcdef").decode(),
}


class RawWebSocket(RawClient):
    """A raw WebSocket client."""

    def __init__(self, port: int, path: str = SOCKET, **headers: str) -> None:
        super().__init__(port)
        self.send_request("GET", path, b"", **{**HANDSHAKE, **headers})
        self.handshake = self.response()

    def send_text(self, text: str) -> None:
        """One text message."""
        self.send(masked_frame(1, text.encode()))

    def frame(self) -> tuple[int, bytes]:
        """One frame: its opcode and payload. Opcode -1 at the connection's end."""
        while (size := self._size()) is None or len(self.buffer) < size[0] + size[1]:
            data = self.read()
            if not data:
                return -1, b""
            self.buffer += data
        head, body = size
        assert self.buffer[0] & 0x70 == 0
        assert self.buffer[1] & 0x80 == 0
        opcode, payload = self.buffer[0] & 15, self.buffer[head : head + body]
        self.buffer = self.buffer[head + body :]
        return opcode, payload

    def _size(self) -> tuple[int, int] | None:
        if len(self.buffer) < 2:
            return None
        code = self.buffer[1] & 0x7F
        head = 2 + {126: 2, 127: 8}.get(code, 0)
        if len(self.buffer) < head:
            return None
        return head, code if head == 2 else int.from_bytes(self.buffer[2:head], "big")

    def receive_text(self) -> str:
        """The next text message that is not a ping; pings are answered."""
        while True:
            opcode, payload = self.frame()
            assert opcode == 1, f"frame {opcode} {payload!r}"
            if payload != b"2":
                return payload.decode()
            self.send_text("3")

    def close_code(self) -> int:
        """The code of the close frame that comes next, whatever comes before it; -1: it just ended."""
        while True:
            opcode, payload = self.frame()
            if opcode == 8:
                return int.from_bytes(payload[:2], "big")
            if opcode == -1:
                return -1


def open_websocket(port: int, **headers: str) -> RawWebSocket:
    """A WebSocket session after its open packet."""
    opened = RawWebSocket(port, **headers)
    assert opened.handshake.status == 101
    assert opened.receive_text().startswith("0{")
    return opened
