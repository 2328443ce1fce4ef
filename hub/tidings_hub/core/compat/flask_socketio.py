"""The message format of python-socketio's managers, and so of Flask-SocketIO with `message_queue`: JSON in one channel.

    {"method": "emit", "event": "updated", "data": [{"id": 42}], "binary": false, "namespace": "/", "room": "orders:42",
     "skip_sid": null, "callback": null, "host_id": "56b1…"}

Source: socketio/pubsub_manager.py of python-socketio 5.18. Versions before 5.14 send pickles. They are rejected,
because loading a pickle executes code of its author (CVE-2025-61765).
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
_METHODS = "unsupported method; supported are emit, and for a sid disconnect, enter_room and leave_room"
_ROOM_ACTIONS = {"enter_room": "subscribe", "leave_room": "unsubscribe"}


def read_message(message: bytes, mapping: ChannelMapping, limits: RequestLimits) -> PublishRequest | CommandRequest:
    """The request in one message.

    Raises:
        BadRequest, BadChannel, BadEvent, BadData, TooLarge: the hub cannot carry it out.
    """
    if message.startswith(_PICKLE):
        raise BadData("a pickle; let python-socketio 5.14 or later send JSON")
    fields = loads(message)
    method = fields.get("method") if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or not isinstance(method, str):
        raise BadRequest("not a message of python-socketio's managers")
    if fields.get("namespace") not in (None, "/"):
        raise BadRequest("another Socket.IO namespace than /")
    if method == "emit":
        return _emit(fields, mapping, limits)
    return _command(method, fields, mapping, limits)


def _emit(fields: Mapping[str, Any], mapping: ChannelMapping, limits: RequestLimits) -> PublishRequest:
    if fields.get("binary"):
        raise BadData("bytes are not valid JSON; send base64 text")
    for name in ("skip_sid", "callback"):
        if fields.get(name):
            raise BadRequest(f"{name}: tidings publishes in channels, not to single connections")
    room = fields.get("room")
    rooms = room if isinstance(room, list) or not room else [room]
    data = fields.get("data")
    # Old versions send a single argument without a list.
    arguments = data if isinstance(data, list) else [data]
    return publish_request(fields.get("event"), arguments, rooms, mapping, limits)


def _command(method: str, fields: Mapping[str, Any], mapping: ChannelMapping, limits: RequestLimits) -> CommandRequest:
    sid = fields.get("sid")
    if not isinstance(sid, str) or not sid:
        raise BadRequest(_METHODS)
    if method == "disconnect" and not sid.startswith(_USER):
        return CommandRequest(method, connection=sid)
    if method == "disconnect":
        return command_requests(method, [sid], (), mapping, limits)[0]
    if method not in _ROOM_ACTIONS:
        raise BadRequest(_METHODS)
    channels = channels_of_rooms([fields.get("room")], mapping, limits)
    return command_requests(_ROOM_ACTIONS[method], [sid], channels, mapping, limits)[0]
