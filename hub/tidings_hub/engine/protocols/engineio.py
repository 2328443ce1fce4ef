"""Engine.IO v4 without I/O: packets, payloads, errors, and the table of requests that each session state allows.

Source: the Engine.IO protocol, version 4 (docs/engine.io-protocol/v4-current.md in the Socket.IO repository).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto

from tidings.codes import CODES
from tidings.errors import BadPacket
from tidings_hub.core.frame import SEPARATOR, text_frame
from tidings_hub.engine.protocols import http_response, websocket

VERSION = "4"
OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
PROBE_PING, PROBE_PONG = b"2probe", b"3probe"
_BINARY = ord("b")
# Some clients break base64 into lines or end it with a line feed (Android's Base64.DEFAULT, MIME), or use the alphabet
# of URLs. engine.io on Node accepts all of this.
_TO_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")
_LINE_BREAKS = b"\r\n"

# Close reasons that python-socketio also uses; all others are names of close codes.
TRANSPORT_CLOSE = "transport close"
PING_TIMEOUT = "ping timeout"
CLIENT_DISCONNECT = "client disconnect"
SERVER_DISCONNECT = "server disconnect"


class TransportKind(IntEnum):
    """The transport of a connection."""

    POLLING = 0
    WEBSOCKET = 1
    SSE = 2


TRANSPORTS: Mapping[str, TransportKind] = {"polling": TransportKind.POLLING, "websocket": TransportKind.WEBSOCKET}


@dataclass(frozen=True, slots=True)
class EngineioError:
    """The error response to a request: HTTP status, Engine.IO error number and text, the same as engine.io on Node.

    `name`: the code of `tidings.codes` that the body contains as well, if there is one.
    """

    status: int
    number: int
    message: str
    name: str = ""

    def body(self, name: str = "", advice: str = "") -> bytes:
        """Return the JSON body: `{"code": n, "message": "…"}`, with the code `name` of `tidings.codes` as `error`."""
        name = name or self.name
        error = {"error": {"code": name, "message": advice or CODES[name].advice}} if name else {}
        return json.dumps({"code": self.number, "message": self.message, **error}, separators=(",", ":")).encode()

    def response(self, extra_headers: bytes = b"", *, name: str = "") -> bytes:
        """Return the complete HTTP response, with the header lines `extra_headers` and the body for `name`."""
        return http_response.render(
            self.status, self.body(name), content_type=http_response.JSON, extra_headers=extra_headers
        )


UNKNOWN_TRANSPORT = EngineioError(400, 0, "Transport unknown")
UNKNOWN_SESSION = EngineioError(400, 1, "Session ID unknown")
BAD_METHOD = EngineioError(400, 2, "Bad handshake method")
BAD_REQUEST = EngineioError(400, 3, "Bad request")
FORBIDDEN = EngineioError(403, 4, "Forbidden")
UNKNOWN_VERSION = EngineioError(400, 5, "Unsupported protocol version")
TOO_LARGE = EngineioError(413, 3, "Payload too large", "too_large")
RELAY_FULL = EngineioError(503, 4, "This node forwards no more requests to other nodes; try again", "full")
DRAINING = EngineioError(503, 4, "This node is shutting down; reconnect", "draining")


class RequestAction(Enum):
    """What the server does with an allowed request."""

    OPEN_POLLING = auto()
    OPEN_WEBSOCKET = auto()
    POLL = auto()
    POST = auto()
    PROBE = auto()
    # A WebSocket for a session that already has one, or is upgrading to one: it is accepted, then closed.
    REDUNDANT_WEBSOCKET = auto()


class UpgradeState(IntEnum):
    """How far a session's upgrade from polling to a WebSocket has come."""

    POLLING = 0
    PROBING = 1
    PROBED = 2
    UPGRADED = 3


# Allowed requests of an existing session: (transport, method, is it a WebSocket handshake), then by upgrade state.
_BEFORE_UPGRADE = (UpgradeState.POLLING, UpgradeState.PROBING, UpgradeState.PROBED)
_POLL = dict.fromkeys(_BEFORE_UPGRADE, RequestAction.POLL)
_POST = dict.fromkeys(_BEFORE_UPGRADE, RequestAction.POST)
_SOCKET = {
    UpgradeState.POLLING: RequestAction.PROBE,
    UpgradeState.PROBING: RequestAction.REDUNDANT_WEBSOCKET,
    UpgradeState.PROBED: RequestAction.REDUNDANT_WEBSOCKET,
    UpgradeState.UPGRADED: RequestAction.REDUNDANT_WEBSOCKET,
}
_REQUESTS: Mapping[tuple[TransportKind, str, bool], Mapping[UpgradeState, RequestAction]] = {
    (TransportKind.POLLING, "GET", False): _POLL,
    (TransportKind.POLLING, "POST", False): _POST,
    (TransportKind.WEBSOCKET, "GET", True): _SOCKET,
}


def open_action(method: str, query: Mapping[str, str], *, upgrade: bool) -> RequestAction | EngineioError:
    """Decide on a request without a session id."""
    if (error := _check_query(query)) is not None:
        return error
    if method != "GET":
        return BAD_METHOD
    kind = TRANSPORTS[query["transport"]]
    if upgrade is not (kind is TransportKind.WEBSOCKET):
        return BAD_REQUEST
    return RequestAction.OPEN_WEBSOCKET if upgrade else RequestAction.OPEN_POLLING


def session_action(
    method: str, query: Mapping[str, str], state: UpgradeState | None, *, upgrade: bool
) -> RequestAction | EngineioError:
    """Decide on a request with a session id. `state`: of the session, or None if there is no such session."""
    if (error := _check_query(query)) is not None:
        return error
    if state is None:
        return UNKNOWN_SESSION
    actions = _REQUESTS.get((TRANSPORTS[query["transport"]], method, upgrade), {})
    return actions.get(state, BAD_REQUEST)


def _check_query(query: Mapping[str, str]) -> EngineioError | None:
    if query.get("transport") not in TRANSPORTS:
        return UNKNOWN_TRANSPORT
    return None if query.get("EIO") == VERSION else UNKNOWN_VERSION


def wants_text_only(query: Mapping[str, str]) -> bool:
    """Whether a client asks in its handshake for binary data as base64 on a WebSocket, as on polling (`b64=1`)."""
    return bool(query.get("b64"))


class PacketKind(Enum):
    """The type of a packet from a client."""

    MESSAGE = auto()
    PONG = auto()
    CLOSE = auto()


# Packet types that a client may send on an open transport. Only a server sends open, ping and noop; an upgrade
# packet belongs to the upgrade itself.
_FROM_CLIENT: Mapping[int, PacketKind] = {PONG[0]: PacketKind.PONG, CLOSE[0]: PacketKind.CLOSE}
Packet = tuple[PacketKind, str | bytes]


def decode_packet(data: str | bytes) -> Packet:
    """Decode one packet: text with its type in front, binary data, or `b` and binary data in base64.

    Raises:
        BadPacket: the packet is empty, or a client must not send its type here.
    """
    if isinstance(data, bytes):
        return PacketKind.MESSAGE, data
    if data[:1] == "4":
        return PacketKind.MESSAGE, data[1:]
    if data[:1] == "b":
        # Binary data of a client that sends only text, such as socket.io-client with `forceBase64`.
        return PacketKind.MESSAGE, _decode_base64(data[1:])
    kind = _FROM_CLIENT.get(ord(data[0])) if data else None
    # Only the pong of an upgrade probe has data; a close packet has none.
    if kind is None or len(data) > 1:
        raise BadPacket("Not an Engine.IO packet that a client may send.")
    return kind, ""


def decode_payload(body: bytes) -> Iterator[Packet]:
    """Decode the packets of a polling body, each when it is requested. So a caller can stop at the inbound rate.

    Raises:
        BadPacket: the next packet is malformed.
    """
    start = 0
    while start <= len(body):
        end = body.find(SEPARATOR, start)
        part = body[start:] if end < 0 else body[start:end]
        start = len(body) + 1 if end < 0 else end + 1
        if not part:
            raise BadPacket("A payload with an empty packet.")
        try:
            yield decode_packet(part.decode())
        except UnicodeDecodeError:
            raise BadPacket("Text that is not UTF-8.") from None


def _decode_base64(text: str) -> bytes:
    try:
        digits = text.encode("ascii").translate(_TO_STANDARD_BASE64, _LINE_BREAKS).rstrip(b"=")
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except ValueError:
        raise BadPacket("Binary data that is not base64.") from None


def encode_message(data: str | bytes) -> bytes:
    """Encode a message to the client as one packet of a polling payload."""
    return b"4" + data.encode() if isinstance(data, str) else b"b" + base64.b64encode(data)


def message_frame(data: str | bytes, *, is_text_only: bool) -> bytes:
    """Encode a message to the client as one WebSocket frame. `is_text_only`: see `wants_text_only`."""
    if isinstance(data, bytes) and not is_text_only:
        return websocket.frame(websocket.Opcode.BINARY, data)
    return text_frame(encode_message(data))


def packet_to_frame(packet: bytes, *, is_text_only: bool) -> bytes:
    """Convert a packet of a polling payload to a WebSocket frame, after an upgrade."""
    if packet[0] == _BINARY and not is_text_only:
        return websocket.frame(websocket.Opcode.BINARY, base64.b64decode(packet[1:]))
    return text_frame(packet)


def open_packet(
    sid: str, upgrades: Sequence[str], *, ping_interval_ms: int, ping_timeout_ms: int, max_payload_bytes: int
) -> bytes:
    """Encode the open packet, the first packet of a session."""
    # Ids and transport names need no JSON escapes.
    return b'0{"sid":"%b","upgrades":[%b],"pingInterval":%d,"pingTimeout":%d,"maxPayload":%d}' % (
        sid.encode(),
        b",".join([b'"%b"' % name.encode() for name in upgrades]),
        ping_interval_ms,
        ping_timeout_ms,
        max_payload_bytes,
    )


class ProbeAction(Enum):
    """What the server does with a packet on a WebSocket that upgrades a session."""

    SEND_PONG = auto()
    UPGRADE = auto()


# Exactly one probe, then the upgrade. Any other packet ends that WebSocket, and the session stays on polling.
_PROBES: Mapping[tuple[UpgradeState, str | bytes], ProbeAction] = {
    (UpgradeState.PROBING, "2probe"): ProbeAction.SEND_PONG,
    (UpgradeState.PROBED, "5"): ProbeAction.UPGRADE,
}


def probe_action(state: UpgradeState, data: str | bytes) -> ProbeAction:
    """Decide on a packet on a WebSocket that upgrades a session.

    Raises:
        BadPacket: the packet is not the next one of an upgrade.
    """
    action = _PROBES.get((state, data))
    if action is None:
        raise BadPacket("Not the next packet of an upgrade.")
    return action
