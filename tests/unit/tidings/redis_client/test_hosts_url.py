"""URLs of which a library would silently use another host, port or database than the written one."""

from __future__ import annotations

import pytest

from tidings import AsyncEmitter, Emitter
from tidings.errors import BadConfig
from tidings.redis_client.hosts_url import HostsUrl


def test_hosts_with_and_without_ports() -> None:
    parts = HostsUrl.parse("redis+sentinel://u:p%40w@a:1,b,[::1]:2,[::2]/main/3?db=4", port=26379)
    assert parts.nodes == (("a", 1), ("b", 26379), ("::1", 2), ("::2", 26379))
    assert (parts.login, parts.path, parts.query) == ({"username": "u", "password": "p@w"}, "main/3", "db=4")
    assert parts.display_url == "redis+sentinel://a:1,b:26379,::1:2,::2:26379"


@pytest.mark.parametrize(
    "hosts",
    ["h:1_0", "h:+1", "h: 1", "h:\uff11", "h:1:2", "h x", "h%00", "h;x", "[::1", "[::1]x:1", "h\\x", "h#f", ",,"],
)
@pytest.mark.parametrize("form", ["redis+sentinel://{}/main", "rediss+cluster://{}", "amqp://{}"])
def test_host_or_port_that_cannot_exist_is_rejected(form: str, hosts: str) -> None:
    with pytest.raises(BadConfig):
        Emitter(form.format(hosts))


@pytest.mark.parametrize(
    "url",
    [
        *("redis://h:0", "redis://h,h2", "redis://h ", "redis://h%00", "unix://", "unix://?db=1", "http://h:0"),
        *("redis+sentinel://h/main/-1", "redis+sentinel://h/main/1_0", "redis+sentinel://h/main#f"),
        *("redis://h?client_name=a%20b", "redis://h?client_name=", "redis+cluster://h?client_name=%0A"),
        *("redis://h/\u0663", "kombu+redis://h/\u0663", "unix:///s%00x", f"unix:///{'s' * 108}"),
    ],
)
@pytest.mark.parametrize("emitter", [Emitter, AsyncEmitter])
def test_url_that_would_be_read_as_another_is_rejected(emitter: type[Emitter | AsyncEmitter], url: str) -> None:
    with pytest.raises(BadConfig):
        emitter(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        *(("redis://h/1?db=2", "db"), ("redis://u:p@h?password=q", "password"), ("unix:///s?db=1&db=2", "db")),
        *(("redis+sentinel://u:p@h/main?password=q", "password"), ("redis+sentinel://h/main/1?db=2", "db")),
        *(("redis+cluster://u:p@h?username=v", "username"), ("socketio+redis://h?key=a&key=b", "key")),
        *(("amqp://h?queue=a&queue=b", "queue"), ("kombu+redis://h?queue=a&queue=b", "queue")),
    ],
)
def test_option_that_is_there_twice_is_named(url: str, name: str) -> None:
    with pytest.raises(BadConfig, match=rf"the option {name} is twice"):
        Emitter(url)


def test_password_without_a_user_leaves_the_user_to_the_query() -> None:
    Emitter("redis+sentinel://:p@h/main?username=u").close()


@pytest.mark.parametrize("host", ["a..b", ".a", "%ff", f"{'a' * 64}.example", "a\udcff"])
@pytest.mark.parametrize(
    "form",
    [
        *("redis://{}", "rediss://{}:1/0", "redis+sentinel://b,{}/main", "redis+cluster://{}", "socketio+redis://{}"),
        *("amqp://{}", "amqps://b,{}/", "kombu+redis://{}:6379/0", "http://{}", "https://{}:1/path"),
    ],
)
@pytest.mark.parametrize("emitter", [Emitter, AsyncEmitter])
def test_host_that_the_resolver_cannot_encode_is_rejected(
    emitter: type[Emitter | AsyncEmitter], form: str, host: str
) -> None:
    with pytest.raises(BadConfig) as caught:
        emitter(form.format(host))
    assert host not in str(caught.value)


@pytest.mark.parametrize("host", ["a_b", "a.", "b\u00fccher", "127.0.0.1", "[::1]", "[fe80::1%eth0]", "a" * 63])
def test_host_that_may_exist_is_accepted(host: str) -> None:
    Emitter(f"redis://{host}/0").close()
    Emitter(f"amqp://{host}/").close()


@pytest.mark.parametrize(
    "url", ["redis://h?password=\udcff", "redis://u:\udcff@h", "socketio+redis://h?key=\udcff", "amqp://u:\udcff@h"]
)
def test_url_that_is_not_utf_8_is_rejected(url: str) -> None:
    with pytest.raises(BadConfig):
        Emitter(url)
