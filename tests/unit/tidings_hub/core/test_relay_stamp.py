from __future__ import annotations

import pytest

from tidings_hub.core.relay_stamp import STAMP_LIFETIME_S, Stamp, read_stamp, stamp_key, write_stamp

KEY, OTHER = stamp_key("kT3xw9LpQ2vB7mZr5cYh8nDs4fGj6aUe"), stamp_key("another-secret-of-this-hub-000000")
NOW_S = 1_790_000_000.5
TARGET = "/socket.io/?EIO=4&transport=polling&sid=n2xxxxxxxxxxxxxxxxxxxx"
STAMP = Stamp("n2", NOW_S, "203.0.113.9", True, "shop.example:8443")


def read(value: str, *, method: str = "GET", target: str = TARGET, own_id: str = "n2", now_s: float = NOW_S) -> object:
    return read_stamp([KEY], value, method, target, own_id=own_id, now_s=now_s)


def test_a_stamp_survives_writing_and_reading() -> None:
    assert read(write_stamp(KEY, STAMP, "GET", TARGET)) == STAMP


@pytest.mark.parametrize(
    ("remote", "host"),
    [("", ""), ("fe80::1%eth0", "[::1]:80"), ("a b\r\nc", "ü host"), ("-x", "a%20b"), ("unix", "x" * 300)],
)
def test_any_client_data_stays_one_field(remote: str, host: str) -> None:
    stamp = Stamp("n2", NOW_S, remote, False, host)
    value = write_stamp(KEY, stamp, "POST", TARGET)
    assert value.isascii()
    assert "\r" not in value
    assert read(value, method="POST") == stamp


def test_a_stamp_is_valid_for_one_request_line_and_one_node() -> None:
    value = write_stamp(KEY, STAMP, "GET", TARGET)
    assert read(value, method="POST") is None
    assert read(value, target=TARGET + "1") is None
    assert read(value, own_id="n3") is None


def test_a_stamp_expires() -> None:
    value = write_stamp(KEY, STAMP, "GET", TARGET)
    for near in (-STAMP_LIFETIME_S, STAMP_LIFETIME_S):
        assert read(value, now_s=NOW_S + near) == STAMP
    for far in (-STAMP_LIFETIME_S - 0.1, STAMP_LIFETIME_S + 0.1):
        assert read(value, now_s=NOW_S + far) is None


def test_a_stamp_of_another_key_is_rejected() -> None:
    assert read(write_stamp(OTHER, STAMP, "GET", TARGET)) is None
    assert read_stamp([], write_stamp(KEY, STAMP, "GET", TARGET), "GET", TARGET, own_id="n2", now_s=NOW_S) is None


def test_all_keys_are_valid_while_a_secret_is_rotated() -> None:
    value = write_stamp(OTHER, STAMP, "GET", TARGET)
    assert read_stamp([KEY, OTHER], value, "GET", TARGET, own_id="n2", now_s=NOW_S) == STAMP


def test_any_changed_character_invalidates_the_stamp() -> None:
    value = write_stamp(KEY, STAMP, "GET", TARGET)
    for at in range(len(value)):
        other = "1" if value[at] != "1" else "2"
        assert read(value[:at] + other + value[at + 1 :]) is None, at


@pytest.mark.parametrize(
    "value", ["", " ", "1", "1 n2 x r http h p", "a b c d e f g", "\xff" * 20, "1 n2 1 r http h \xff"]
)
def test_malformed_stamps_are_rejected(value: str) -> None:
    assert read(value) is None


def test_the_key_differs_from_the_secret() -> None:
    assert KEY != OTHER
    assert b"kT3x" not in KEY
    assert len(KEY) == 32
