"""Long polling by hand: single requests, each on a new connection."""

from __future__ import annotations

import json
import socket
from typing import Any

POLL = "/socket.io/?EIO=4&transport=polling"


def request(method: str, target: str, *lines: str, body: bytes = b"") -> bytes:
    """The bytes of one request."""
    head = [f"{method} {target} HTTP/1.1", "Host: shop.example", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def exchange(port: int, method: str, target: str, *lines: str, body: bytes = b"") -> tuple[int, bytes, bytes]:
    """Send one request on a new connection. Returns status, body and head of the response."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request(method, target, *lines, "Connection: close", body=body))
        data = b""
        while more := connection.recv(65_536):
            data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return int(head[9:12]), rest, head


def status_of(connection: socket.socket) -> int:
    """Read one response and return its status."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        assert more, data
        data += more
    return int(data[9:12])


def open_session(port: int) -> str:
    """Open a session and return its id."""
    status, body, _ = exchange(port, "GET", POLL)
    assert status == 200, body
    sid: str = json.loads(body.split(b"\x1e")[0][1:])["sid"]
    return sid


def connect(port: int, token: str, *channels: str) -> str:
    """Open an authenticated session and read its packets up to `tidings:ready`."""
    sid = open_session(port)
    connect = b"40" + json.dumps({"token": token, "channels": channels}).encode()
    assert exchange(port, "POST", f"{POLL}&sid={sid}", body=connect)[:2] == (200, b"ok")
    packets = b""
    while b"tidings:ready" not in packets:
        status, body, _ = exchange(port, "GET", f"{POLL}&sid={sid}")
        assert status == 200
        if b"2" in body.split(b"\x1e"):
            # Without a `t`, the pong proves that this response arrived.
            assert exchange(port, "POST", f"{POLL}&sid={sid}", body=b"3")[0] == 200
        packets += body
    return sid


def connect_events(port: int, auth: dict[str, object]) -> tuple[str, dict[str, Any], list[list[Any]]]:
    """Connect a new session with `auth`. Returns its id, the CONNECT reply and the events up to `tidings:ready`."""
    sid = open_session(port)
    assert exchange(port, "POST", f"{POLL}&sid={sid}", body=b"40" + json.dumps(auth).encode())[:2] == (200, b"ok")
    packets = poll_packets(port, sid)
    while not any("tidings:ready" in packet for packet in packets):
        packets += poll_packets(port, sid)
    answer = next(json.loads(packet[2:]) for packet in packets if packet.startswith("40"))
    return sid, answer, [json.loads(packet[2:]) for packet in packets if packet.startswith("42")]


def poll_packets(port: int, sid: str) -> list[str]:
    """Poll once and return the packets."""
    status, body, _ = exchange(port, "GET", f"{POLL}&sid={sid}")
    assert status == 200, body
    return body.decode().split("\x1e")
