"""Messages about doubted cursors, and stored doubts: what the script sends, and nothing else."""

from __future__ import annotations

import pytest

from tidings.errors import BadPacket
from tidings_hub.brokers.doubts.doubt_script import DoubtMessage, StoredDoubts, read_doubts, read_message


def test_doubts_of_a_message_end_before_the_seq_that_they_took() -> None:
    message = read_message(b"e-1 3 43 orders:1 17 tidings:presence:orders:2 40")
    ranges = [("orders:1", 17, 42), ("tidings:presence:orders:2", 40, 42)]
    assert message == DoubtMessage("e-1", 3, 43, ranges)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"e 3 43",
        b"e 3 43 orders:1",
        b"e 3 43 orders:1 17 orders:2",
        b"e x 43 orders:1 17",
        b"e 3 -4 orders:1 17",
        b"e 3 43 orders:1 1.5",
        b"e 3 43 orders:1 99999999999999999999",
        b"e 3 43 orders:1 \xff",
        b'{"do": "revoke"}',
    ],
)
def test_anything_else_is_rejected(message: bytes) -> None:
    with pytest.raises(BadPacket):
        read_message(message)


def test_stored_doubts_have_their_epoch_and_number() -> None:
    reply = [b"@", b"e", b"#", b"5", b"*", b"0 9", b"orders:1", b"3 4", b"orders:2", b"not a range"]
    assert read_doubts(reply) == StoredDoubts("e", 5, [("*", 0, 9), ("orders:1", 3, 4)])
    assert read_doubts([]) == StoredDoubts("", 0, [])


def test_several_ranges_of_a_channel_count_while_its_span_has_their_mark() -> None:
    listed = [b"/orders:1", b"3 4 8 9", b"/*", b"0 1 5 6"]
    marked = [b"@", b"e", b"#", b"5", b"orders:1", b"03 9", b"*", b"00 6", *listed]
    assert read_doubts(marked).ranges == [("orders:1", 3, 4), ("orders:1", 8, 9), ("*", 0, 1), ("*", 5, 6)]
    # A node of version 0.1 has changed the spans since, or the fields are gone.
    assert read_doubts([b"@", b"e", b"orders:1", b"3 9", b"*", b"0 6", *listed]).ranges == [
        ("orders:1", 3, 9),
        ("*", 0, 6),
    ]
    assert read_doubts([b"@", b"e", b"orders:1", b"03 9"]).ranges == [("orders:1", 3, 9)]
