"""Converts the arguments of a Socket.IO emit (event, arguments, rooms) into requests."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.errors import BadChannel, BadRequest, TooLarge
from tidings.wire.channels import check_event
from tidings.wire.payload import encode_data
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits

_USER = "user:"


def publish_request(
    event: object, arguments: Sequence[object], rooms: object, mapping: ChannelMapping, limits: RequestLimits
) -> PublishRequest:
    """An emit as a publication in each room. Its data is the only argument, null without one, a list of several.

    Raises:
        BadEvent, BadData, TooLarge, BadChannel: it cannot be published. Bytes are not valid data.
    """
    data = arguments[0] if len(arguments) == 1 else (list(arguments) or None)
    channels = channels_of_rooms(rooms, mapping, limits)
    return PublishRequest(channels, check_event(event), encode_data(data, max_bytes=limits.data_max_bytes))


def channels_of_rooms(rooms: object, mapping: ChannelMapping, limits: RequestLimits) -> tuple[str, ...]:
    """The channels for a list of rooms, or for one room, without duplicates.

    Raises:
        BadChannel: there is no room, which in Socket.IO means all clients, or a room is not a valid channel.
        TooLarge: there are too many.
    """
    if not rooms:
        raise BadChannel(
            "no room, which means everyone in Socket.IO; tidings never publishes to everyone, so name a room"
        )
    if isinstance(rooms, str):
        # As the emitter of Java writes a single room.
        rooms = [rooms]
    if not isinstance(rooms, list):
        raise BadRequest("rooms must be a list, or one room")
    if len(rooms) > limits.channels_max:
        raise TooLarge(f"{len(rooms)} rooms at once; max_batch allows {limits.channels_max}")
    # Node's adapter accepts numbers as rooms.
    names = [str(room) if type(room) is int else room for room in rooms]
    return tuple(dict.fromkeys(mapping.to_channel(name) for name in names))


def command_requests(
    action: str, rooms: object, channels: Sequence[str], mapping: ChannelMapping, limits: RequestLimits
) -> list[CommandRequest]:
    """One command for each user in `rooms` and each of `channels`. Every room must be the own channel of a user.

    Raises:
        BadChannel: another room: a command can address a user, not the members of a channel.
    """
    users = []
    for channel in channels_of_rooms(rooms, mapping, limits):
        if not channel.startswith(_USER):
            raise BadChannel("a command addresses users: name rooms user:<id>")
        users.append(channel.removeprefix(_USER))
    if action == "disconnect":
        return [CommandRequest(action, user=user) for user in users]
    if len(users) * len(channels) > limits.channels_max:
        raise TooLarge(f"{len(users) * len(channels)} commands at once; max_batch allows {limits.channels_max}")
    return [CommandRequest(action, user=user, channel=channel) for user in users for channel in channels]
