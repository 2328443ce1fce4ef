"""Application event handlers in a real hub: their responses to stock clients, and isolation of failing handlers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clients.test_access import call, connect, connect_ready, receive_event
from support.processes.client import ClientProcess
from support.processes.hub import ROOT, SECRET, HubProcess, environment, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until

MODULE = """
import time
from tidings.errors import Forbidden
from tidings_hub import App, Session

app = App()
left = []


@app.on("chat:send")
def send(session: Session, data: dict) -> dict:
    receipt = app.emit("message", {"from": session.user, "text": data["text"]}, channel="chat:hall")
    return {"cursor": receipt.cursor, "connection": session.connection, "claims": session.claims.channels}


@app.on("seen")
def seen(session, data):
    return app.emit("look", data, user=session.user, ack=True).wait(timeout_s=0.8).acks


@app.on("slow")
def slow(session, seconds):
    time.sleep(seconds)
    return seconds


@app.on("hog")
def hog(session, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))
    return "done"


@app.on("broken")
def broken(session):
    raise ValueError("token=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2VjcmV0 is wrong")


@app.on("exit")
def leave(session):
    raise SystemExit(3)


@app.on("unserializable")
def unserializable(session):
    return object()


@app.on("refuse")
def refuse(session):
    raise Forbidden("not on Sundays")


@app.on("nothing")
def nothing(session):
    pass


@app.on("disconnected-users")
def disconnected_users(session):
    return left


@app.on("raw")
def raw(session):
    app.sio.emit("from-sio", {"clients": len(app.sio.eio.clients)})


@app.on_start
def add_handler(sio):
    sio.on("sio-own", lambda sid, data: {"echo": data})


@app.on_connect
def connected(session):
    if session.user == "banned":
        raise Forbidden("you are banned")
    if session.user == "odd":
        raise RuntimeError("no such user")
    if session.user == "patient":
        time.sleep(60)
    return [f"orders:of-{session.user}", "nowhere:1"]


@app.on_disconnect
def disconnected(session):
    left.append(session.user)


@app.on_subscribe
def subscribed(session, channel):
    if channel == "chat:closed":
        raise Forbidden("closed today")
    if channel == "chat:broken":
        raise KeyError(channel)


@app.authorize
def authorize(session, channel, action):
    if channel.startswith("chat:forgotten"):
        return None
    return not (channel == "chat:quiet" and action == "publish")
"""
EXTRA = """
app = "realtime"
app_timeout_s = 1.0
app_handlers = 4
app_handler_queue = 8
stall_warn_s = 0.3
connect_timeout_s = 5.0
inbound_burst = 1000
"""


def start_hub(folder: Path, *flags: str, module: str = MODULE, extra: str = EXTRA) -> HubProcess:
    (folder / "realtime.py").write_text(module)
    return HubProcess(folder, *flags, extra=extra).start()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = start_hub(tmp_path_factory.mktemp("hub"))
    yield process
    process.stop()
    log = process.log.read_text()
    assert "eyJ" not in log
    assert SECRET not in log


@pytest.mark.parametrize("kind", ["js-websocket", "js-polling", "python-websocket"])
def test_handler_responds_to_a_stock_client_and_publishes(
    hub: HubProcess, clients: list[ClientProcess], kind: str
) -> None:
    user = f"ann-{kind}"
    client = ClientProcess(kind, hub.url, token=token(user), channels=["chat:hall"])
    clients.append(client.wait_ready())
    answer = client.request("chat:send", {"text": "hello"})
    assert answer["connection"] == client.records_of("ready")[0]["connection"]
    assert answer["claims"] == []
    client.wait(lambda client: {"from": user, "text": "hello"} in client.data("chat:hall"), why="the message")
    assert [record["cursor"] for record in client.records_of("publication")][-1] == answer["cursor"]


@pytest.mark.parametrize("kind", ["js-websocket", "js-polling", "python-polling"])
def test_handler_can_wait_for_an_acknowledgement_of_its_client(
    hub: HubProcess, clients: list[ClientProcess], kind: str
) -> None:
    client = ClientProcess(kind, hub.url, token=token(f"seen-{kind}"), channels=[], acks=True)
    clients.append(client.wait_ready())
    assert client.request("seen", "here") == 1
    assert client.data() == ["here"]


class TestResponses:
    @pytest.mark.parametrize(
        ("name", "data", "code"),
        [
            ("broken", [], "internal"),
            ("exit", [], "internal"),
            ("unserializable", [], "internal"),
            ("refuse", [], "forbidden"),
            ("chat:send", [{}], "internal"),
            ("chat:send", [], "bad_request"),
            ("chat:send", [{}, 1], "bad_request"),
            ("slow", [30], "timeout"),
            ("unknown", [1], "bad_request"),
        ],
    )
    def test_errors_are_sent_as_acknowledgements(
        self, hub: HubProcess, name: str, data: list[object], code: str
    ) -> None:
        client, _ = connect_ready(hub, {"token": token("errors")})
        client.send_text("421" + json.dumps([name, *data]))
        packet = client.receive_text()
        assert packet.startswith("431["), packet
        assert f'"code":"{code}"' in packet.replace(" ", "")
        assert call(client, "nothing", 1)["error"]["code"] == "bad_request"
        client.send_text('422["nothing"]')
        assert client.receive_text() == "432[null]"

    def test_failure_is_logged_once_with_its_traceback_and_without_secrets(self, hub: HubProcess) -> None:
        before = hub.metric("tidings_app_errors_total")
        client, _ = connect_ready(hub, {"token": token("loud")})
        for _ in range(5):
            client.send_text('421["broken"]')
            assert "internal" in client.receive_text()
        assert hub.metric("tidings_app_errors_total") == before + 5
        log_lines = [line for line in hub.log.read_text().splitlines() if "the handler of broken failed" in line]
        assert len(log_lines) == 1
        assert "in broken" in log_lines[0]
        assert "***" in log_lines[0]

    def test_handlers_can_use_python_socketio_directly(self, hub: HubProcess) -> None:
        client, _ = connect_ready(hub, {"token": token("raw")})
        client.send_text('42["raw"]')
        assert receive_event(client)[0] == "from-sio"
        assert call(client, "sio-own", 7) == {"echo": 7}


class TestIsolation:
    def test_slow_handler_does_not_delay_other_events(self, hub: HubProcess) -> None:
        client, _ = connect_ready(hub, {"token": token("both"), "channels": ["chat:hall"]})
        client.send_text('425["slow",0.8]')
        assert call(client, "refuse", None)["error"]["code"] == "bad_request"
        assert "error" not in call(client, "tidings:history", {"channel": "chat:hall"})
        assert client.receive_text() == "435[0.8]"

    def test_events_of_one_client_are_answered_in_order(self, hub: HubProcess) -> None:
        client, _ = connect_ready(hub, {"token": token("order")})
        for number, seconds in ((1, 0.2), (2, 0.0), (3, 0.0)):
            client.send_text(f'42{number}["slow",{seconds}]')
        assert [client.receive_text() for _ in range(3)] == ["431[0.2]", "432[0.0]", "433[0.0]"]

    def test_flood_of_one_event_is_refused_without_affecting_others(self, hub: HubProcess) -> None:
        flooding = [connect_ready(hub, {"token": token(f"flood-{number}")})[0] for number in range(6)]
        for client in flooding:
            for number in range(5):
                client.send_text(f'42{number}["slow",0.9]')
        bystander, _ = connect_ready(hub, {"token": token("bystander")})
        assert call(bystander, "chat:send", {"text": "still here"})["cursor"]
        answers = [client.receive_text() for client in flooding for _ in range(5)]
        assert sum("unavailable" in answer for answer in answers) >= 30 - 4 - 8
        assert sum("0.9" in answer for answer in answers) >= 4
        assert hub.metric("tidings_app_refused_total") >= 18

    def test_handler_that_blocks_the_event_loop_is_named_in_the_log(self, hub: HubProcess) -> None:
        client, _ = connect_ready(hub, {"token": token("hog")})
        assert call(client, "hog", 3.0) == "done"
        wait_until(lambda: hub.metric("tidings_loop_stalls_total") >= 1, why="the stall is counted")
        # A busy machine may stop the loop elsewhere as well. This stall has one line.
        reports = hub.log.read_text().split("the event loop has stood still")[1:]
        assert sum("in hog" in report for report in reports) == 1

    def test_connects_that_wait_for_a_handler_do_not_delay_other_events(self, hub: HubProcess) -> None:
        client, _ = connect_ready(hub, {"token": token("early")})
        waiting = [connect(hub, {"token": token("patient")}) for _ in range(4)]
        assert call(client, "tidings:subscribe", {"channels": ["chat:hall"]})["channels"]["chat:hall"] == {
            "recovered": False
        }
        # The handler timed out. The clients should reconnect, so the hub closes without an error packet.
        assert [client.close_code() for client in waiting] == [4001] * 4


class TestAuthorization:
    def test_handler_may_refuse_a_connect(self, hub: HubProcess) -> None:
        client = connect(hub, {"token": token("banned")})
        packet = client.receive_text()
        assert "you are banned" in packet
        assert '"forbidden"' in packet
        assert client.close_code() == 4502

    def test_client_may_reconnect_after_a_failed_connect_handler(self, hub: HubProcess) -> None:
        assert connect(hub, {"token": token("odd")}).close_code() == 4006

    def test_handler_may_refuse_an_event_stream(self, hub: HubProcess) -> None:
        status, answer, _ = hub.request(
            "GET", "/sse?channels=chat:hall", headers={"Authorization": f"Bearer {token('banned')}"}
        )
        assert (status, answer["error"]["message"]) == (403, "you are banned")

    def test_connect_handler_adds_channels_of_known_namespaces_only(self, hub: HubProcess) -> None:
        client, ready = connect_ready(hub, {"token": token("gina")})
        assert ready["channels"]["orders:of-gina"] == {"recovered": False}
        assert ready["channels"]["nowhere:1"]["error"]["code"] == "unknown_namespace"
        hub.publish("orders:of-gina", "shipped", 1)
        assert receive_event(client)[:2] == ["shipped", 1]

    def test_handlers_can_only_restrict_subscriptions_and_publishing(self, hub: HubProcess) -> None:
        channels = ["chat:hall", "chat:closed", "chat:broken", "chat:forgotten", "chat:quiet", "orders:1"]
        client, ready = connect_ready(hub, {"token": token("sue"), "channels": channels})
        codes = {name: ready["channels"][name].get("error", {}).get("code") for name in channels}
        assert codes == {
            "chat:hall": None, "chat:closed": "forbidden", "chat:broken": "internal", "chat:forgotten": "forbidden",
            "chat:quiet": None, "orders:1": "forbidden",
        }  # fmt: skip
        publication = {"event": "x", "data": 1}
        assert call(client, "tidings:publish", {"channel": "chat:quiet", **publication})["error"]["code"] == "forbidden"
        assert "cursor" in call(client, "tidings:publish", {"channel": "chat:hall", **publication})
        closed = call(client, "tidings:history", {"channel": "chat:closed"})
        assert closed["error"]["code"] == "forbidden"

    def test_disconnect_handler_is_called_once(self, hub: HubProcess) -> None:
        client, _ = connect_ready(hub, {"token": token("leaver")})
        call(client, "nothing", None)
        client.send_text("41")
        watcher, _ = connect_ready(hub, {"token": token("watcher")})

        def disconnected_users() -> list[str]:
            watcher.send_text('421["disconnected-users"]')
            names: list[str] = json.loads(watcher.receive_text()[3:])[0]
            return names

        wait_until(lambda: "leaver" in disconnected_users(), why="the disconnect handler")
        assert disconnected_users().count("leaver") == 1
        assert "banned" not in disconnected_users()


class TestModuleLoading:
    @pytest.mark.parametrize(
        "module", ["1 / 0", "from tidings_hub import App\napp = App()\napp.on_start(lambda sio: 1 / 0)"]
    )
    def test_module_that_cannot_be_loaded_ends_the_command(self, tmp_path: Path, module: str) -> None:
        (tmp_path / "realtime.py").write_text(module)
        command = [sys.executable, "-m", "tidings_hub", "serve", "--dev", "--port", "0", "--app", "realtime"]
        result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, timeout=60, check=False)
        assert result.returncode == 2
        assert b"ZeroDivisionError" in result.stderr
        assert b"realtime.py" in result.stderr

    def test_each_worker_loads_the_module(self, tmp_path: Path, shared_redis: RedisProcess, prefix: str) -> None:
        extra = EXTRA + f'broker = "{shared_redis.url}"\nprefix = "{prefix}"\n'
        process = start_hub(tmp_path, "--workers", "2", extra=extra)
        try:
            members = [
                connect_ready(process, {"token": token(f"w{number}"), "channels": ["chat:hall"]})[0]
                for number in range(6)
            ]
            assert call(members[0], "chat:send", {"text": "to all workers"})["cursor"]
            for member in members[1:]:
                assert receive_event(member)[1]["text"] == "to all workers"
        finally:
            process.stop()


def test_program_in_the_documentation_works(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "handlers.md").read_text()
    match = re.search(r"```python\n# realtime.py\n(.*?)```", text, re.DOTALL)
    assert match is not None
    assert len(match[1].strip().splitlines()) <= 15
    process = start_hub(tmp_path, "--dev", "--app", "realtime", module=match[1])
    try:
        client, _ = connect_ready(process, {"channels": ["chat:hall"]})
        answer = call(client, "chat:send", {"text": "hi"})
        assert answer["cursor"]
        assert "text" in call(client, "chat:send", {"text": ""})["error"]["message"]
    finally:
        process.stop()
