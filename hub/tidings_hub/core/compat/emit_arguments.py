"""What Socket.IO emitters and tidings call differently: an event's arguments, and rooms."""

from __future__ import annotations

from collections.abc import Sequence

from tidings.errors import BadChannel, BadRequest, TooLarge
from tidings.wire.channels import check_event
from tidings.wire.payload import encode_data
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits

_USER = "user:"


def publish_request(
    event: object, arguments: Sequence[object], rooms: object, renames: ChannelMapping, bounds: RequestLimits
) -> PublishRequest:
    """An emit as a publication in each room: data is the one argument, null without one, an array of several.

    Raises:
        BadEvent, BadData, TooLarge, BadChannel: it cannot be one. Bytes are no data.
    """
    data = arguments[0] if len(arguments) == 1 else (list(arguments) or None)
    channels = channels_of_rooms(rooms, renames, bounds)
    return PublishRequest(channels, check_event(event), encode_data(data, max_bytes=bounds.data_max_bytes))


def channels_of_rooms(rooms: object, renames: ChannelMapping, bounds: RequestLimits) -> tuple[str, ...]:
    """The channels of a list of rooms, each once.

    Raises:
        BadChannel: no room, which means everyone to Socket.IO, or one that is no channel here.
        TooLarge: too many.
    """
    if not rooms:
        raise BadChannel("no room, which is everyone; nothing is ever sent to everyone")
    if not isinstance(rooms, list):
        raise BadRequest("rooms are a list")
    if len(rooms) > bounds.channels_max:
        raise TooLarge(f"{len(rooms)} rooms at once; max_batch allows {bounds.channels_max}")
    # A number is a room to Node's adapter, too.
    names = [str(room) if type(room) is int else room for room in rooms]
    return tuple(dict.fromkeys(renames.to_channel(name) for name in names))


def command_requests(
    do: str, rooms: object, channels: Sequence[str], renames: ChannelMapping, bounds: RequestLimits
) -> list[CommandRequest]:
    """What is to be done with the sockets in `rooms`, each of which must be a user's own channel.

    Raises:
        BadChannel: another room: tidings can address users, not whoever is in a channel.
    """
    users = []
    for channel in channels_of_rooms(rooms, renames, bounds):
        if not channel.startswith(_USER):
            raise BadChannel("orders are for users: name rooms user:<id>")
        users.append(channel.removeprefix(_USER))
    if do == "disconnect":
        return [CommandRequest(do, user=user) for user in users]
    if len(users) * len(channels) > bounds.channels_max:
        raise TooLarge(f"{len(users) * len(channels)} orders at once; max_batch allows {bounds.channels_max}")
    return [CommandRequest(do, user=user, channel=channel) for user in users for channel in channels]
