from __future__ import annotations

import pytest

from tidings.errors import BadChannel, BadData, BadRequest, TidingsError, TooLarge
from tidings_hub.core.compat.channel_mapping import ChannelMapping
from tidings_hub.core.compat.emit_arguments import channels_of_rooms, command_requests, publish_request
from tidings_hub.core.compat.requests import CommandRequest, PublishRequest, RequestLimits

LIMITS = RequestLimits(data_max_bytes=50, channels_max=3)
MAPPING = ChannelMapping("io")


@pytest.mark.parametrize(
    ("arguments", "data"),
    [([], b"null"), ([None], b"null"), ([0], b"0"), ([[]], b"[]"), ([1, None], b"[1,null]"), ([{"a": 1}], b'{"a":1}')],
)
def test_data_is_the_only_argument_or_a_list_of_several(arguments: list[object], data: bytes) -> None:
    request = publish_request("updated", arguments, ["a"], MAPPING, LIMITS)
    assert request == PublishRequest(("io:a",), "updated", data)


def test_bytes_are_not_valid_data() -> None:
    with pytest.raises(BadData):
        publish_request("updated", [b"x"], ["a"], MAPPING, LIMITS)


def test_rooms_become_channels_without_duplicates() -> None:
    assert channels_of_rooms(["a", 7, "io:a"], MAPPING, LIMITS) == ("io:a", "io:7")
    assert channels_of_rooms("a", MAPPING, LIMITS) == ("io:a",)


@pytest.mark.parametrize(
    ("rooms", "error"),
    [
        (None, BadChannel),
        ([], BadChannel),
        (7, BadRequest),
        (["a", "b", "c", "d"], TooLarge),
        ([True], BadChannel),
        ([""], BadChannel),
    ],
)
def test_invalid_rooms_are_rejected(rooms: object, error: type[TidingsError]) -> None:
    with pytest.raises(error):
        channels_of_rooms(rooms, MAPPING, LIMITS)


def test_a_command_is_made_for_each_user_and_channel() -> None:
    assert command_requests("disconnect", ["user:1", "user:2"], ("io:a",), MAPPING, LIMITS) == [
        CommandRequest("disconnect", user="1"),
        CommandRequest("disconnect", user="2"),
    ]
    assert command_requests("subscribe", ["user:1"], ("io:a", "io:b"), MAPPING, LIMITS) == [
        CommandRequest("subscribe", user="1", channel="io:a"),
        CommandRequest("subscribe", user="1", channel="io:b"),
    ]


def test_command_for_a_room_that_is_not_a_user_is_rejected() -> None:
    with pytest.raises(BadChannel, match="user:<id>"):
        command_requests("disconnect", ["lobby"], (), MAPPING, LIMITS)


def test_the_limit_of_channels_counts_users_times_channels() -> None:
    with pytest.raises(TooLarge, match="4 commands at once"):
        command_requests("subscribe", ["user:1", "user:2"], ("io:a", "io:b"), MAPPING, LIMITS)
