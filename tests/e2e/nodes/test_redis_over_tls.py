"""A hub and its backends that reach Redis over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.certificates import Authority
from support.ports import free_port
from support.processes.client import ClientProcess
from support.processes.hub import HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings import Emitter
from tidings.errors import Unavailable


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def redis(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisProcess, int]]:
    """A Redis that also accepts TLS connections with client certificates, and its TLS port."""
    certificate, key = authority.issue("redis")
    port = free_port()
    process = RedisProcess(
        tmp_path_factory.mktemp("redis"),
        *("--tls-port", str(port), "--tls-auth-clients", "yes"),
        *("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.file)),
    )
    yield process.start(), port
    process.stop()


def url_of(port: int, trusted: Authority, issuer: Authority, name: str) -> str:
    certificate, key = issuer.issue(name)
    return (
        f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={trusted.file}&ssl_certfile={certificate}&ssl_keyfile={key}"
        "&ssl_cert_reqs=required"
    )


def connections_by_port(redis: RedisProcess) -> dict[str, int]:
    """Return the number of Redis connections per port, without the test's own connection."""
    with redis.client() as client:
        own_id = client.client_id()
        ports = [entry["laddr"].rpartition(":")[2] for entry in client.client_list() if int(entry["id"]) != own_id]
    return {port: ports.count(port) for port in ports}


def test_publications_go_through_tls_in_order_and_survive_a_cut(
    redis: tuple[RedisProcess, int], authority: Authority, tmp_path: Path
) -> None:
    process, port = redis
    hub = HubProcess(tmp_path, "--broker", url_of(port, authority, authority, "hub")).start()
    client = ClientProcess("js-websocket", hub.url, token=token("ann", "orders:*"), channels=["orders:1"])
    try:
        client.wait_ready()
        # Many messages larger than one TLS record: the link must also read data that OpenSSL has buffered.
        data = [{"n": number, "pad": "x" * (30_000 if number % 20 == 0 else 10)} for number in range(200)]
        with Emitter(url_of(port, authority, authority, "backend"), timeout_s=20) as emitter:
            with emitter.batch() as batch:
                for number in data[:100]:
                    batch.emit("n", number, channel="orders:1")
            for number in data[100:150]:
                emitter.emit("n", number, channel="orders:1")
            client.wait(lambda client: len(client.data("orders:1")) == 150, why="150 publications")
            before = hub.metric("tidings_broker_reconnects_total")
            with process.client() as direct:
                direct.client_kill_filter(_type="pubsub")
            for number in data[150:]:
                emitter.emit("n", number, channel="orders:1")
            wait_until(lambda: hub.metric("tidings_broker_reconnects_total") > before, why="the link is reconnected")
            client.wait(lambda client: len(client.data("orders:1")) == 200, why="all publications")
            assert client.data("orders:1") == data
            assert client.records_of("gap") == []
            assert set(connections_by_port(process)) == {str(port)}, "all connections use TLS"
    finally:
        client.stop()
        hub.stop()


def test_untrusted_certificate_is_rejected(
    redis: tuple[RedisProcess, int], authority: Authority, tmp_path: Path
) -> None:
    _, port = redis
    other_authority = Authority.make(tmp_path / "other")
    # With the first URL the client does not trust Redis, with the second one Redis does not trust the client.
    untrusting, untrusted = (
        url_of(port, other_authority, authority, "hub"),
        url_of(port, authority, other_authority, "hub"),
    )
    for url in (untrusting, untrusted):
        with Emitter(url, timeout_s=1) as emitter, pytest.raises(Unavailable):
            emitter.emit("n", 1, channel="orders:1")
    folder = tmp_path / "hub"
    folder.mkdir()
    hub = HubProcess(folder, "--broker", untrusting).start(ready=False)
    try:
        wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in hub.log.read_text(), why="the cause is in the log")
        assert hub.get("/readyz")[0] == 503
        assert hub.get("/healthz")[0] == 200
    finally:
        hub.stop()
