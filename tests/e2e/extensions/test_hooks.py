"""Webhooks: a real hub that sends requests to a real backend, and the results for its clients."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clients.test_access import call, connect, connect_ready, receive_event
from support.network.certificates import Authority
from support.network.hook_server import SECRET, HookServer, refuse, respond, stall
from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, token
from support.waiting import wait_until

EXTRA = """
connect_timeout_s = 5.0
app_handlers = 4
"""
HOOKS = """
[hooks]
url = "{url}"
events = ["connect", "subscribe", "publish", "disconnect"]
secret = "{secret}"
allow_private = true
timeout_s = 0.5
retries = 2
{more}
"""


def start_hub(folder: Path, server: HookServer, more: str = "") -> HubProcess:
    hooks = HOOKS.format(url=server.url, secret=SECRET, more=more)
    return HubProcess(folder, extra=EXTRA, config=CONFIG + hooks).start()


@pytest.fixture(scope="module")
def backend() -> Iterator[HookServer]:
    with HookServer() as server:
        yield server


@pytest.fixture(scope="module")
def hub(backend: HookServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = start_hub(tmp_path_factory.mktemp("hub"), backend)
    yield process
    process.stop()
    log = process.log.read_text()
    assert "Traceback" not in log
    assert SECRET not in log


@pytest.fixture(autouse=True)
def _answers(backend: HookServer) -> None:
    backend.answer = respond({})


def by_hook(**answers: object) -> object:
    """Return a response function that uses a different one for each kind of hook."""
    return lambda handler, request: answers.get(request["hook"], respond({}))(handler, request)  # type: ignore[operator]


def test_hooks_are_called_for_a_stock_client(
    hub: HubProcess, backend: HookServer, clients: list[ClientProcess]
) -> None:
    backend.answer = by_hook(connect=respond({"channels": ["orders:of-ann", "nowhere:1"]}))  # type: ignore[assignment]
    client = ClientProcess("js-websocket", hub.url, token=token("ann", info={"name": "Ann"}), channels=["chat:hall"])
    clients.append(client.wait_ready())
    ready = client.records_of("ready")[0]
    (connect_request,) = backend.requests_of("connect", "ann")
    assert connect_request["claims"]["info"] == {"name": "Ann"}
    assert (connect_request["connection"], connect_request["remote"]) == (ready["connection"], "127.0.0.1")
    assert [data["channels"] for data in backend.requests_of("subscribe", "ann")] == [["chat:hall"]]
    assert ready["channels"]["nowhere:1"]["error"]["code"] == "unknown_namespace"
    hub.publish("orders:of-ann", "shipped", 1)
    client.wait(
        lambda client: 1 in client.data("orders:of-ann"), why="a publication in the channel that the hook added"
    )
    assert "cursor" in client.request("tidings:publish", {"channel": "chat:hall", "event": "x", "data": {"a": 1}})
    (publish_request,) = backend.requests_of("publish", "ann")
    assert (publish_request["channel"], publish_request["event"], publish_request["data"]) == (
        "chat:hall",
        "x",
        {"a": 1},
    )
    client.stop()
    wait_until(lambda: backend.requests_of("disconnect", "ann"), why="the disconnect hook")
    assert backend.requests_of("disconnect", "ann")[0]["reason"]


class TestRefusals:
    def test_hook_refuses_a_connect(self, hub: HubProcess, backend: HookServer) -> None:
        backend.answer = refuse("forbidden", "your bill is not paid")
        client = connect(hub, {"token": token("debtor")})
        assert "your bill is not paid" in client.receive_text()
        assert client.close_code() == 4502
        status, answer, _ = hub.request(
            "GET", "/sse?channels=chat:hall", headers={"Authorization": f"Bearer {token('debtor')}"}
        )
        assert (status, answer["error"]["code"]) == (403, "forbidden")
        assert backend.requests_of("disconnect", "debtor") == []

    def test_hook_refuses_one_channel_and_a_publish(self, hub: HubProcess, backend: HookServer) -> None:
        backend.answer = by_hook(  # type: ignore[assignment]
            subscribe=respond({"channels": {"chat:b": {"error": {"code": "forbidden", "message": "members only"}}}}),
            publish=refuse("forbidden", "read only today"),
        )
        client, ready = connect_ready(hub, {"token": token("sue"), "channels": ["chat:a", "chat:b", "orders:1"]})
        assert ready["channels"]["chat:a"] == {"recovered": False}
        assert ready["channels"]["chat:b"]["error"] == {"code": "forbidden", "message": "members only"}
        # The hub does not send channels to the hook that its own rules refuse.
        assert backend.requests_of("subscribe", "sue")[0]["channels"] == ["chat:a", "chat:b"]
        answer = call(client, "tidings:publish", {"channel": "chat:a", "event": "x", "data": 1})
        assert answer["error"]["message"] == "read only today"
        assert call(client, "tidings:history", {"channel": "chat:b"})["error"]["code"] == "forbidden"


class TestFailingBackend:
    @pytest.mark.parametrize(
        "answer", [stall, respond({}, 500), respond(b"<html>"), respond({"ok": True}), refuse("nonsense")]
    )
    def test_requests_are_refused_and_clients_may_retry(
        self, hub: HubProcess, backend: HookServer, answer: object
    ) -> None:
        client, _ = connect_ready(hub, {"token": token("early"), "channels": ["chat:a"]})
        backend.answer = answer  # type: ignore[assignment]
        answer = call(client, "tidings:publish", {"channel": "chat:a", "event": "x", "data": 1})
        assert answer["error"]["code"] == "unavailable"
        assert (
            call(client, "tidings:subscribe", {"channels": ["chat:b"]})["channels"]["chat:b"]["error"]["code"]
            == "unavailable"
        )
        assert connect(hub, {"token": token("late")}).close_code() == 4000

    def test_hanging_backend_does_not_delay_connected_clients(self, hub: HubProcess, backend: HookServer) -> None:
        client, _ = connect_ready(hub, {"token": token("here"), "channels": ["chat:a"]})
        backend.answer = stall
        waiting = [connect(hub, {"token": token(f"w{n}")}) for n in range(12)]
        hub.publish("chat:a", "still", 1)
        assert receive_event(client)[0] == "still"
        assert "cursor" in call(client, "tidings:history", {"channel": "chat:a"})
        assert {client.close_code() for client in waiting} == {4000}

    def test_disconnect_hook_is_retried_until_it_succeeds(self, hub: HubProcess, backend: HookServer) -> None:
        client, _ = connect_ready(hub, {"token": token("leaver")})
        backend.answer = respond({}, 503)
        client.send_text("41")
        wait_until(lambda: backend.requests_of("disconnect", "leaver"), why="the first attempt")
        backend.answer = respond({})
        wait_until(lambda: len(backend.requests_of("disconnect", "leaver")) >= 2, why="another attempt")
        assert len({hook_request["id"] for hook_request in backend.requests_of("disconnect", "leaver")}) == 1

    def test_results_of_hooks_are_counted(self, hub: HubProcess) -> None:
        text = hub.get("/metrics")[1].decode()
        for code in ("allowed", "refused", "timeout", "failed", "bad_answer", "told"):
            assert f'code="{code}"' in "\n".join(
                line for line in text.splitlines() if line.startswith("tidings_hooks_total")
            )

    def test_fail_open_allows_requests_and_is_reported_as_insecure(self, backend: HookServer, tmp_path: Path) -> None:
        process = start_hub(tmp_path, backend, "fail_open = true")
        try:
            backend.answer = respond({}, 500)
            client, _ = connect_ready(process, {"token": token("u"), "channels": ["chat:a"]})
            assert "cursor" in call(client, "tidings:publish", {"channel": "chat:a", "event": "x", "data": 1})
            backend.answer = refuse("forbidden")
            assert "error" in call(client, "tidings:publish", {"channel": "chat:a", "event": "x", "data": 1})
            assert any("fail_open" in setting for setting in process.get("/healthz")[1]["insecure"])
        finally:
            process.stop()


def test_draining_node_sends_a_disconnect_hook_for_each_session(backend: HookServer, tmp_path: Path) -> None:
    process = start_hub(tmp_path, backend)
    try:
        guests = [connect_ready(process, {"token": token(f"guest-{number}")})[0] for number in range(20)]
        assert process.terminate() == 0
        assert {guest.close_code() for guest in guests} == {4002}
    finally:
        process.stop()
    disconnects = backend.requests_of("disconnect")
    reasons = {data["user"]: data["reason"] for data in disconnects if data["user"].startswith("guest-")}
    assert len(reasons) == 20
    assert set(reasons.values()) == {"draining"}


def test_tls_backend_requires_a_trusted_certificate(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "authority")
    certificate, key = authority.issue("backend")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HookServer(tls=context) as server:
        hooks = HOOKS.format(url=server.url, secret=SECRET, more="")
        process = HubProcess(tmp_path, extra=EXTRA, config=CONFIG + hooks)
        process.environment = {"SSL_CERT_FILE": str(authority.file)}
        try:
            process.start()
            connect_ready(process, {"token": token("ann")})
            assert server.requests_of("connect", "ann")
            process.stop()
            process.environment = {}
            process.start()
            assert connect(process, {"token": token("bob")}).close_code() == 4000
            assert server.requests_of("connect", "bob") == []
        finally:
            process.stop()
