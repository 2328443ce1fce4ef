"""Wrong TLS options are found where an emitter is created, not at each connect as an outage."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from support.network.certificates import Authority
from tidings import AsyncEmitter, Emitter
from tidings.errors import BadConfig
from tidings.redis_client.tls_files import check_tls
from tidings.redis_client.topology import check_redis_url


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("client")


def test_right_options_are_accepted(authority: Authority, pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    query = f"ssl_ca_certs={authority.file}&ssl_ca_path={authority.folder}&ssl_certfile={certificate}&ssl_keyfile={key}"
    for url in ("rediss://h", "rediss+cluster://h", "rediss+sentinel://h/main"):
        check_redis_url(f"{url}?{query}&ssl_ciphers=HIGH&ssl_check_hostname=true")
    check_redis_url(f"redis+sentinel://h/main?sentinel_ssl=true&sentinel_{query.replace('&', '&sentinel_')}")
    Emitter(f"amqps://h/?ca_certs={authority.file}&certfile={certificate}&keyfile={key}").close()
    check_tls({}, "ssl_", "")


WRONG = (
    *(("ssl_ca_certs=/missing", "ca_certs"), ("ssl_ca_certs=", "ca_certs"), ("ssl_ca_certs={key}", "ca_certs")),
    *(("ssl_certfile={certificate}", "certfile"), ("ssl_certfile={key}&ssl_keyfile={key}", "certfile")),
    *(("ssl_keyfile={key}", "keyfile"), ("ssl_certfile={certificate}&ssl_keyfile=/missing", "certfile")),
)
WRONG_FOR_REDIS = (
    *(("ssl_ca_path=/missing", "ca_path"), ("ssl_ca_data=x", "ca_data"), ("ssl_ciphers=NONE", "ciphers")),
    *(("ssl_ca_data=%C3%A9", "ca_data"), (f"ssl_ca_path=/missing{'x' * 5000}", "ca_path")),
    *(("ssl_cert_reqs=none&ssl_check_hostname=true", "check_hostname"), ("ssl_password=missing", "password")),
)


@pytest.mark.parametrize(("query", "name"), [*WRONG, *WRONG_FOR_REDIS])
@pytest.mark.parametrize(
    "url", ["rediss://h", "rediss+cluster://h", "rediss+sentinel://h/main", "redis+sentinel://h/main"]
)
def test_wrong_option_is_named_where_the_url_is_read(url: str, query: str, name: str, pair: tuple[Path, Path]) -> None:
    query, shown = query.format(certificate=pair[0], key=pair[1]), f"ssl_{name}"
    if url.startswith("redis+sentinel"):
        query, shown = "sentinel_ssl=true&sentinel_" + query.replace("&", "&sentinel_"), f"sentinel_ssl_{name}"
    for read in (Emitter, AsyncEmitter, check_redis_url):
        with pytest.raises(BadConfig, match=rf"(?<!\w){shown}\b") as caught:
            read(f"{url}?{query}")
        assert "missing" not in str(caught.value)


@pytest.mark.parametrize(("query", "name"), WRONG)
def test_wrong_option_of_amqps_is_named(query: str, name: str, pair: tuple[Path, Path]) -> None:
    query = query.format(certificate=pair[0], key=pair[1]).replace("ssl_", "")
    with pytest.raises(BadConfig, match=rf"(?<!\w){name}\b") as caught:
        Emitter(f"amqps://h/?{query}")
    assert "missing" not in str(caught.value)


def test_key_with_a_password_does_not_wait_for_a_terminal(pair: tuple[Path, Path], tmp_path: Path) -> None:
    key = serialization.load_pem_private_key(pair[1].read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"right"),
        )
    )
    url = f"rediss://h?ssl_certfile={pair[0]}&ssl_keyfile={encrypted}"
    Emitter(f"{url}&ssl_password=right").close()
    for wrong in (url, f"{url}&ssl_password=wrong"):
        with pytest.raises(BadConfig, match="password"):
            Emitter(wrong)
