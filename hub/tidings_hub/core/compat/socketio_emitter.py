"""What a Socket.IO Redis emitter publishes, in any of its dialects.

    <key>#<nsp>#          [uid, {"type": 2, "data": [event, …], "nsp": "/"}, {"rooms": […], "except": […], "flags": {}}]
    <key>#<nsp>#<room>#   the same, to this one room
    <key>#emitter         [packet, options], from old emitters of PHP and Go
    <key>-request#<nsp>#  {"type": 2, "opts": {"rooms": […]}, "rooms": […]} in JSON: join; 3 leave, 4 disconnect

Sources: @socket.io/redis-emitter 5.1, @socket.io/redis-adapter 8.3 and socket.io-emitter 3.2 (npm), socket.io-emitter
0.1.5 (PyPI): it writes "" for empty options, and publishes once per room a message that lists all of them.
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
_ORDERS = {2: "subscribe", 3: "unsubscribe", 4: "disconnect"}


@dataclass(frozen=True, slots=True)
class EmitterChannels:
    """The pub/sub channels of one key and Socket.IO namespace."""

    key: str
    nsp: str

    def patterns(self) -> list[bytes]:
        """What to listen to. Only `*` is more than itself: the settings allow no other sign of Redis' patterns."""
        return [f"{self._broadcast}*".encode(), f"{self.key}#emitter".encode(), self._request.encode()]

    @property
    def _broadcast(self) -> str:
        return f"{self.key}#{self.nsp}#"

    @property
    def _request(self) -> str:
        return f"{self.key}-request#{self.nsp}#"

    def is_request(self, channel: str) -> bool:
        """Whether the message is an order in JSON, and no emit in msgpack."""
        return channel == self._request

    def room(self, channel: str) -> str:
        """The one room that a channel names, or "". Some emitters leave out the last `#`."""
        return channel.removeprefix(self._broadcast).removesuffix("#") if channel.startswith(self._broadcast) else ""


def read_emit(room: str, message: object, nsp: str, renames: ChannelMapping, bounds: RequestLimits) -> PublishRequest:
    """The publication that a message asks for. `room`: the one that its channel names.

    Raises:
        BadRequest, BadChannel, BadEvent, BadData, TooLarge: it asks for none that can be.
    """
    packet, options = _parts(message)
    data = packet.get("data")
    if packet.get("type") not in _EVENTS or not isinstance(data, list) or not data:
        raise BadRequest("the packet is not an event")
    if packet.get("nsp", "/") != nsp:
        raise BadRequest("the packet is of another Socket.IO namespace than its channel")
    if options.get("except"):
        raise BadRequest("except: tidings cannot leave out those in another room")
    rooms = options.get("rooms")
    if room:
        # One message of several that are the same but for their channel: each speaks for its own room.
        if not isinstance(rooms, list) or room not in [str(each) for each in rooms]:
            raise BadRequest("the message does not name the room of its channel")
        rooms = [room]
    return publish_request(data[0], data[1:], rooms, renames, bounds)


def _parts(message: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    match message:
        case [dict(packet), dict(options)] | [_, dict(packet), dict(options)]:
            return packet, options
    raise BadRequest("not the message of an emitter: [uid, packet, options]")


def read_request(message: bytes, renames: ChannelMapping, bounds: RequestLimits) -> list[CommandRequest]:
    """The orders that a request asks for.

    Raises:
        BadRequest, BadChannel, TooLarge: what only Node's own servers can do, or what would concern everyone.
    """
    said = loads(message)
    if not isinstance(said, dict) or not isinstance(said.get("opts"), dict):
        raise BadRequest("not a request that tidings can do: join, leave and disconnect by room")
    do = _ORDERS.get(said["type"]) if type(said.get("type")) is int else None
    if do is None:
        raise BadRequest("not a request that tidings can do: join, leave and disconnect by room")
    options = said["opts"]
    if options.get("except"):
        raise BadRequest("except: tidings cannot leave out those in another room")
    channels = () if do == "disconnect" else channels_of_rooms(said.get("rooms"), renames, bounds)
    return command_requests(do, options.get("rooms"), channels, renames, bounds)
