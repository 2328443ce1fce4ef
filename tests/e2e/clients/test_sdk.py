"""The JavaScript SDK with a real hub: in Node over each transport, and in Chromium with the bundle that hubs serve."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from support.browsers.chromium import BACK_S, chromium
from support.network.proxy import Proxy
from support.processes.client import ClientProcess
from support.processes.hub import ROOT, HubProcess, token
from support.processes.redis import RedisProcess
from support.programs.web_page import serve_pages
from tidings import Emitter

KINDS = ["sdk-websocket", "sdk-polling"]
TIMEOUT_MS = BACK_S * 1000
EXTRA = """
expiry_warning_s = 15.0
token_leeway_s = 0.0
drain_s = 0.5
"""


class NoWebSocket(Proxy):
    """A proxy in front of the hub that blocks WebSockets, like some company proxies."""

    def _filter(self, pair: Any, data: bytes) -> bytes:
        return data.replace(b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 403 Forbidden")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis")).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def shared(redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), "--broker", redis.url, extra=EXTRA).start()
    yield process
    process.stop()


def emit(redis: RedisProcess, channel: str, numbers: range) -> None:
    with Emitter(redis.url) as emitter:
        for number in numbers:
            emitter.emit("updated", {"n": number}, channel=channel)


def numbers(client: ClientProcess, channel: str) -> list[int]:
    return [data["n"] for data in client.data(channel)]


def wait_subscribed(client: ClientProcess, times: int = 1) -> ClientProcess:
    """Wait until the client's channel has reached the state `subscribed` this number of times."""
    client.wait(
        lambda client: sum(record.get("state") == "subscribed" for record in client.records_of("state")) >= times,
        within_s=BACK_S,
        why=f"subscribed {times} times",
    )
    return client


def request(client: ClientProcess, command: object) -> Any:
    before = len(client.records_of("ack"))
    client.send_command(command)
    client.wait(lambda client: len(client.records_of("ack")) > before, why=f"a response to {command}")
    return client.records_of("ack")[before]["answer"]


@pytest.mark.parametrize("kind", KINDS)
def test_missed_publications_arrive_once_and_in_order(
    kind: str, redis: RedisProcess, shared: HubProcess, clients: list[ClientProcess]
) -> None:
    channel = f"orders:{kind}"
    with closing(Proxy(shared.port, plain=True)) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        client = ClientProcess(kind, url, tokens=[token(kind, "orders:*")], channels=[channel])
        clients.append(client)
        wait_subscribed(client)
        token_count = len(client.records_of("token"))
        assert client.records_of("transport")[-1]["name"] == kind.removeprefix("sdk-")
        emit(redis, channel, range(30))
        client.wait(lambda client: len(client.data()) == 30, why="publications before the disconnect")
        proxy.refuse()
        emit(redis, channel, range(30, 60))
        proxy.accept_again()
        wait_subscribed(client, 2)
        emit(redis, channel, range(60, 90))
        client.wait(lambda client: len(client.data()) >= 90, why="publications during and after the disconnect")
    assert numbers(client, channel) == list(range(90))
    assert len(client.records_of("recovered")) == 1
    assert client.records_of("gap") == []
    # The token was still valid, so getToken was not called again.
    assert len(client.records_of("token")) == token_count


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", KINDS)
def test_restart_of_the_hub_loses_nothing(
    kind: str, redis: RedisProcess, clients: list[ClientProcess], tmp_path: Path
) -> None:
    hub = HubProcess(tmp_path, "--broker", redis.url, extra=EXTRA).start()
    try:
        channel = f"orders:killed-{kind}"
        client = ClientProcess(kind, hub.url, tokens=[token(kind, "orders:*")], channels=[channel])
        clients.append(client)
        wait_subscribed(client)
        emit(redis, channel, range(10))
        client.wait(lambda client: len(client.data()) == 10, why="publications before the restart")
        hub.stop()
        client.wait(lambda client: client.records_of("waiting"), why="the disconnect")
        emit(redis, channel, range(10, 20))
        # A publish without a connection is sent after the reconnect.
        client.send_command({"publish": ["chat:killed", "said", {"text": kind}]})
        hub.start()
        client.wait(lambda client: client.records_of("ack"), within_s=BACK_S, why="the receipt")
        emit(redis, channel, range(20, 30))
        client.wait(lambda client: len(client.data()) >= 30, why="all publications")
        assert numbers(client, channel) == list(range(30))
        assert len(client.records_of("recovered")) == 1
        assert client.records_of("ack")[0]["answer"]["duplicate"] is False
        (entry,) = request(client, {"history": ["chat:killed", 1]})
        assert (entry["data"], entry["cursor"]) == ({"text": kind}, client.records_of("ack")[0]["answer"]["cursor"])
    finally:
        hub.stop()


@pytest.mark.timeout(240)
def test_restart_of_a_hub_without_stored_history_is_a_gap(clients: list[ClientProcess], tmp_path: Path) -> None:
    hub = HubProcess(tmp_path, extra=EXTRA).start()
    try:
        client = ClientProcess("sdk-websocket", hub.url, tokens=[token("u", "orders:*")], channels=["orders:1"])
        clients.append(client)
        wait_subscribed(client)
        hub.publish("orders:1", "updated", {"n": 1})
        client.wait(lambda client: client.data(), why="publications before the restart")
        hub.stop()
        hub.start()
        client.wait(lambda client: client.records_of("gap"), within_s=BACK_S, why="the gap")
        hub.publish("orders:1", "updated", {"n": 2})
        client.wait(lambda client: len(client.data()) == 2, why="the publication after the restart")
        assert client.records_of("recovered") == []
    finally:
        hub.stop()


def test_token_is_refreshed_before_it_expires(shared: HubProcess, clients: list[ClientProcess]) -> None:
    tokens = [token("renewed", "orders:*", expires_in_s=20), token("renewed", "chat:*")]
    client = ClientProcess("sdk-websocket", shared.url, tokens=tokens, channels=["orders:renewed"])
    clients.append(client)
    wait_subscribed(client)
    # The hub accepted the new token, which does not cover the channel.
    client.wait(
        lambda client: client.records_of("state")[-1]["state"] == "denied", within_s=BACK_S, why="the new token"
    )
    assert client.records_of("state")[-1]["code"] == "forbidden"
    assert (len(client.records_of("ready")), client.records_of("waiting")) == (1, [])


def test_token_expires_during_the_connection(shared: HubProcess, clients: list[ClientProcess]) -> None:
    files: dict[str, Callable[[], str]] = {"/token": lambda: token("ended", "orders:*", expires_in_s=5)}
    with serve_pages(files) as backend:
        client = ClientProcess(
            "sdk-websocket", shared.url, token_url=f"{backend}/token", tokens=[], channels=["orders:ended"]
        )
        clients.append(client)
        wait_subscribed(client)
        serve_token = files.pop("/token")
        shared.publish("orders:ended", "updated", {"n": 1})
        client.wait(lambda client: client.data(), why="a publication")
        client.wait(lambda client: client.records_of("error") and client.records_of("waiting"), why="the token expires")
        shared.publish("orders:ended", "updated", {"n": 2})
        files["/token"] = serve_token
        client.wait(
            lambda client: len(client.data()) == 2, within_s=BACK_S, why="the publication missed without a token"
        )
        assert numbers(client, "orders:ended") == [1, 2]
        assert client.records_of("gap") == []
        client.send_command({"do": "close"})
        client.wait(lambda client: client.records_of("closed"), why="closed")


def test_refused_channel_is_denied_and_invalid_token_closes(shared: HubProcess, clients: list[ClientProcess]) -> None:
    denied = ClientProcess("sdk-websocket", shared.url, tokens=[token("denied")], channels=["orders:1"])
    clients.append(denied)
    denied.wait(lambda client: client.records_of("state"), why="a channel state")
    assert denied.records_of("state")[0] == {
        "kind": "state",
        "channel": "orders:1",
        "state": "denied",
        "code": "forbidden",
    }
    assert request(denied, {"publish": ["orders:1", "x", 1]}) == {"error": {"code": "forbidden"}}
    invalid = ClientProcess("sdk-polling", shared.url, tokens=["no.token.at-all"], channels=["orders:1"])
    clients.append(invalid)
    invalid.wait(lambda client: client.records_of("closed"), why="closed")
    assert invalid.records_of("closed")[0]["code"] == "unauthorized"


def test_channel_unsubscribed_by_a_backend_is_denied(shared: HubProcess, clients: list[ClientProcess]) -> None:
    client = ClientProcess("sdk-websocket", shared.url, tokens=[token("taken", "orders:*")], channels=["orders:taken"])
    clients.append(client)
    wait_subscribed(client)
    status, _, _ = shared.request("POST", "/api/users/taken/unsubscribe", {"channel": "orders:taken"})
    assert status == 200
    client.wait(lambda client: client.records_of("state")[-1]["state"] == "denied", why="the denied state")
    assert client.records_of("state")[-1]["code"] == "forbidden"


def test_client_falls_back_to_polling_without_websocket(shared: HubProcess, clients: list[ClientProcess]) -> None:
    with closing(NoWebSocket(shared.port)) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        client = ClientProcess("sdk", url, tokens=[token("fallback", "orders:*")], channels=["orders:fallback"])
        clients.append(client)
        wait_subscribed(client)
        assert {record["name"] for record in client.records_of("transport")} == {"polling"}
        shared.publish("orders:fallback", "updated", {"n": 1})
        client.wait(lambda client: client.data(), why="a publication")


def test_polling_first_moves_to_websocket(shared: HubProcess, clients: list[ClientProcess]) -> None:
    client = ClientProcess("sdk-upgrade", shared.url, tokens=[token("up", "orders:*")], channels=["orders:up"])
    clients.append(client)
    client.wait(
        lambda client: [record["name"] for record in client.records_of("transport")][-1:] == ["websocket"],
        why="the upgrade",
    )
    assert client.records_of("transport")[0]["name"] == "polling"
    shared.publish("orders:up", "updated", {"n": 1})
    client.wait(lambda client: client.data(), why="a publication")


def live_list(url: str) -> str:
    """Return the example page of the SDK's README, for a hub at `url`."""
    readme = (ROOT / "sdk_js" / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```html\n(.*?)```", readme, re.DOTALL)
    assert example is not None
    assert len(example[1].splitlines()) <= 20
    # `hub` is a global of the page's script: the test reads its transport.
    return example[1].replace("https://push.example.org", url)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("blocked", [False, True], ids=["websocket", "fallback"])
def test_live_list_of_the_readme_works_in_chromium(blocked: bool, tmp_path: Path) -> None:
    orders = [{"id": 1, "title": "Tea", "version": 3}, {"id": 2, "title": "Milk", "version": 1}]
    files: dict[str, Callable[[], str]] = {
        "/token": lambda: token("7", "orders:*"),
        "/orders": lambda: json.dumps(orders),
    }

    def push(op: str, **model: object) -> None:
        data = {"class": "Order", "model": model, "op": op, "version": model["version"]}
        hub.publish("orders:all", "updated_model", data)

    with serve_pages(files) as origin, chromium() as browser:
        hub = HubProcess(tmp_path, extra=f'origins = ["{origin}"]\n').start()
        proxy = NoWebSocket(hub.port) if blocked else Proxy(hub.port, plain=True)
        try:
            files["/"] = lambda: live_list(f"http://127.0.0.1:{proxy.port}")
            page = browser.new_page()
            page.set_default_timeout(TIMEOUT_MS)
            page.goto(origin)
            rows = page.locator("#orders li")
            expect(rows).to_have_text(["Tea", "Milk"], timeout=TIMEOUT_MS)
            transport = "polling" if blocked else "websocket"
            page.wait_for_function(f"() => hub.transport === '{transport}'")
            push("updated", id=1, title="Green tea", version=4)
            push("created", id=3, title="Honey", version=1)
            push("deleted", id=2, version=2)
            push("updated", id=1, title="Old tea", version=2)
            expect(rows).to_have_text(["Green tea", "Honey"], timeout=TIMEOUT_MS)
            # The restarted hub has no history, so the page loads its data again.
            orders[:] = [{"id": 9, "title": "Bread", "version": 1}]
            hub.stop()
            hub.start()
            # Without this call it would reconnect after at most 20 s.
            page.evaluate("() => hub.connect()")
            expect(rows).to_have_text(["Bread"], timeout=TIMEOUT_MS)
            push("updated", id=9, title="Rye bread", version=2)
            expect(rows).to_have_text(["Rye bread"], timeout=TIMEOUT_MS)
        finally:
            proxy.close()
            hub.stop()
