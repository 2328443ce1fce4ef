"""The options of each kind of URL: a wrong one raises BadConfig, which names it and lists the right ones."""

from __future__ import annotations

import ssl

import pytest

from tidings import AsyncEmitter, Emitter
from tidings.errors import BadConfig
from tidings.redis_client.url import RedisAddress
from tidings.redis_client.url_options import read_options

# An option that each kind of URL has.
KINDS = {
    "redis://h/0": "client_name",
    "rediss://h/0": "ssl_ca_certs",
    "unix:///run/redis.sock": "db",
    "redis+sentinel://h/main": "sentinel_password",
    "rediss+sentinel://h/main/1": "ssl_check_hostname",
    "redis+cluster://h": "buckets",
    "rediss+cluster://h": "ssl_certfile",
    "socketio+redis://h": "client_name",
    "amqp://h": "queue",
    "amqps://h": "ca_certs",
    "kombu+redis://h/1": "queue",
    "kombu+rediss://h/1": "ssl_ca_certs",
}


@pytest.mark.parametrize("url", KINDS)
@pytest.mark.parametrize("emitter", [Emitter, AsyncEmitter])
def test_unknown_option_is_named_and_the_right_ones_are_listed(url: str, emitter: type[Emitter | AsyncEmitter]) -> None:
    with pytest.raises(BadConfig, match=rf"\bclient_nam\b.*{KINDS[url]}"):
        emitter(f"{url}?client_nam=secret")


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999", "six"])
@pytest.mark.parametrize("url", ["redis+sentinel://h", "rediss+cluster://[::1]", "amqp://h:1,h", "amqps://h"])
def test_port_that_does_not_exist_is_rejected(url: str, port: str) -> None:
    with pytest.raises(BadConfig):
        Emitter(f"{url}:{port}/main" if "sentinel" in url else f"{url}:{port}")


@pytest.mark.parametrize("url", ["http://h", "https://h", "memory://m", "kombu+consul://h"])
def test_url_without_options_rejects_them(url: str) -> None:
    with pytest.raises(BadConfig):
        Emitter(f"{url}?client_name=x")


@pytest.mark.parametrize(
    "url",
    [
        *("redis://u:pw?secret=1@h/0", "rediss://:pw?secret@h", "redis+sentinel://u:pw?secret=1@h/main"),
        *("redis://u:12#secret@h/0", "rediss://secret#pw@h", "unix://:pw#secret@/run/redis.sock"),
        *("redis+cluster://u:pw?secret=1@h", "amqp://u:pw?secret=1@h/", "kombu+redis://:pw?secret=1@h/1"),
    ],
)
def test_part_of_a_password_is_not_shown(url: str) -> None:
    with pytest.raises(BadConfig) as caught:
        Emitter(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://h/x", "redis://h/0/1", "rediss://h/-1", "redis://h/%31x"])
def test_database_must_be_a_number(url: str) -> None:
    with pytest.raises(BadConfig):
        RedisAddress.parse(url)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        *(("db=x", "db"), ("db=", "db"), ("socket_keepalive=maybe", "socket_keepalive")),
        *(("ssl_cert_reqs=never", "ssl_cert_reqs"), ("ssl_check_hostname=2", "ssl_check_hostname")),
        *(("ssl_min_version=TLSv1.1", "ssl_min_version"), ("client_name=a&client_name=b", "client_name")),
    ],
)
def test_invalid_value_is_rejected_with_its_name(query: str, name: str) -> None:
    with pytest.raises(BadConfig, match=rf"\b{name}\b"):
        read_options(query, "rediss")


def test_options_have_the_types_of_redis_py() -> None:
    query = (
        "ssl_check_hostname=false&ssl_min_version=TLSv1.3&socket_keepalive=no&db=3&password=a%26b&ssl_cert_reqs=none"
    )
    assert read_options(query, "rediss") == {
        "ssl_check_hostname": False,
        "ssl_min_version": ssl.TLSVersion.TLSv1_3,
        "socket_keepalive": False,
        "db": 3,
        "password": "a&b",
        "ssl_cert_reqs": "none",
    }


def test_options_that_tidings_sets_itself_have_no_effect() -> None:
    assert read_options("socket_timeout=5&decode_responses=true&protocol=3&max_connections=9", "redis") == {}


def test_tls_needs_a_url_that_uses_it() -> None:
    with pytest.raises(BadConfig, match="need rediss"):
        Emitter("redis://h?ssl_ca_certs=/x")
    with pytest.raises(BadConfig, match="sentinel_ssl=true"):
        Emitter("redis+sentinel://h/main?sentinel_ssl_ca_certs=/x")


def test_advice_fits_the_url() -> None:
    """A URL that has TLS needs no other scheme, and a sentinel's URL has a form of its own."""
    with pytest.raises(BadConfig, match="ca_certs, certfile") as caught:
        Emitter("amqps://h/?ssl_ca_certs=/x")
    assert "rediss" not in str(caught.value)
    for url in ("redis+sentinel://h", "rediss+sentinel://h/", "redis+sentinel://h/main/x"):
        with pytest.raises(BadConfig, match=r"host\[:port\].*/service") as caught:
            Emitter(url)
        assert f"its form is {url.partition('://')[0]}://" in str(caught.value)


def test_sentinels_inherit_the_authority_and_not_the_login() -> None:
    address = RedisAddress.parse("rediss+sentinel://u:pw@h/main?ssl_ca_certs=/x&ssl_certfile=/a&sentinel_ssl=true")
    assert address.sentinel_options == {"ssl": True, "ssl_ca_certs": "/x", "ssl_certfile": "/a"}
    own = RedisAddress.parse("rediss+sentinel://h/main?ssl_ca_certs=/x&sentinel_ssl=1&sentinel_ssl_ca_certs=/y")
    assert own.sentinel_options["ssl_ca_certs"] == "/y"
    assert own.options["ssl_ca_certs"] == "/x"
    plain = RedisAddress.parse("rediss+sentinel://h/main?ssl_ca_certs=/x")
    assert plain.sentinel_options == {}
