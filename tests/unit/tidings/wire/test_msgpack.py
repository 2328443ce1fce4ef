from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import pytest

from tidings import Emitter
from tidings.errors import BadRequest, MissingExtra
from tidings.wire.msgpack import msgpack_module, pack, unpack
from tidings_hub.config.ingress import SocketioEmitter
from tidings_hub.core.compat.requests import RequestLimits
from tidings_hub.ingress.socketio_emitter import SocketioEmitterFormat


def test_packed_values_unpack_unchanged() -> None:
    value = ["emitter", {"a": [None, True, 1.5, -1, 2**64 - 1, "ü", b"\x00"]}, {}]
    assert unpack(pack(value)) == value


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\x01\x02",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdc\xff\xff" * 5_000,
        b"\x91" * 100_000 + b"\x01",
        b"\x81\x01\x02",
        b"\x81\x90\x01",
        b"\xa1\xff",
        b"\xd4\x05\x00",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc7\x00\x05",
    ],
)
def test_message_that_is_not_msgpack_or_not_json_is_rejected(message: bytes) -> None:
    with pytest.raises(BadRequest):
        unpack(message)


def test_long_lists_unpack_unchanged() -> None:
    assert unpack(pack([[1] * 20_000])) == [[1] * 20_000]


@pytest.mark.parametrize("missing", [0, 1_000])
def test_lists_are_not_allocated_before_their_entries_are_there(missing: int) -> None:
    message = b"\xdc\x1f\xff" * 1_000 + b"\x00" * (8_191 - missing)
    msgpack_module()
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest):
            unpack(message)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(message)
    finally:
        tracemalloc.stop()


def test_number_beyond_64_bits_is_rejected() -> None:
    huge: Any = 2**64
    with pytest.raises(BadRequest):
        pack(huge)


def test_missing_package_error_has_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgpack", None)
    msgpack_module.cache_clear()
    for use in (
        lambda: unpack(b"\x01"),
        lambda: Emitter("socketio+redis://127.0.0.1"),
        lambda: SocketioEmitterFormat(SocketioEmitter(), RequestLimits(data_max_bytes=1, channels_max=1)),
    ):
        with pytest.raises(MissingExtra, match=r"pip install 'tidings\[socketio\]'"):
            use()
