from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tidings.errors import BadConfig
from tidings_notifications.web_push import base64url
from tidings_notifications.web_push.vapid import VapidHeaders, VapidKey

START_S = 1_764_590_400.0
HOUR_S = 3600
CONTACT = "mailto:ops@shop.example"


def claims_of(header: str, key: VapidKey, audience: str) -> dict[str, object]:
    scheme, _, parameters = header.partition(" ")
    token, public = (part.strip()[2:] for part in parameters.split(","))
    assert (scheme, public) == ("vapid", key.public_key)
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), base64url.decode(public))
    return jwt.decode(token, point, algorithms=["ES256"], audience=audience, options={"verify_exp": False})


def test_key_file_is_for_its_owner_only_and_can_be_loaded(tmp_path: Path) -> None:
    file = tmp_path / "vapid.pem"
    key = VapidKey.create(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert VapidKey.load(file).public_key == key.public_key
    assert len(base64url.decode(key.public_key)) == 65
    assert "=" not in key.public_key


def test_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "vapid.pem"
    VapidKey.create(file)
    before = file.read_bytes()
    with pytest.raises(BadConfig, match=r"exists.*useless.*--show"):
        VapidKey.create(file)
    assert file.read_bytes() == before


def pem_of(curve: ec.EllipticCurve) -> bytes:
    return ec.generate_private_key(curve).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"", "not a private key"),
        (b"no key", "not a private"),
        (pem_of(ec.SECP384R1()), "P-256"),
    ],
)
def test_wrong_key_file_is_an_error_that_names_it(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "vapid.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadConfig, match=message) as caught:
        VapidKey.load(file)
    assert "vapid_key_file" in str(caught.value)
    assert str(file) in str(caught.value)


def test_token_is_for_one_origin_and_less_than_a_day(tmp_path: Path) -> None:
    key = VapidKey.create(tmp_path / "vapid.pem")
    headers = VapidHeaders(key, CONTACT, unix_s=lambda: START_S)
    for origin in ("https://fcm.googleapis.com", "https://web.push.apple.com"):
        claims = claims_of(headers.header(origin), key, origin)
        assert claims == {"aud": origin, "exp": START_S + 12 * HOUR_S, "sub": CONTACT}


def test_token_is_kept_and_renewed_long_before_its_end(tmp_path: Path) -> None:
    now_s = START_S
    headers = VapidHeaders(VapidKey.create(tmp_path / "vapid.pem"), CONTACT, unix_s=lambda: now_s)
    first = headers.header("https://a.example")
    now_s = START_S + 5 * HOUR_S
    assert headers.header("https://a.example") == first
    now_s = START_S + 6 * HOUR_S
    assert headers.header("https://a.example") != first


def test_clock_that_was_set_back_makes_a_new_token(tmp_path: Path) -> None:
    now_s = START_S
    headers = VapidHeaders(VapidKey.create(tmp_path / "vapid.pem"), CONTACT, unix_s=lambda: now_s)
    first = headers.header("https://a.example")
    now_s = START_S - 20 * HOUR_S
    assert headers.header("https://a.example") != first


def test_tokens_of_many_origins_are_bounded(tmp_path: Path) -> None:
    headers = VapidHeaders(VapidKey.create(tmp_path / "vapid.pem"), CONTACT)
    for number in range(1_050):
        headers.header(f"https://h{number}.example")
    assert len(headers._by_origin) == 1_000
