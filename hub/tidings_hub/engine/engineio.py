"""Engine.IO v4 without I/O: packets, payloads, refusals, and the tables of what is allowed when.

Source: the Engine.IO protocol, version 4 (docs/engine.io-protocol/v4-current.md of Socket.IO).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from tidings.errors import BadPacket
from tidings_hub.core.frame import SEPARATOR, text_frame
from tidings_hub.engine import websocket

VERSION = "4"
OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
PROBE_PING, PROBE_PONG = b"2probe", b"3probe"
_BINARY = ord("b")
_MESSAGE = ord("4")


class Kind(IntEnum):
    """What carries a connection."""

    POLLING = 0
    WEBSOCKET = 1
    SSE = 2


TRANSPORTS: Mapping[str, Kind] = {"polling": Kind.POLLING, "websocket": Kind.WEBSOCKET}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused request: the HTTP status and Engine.IO's own error number and text, as engine.io on Node answers."""

    status: int
    number: int
    message: str

    def body(self) -> bytes:
        """`{"code": n, "message": "…"}`."""
        return json.dumps({"code": self.number, "message": self.message}, separators=(",", ":")).encode()


UNKNOWN_TRANSPORT = Refusal(400, 0, "Transport unknown")
UNKNOWN_SESSION = Refusal(400, 1, "Session ID unknown")
BAD_METHOD = Refusal(400, 2, "Bad handshake method")
BAD_REQUEST = Refusal(400, 3, "Bad request")
FORBIDDEN = Refusal(403, 4, "Forbidden")
UNKNOWN_VERSION = Refusal(400, 5, "Unsupported protocol version")
TOO_LARGE = Refusal(413, 3, "Payload too large")
FULL = Refusal(503, 4, "This node relays no more requests; try again")
DRAINING = Refusal(503, 4, "This node is going away; connect again")


class Step(Enum):
    """What a request is, once it is known to be allowed."""

    OPEN_POLLING = auto()
    OPEN_WEBSOCKET = auto()
    POLL = auto()
    POST = auto()
    PROBE = auto()
    # A WebSocket for a session that has one, or has one under way: accepted, then closed.
    SPARE_WEBSOCKET = auto()


class Phase(IntEnum):
    """Where a session stands between its two transports."""

    POLLING = 0
    PROBING = 1
    PROBED = 2
    UPGRADED = 3


# Requests of an existing session: (transport, method, is it a WebSocket handshake) per phase.
_POLL = {Phase.POLLING: Step.POLL, Phase.PROBING: Step.POLL, Phase.PROBED: Step.POLL}
_POST = {Phase.POLLING: Step.POST, Phase.PROBING: Step.POST, Phase.PROBED: Step.POST}
_SOCKET = {
    Phase.POLLING: Step.PROBE,
    Phase.PROBING: Step.SPARE_WEBSOCKET,
    Phase.PROBED: Step.SPARE_WEBSOCKET,
    Phase.UPGRADED: Step.SPARE_WEBSOCKET,
}
_REQUESTS: Mapping[tuple[Kind, str, bool], Mapping[Phase, Step]] = {
    (Kind.POLLING, "GET", False): _POLL,
    (Kind.POLLING, "POST", False): _POST,
    (Kind.WEBSOCKET, "GET", True): _SOCKET,
}


def opening(method: str, query: Mapping[str, str], *, upgrade: bool) -> Step | Refusal:
    """What a request without a session id asks for."""
    if (refusal := _check(query)) is not None:
        return refusal
    if method != "GET":
        return BAD_METHOD
    kind = TRANSPORTS[query["transport"]]
    if upgrade is not (kind is Kind.WEBSOCKET):
        return BAD_REQUEST
    return Step.OPEN_WEBSOCKET if upgrade else Step.OPEN_POLLING


def request(method: str, query: Mapping[str, str], phase: Phase | None, *, upgrade: bool) -> Step | Refusal:
    """What a request with a session id asks for; `phase` is None for an unknown session."""
    if (refusal := _check(query)) is not None:
        return refusal
    if phase is None:
        return UNKNOWN_SESSION
    allowed = _REQUESTS.get((TRANSPORTS[query["transport"]], method, upgrade), {})
    return allowed.get(phase, BAD_REQUEST)


def _check(query: Mapping[str, str]) -> Refusal | None:
    if query.get("transport") not in TRANSPORTS:
        return UNKNOWN_TRANSPORT
    return None if query.get("EIO") == VERSION else UNKNOWN_VERSION


class Heard(Enum):
    """What a packet from a client means."""

    MESSAGE = auto()
    PONG = auto()
    CLOSE = auto()


# What a client may send on an open transport. Open, ping, upgrade and noop are the server's, or out of place.
_FROM_CLIENT: Mapping[int, Heard] = {PONG[0]: Heard.PONG, CLOSE[0]: Heard.CLOSE}
Packet = tuple[Heard, str | bytes]


def packet(data: str | bytes) -> Packet:
    """One packet as a WebSocket message carries it: text with its type in front, or a binary message.

    Raises:
        BadPacket: an empty packet, or a type that a client may not send here.
    """
    if isinstance(data, bytes):
        return Heard.MESSAGE, data
    if data[:1] == "4":
        return Heard.MESSAGE, data[1:]
    heard = _FROM_CLIENT.get(ord(data[0])) if data else None
    # A pong's data belongs to probes only; close has none.
    if heard is None or len(data) > 1:
        raise BadPacket("Not an Engine.IO packet that a client may send.")
    return heard, ""


def payload(body: bytes) -> list[Packet]:
    """The packets of one polling body, however many: the body's size is what is bounded.

    Raises:
        BadPacket: one of them is not a packet; none of them counts then.
    """
    packets: list[Packet] = []
    for part in body.split(SEPARATOR):
        if not part:
            raise BadPacket("An empty packet.")
        if part[0] == _BINARY:
            packets.append((Heard.MESSAGE, _binary(part[1:])))
            continue
        try:
            packets.append(packet(part.decode()))
        except UnicodeDecodeError:
            raise BadPacket("Text that is not UTF-8.") from None
    return packets


def _binary(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise BadPacket("Binary data that is not base64.") from None


def message(data: str | bytes) -> bytes:
    """A message to the client as one packet of a polling payload."""
    return b"4" + data.encode() if isinstance(data, str) else b"b" + base64.b64encode(data)


def message_frame(data: str | bytes) -> bytes:
    """The same as one WebSocket frame."""
    return text_frame(b"4" + data.encode()) if isinstance(data, str) else websocket.frame(websocket.Opcode.BINARY, data)


def as_frame(polled: bytes) -> bytes:
    """A packet that waited for a poll, as the WebSocket frame that it becomes after an upgrade."""
    if polled[0] == _BINARY:
        return websocket.frame(websocket.Opcode.BINARY, base64.b64decode(polled[1:]))
    return text_frame(polled)


def open_packet(
    sid: str, upgrades: Sequence[str], *, ping_interval_ms: int, ping_timeout_ms: int, max_payload_bytes: int
) -> bytes:
    """The first packet of a session."""
    # Ids and transports are of plain letters: no JSON escape can be needed.
    return b'0{"sid":"%b","upgrades":[%b],"pingInterval":%d,"pingTimeout":%d,"maxPayload":%d}' % (
        sid.encode(),
        b",".join([b'"%b"' % name.encode() for name in upgrades]),
        ping_interval_ms,
        ping_timeout_ms,
        max_payload_bytes,
    )


class Probe(Enum):
    """What a WebSocket that asks to take a session over has to do next."""

    ANSWER = auto()
    UPGRADE = auto()


# Exactly one probe, then the upgrade; anything else ends that WebSocket, and the session stays on polling.
_PROBES: Mapping[tuple[Phase, str | bytes], Probe] = {
    (Phase.PROBING, "2probe"): Probe.ANSWER,
    (Phase.PROBED, "5"): Probe.UPGRADE,
}


def probe(phase: Phase, data: str | bytes) -> Probe:
    """The next step of an upgrade.

    Raises:
        BadPacket: not what comes next.
    """
    step = _PROBES.get((phase, data))
    if step is None:
        raise BadPacket("Not the next step of an upgrade.")
    return step
