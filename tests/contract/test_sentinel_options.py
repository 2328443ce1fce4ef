"""Sentinel URLs: a real sentinel with a password, an ACL and TLS, and its master with a password and TLS."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from support.network.certificates import Authority
from support.ports import free_port
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter
from tidings.errors import Unavailable
from tidings.redis_client.async_connection import AsyncRedisPool
from tidings.redis_client.connection import ConnectionLost, RedisPool
from tidings.redis_client.scripts import pack
from tidings.redis_client.url import RedisAddress


@dataclass(frozen=True)
class Place:
    """A sentinel with the passwords `gate` and `guard:post`, and its master with the password `inner`."""

    port: int
    tls_port: int
    master_port: int
    authority: Authority


@pytest.fixture(scope="module", params=["plain", "tls"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("sentinel")
    authority = Authority.make(folder / "authority")
    certificate, key = authority.issue("redis")
    tls = [
        *("--tls-auth-clients", "no", "--tls-replication", "yes" if request.param == "tls" else "no"),
        *("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.file)),
    ]
    (folder / "master").mkdir()
    master_tls, sentinel_tls = free_port(), free_port()
    master = RedisProcess(folder / "master", "--requirepass", "inner", "--tls-port", str(master_tls), *tls)
    master.start()
    monitored = master_tls if request.param == "tls" else master.port
    config = folder / "sentinel.conf"
    config.write_text(
        f"sentinel monitor main 127.0.0.1 {monitored} 1\n"
        "sentinel auth-pass main inner\n"
        "sentinel down-after-milliseconds main 5000\n"
        "requirepass gate\n"
        "user guard on >post +@all\n"
    )
    (folder / "sentinel").mkdir()
    sentinel = RedisProcess(
        folder / "sentinel",
        *("--tls-port", str(sentinel_tls), *tls),
        port=free_port(),
        program=["redis-server", str(config), "--sentinel"],
    ).start()

    def is_known() -> bool:
        with redis.Redis(port=sentinel.port, password="gate") as client:
            return bool(client.sentinel_masters().get("main", {}).get("num-slaves") is not None)

    wait_until(is_known, why="the sentinel knows the master")
    yield Place(sentinel.port, sentinel_tls, monitored, authority)
    sentinel.stop()
    master.stop()


def connect(url: str) -> None:
    connection = RedisAddress.parse(url).connect(timeout_s=5)
    connection.send_command("PING")
    assert connection.read_response() == b"PONG"
    connection.disconnect()


def connect_async(url: str) -> None:
    async def ping() -> None:
        connection = await RedisAddress.parse(url).connect_async(timeout_s=5)
        await connection.send_command("PING")
        assert await connection.read_response() == b"PONG"
        await connection.disconnect()

    async def ping_and_close() -> None:
        try:
            await ping()
        finally:
            # A transport that was cut closes itself in the next turns of the loop.
            await asyncio.sleep(0.1)

    asyncio.run(ping_and_close())


def url_of(place: Place, request: pytest.FixtureRequest, *, login: str, authority: Authority | None = None) -> str:
    if "tls" in request.node.callspec.id:
        trusted = (authority or place.authority).file
        return (
            f"rediss+sentinel://:inner@127.0.0.1:{place.tls_port}/main?{login}&sentinel_ssl=true&ssl_ca_certs={trusted}"
        )
    return f"redis+sentinel://:inner@127.0.0.1:{place.port}/main?{login}"


@pytest.mark.parametrize("login", ["sentinel_password=gate", "sentinel_username=guard&sentinel_password=post"])
@pytest.mark.parametrize("connect_to", [connect, connect_async])
def test_sentinel_with_a_login_leads_to_the_master(
    place: Place, request: pytest.FixtureRequest, connect_to: Callable[[str], None], login: str
) -> None:
    connect_to(url_of(place, request, login=login))


@pytest.mark.parametrize("login", ["sentinel_password=wrong", "client_name=nobody"])
@pytest.mark.parametrize("connect_to", [connect, connect_async])
def test_wrong_login_of_a_sentinel_is_named_and_not_retried(
    place: Place, request: pytest.FixtureRequest, connect_to: Callable[[str], None], login: str
) -> None:
    url = url_of(place, request, login=login)
    with pytest.raises(redis.exceptions.AuthenticationError, match="sentinel_password"):
        connect_to(url)
    start_s = time.monotonic()
    with Emitter(url, timeout_s=20) as emitter, pytest.raises(Unavailable, match="sentinel_password"):
        emitter.emit("e", 1, channel="orders:1")
    assert time.monotonic() - start_s < 10


def test_sentinel_of_another_authority_is_not_trusted(
    place: Place, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if "tls" not in request.node.callspec.id:
        pytest.skip("only over TLS")
    url = url_of(place, request, login="sentinel_password=gate", authority=Authority.make(tmp_path / "other"))
    for connect_to in (connect, connect_async):
        with pytest.raises(redis.exceptions.ConnectionError, match=r"(?i)certificate"):
            connect_to(url)


def test_sentinel_that_expects_tls_names_the_option(place: Place) -> None:
    url = f"redis+sentinel://:inner@127.0.0.1:{place.tls_port}/main?sentinel_password=gate"
    for connect_to in (connect, connect_async):
        with pytest.raises(redis.exceptions.ConnectionError, match="add sentinel_ssl=true"):
            connect_to(url)
    with pytest.raises(redis.exceptions.ConnectionError) as refused:
        connect(f"redis+sentinel://127.0.0.1:{free_port()}/main")
    assert "sentinel_ssl" not in str(refused.value)


def test_unknown_service_is_named(place: Place, request: pytest.FixtureRequest) -> None:
    url = url_of(place, request, login="sentinel_password=gate").replace("/main", "/other")
    for connect_to in (connect, connect_async):
        with pytest.raises(redis.exceptions.ConnectionError, match="'other'"):
            connect_to(url)


@pytest.fixture
def hanging() -> Iterator[str]:
    """Two hosts that accept connections and never answer, as a part of a URL."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        yield ",".join(f"127.0.0.1:{server.getsockname()[1]}" for server in (first, second))


def ping(address: RedisAddress) -> bool:
    pool = RedisPool(address)
    try:
        # With its whole timeout of 2 s for each of the two, no time would be left.
        return pool.call(pack(b"PING"), 1, (), deadline_s=time.monotonic() + 3.9) == [b"PONG"]
    except ConnectionLost:
        return False
    finally:
        pool.close()


def ping_async(address: RedisAddress) -> bool:
    async def call() -> bool:
        pool = AsyncRedisPool(address)
        try:
            return await pool.call(pack(b"PING"), 1, time.monotonic() + 3.9) == [b"PONG"]
        except ConnectionLost:
            return False
        finally:
            await pool.close()

    return asyncio.run(call())


@pytest.mark.parametrize("answers", [ping, ping_async])
def test_sentinels_that_hang_leave_time_for_the_next_one(
    place: Place, request: pytest.FixtureRequest, hanging: str, answers: Callable[[RedisAddress], bool]
) -> None:
    url = url_of(place, request, login="sentinel_password=gate").replace("@", f"@{hanging},")
    address = RedisAddress.parse(url)
    wait_until(lambda: answers(address), why="the third sentinel leads to the master")
