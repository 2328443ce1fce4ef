from __future__ import annotations

import base64
import json

import pytest

from support.network.push_service import Browser, base64url
from tidings.errors import BadRequest
from tidings_notifications.core.push_message import PAYLOAD_MAX_BYTES
from tidings_notifications.web_push.encryption import MessageKeys, encrypt


def keys_of(browser: Browser) -> MessageKeys:
    return MessageKeys.read(base64url(browser.p256dh), base64url(browser.auth))


def test_the_browser_decrypts_and_no_other_one() -> None:
    browser = Browser("https://push.example/1")
    body = encrypt(b'{"id":"1"}', keys_of(browser))
    assert browser.decrypt(body) == {"id": "1"}
    with pytest.raises(Exception, match=r"[Dd]ecryption"):
        Browser("https://push.example/2").decrypt(body)


def test_the_longest_payload_fits_one_record() -> None:
    browser = Browser("https://push.example/1")
    text = "x" * (PAYLOAD_MAX_BYTES - 2)
    body = encrypt(json.dumps(text).encode(), keys_of(browser))
    assert len(body) == 4096
    assert browser.decrypt(body) == text  # type: ignore[comparison-overlap]


def test_every_message_has_a_key_and_a_salt_of_its_own() -> None:
    keys = keys_of(Browser("https://push.example/1"))
    assert len({encrypt(b"1", keys)[:86] for _ in range(10)}) == 10


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_keys_are_read_with_padding_and_in_either_alphabet(encode: object) -> None:
    for _ in range(20):
        browser = Browser("https://push.example/1")
        assert callable(encode)
        keys = MessageKeys.read(encode(browser.p256dh).decode(), encode(browser.auth).decode())
        assert keys == keys_of(browser)


GOOD = Browser("https://push.example/1")


@pytest.mark.parametrize(
    ("p256dh", "auth", "named"),
    [
        (None, base64url(GOOD.auth), "p256dh"),
        (7, base64url(GOOD.auth), "p256dh"),
        ("!" * 87, base64url(GOOD.auth), "p256dh"),
        ("ä" * 87, base64url(GOOD.auth), "p256dh"),
        ("A" * 10_000, base64url(GOOD.auth), "p256dh"),
        (base64url(GOOD.p256dh[:64]), base64url(GOOD.auth), "p256dh"),
        (base64url(b"\x04" + b"\x01" * 64), base64url(GOOD.auth), "p256dh"),
        (base64url(b"\x05" + GOOD.p256dh[1:]), base64url(GOOD.auth), "p256dh"),
        (base64url(GOOD.p256dh), None, "auth"),
        (base64url(GOOD.p256dh), base64url(b"x" * 15), "auth"),
        (base64url(GOOD.p256dh), base64url(b"x" * 17), "auth"),
    ],
    # The keys are random: the processes of a test run must agree on the names.
    ids=lambda value: "key" if isinstance(value, str) else None,
)
def test_keys_that_no_browser_makes_are_rejected(p256dh: object, auth: object, named: str) -> None:
    with pytest.raises(BadRequest, match=named):
        MessageKeys.read(p256dh, auth)
