"""The proxy of the tests finds the end of each RESP item."""

from __future__ import annotations

import pytest

from support.network.proxy import frame_end, message_channel

FRAMES = [
    b"+OK\r\n",
    b"-ERR no\r\n",
    b":12\r\n",
    b"$5\r\na\r\nbc\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*3\r\n$7\r\nmessage\r\n$3\r\nx:c\r\n$2\r\n\r\n\r\n",
    b"*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
    b"%1\r\n+a\r\n:1\r\n",
    b">2\r\n+a\r\n_\r\n",
]


@pytest.mark.parametrize("frame", FRAMES)
def test_end_of_a_resp_item_is_found(frame: bytes) -> None:
    assert frame_end(frame + b"+next\r\n") == len(frame)
    for cut in range(len(frame)):
        assert frame_end(frame[:cut]) is None


def test_only_messages_have_a_channel() -> None:
    assert [message_channel(frame) for frame in FRAMES].count(b"x:c") == 1
    assert [message_channel(frame) for frame in FRAMES].count(None) == len(FRAMES) - 1
