"""A real hub that asks a real backend over HTTP, and what its clients are told."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clients.test_access import ask, connect, event, joined
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


def started(folder: Path, server: HookServer, more: str = "") -> HubProcess:
    hooks = HOOKS.format(url=server.url, secret=SECRET, more=more)
    return HubProcess(folder, extra=EXTRA, config=CONFIG + hooks).start()


@pytest.fixture(scope="module")
def backend() -> Iterator[HookServer]:
    with HookServer() as server:
        yield server


@pytest.fixture(scope="module")
def hub(backend: HookServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = started(tmp_path_factory.mktemp("hub"), backend)
    yield process
    process.stop()
    log = process.log.read_text()
    assert "Traceback" not in log
    assert SECRET not in log


@pytest.fixture(autouse=True)
def _answers(backend: HookServer) -> None:
    backend.answer = respond({})


def by_hook(**answers: object) -> object:
    """Answer each kind of hook by its own."""
    return lambda handler, asked: answers.get(asked["hook"], respond({}))(handler, asked)  # type: ignore[operator]


def test_a_stock_client_is_asked_about_and_told(
    hub: HubProcess, backend: HookServer, clients: list[ClientProcess]
) -> None:
    backend.answer = by_hook(connect=respond({"channels": ["orders:of-ann", "nowhere:1"]}))  # type: ignore[assignment]
    client = ClientProcess("js-websocket", hub.url, token=token("ann", info={"name": "Ann"}), channels=["chat:hall"])
    clients.append(client.wait_ready())
    ready = client.records_of("ready")[0]
    (asked,) = backend.requests_of("connect", "ann")
    assert asked["claims"]["info"] == {"name": "Ann"}
    assert (asked["connection"], asked["remote"]) == (ready["connection"], "127.0.0.1")
    assert [one["channels"] for one in backend.requests_of("subscribe", "ann")] == [["chat:hall"]]
    assert ready["channels"]["nowhere:1"]["error"]["code"] == "unknown_namespace"
    hub.publish("orders:of-ann", "shipped", 1)
    client.wait(lambda client: 1 in client.data("orders:of-ann"), why="what the hook gave")
    assert "cursor" in client.request("tidings:publish", {"channel": "chat:hall", "event": "x", "data": {"a": 1}})
    (asked,) = backend.requests_of("publish", "ann")
    assert (asked["channel"], asked["event"], asked["data"]) == ("chat:hall", "x", {"a": 1})
    client.stop()
    wait_until(lambda: backend.requests_of("disconnect", "ann"), why="being told")
    assert backend.requests_of("disconnect", "ann")[0]["reason"]


class TestRefusals:
    def test_of_a_connect(self, hub: HubProcess, backend: HookServer) -> None:
        backend.answer = refuse("forbidden", "your bill is not paid")
        made = connect(hub, {"token": token("debtor")})
        assert "your bill is not paid" in made.receive_text()
        assert made.close_code() == 4501
        status, answer, _ = hub.request(
            "GET", "/sse?channels=chat:hall", headers={"Authorization": f"Bearer {token('debtor')}"}
        )
        assert (status, answer["error"]["code"]) == (403, "forbidden")
        assert backend.requests_of("disconnect", "debtor") == []

    def test_of_one_channel_and_of_a_publish(self, hub: HubProcess, backend: HookServer) -> None:
        backend.answer = by_hook(  # type: ignore[assignment]
            subscribe=respond({"channels": {"chat:b": {"error": {"code": "forbidden", "message": "members only"}}}}),
            publish=refuse("forbidden", "read only today"),
        )
        made, ready = joined(hub, {"token": token("sue"), "channels": ["chat:a", "chat:b", "orders:1"]})
        assert ready["channels"]["chat:a"] == {"recovered": False}
        assert ready["channels"]["chat:b"]["error"] == {"code": "forbidden", "message": "members only"}
        # What the rules refuse is not even asked about.
        assert backend.requests_of("subscribe", "sue")[0]["channels"] == ["chat:a", "chat:b"]
        said = ask(made, "tidings:publish", {"channel": "chat:a", "event": "x", "data": 1})
        assert said["error"]["message"] == "read only today"
        assert ask(made, "tidings:history", {"channel": "chat:b"})["error"]["code"] == "forbidden"


class TestWithoutAnAnswer:
    @pytest.mark.parametrize(
        "answer", [stall, respond({}, 500), respond(b"<html>"), respond({"ok": True}), refuse("nonsense")]
    )
    def test_nothing_is_allowed_and_clients_may_come_back(
        self, hub: HubProcess, backend: HookServer, answer: object
    ) -> None:
        made, _ = joined(hub, {"token": token("early"), "channels": ["chat:a"]})
        backend.answer = answer  # type: ignore[assignment]
        said = ask(made, "tidings:publish", {"channel": "chat:a", "event": "x", "data": 1})
        assert said["error"]["code"] == "unavailable"
        assert (
            ask(made, "tidings:subscribe", {"channels": ["chat:b"]})["channels"]["chat:b"]["error"]["code"]
            == "unavailable"
        )
        assert connect(hub, {"token": token("late")}).close_code() == 4000

    def test_a_backend_that_hangs_delays_nobody_who_is_connected(self, hub: HubProcess, backend: HookServer) -> None:
        made, _ = joined(hub, {"token": token("here"), "channels": ["chat:a"]})
        backend.answer = stall
        waiting = [connect(hub, {"token": token(f"w{n}")}) for n in range(12)]
        hub.publish("chat:a", "still", 1)
        assert event(made)[0] == "still"
        assert "cursor" in ask(made, "tidings:history", {"channel": "chat:a"})
        assert {each.close_code() for each in waiting} == {4000}

    def test_a_disconnect_is_told_again_until_it_is_taken(self, hub: HubProcess, backend: HookServer) -> None:
        made, _ = joined(hub, {"token": token("leaver")})
        backend.answer = respond({}, 503)
        made.send_text("41")
        wait_until(lambda: backend.requests_of("disconnect", "leaver"), why="the first try")
        backend.answer = respond({})
        wait_until(lambda: len(backend.requests_of("disconnect", "leaver")) >= 2, why="another try")
        assert len({one["id"] for one in backend.requests_of("disconnect", "leaver")}) == 1

    def test_what_came_of_hooks_is_counted(self, hub: HubProcess) -> None:
        text = hub.get("/metrics")[1].decode()
        for code in ("allowed", "refused", "timeout", "failed", "bad_answer", "told"):
            assert f'code="{code}"' in "\n".join(
                line for line in text.splitlines() if line.startswith("tidings_hooks_total")
            )

    def test_failing_open_is_a_choice_that_is_shown(self, backend: HookServer, tmp_path: Path) -> None:
        process = started(tmp_path, backend, "fail_open = true")
        try:
            backend.answer = respond({}, 500)
            made, _ = joined(process, {"token": token("u"), "channels": ["chat:a"]})
            assert "cursor" in ask(made, "tidings:publish", {"channel": "chat:a", "event": "x", "data": 1})
            backend.answer = refuse("forbidden")
            assert "error" in ask(made, "tidings:publish", {"channel": "chat:a", "event": "x", "data": 1})
            assert any("fail_open" in each for each in process.get("/healthz")[1]["insecure"])
        finally:
            process.stop()


def test_a_node_that_leaves_says_who_was_there(backend: HookServer, tmp_path: Path) -> None:
    process = started(tmp_path, backend)
    try:
        made = [joined(process, {"token": token(f"guest-{number}")})[0] for number in range(20)]
        assert process.terminate() == 0
        assert {each.close_code() for each in made} == {4002}
    finally:
        process.stop()
    told = {one["user"]: one["reason"] for one in backend.requests_of("disconnect") if one["user"].startswith("guest-")}
    assert len(told) == 20
    assert set(told.values()) == {"draining"}


def test_over_tls_only_a_certificate_that_holds_is_believed(tmp_path: Path) -> None:
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
            joined(process, {"token": token("ann")})
            assert server.requests_of("connect", "ann")
            process.stop()
            process.environment = {}
            process.start()
            assert connect(process, {"token": token("bob")}).close_code() == 4000
            assert server.requests_of("connect", "bob") == []
        finally:
            process.stop()
