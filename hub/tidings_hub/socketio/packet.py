"""Socket.IO v5 packets, read strictly.

Writing is python-socketio's. Reading rejects what the JavaScript parser rejects, and closes the connection that sent
it. The form of a packet (socket.io-protocol v5, "Packet encoding"):

    <type>[<attachments>-][<namespace>,][<ack id>][<JSON>]
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from socketio import packet as upstream

from tidings.errors import BadPacket
from tidings.wire.channels import RESERVED_EVENTS

# Attachments of one packet; CVE-2026-33151 and CVE-2026-69185 are what happens without a limit.
ATTACHMENTS_MAX = 16
EVENT_NAME_MAX = 256

_FORM = re.compile(r"([0-6])(?:([0-9]{1,3})-)?(?:(/[^,\s?]{0,128})(?:\?[^,]{0,256})?(?:,|\Z))?([0-9]{1,15})?", re.ASCII)
_BINARY = (upstream.BINARY_EVENT, upstream.BINARY_ACK)


def _no_constant(name: str) -> NoReturn:
    raise BadPacket(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise BadPacket("an object has the same key twice")
    return unique


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)


class _Writer:
    """The `json` module for upstream's `encode`. The real `json.dumps` would create an encoder per packet."""

    _encode = json.JSONEncoder(separators=(",", ":")).encode

    def dumps(self, data: object, **_: object) -> str:
        """Compact JSON."""
        return self._encode(data)


class Packet(upstream.Packet):  # type: ignore[misc]  # python-socketio has no types
    """A packet of python-socketio that reads exactly the protocol.

    Raises (on reading):
        BadPacket: the data is not a packet that a client may send.
    """

    json = _Writer()

    def decode(self, encoded_packet: str) -> int:
        """Read one packet's text. Returns how many binary attachments follow it."""
        if not isinstance(encoded_packet, str):
            raise BadPacket("binary data without a packet that announces it")
        match = _FORM.match(encoded_packet)
        if match is None:
            raise BadPacket("not a Socket.IO packet")
        kind, attachments, namespace, ack_id = match.groups()
        self.packet_type = int(kind)
        self.namespace = namespace
        self.id = None if ack_id is None else int(ack_id)
        text = encoded_packet[match.end() :]
        try:
            self.data = _DECODER.decode(text) if text else None
            if text == "null":
                raise BadPacket("a packet whose data is null")
        except (ValueError, RecursionError) as error:
            raise BadPacket("a packet whose data is not JSON") from error
        self._check_shape(has_count=attachments is not None)
        count = int(attachments or 0)
        if count > ATTACHMENTS_MAX:
            raise BadPacket(f"{count} attachments; at most {ATTACHMENTS_MAX} are allowed")
        if self.packet_type in _BINARY and count == 0:
            # JavaScript clients never send it. Upstream would wait for attachments for ever.
            raise BadPacket("a binary packet without attachments")
        return count

    def _check_shape(self, *, has_count: bool) -> None:
        kind, data = self.packet_type, self.data
        if has_count != (kind in _BINARY):
            raise BadPacket("an attachment count where none belongs")
        if kind == upstream.CONNECT:
            is_valid = (data is None or isinstance(data, dict)) and self.id is None
        elif kind == upstream.DISCONNECT:
            is_valid = data is None and self.id is None
        elif kind in (upstream.EVENT, upstream.BINARY_EVENT):
            is_valid = isinstance(data, list) and bool(data) and _is_event(data[0])
        elif kind in (upstream.ACK, upstream.BINARY_ACK):
            is_valid = isinstance(data, list) and self.id is not None
        else:
            is_valid = False
        if not is_valid:
            raise BadPacket(f"a {upstream.packet_names[kind]} packet of a form that no client may send")

    @classmethod
    def _reconstruct_binary_internal(cls, data: object, attachments: list[bytes]) -> object:
        """Put the attachments in their places; each number must be in range (CVE-2022-2421)."""
        if isinstance(data, list):
            return [cls._reconstruct_binary_internal(item, attachments) for item in data]
        if isinstance(data, dict):
            if data.get("_placeholder") is True:
                place = data.get("num")
                if type(place) is not int or not 0 <= place < len(attachments):
                    raise BadPacket("a placeholder that no attachment belongs to")
                return attachments[place]
            return {key: cls._reconstruct_binary_internal(value, attachments) for key, value in data.items()}
        return data


def _is_event(name: object) -> bool:
    """Whether a client may use it as an event: a number, or a name that is not reserved."""
    if isinstance(name, str):
        return name not in RESERVED_EVENTS and len(name) <= EVENT_NAME_MAX
    return isinstance(name, int | float) and not isinstance(name, bool)
