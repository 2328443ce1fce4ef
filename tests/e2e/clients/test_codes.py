"""Each code reaches each client over each transport, and the client's next step is right: it returns, or it stops."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from support.processes.client import ClientProcess
from support.processes.hub import SECRET, HubProcess, token
from support.waiting import wait_until
from tidings.codes import CODES
from tidings.tokens import issue

SETTINGS = """
inbound_burst = 40
inbound_rate_per_s = 5
max_payload_bytes = 20000
publication_max_bytes = 10000
out_buffer_bytes = 65536
token_leeway_s = 0.0
auth_failures_per_minute = 1000
"""
STOCK = ["codes.js-websocket", "codes.js-polling", "codes.python-websocket", "codes.python-polling"]
SDK = ["sdk-websocket", "sdk-polling"]
Cause = Callable[[HubProcess, ClientProcess, str], None]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), extra=SETTINGS).start()
    yield process
    process.stop()
    assert "Traceback" not in process.log.read_text()


def start(hub: HubProcess, kind: str, user: str, clients: list[ClientProcess], **claims: float) -> ClientProcess:
    bearer = token(user, "orders:*", **claims)
    # A channel of its own: the session of an earlier test's client, which is gone, must not become slow in its place.
    client = ClientProcess(kind, hub.url, token=bearer, tokens=[bearer], channels=[f"orders:{user}"])
    clients.append(client)
    return client.wait_ready()


def send_too_fast(_hub: HubProcess, client: ClientProcess, _user: str) -> None:
    client.send_command({"emit": "tidings:unsubscribe", "data": {"channels": ["orders:2"]}, "times": 100})


def send_too_much(_hub: HubProcess, client: ClientProcess, _user: str) -> None:
    client.send_command({"emit": "tidings:publish", "data": {"data": "x" * 50_000}})


def send_garbage(_hub: HubProcess, client: ClientProcess, _user: str) -> None:
    client.send_command({"raw": "garbage"})


def disconnect(hub: HubProcess, _client: ClientProcess, user: str) -> None:
    assert hub.request("POST", f"/api/users/{user}/disconnect")[0] == 200


def revoke(hub: HubProcess, _client: ClientProcess, user: str) -> None:
    assert hub.request("POST", "/api/revocations", {"user": user, "for_s": 600})[0] == 201


def stop_reading(hub: HubProcess, client: ClientProcess, user: str) -> None:
    before = hub.metric("tidings_closed_slow_total")
    client.pause()
    deadline_s = time.monotonic() + 60
    while hub.metric("tidings_closed_slow_total") == before and time.monotonic() < deadline_s:
        hub.publish(f"orders:{user}", "updated", "x" * 9_000)
    client.resume()


BY_CLIENTS: dict[str, Cause] = {"too_fast": send_too_fast, "too_large": send_too_much, "bad_packet": send_garbage}
BY_HUB: dict[str, Cause] = {"disconnected": disconnect, "revoked": revoke, "slow": stop_reading}
CAUSES = BY_CLIENTS | BY_HUB


@pytest.mark.parametrize("kind", STOCK)
@pytest.mark.parametrize("code", CAUSES)
def test_code_of_a_close_reaches_a_stock_client(
    hub: HubProcess, clients: list[ClientProcess], code: str, kind: str
) -> None:
    user = f"{code}-{kind}"
    client = start(hub, kind, user, clients)
    CAUSES[code](hub, client, user)
    client.wait(
        lambda client: code in [record["code"] for record in client.records_of("code")],
        why=lambda: f"the code {code}: {client.records[-6:]}",
    )
    if CODES[code].should_reconnect:
        client.wait_ready(2)
    else:
        client.wait(lambda client: client.records_of("step"), why="it does not return")
        assert [record["returns"] for record in client.records_of("step")] == [False]
        assert len(client.records_of("ready")) == 1


@pytest.mark.parametrize("kind", SDK)
@pytest.mark.parametrize("code", BY_HUB)
def test_code_of_a_close_reaches_the_sdk(hub: HubProcess, clients: list[ClientProcess], code: str, kind: str) -> None:
    user = f"{code}-{kind}"
    client = start(hub, kind, user, clients)
    CAUSES[code](hub, client, user)
    final = "waiting" if CODES[code].should_reconnect else "closed"
    client.wait(lambda client: code in [record["code"] for record in client.records_of(final)], why=f"{final}: {code}")
    client.wait(lambda client: code in [record["code"] for record in client.records_of("error")], why="its error")
    if CODES[code].should_reconnect:
        client.wait_ready(2)


@pytest.mark.parametrize("kind", STOCK)
def test_refused_token_stops_a_stock_client_with_the_code(
    hub: HubProcess, clients: list[ClientProcess], kind: str
) -> None:
    expired = issue("7", key=SECRET, expires_in_s=60, now_s=time.time() - 600)
    for refused, code in (("wrong", "unauthorized"), (expired, "expired")):
        client = ClientProcess(kind, hub.url, token=refused, channels=[])
        clients.append(client)
        client.wait(lambda client: client.records_of("step"), why="it gives up")
        assert [record["code"] for record in client.records_of("code")][:1] == [code]
        assert [record["returns"] for record in client.records_of("step")] == [False]


@pytest.mark.parametrize("kind", ["codes.js-polling", "codes.python-websocket", "sdk-websocket"])
def test_clients_return_to_a_node_that_restarts(tmp_path: Path, clients: list[ClientProcess], kind: str) -> None:
    hub = HubProcess(tmp_path, extra="drain_notice_s = 0.0\ndrain_s = 0.5\n").start()
    try:
        client = start(hub, kind, "7", clients)
        assert hub.terminate() == 0
        states = "code" if kind in STOCK else "waiting"
        client.wait(lambda client: "draining" in [record["code"] for record in client.records_of(states)])
        hub.start()
        client.wait_ready(2)
    finally:
        hub.stop()


def test_sdk_names_the_address_of_a_wrong_path(hub: HubProcess, clients: list[ClientProcess]) -> None:
    bearer = token("7")
    client = ClientProcess("sdk-polling", f"{hub.url}/nowhere", tokens=[bearer], channels=["orders:1"])
    clients.append(client)
    client.wait(lambda client: client.records_of("closed"), why="there is no hub")
    client.wait(lambda client: client.records_of("error"), why="its error")
    (error,) = client.records_of("error")
    assert error["code"] == "not_found"
    assert f"{hub.url}/nowhere/socket.io/ is no hub" in error["message"]


def test_unsubscribe_with_too_many_names_is_refused_as_a_whole(hub: HubProcess, clients: list[ClientProcess]) -> None:
    client = start(hub, "js-websocket", "many", clients)
    for fields in ("channels", "presence"):
        answer = client.request("tidings:unsubscribe", {fields: [f"orders:{number}" for number in range(500)]})
        assert answer["error"]["code"] == "too_many_channels"
    assert client.request("tidings:unsubscribe", {"channels": ["orders:1"]}) == {}


class TestStreams:
    """A program reads statuses, and the last event of a stream."""

    @pytest.mark.parametrize("code", BY_HUB)
    def test_code_of_a_close_is_the_last_event(self, hub: HubProcess, code: str) -> None:
        user = f"{code}-sse"
        headers = {"Authorization": f"Bearer {token(user, 'orders:*')}"}
        with requests.get(f"{hub.url}/sse?channels=orders:{user}", headers=headers, stream=True, timeout=30) as stream:
            lines = stream.iter_lines(decode_unicode=True)
            assert any("tidings:ready" in line for line in lines)
            before = hub.metric("tidings_closed_slow_total")
            if code == "slow":
                while hub.metric("tidings_closed_slow_total") == before:
                    hub.publish(f"orders:{user}", "updated", "x" * 9_000)
            else:
                CAUSES[code](hub, ClientProcess.__new__(ClientProcess), user)
            text = [line for line in lines if line]
            assert text[-2] == "event: tidings:close"
            assert json.loads(text[-1].removeprefix("data: "))["code"] == code

    def test_refusal_is_a_status_with_a_code_and_says_when_to_return(self, tmp_path: Path) -> None:
        hub = HubProcess(tmp_path, extra="connections_per_address = 1\nmax_connections = 2\n").start()
        try:
            bearer = token("7", "orders:*")
            headers = {"Authorization": f"Bearer {bearer}"}
            address = f"{hub.url}/sse?channels=orders:1"
            refused = requests.get(address, headers={"Authorization": "Bearer wrong"}, timeout=30)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
            assert "Retry-After" not in refused.headers
            with requests.get(address, headers=headers, stream=True, timeout=30) as first:
                assert first.status_code == 200
                second = requests.get(address, headers=headers, timeout=30)
                assert (second.status_code, second.json()["error"]["code"]) == (429, "too_many_connections")
                assert 1 <= int(second.headers["Retry-After"]) <= 10
                # As an EventSource of a page without TLS, or of another program, requests it.
                headers["Accept"] = "text/event-stream"
                third = requests.get(address, headers=headers, timeout=30)
                assert third.status_code == 200
                assert third.text.startswith("retry: ")
                assert '"too_many_connections"' in third.text
                refused = requests.get(address, headers=headers | {"Authorization": "Bearer wrong"}, timeout=30)
            wait_until(lambda: requests.get(f"{hub.url}/readyz", timeout=30).status_code == 200, why="ready")
        finally:
            hub.stop()


def test_engine_refuses_backends_in_the_form_of_the_api(tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, extra="api_body_max_bytes = 100000\n").start()
    try:
        status, body, _ = hub.request("POST", "/api/publish", b"x" * 200_000)
        assert (status, body["error"]["code"]) == (413, "too_large")
    finally:
        hub.stop()
