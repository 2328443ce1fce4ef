"""The messages of Socket.IO's Redis emitters, in all dialects.

    <key>#<nsp>#          [uid, {"type": 2, "data": [event, …], "nsp": "/"}, {"rooms": […], "except": […], "flags": {}}]
    <key>#<nsp>#<room>#   the same, to this one room
    <key>#emitter         [packet, options], from old PHP and Go emitters
    <key>-request#<nsp>#  {"type": 2, "opts": {"rooms": […]}, "rooms": […]} in JSON: join; 3 leave, 4 disconnect

Sources: @socket.io/redis-emitter 5.1, @socket.io/redis-adapter 8.3 and socket.io-emitter 3.2 (npm), socket.io-emitter
0.1.5 (PyPI). The last one writes "" for empty options. It publishes one message per room, and each lists all rooms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidings.errors import BadRequest
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.emit_arguments import channels_of_rooms, command_requests, publish_request
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits
from tidings_hub.core.strict_json import loads

# EVENT and BINARY_EVENT (Socket.IO protocol 5). Emitters use either for data with and without bytes.
_EVENTS = (2, 5)
_ACTIONS = {2: "subscribe", 3: "unsubscribe", 4: "disconnect"}


_EXCEPT = "except: tidings cannot leave out the members of another room"
_UNSUPPORTED = "unsupported request; supported are join, leave and disconnect by room"


@dataclass(frozen=True, slots=True)
class EmitterChannels:
    """The pub/sub channels of one key and Socket.IO namespace."""

    key: str
    nsp: str

    def patterns(self) -> list[bytes]:
        """The Redis patterns to subscribe to. `*` is the only special character: the settings allow no other one."""
        return [f"{self._broadcast}*".encode(), f"{self.key}#emitter".encode(), self._request.encode()]

    @property
    def _broadcast(self) -> str:
        return f"{self.key}#{self.nsp}#"

    @property
    def _request(self) -> str:
        return f"{self.key}-request#{self.nsp}#"

    def is_request(self, channel: str) -> bool:
        """Whether messages in this channel are commands in JSON, not emits in msgpack."""
        return channel == self._request

    def room(self, channel: str) -> str:
        """The room in the name of a channel, or "". Some emitters omit the last `#`."""
        return channel.removeprefix(self._broadcast).removesuffix("#") if channel.startswith(self._broadcast) else ""


def read_emit(room: str, message: object, nsp: str, mapping: ChannelMapping, limits: RequestLimits) -> PublishRequest:
    """The publication in a message. `room`: the room in the name of its channel, or "".

    Raises:
        BadRequest, BadChannel, BadEvent, BadData, TooLarge: the hub cannot publish it.
    """
    packet, options = _parts(message)
    data = packet.get("data")
    if packet.get("type") not in _EVENTS or not isinstance(data, list) or not data:
        raise BadRequest("the packet is not an event")
    if packet.get("nsp", "/") != nsp:
        raise BadRequest("the packet is of another Socket.IO namespace than its channel")
    if options.get("except"):
        raise BadRequest(_EXCEPT)
    rooms = options.get("rooms")
    if room:
        # One of several messages that differ only in their channel: each one counts for its own room.
        names = rooms if isinstance(rooms, list) else [rooms]
        # Lists of msgpack can be nested deeper than `str` goes.
        if room not in [str(name) for name in names if isinstance(name, str | int)]:
            raise BadRequest("the message does not name the room of its channel")
        rooms = [room]
    return publish_request(data[0], data[1:], rooms, mapping, limits)


def _parts(message: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    match message:
        case [dict(packet), dict(options)] | [_, dict(packet), dict(options)]:
            return packet, options
    raise BadRequest("not the message of an emitter: [uid, packet, options]")


def read_request(message: bytes, mapping: ChannelMapping, limits: RequestLimits) -> list[CommandRequest]:
    """The commands in a request.

    Raises:
        BadRequest, BadChannel, TooLarge: only Node's own servers support it, or it addresses all clients.
    """
    fields = loads(message)
    if not isinstance(fields, dict) or not isinstance(fields.get("opts"), dict):
        raise BadRequest(_UNSUPPORTED)
    action = _ACTIONS.get(fields["type"]) if type(fields.get("type")) is int else None
    if action is None:
        raise BadRequest(_UNSUPPORTED)
    options = fields["opts"]
    if options.get("except"):
        raise BadRequest(_EXCEPT)
    channels = () if action == "disconnect" else channels_of_rooms(fields.get("rooms"), mapping, limits)
    return command_requests(action, options.get("rooms"), channels, mapping, limits)
