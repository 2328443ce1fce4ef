"""What python-socketio's managers publish, and so Flask-SocketIO with `message_queue`: JSON in one channel.

    {"method": "emit", "event": "updated", "data": [{"id": 42}], "binary": false, "namespace": "/", "room": "orders:42",
     "skip_sid": null, "callback": null, "host_id": "56b1…"}

Source: socketio/pubsub_manager.py of python-socketio 5.18. Versions before 5.14 pickle, which is refused: whoever
reads a pickle runs its author's code (CVE-2025-61765).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidings.errors import BadData, BadRequest
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.emit_arguments import channels_of_rooms, command_requests, publish_request
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits
from tidings_hub.core.strict_json import loads

# PROTO, the first opcode of pickles since protocol 2.
_PICKLE = b"\x80"
_USER = "user:"
_METHODS = "not a method that tidings can do: emit, and for a sid disconnect, enter_room and leave_room"
_ROOMS = {"enter_room": "subscribe", "leave_room": "unsubscribe"}


def read_message(message: bytes, renames: ChannelMapping, bounds: RequestLimits) -> PublishRequest | CommandRequest:
    """What a message asks for.

    Raises:
        BadRequest, BadChannel, BadEvent, BadData, TooLarge: nothing that can be.
    """
    if message.startswith(_PICKLE):
        raise BadData("a pickle; let python-socketio 5.14 or later send JSON")
    said = loads(message)
    method = said.get("method") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(method, str):
        raise BadRequest("not a message of python-socketio's managers")
    if said.get("namespace") not in (None, "/"):
        raise BadRequest("another Socket.IO namespace than /")
    if method == "emit":
        return _emit(said, renames, bounds)
    return _order(method, said, renames, bounds)


def _emit(said: Mapping[str, Any], renames: ChannelMapping, bounds: RequestLimits) -> PublishRequest:
    if said.get("binary"):
        raise BadData("bytes; JSON cannot say them, send base64 text")
    for name in ("skip_sid", "callback"):
        if said.get(name):
            raise BadRequest(f"{name}: tidings publishes in channels, not to single connections")
    room = said.get("room")
    rooms = room if isinstance(room, list) or not room else [room]
    data = said.get("data")
    # Old versions send a single argument as it is.
    arguments = data if isinstance(data, list) else [data]
    return publish_request(said.get("event"), arguments, rooms, renames, bounds)


def _order(method: str, said: Mapping[str, Any], renames: ChannelMapping, bounds: RequestLimits) -> CommandRequest:
    sid = said.get("sid")
    if not isinstance(sid, str) or not sid:
        raise BadRequest(_METHODS)
    if method == "disconnect" and not sid.startswith(_USER):
        return CommandRequest(method, connection=sid)
    if method == "disconnect":
        return command_requests(method, [sid], (), renames, bounds)[0]
    if method not in _ROOMS:
        raise BadRequest(_METHODS)
    channels = channels_of_rooms([said.get("room")], renames, bounds)
    return command_requests(_ROOMS[method], [sid], channels, renames, bounds)[0]
