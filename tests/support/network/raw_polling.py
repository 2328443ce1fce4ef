"""Long polling by hand: single requests, each on a connection of its own."""

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


def ask(port: int, method: str, target: str, *lines: str, body: bytes = b"") -> tuple[int, bytes, bytes]:
    """Status, body and head of one request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as one:
        one.sendall(request(method, target, *lines, "Connection: close", body=body))
        data = b""
        while more := one.recv(65_536):
            data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return int(head[9:12]), rest, head


def status_of(one: socket.socket) -> int:
    """The status of the answer that comes."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = one.recv(65_536)
        assert more, data
        data += more
    return int(data[9:12])


def opened(port: int) -> str:
    """The id of a new session."""
    status, body, _ = ask(port, "GET", POLL)
    assert status == 200, body
    sid: str = json.loads(body.split(b"\x1e")[0][1:])["sid"]
    return sid


def connected(port: int, token: str, *channels: str) -> str:
    """An authenticated session whose next poll has nothing to say."""
    sid = opened(port)
    connect = b"40" + json.dumps({"token": token, "channels": channels}).encode()
    assert ask(port, "POST", f"{POLL}&sid={sid}", body=connect)[:2] == (200, b"ok")
    said = b""
    while b"tidings:ready" not in said:
        status, body, _ = ask(port, "GET", f"{POLL}&sid={sid}")
        assert status == 200
        said += body
    return sid


def entered(port: int, auth: dict[str, object]) -> tuple[str, dict[str, Any], list[list[Any]]]:
    """A session that said CONNECT with this: its id in the engine, the answer, and the events up to `tidings:ready`."""
    sid = opened(port)
    assert ask(port, "POST", f"{POLL}&sid={sid}", body=b"40" + json.dumps(auth).encode())[:2] == (200, b"ok")
    packets = polled(port, sid)
    while not any("tidings:ready" in packet for packet in packets):
        packets += polled(port, sid)
    answer = next(json.loads(packet[2:]) for packet in packets if packet.startswith("40"))
    return sid, answer, [json.loads(packet[2:]) for packet in packets if packet.startswith("42")]


def polled(port: int, sid: str) -> list[str]:
    """The packets of one poll."""
    status, body, _ = ask(port, "GET", f"{POLL}&sid={sid}")
    assert status == 200, body
    return body.decode().split("\x1e")
