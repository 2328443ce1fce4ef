"""Socket.IO v5 packets, read strictly.

Writing is python-socketio's. Reading rejects what the JavaScript parser rejects, and closes the connection that sent
it. The form of a packet (socket.io-protocol v5, "Packet encoding"):

    <type>[<attachments>-][<namespace>,][<ack id>][<JSON>]
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from socketio import packet as upstream

from tidings.errors import BadPacket, BadRequest
from tidings.wire.channels import RESERVED_EVENTS
from tidings.wire.payload import MAX_DEPTH, is_too_deep

# Attachments of one packet; CVE-2026-33151 and CVE-2026-69185 are what happens without a limit.
ATTACHMENTS_MAX = 16
EVENT_NAME_MAX = 256
# Packets that a client may send before a namespace is connected.
BEFORE_CONNECT = (upstream.CONNECT, upstream.DISCONNECT)
# Commas and brackets in a packet of a client that is not authenticated. JSON such as [[],[],…] uses twenty times its
# size in memory; a CONNECT has far fewer items.
_STRANGER_ITEMS_MAX = 4_096
# Memory of an item, about: an empty list has 56 bytes and its place in the list around it, an object 64 to 300.
_ITEM_BYTES = 80

_FORM = re.compile(r"([0-6])(?:([0-9]{1,3})-)?(?:(/[^,\s?]{0,128})(?:\?[^,]{0,256})?(?:,|\Z))?([0-9]{1,15})?", re.ASCII)
_BINARY = (upstream.BINARY_EVENT, upstream.BINARY_ACK)


def _no_constant(name: str) -> NoReturn:
    raise BadPacket(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise BadPacket("an object has the same key twice")
    return unique


def _placed(attachments: list[bytes], pairs: list[tuple[str, object]]) -> object:
    """An object of a packet, or the attachment whose place it marks; its number must be in range (CVE-2022-2421)."""
    value = _unique(pairs)
    if value.get("_placeholder") is not True:
        return value
    place = value.get("num")
    if type(place) is not int or not 0 <= place < len(attachments):
        raise BadPacket("a placeholder that no attachment belongs to")
    return attachments[place]


def _decoder(read_object: Callable[[list[tuple[str, object]]], object]) -> json.JSONDecoder:
    return json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=read_object)


_DECODER = _decoder(_unique)


def _item_count(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def check_item_count(text: str) -> None:
    """Return if a packet's text has few items, so that its data uses little more memory than the text.

    Raises:
        BadPacket: it has many.
    """
    if len(text) > _STRANGER_ITEMS_MAX and _item_count(text) > _STRANGER_ITEMS_MAX:
        raise BadPacket(f"a packet of more than {_STRANGER_ITEMS_MAX} items before CONNECT")


@dataclass(frozen=True, slots=True)
class EncodedJson:
    """An answer that is JSON already. A handler returns it, and its acknowledgement has this text."""

    text: str


class _Writer:
    """The `json` module for upstream's `encode`. The real `json.dumps` would create an encoder per packet."""

    # NaN would be no JSON: the client's parser would fail, and end the connection.
    _encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

    def dumps(self, data: object, **_: object) -> str:
        """Compact JSON.

        Raises:
            ValueError: NaN or Infinity.
        """
        if isinstance(data, list) and len(data) == 1 and isinstance(data[0], EncodedJson):
            return f"[{data[0].text}]"
        return self._encode(data)


class Packet(upstream.Packet):  # type: ignore[misc]  # python-socketio has no types
    """A packet of python-socketio that reads exactly the protocol.

    `memory_bytes`: about how much memory the data takes that was read.

    Raises (on reading):
        BadPacket: the data is not a packet that a client may send.
    """

    json = _Writer()
    memory_bytes = 0
    # Of a packet whose attachments are not complete.
    _text = ""

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
        if count:
            if is_too_deep(text.encode("utf-8", "surrogatepass")):
                raise BadPacket(f"a binary packet that is nested deeper than {MAX_DEPTH} levels")
            # The data uses up to twenty times as much memory, and is read again with the attachments.
            self._text, self.data = text, None
        self.memory_bytes = len(text) + _ITEM_BYTES * _item_count(text)
        return count

    def add_attachment(self, attachment: bytes) -> bool:
        """Add the next attachment. Returns whether it is the last one, so that `data` is complete.

        Raises:
            BadPacket: a placeholder has a number that no attachment has.
        """
        self.attachments.append(attachment)
        self.memory_bytes += len(attachment)
        if len(self.attachments) < self.attachment_count:
            return False
        # Upstream walks through the data, which takes longer than to read it again.
        self.data, self._text = _decoder(partial(_placed, self.attachments)).decode(self._text), ""
        return True

    def _check_shape(self, *, has_count: bool) -> None:
        kind, data = self.packet_type, self.data
        if has_count != (kind in _BINARY):
            raise BadPacket("an attachment count where none belongs")
        if kind == upstream.CONNECT:
            # A client that sends its token alone, as a string, gets an error that it can read.
            is_valid = self.id is None
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


def connect_error(namespace: str, *, is_readable: bool) -> str:
    """The answer to a CONNECT that no handler takes. `is_readable`: its `auth` is an object, or missing."""
    data: dict[str, object] = {"message": "Invalid namespace"}
    if not is_readable:
        error = BadRequest("auth must be an object, as in auth {token: …}")
        data = {"message": str(error), "data": error.to_wire()}
    return str(Packet(upstream.CONNECT_ERROR, data=data, namespace=namespace).encode())


def _is_event(name: object) -> bool:
    """Whether a client may use it as an event: a number, or a name that is not reserved."""
    if isinstance(name, str):
        return name not in RESERVED_EVENTS and len(name) <= EVENT_NAME_MAX
    return isinstance(name, int | float) and not isinstance(name, bool)
