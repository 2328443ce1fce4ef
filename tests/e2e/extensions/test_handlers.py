"""Handlers of a user's own in a real hub: what stock clients are answered, and that a bad one hurts nobody else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clients.test_access import ask, connect, event, joined
from support.processes.client import ClientProcess
from support.processes.hub import ROOT, SECRET, HubProcess, environment, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until

MODULE = """
import time
from tidings.errors import Forbidden
from tidings_hub import App, Session

app = App()
gone = []


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


@app.on("unsayable")
def unsayable(session):
    return object()


@app.on("refuse")
def refuse(session):
    raise Forbidden("not on Sundays")


@app.on("nothing")
def nothing(session):
    pass


@app.on("who")
def who(session):
    return gone


@app.on("raw")
def raw(session):
    app.sio.emit("from-sio", {"clients": len(app.sio.eio.clients)})


@app.on_start
def more(sio):
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
    gone.append(session.user)


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


def started(folder: Path, *flags: str, module: str = MODULE, extra: str = EXTRA) -> HubProcess:
    (folder / "realtime.py").write_text(module)
    return HubProcess(folder, *flags, extra=extra).start()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = started(tmp_path_factory.mktemp("hub"))
    yield process
    process.stop()
    log = process.log.read_text()
    assert "eyJ" not in log
    assert SECRET not in log


@pytest.mark.parametrize("kind", ["js-websocket", "js-polling", "python-websocket"])
def test_a_stock_client_is_answered_and_others_are_told(
    hub: HubProcess, clients: list[ClientProcess], kind: str
) -> None:
    user = f"ann-{kind}"
    client = ClientProcess(kind, hub.url, token=token(user), channels=["chat:hall"])
    clients.append(client.wait_ready())
    answer = client.request("chat:send", {"text": "hello"})
    assert answer["connection"] == client.records_of("ready")[0]["connection"]
    assert answer["claims"] == []
    client.wait(lambda client: {"from": user, "text": "hello"} in client.data("chat:hall"), why="the message")
    assert [each["cursor"] for each in client.records_of("publication")][-1] == answer["cursor"]


@pytest.mark.parametrize("kind", ["js-websocket", "js-polling", "python-polling"])
def test_a_handler_waits_for_the_client_that_it_answers(
    hub: HubProcess, clients: list[ClientProcess], kind: str
) -> None:
    client = ClientProcess(kind, hub.url, token=token(f"seen-{kind}"), channels=[], acks=True)
    clients.append(client.wait_ready())
    assert client.request("seen", "here") == 1
    assert client.data() == ["here"]


class TestAnswers:
    @pytest.mark.parametrize(
        ("name", "data", "code"),
        [
            ("broken", [], "internal"),
            ("exit", [], "internal"),
            ("unsayable", [], "internal"),
            ("refuse", [], "forbidden"),
            ("chat:send", [{}], "internal"),
            ("chat:send", [], "bad_request"),
            ("chat:send", [{}, 1], "bad_request"),
            ("slow", [30], "timeout"),
            ("unheard-of", [1], "bad_request"),
        ],
    )
    def test_errors_are_answers(self, hub: HubProcess, name: str, data: list[object], code: str) -> None:
        made, _ = joined(hub, {"token": token("errors")})
        made.send_text("421" + json.dumps([name, *data]))
        said = made.receive_text()
        assert said.startswith("431["), said
        assert f'"code":"{code}"' in said.replace(" ", "")
        assert ask(made, "nothing", 1)["error"]["code"] == "bad_request"
        made.send_text('422["nothing"]')
        assert made.receive_text() == "432[null]"

    def test_a_failure_is_in_the_log_once_with_its_traceback_and_no_secret(self, hub: HubProcess) -> None:
        before = hub.metric("tidings_app_errors_total")
        made, _ = joined(hub, {"token": token("loud")})
        for _ in range(5):
            made.send_text('421["broken"]')
            assert "internal" in made.receive_text()
        assert hub.metric("tidings_app_errors_total") == before + 5
        told = [line for line in hub.log.read_text().splitlines() if "the handler of broken failed" in line]
        assert len(told) == 1
        assert "in broken" in told[0]
        assert "***" in told[0]

    def test_python_socketio_is_within_reach(self, hub: HubProcess) -> None:
        made, _ = joined(hub, {"token": token("raw")})
        made.send_text('42["raw"]')
        assert event(made)[0] == "from-sio"
        assert ask(made, "sio-own", 7) == {"echo": 7}


class TestContained:
    def test_a_slow_handler_delays_nothing_else(self, hub: HubProcess) -> None:
        made, _ = joined(hub, {"token": token("both"), "channels": ["chat:hall"]})
        made.send_text('425["slow",0.8]')
        assert ask(made, "refuse", None)["error"]["code"] == "bad_request"
        assert "error" not in ask(made, "tidings:history", {"channel": "chat:hall"})
        assert made.receive_text() == "435[0.8]"

    def test_events_of_one_client_are_answered_in_order(self, hub: HubProcess) -> None:
        made, _ = joined(hub, {"token": token("order")})
        for number, seconds in ((1, 0.2), (2, 0.0), (3, 0.0)):
            made.send_text(f'42{number}["slow",{seconds}]')
        assert [made.receive_text() for _ in range(3)] == ["431[0.2]", "432[0.0]", "433[0.0]"]

    def test_a_flood_of_one_event_is_refused_and_the_others_go_on(self, hub: HubProcess) -> None:
        made = [joined(hub, {"token": token(f"flood-{number}")})[0] for number in range(6)]
        for each in made:
            for number in range(5):
                each.send_text(f'42{number}["slow",0.9]')
        bystander, _ = joined(hub, {"token": token("bystander")})
        assert ask(bystander, "chat:send", {"text": "still here"})["cursor"]
        answers = [each.receive_text() for each in made for _ in range(5)]
        assert sum("unavailable" in answer for answer in answers) >= 30 - 4 - 8
        assert sum("0.9" in answer for answer in answers) >= 4
        assert hub.metric("tidings_app_refused_total") >= 18

    def test_who_never_yields_is_named_in_the_log(self, hub: HubProcess) -> None:
        made, _ = joined(hub, {"token": token("hog")})
        assert ask(made, "hog", 1.0) == "done"
        wait_until(lambda: hub.metric("tidings_loop_stalls_total") >= 1, why="the stall is counted")
        told = [line for line in hub.log.read_text().splitlines() if "the event loop has stood still" in line]
        assert len(told) == 1
        assert "in hog" in told[0]

    def test_connects_that_wait_for_a_handler_delay_no_other_event(self, hub: HubProcess) -> None:
        made, _ = joined(hub, {"token": token("early")})
        waiting = [connect(hub, {"token": token("patient")}) for _ in range(4)]
        assert ask(made, "tidings:subscribe", {"channels": ["chat:hall"]})["channels"]["chat:hall"] == {
            "recovered": False
        }
        # Nothing came in time: they may come back, so their transport closes without a final answer.
        assert [each.close_code() for each in waiting] == [4001] * 4


class TestWhoIsAsked:
    def test_a_connect_may_be_refused(self, hub: HubProcess) -> None:
        made = connect(hub, {"token": token("banned")})
        said = made.receive_text()
        assert "you are banned" in said
        assert '"forbidden"' in said
        assert made.close_code() == 4501

    def test_a_connect_whose_handler_fails_may_come_back(self, hub: HubProcess) -> None:
        assert connect(hub, {"token": token("odd")}).close_code() == 4006

    def test_an_event_stream_is_asked_about_as_well(self, hub: HubProcess) -> None:
        status, answer, _ = hub.request(
            "GET", "/sse?channels=chat:hall", headers={"Authorization": f"Bearer {token('banned')}"}
        )
        assert (status, answer["error"]["message"]) == (403, "you are banned")

    def test_a_connect_may_be_given_channels_but_none_without_rules(self, hub: HubProcess) -> None:
        made, ready = joined(hub, {"token": token("gina")})
        assert ready["channels"]["orders:of-gina"] == {"recovered": False}
        assert ready["channels"]["nowhere:1"]["error"]["code"] == "unknown_namespace"
        hub.publish("orders:of-gina", "shipped", 1)
        assert event(made)[:2] == ["shipped", 1]

    def test_subscriptions_and_publishing_are_restricted_and_never_widened(self, hub: HubProcess) -> None:
        channels = ["chat:hall", "chat:closed", "chat:broken", "chat:forgotten", "chat:quiet", "orders:1"]
        made, ready = joined(hub, {"token": token("sue"), "channels": channels})
        codes = {name: ready["channels"][name].get("error", {}).get("code") for name in channels}
        assert codes == {
            "chat:hall": None, "chat:closed": "forbidden", "chat:broken": "internal", "chat:forgotten": "forbidden",
            "chat:quiet": None, "orders:1": "forbidden",
        }  # fmt: skip
        sent = {"event": "x", "data": 1}
        assert ask(made, "tidings:publish", {"channel": "chat:quiet", **sent})["error"]["code"] == "forbidden"
        assert "cursor" in ask(made, "tidings:publish", {"channel": "chat:hall", **sent})
        closed = ask(made, "tidings:history", {"channel": "chat:closed"})
        assert closed["error"]["code"] == "forbidden"

    def test_a_disconnect_is_told_once(self, hub: HubProcess) -> None:
        made, _ = joined(hub, {"token": token("leaver")})
        ask(made, "nothing", None)
        made.send_text("41")
        watcher, _ = joined(hub, {"token": token("watcher")})

        def gone() -> list[str]:
            watcher.send_text('421["who"]')
            names: list[str] = json.loads(watcher.receive_text()[3:])[0]
            return names

        wait_until(lambda: "leaver" in gone(), why="being told")
        assert gone().count("leaver") == 1
        assert "banned" not in gone()


class TestLoading:
    @pytest.mark.parametrize(
        "module", ["1 / 0", "from tidings_hub import App\napp = App()\napp.on_start(lambda sio: 1 / 0)"]
    )
    def test_what_cannot_be_loaded_ends_the_command(self, tmp_path: Path, module: str) -> None:
        (tmp_path / "realtime.py").write_text(module)
        command = [sys.executable, "-m", "tidings_hub", "serve", "--dev", "--port", "0", "--app", "realtime"]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, timeout=60, check=False)
        assert done.returncode == 2
        assert b"ZeroDivisionError" in done.stderr
        assert b"realtime.py" in done.stderr

    def test_each_worker_loads_it(self, tmp_path: Path, shared_redis: RedisProcess, prefix: str) -> None:
        extra = EXTRA + f'broker = "{shared_redis.url}"\nprefix = "{prefix}"\n'
        process = started(tmp_path, "--workers", "2", extra=extra)
        try:
            made = [
                joined(process, {"token": token(f"w{number}"), "channels": ["chat:hall"]})[0] for number in range(6)
            ]
            assert ask(made[0], "chat:send", {"text": "to all workers"})["cursor"]
            for each in made[1:]:
                assert event(each)[1]["text"] == "to all workers"
        finally:
            process.stop()


def test_the_program_in_the_documentation_works(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "handlers.md").read_text()
    found = re.search(r"```python\n# realtime.py\n(.*?)```", text, re.DOTALL)
    assert found is not None
    assert len(found[1].strip().splitlines()) <= 15
    process = started(tmp_path, "--dev", "--app", "realtime", module=found[1])
    try:
        made, _ = joined(process, {"channels": ["chat:hall"]})
        answer = ask(made, "chat:send", {"text": "hi"})
        assert answer["cursor"]
        assert "text" in ask(made, "chat:send", {"text": ""})["error"]["message"]
    finally:
        process.stop()
