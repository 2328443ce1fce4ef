"""A hub whose tokens come from issuers that respond late, wrongly or not at all."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.network.issuer import ISSUER, key_set, publishing, sign_in, token_by
from support.network.raw_polling import connect
from support.network.scripted_server import Peer, Script, ScriptedServer, answering, dripping, response, silent
from support.processes.hub import API_KEY, HubProcess, environment, token
from support.waiting import wait_until


def status_of(hub: HubProcess, kid: str) -> tuple[int, str]:
    """Status and code of an attempt to sign in with a token of the issuer."""
    return sign_in(hub.port, token_by(kid, "orders:1"), "orders:1")


@pytest.fixture
def issuer() -> Iterator[ScriptedServer]:
    with publishing("k1") as server:
        yield server


@pytest.fixture
def hub(tmp_path: Path, issuer: ScriptedServer) -> Iterator[HubProcess]:
    source = f'[[jwks]]\nissuer = "{ISSUER}"\nurl = "{issuer.url}/jwks"\ntimeout_s = 1.0\n'
    limits = "handlers = 8\njwks_waiting_max = 4\n"
    hub = HubProcess(tmp_path, "--broker", "memory://", extra=limits)
    hub.config.write_text(hub.config.read_text() + source)
    yield hub
    hub.stop()


def test_first_client_needs_no_second_attempt(hub: HubProcess) -> None:
    """The keys are fetched before the node listens."""
    hub.start(ready=False)
    assert connect(hub.port, token_by("k1", "orders:1"), "orders:1")
    assert hub.get("/readyz")[1]["checks"]["keys"] == {ISSUER: "fresh"}
    # A key of this name may be newer than the last fetch.
    assert status_of(hub, "k2") == (503, "unavailable")


@pytest.mark.parametrize("script", [silent, dripping(b"HTTP/1.1 200 OK\r\nX: ")], ids=["silent", "dripped head"])
def test_issuer_that_stands_still_stops_no_other_sign_in(
    hub: HubProcess, issuer: ScriptedServer, script: Script
) -> None:
    issuer.script = script
    hub.start()
    hostile: list[int] = []
    threads = [threading.Thread(target=lambda: hostile.append(status_of(hub, "k9")[0])) for _ in range(24)]
    for thread in threads:
        thread.start()
    for number in range(5):
        assert connect(hub.port, token(f"user{number}", "orders:1"), "orders:1")
    assert hub.get("/readyz")[0] == 200
    for thread in threads:
        thread.join(30)
    assert hostile == [503] * 24
    status, _, _ = hub.get("/readyz")
    assert status == 200
    wait_until(lambda: hub.metric("tidings_jwks_errors_total") >= 1)
    assert hub.metric("tidings_jwks_stale") == 1
    assert issuer.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        response(b"<html>"),
    ],
    ids=["garbled chunk", "negative chunk", "not HTTP", "not JSON"],
)
def test_garbled_response_is_counted_and_logged(hub: HubProcess, issuer: ScriptedServer, data: bytes) -> None:
    issuer.script = answering(data)
    hub.start()
    wait_until(lambda: hub.metric("tidings_jwks_errors_total") == 1)
    assert status_of(hub, "k1") == (503, "unavailable")
    assert connect(hub.port, token("ann", "orders:1"), "orders:1")
    assert ISSUER in hub.log.read_text()
    assert hub.get("/readyz")[1]["checks"]["keys"] == {ISSUER: "empty"}
    assert hub.metric("tidings_greenlets") > 0


def test_reload_keeps_the_keys(hub: HubProcess, issuer: ScriptedServer) -> None:
    hub.start()
    issuer.script = silent
    hub.reload()
    wait_until(lambda: hub.metric("tidings_reloads_total") == 1)
    assert connect(hub.port, token_by("k1", "orders:1"), "orders:1")


def test_reload_that_waits_for_an_issuer_does_not_undo_a_later_one(hub: HubProcess, issuer: ScriptedServer) -> None:
    """Its settings still have an issuer and an API key that were removed meanwhile."""
    settings, other_key = hub.config.read_text(), "another-key-0123456789"
    hub.start()
    replaced = settings.replace("/jwks", "/other").replace(f'"{API_KEY}"', f'"{API_KEY}", "{other_key}"')
    hub.config.write_text(replaced)
    is_asked, may_respond = threading.Event(), threading.Event()

    def wait(peer: Peer) -> None:
        peer.read_request()
        is_asked.set()
        may_respond.wait(0.8)
        peer.send(response(key_set("k1")))

    issuer.script = wait
    hub.reload()
    assert is_asked.wait(5)
    hub.config.write_text(settings.partition("[[jwks]]")[0])
    hub.reload()
    wait_until(lambda: hub.metric("tidings_reloads_total") == 1, why="the second reload does not wait")
    assert status_of(hub, "k1") == (401, "unauthorized")
    may_respond.set()
    wait_until(lambda: "only the newer ones are used" in hub.log.read_text(), why="the first reload ends")
    assert status_of(hub, "k1") == (401, "unauthorized")
    assert hub.request("GET", "/api/channels", headers={"Authorization": f"Bearer {other_key}"})[0] == 401
    assert hub.metric("tidings_reloads_total") == 1


def doctor(hub: HubProcess) -> str:
    process = subprocess.run(
        [sys.executable, "-m", "tidings_hub", "doctor", "--config", str(hub.config), "--url", hub.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment() | {"TIDINGS_PORT": str(hub.port), "TIDINGS_API_KEY": API_KEY},
    )
    return process.stdout


def test_doctor_reports_the_key_sets(hub: HubProcess, issuer: ScriptedServer) -> None:
    hub.start()
    assert f"ok    keys of {ISSUER}: fresh" in doctor(hub)
    hub.stop()
    issuer.script = answering(b"220 mail.example ESMTP\r\n\r\n")
    hub.start()
    assert f"FAIL  keys of {ISSUER}: empty" in doctor(hub)
