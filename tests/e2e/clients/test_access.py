"""Who gets in, what they may do, and how they are cut off: a real hub, raw and stock clients."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.network.proxy import Proxy
from support.network.raw_client import RawWebSocket, request
from support.processes.client import ClientProcess
from support.processes.hub import API_KEY, SECRET, HubProcess, token
from support.waiting import wait_until
from tidings.tokens import issue

PATH = "/socket.io/?EIO=4&transport=websocket"
POLL = "/socket.io/?EIO=4&transport=polling"
EXTRA = """
expiry_warning_s = 2.0
auth_failures_per_minute = 1000
token_leeway_s = 0.0
channels_per_connection = 5
inbound_burst = 50
inbound_rate_per_s = 20.0
connect_timeout_s = 1.0
max_payload_bytes = 20000
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub"), "--log-level", "debug", extra=EXTRA).start()
    yield process
    process.stop()
    log = process.log.read_text()
    assert "Traceback" not in log
    # What the tests below sent as secrets must be nowhere in the log (threats 5).
    assert SECRET not in log
    assert API_KEY not in log
    assert "eyJ" not in log


def connect(hub: HubProcess, auth: object, **headers: str) -> RawWebSocket:
    """A raw WebSocket that has sent CONNECT."""
    made = RawWebSocket(hub.port, PATH, **headers)
    assert made.handshake.status == 101
    assert made.receive_text().startswith("0{")
    made.send_text("40" + json.dumps(auth))
    return made


def joined(hub: HubProcess, auth: object) -> tuple[RawWebSocket, Any]:
    """A raw WebSocket after `tidings:ready`, and what that said."""
    made = connect(hub, auth)
    assert made.receive_text().startswith('40{"sid"')
    return made, event(made)[1]


def event(made: RawWebSocket) -> Any:
    said = made.receive_text()
    assert said.startswith("42["), said
    return json.loads(said[2:])


def ask(made: RawWebSocket, name: str, data: object) -> Any:
    """Emit and wait for the acknowledgement, over whatever events come before it."""
    made.send_text("427" + json.dumps([name, data]))
    while True:
        said = made.receive_text()
        if said.startswith("437"):
            return json.loads(said[3:])[0]


class TestTokens:
    @pytest.mark.parametrize(
        ("auth", "code"),
        [
            ({}, "unauthorized"),
            ({"token": None}, "unauthorized"),
            ({"token": ""}, "unauthorized"),
            ({"token": 7}, "unauthorized"),
            ({"token": {"a": 1}}, "unauthorized"),
            ({"token": "a.b.c"}, "unauthorized"),
            ({"token": "x" * 10_000}, "unauthorized"),
            ({"token": issue("x", key="another-secret-of-enough-bytes-00")}, "unauthorized"),
            ({"token": issue("x", key=SECRET, expires_in_s=60, now_s=1_000_000)}, "expired"),
        ],
    )
    def test_a_refused_connect_is_answered_and_closed(self, hub: HubProcess, auth: object, code: str) -> None:
        made = connect(hub, auth)
        if code == "expired":
            # A client with a new token should come back: its transport closes without an answer that would stop it.
            assert made.close_code() == 4008
            return
        said = made.receive_text()
        assert said.startswith("44{")
        assert json.loads(said[2:])["data"]["code"] == code
        assert made.close_code() == 4501

    def test_a_bad_cursor_is_refused(self, hub: HubProcess) -> None:
        made = connect(hub, {"token": token("u"), "since": "nonsense"})
        assert json.loads(made.receive_text()[2:])["data"]["code"] == "bad_cursor"

    @pytest.mark.parametrize("channels", ["orders:1", {"a": 1}, [1], [["orders:1"]], [None]])
    def test_channels_must_be_a_list_of_strings(self, hub: HubProcess, channels: object) -> None:
        made = connect(hub, {"token": token("u", "*"), "channels": channels})
        assert json.loads(made.receive_text()[2:])["data"]["code"] == "bad_channel"

    def test_a_refused_connect_over_polling_is_answered(self, hub: HubProcess) -> None:
        sid = json.loads(request(hub.port, "GET", POLL).body[1:])["sid"]
        request(hub.port, "POST", f"{POLL}&sid={sid}", b'40{"token":"x"}')
        said = request(hub.port, "GET", f"{POLL}&sid={sid}")
        assert said.body.startswith(b'44{"message"')
        # The close comes with the next poll, and after it there is no such session.
        assert b"\x1e" not in said.body
        assert request(hub.port, "GET", f"{POLL}&sid={sid}").body == b"1"
        assert request(hub.port, "GET", f"{POLL}&sid={sid}").status == 400

    def test_the_end_of_a_token_is_announced_and_enforced(self, hub: HubProcess) -> None:
        made, ready = joined(hub, {"token": token("short", expires_in_s=3)})
        assert 1 < ready["expires_in_s"] <= 4
        name, data = event(made)
        assert name == "tidings:expiring"
        assert 0 < data["expires_in_s"] <= 2
        assert event(made)[1]["code"] == "expired"
        assert made.close_code() == 4008

    def test_a_refreshed_token_goes_on(self, hub: HubProcess) -> None:
        made, _ = joined(hub, {"token": token("fresh", "orders:*", expires_in_s=3), "channels": ["orders:1"]})
        stranger = ask(made, "tidings:refresh", {"token": token("stranger", expires_in_s=60)})
        assert stranger["error"]["code"] == "forbidden"
        answer = ask(made, "tidings:refresh", {"token": token("fresh", expires_in_s=60)})
        assert answer["left"] == ["orders:1"]
        assert 50 < answer["expires_in_s"] <= 61
        time.sleep(3.2)
        hub.publish("user:fresh", "hello", 1)
        assert event(made)[0] == "hello"

    def test_a_client_that_does_not_connect_is_closed(self, hub: HubProcess) -> None:
        made = RawWebSocket(hub.port, PATH)
        assert made.close_code() == 4505


class TestChannels:
    def test_each_channel_is_answered_by_itself(self, hub: HubProcess) -> None:
        wanted = ["orders:1", "other:1", "user:somebody", "nonsense", "", "a b:c", "orders:*", "orders:\n"]
        _, ready = joined(hub, {"token": token("eve", "orders:1"), "channels": wanted})
        codes = {
            name: answer.get("error", {}).get("code", answer.get("recovered"))
            for name, answer in ready["channels"].items()
        }
        assert codes == {
            "user:eve": False, "orders:1": False, "other:1": "unknown_namespace", "user:somebody": "forbidden",
            "nonsense": "bad_channel", "": "bad_channel", "a b:c": "bad_channel", "orders:*": "bad_channel",
            "orders:\n": "bad_channel",
        }  # fmt: skip

    def test_the_number_of_channels_is_bounded(self, hub: HubProcess) -> None:
        made, _ = joined(hub, {"token": token("many", "orders:*")})
        answer = ask(made, "tidings:subscribe", {"channels": [f"orders:{n}" for n in range(8)]})["channels"]
        refused = [name for name, each in answer.items() if each.get("error", {}).get("code") == "too_many_channels"]
        assert len(refused) == 4
        assert ask(made, "tidings:unsubscribe", {"channels": ["orders:0"]}) == {}
        again = ask(made, "tidings:subscribe", {"channels": ["orders:7"]})["channels"]
        assert again == {"orders:7": {"recovered": False}}

    @pytest.mark.parametrize("name", ["__proto__", "constructor", "toString"])
    def test_odd_names_are_plain_data(self, hub: HubProcess, name: str) -> None:
        made, _ = joined(hub, {"token": token(name, f"orders:{name}"), "channels": [f"orders:{name}"]})
        hub.publish(f"orders:{name}", name, {name: {name: 1}})
        assert event(made)[:3] == [name, {name: {name: 1}}, f"orders:{name}"]

    def test_nothing_is_published_to_nobody_in_particular(self, hub: HubProcess) -> None:
        listening, _ = joined(hub, {"token": token("victim")})
        for body in (
            {"event": "x", "data": 1},
            {"channel": "", "event": "x", "data": 1},
            {"channel": None, "event": "x", "data": 1},
            {"channels": [], "event": "x", "data": 1},
            {"user": "", "event": "x", "data": 1},
            {"channel": ["user:victim"], "event": "x", "data": 1},
            {"channel": "user:", "event": "x", "data": 1},
            {"channel": "*", "event": "x", "data": 1},
        ):
            status, answer, _ = hub.request("POST", "/api/publish", body)
            assert 400 <= status < 500, body
            assert answer["error"]["code"] in ("bad_channel", "bad_request")
        hub.publish("user:victim", "real", 1)
        assert event(listening)[0] == "real"

    @pytest.mark.parametrize(
        "raw", [b"NaN", b"Infinity", b"-Infinity", b'"\\ud800"', b"1e999", b"[" * 5000 + b"]" * 5000]
    )
    def test_data_that_would_break_clients_is_refused(self, hub: HubProcess, raw: bytes) -> None:
        status, answer, _ = hub.request("POST", "/api/publish", b'{"channel":"user:a","event":"x","data":' + raw + b"}")
        assert status == 400, answer


class TestCutOff:
    def test_a_revoked_user_is_gone_at_once_and_stays_gone(self, hub: HubProcess, clients: list[ClientProcess]) -> None:
        good = token("rita")
        for kind in ("js-websocket", "js-polling", "sse"):
            client = ClientProcess(kind, hub.url, token=good, channels=["chat:x"])
            clients.append(client)
        for client in clients:
            client.wait_ready()
        status, _, _ = hub.request("POST", "/api/revocations", {"user": "rita", "for_s": 600})
        assert status == 201
        for client in clients:
            client.wait(
                lambda client: client.records_of("close") or client.records_of("connect_error"), why="being told"
            )
            assert client.records_of("close")[0]["code"] == "revoked"
        # A stock client that was told goodbye does not come back.
        clients[0].wait(lambda client: client.records_of("disconnect"), why="the end")
        assert clients[0].records_of("disconnect")[0]["reason"] == "io server disconnect"
        made = connect(hub, {"token": good})
        assert json.loads(made.receive_text()[2:])["data"]["code"] == "revoked"
        clients[2].wait(lambda client: client.records_of("connect_error"), why="403 on return")
        assert clients[2].records_of("connect_error")[0]["message"] == "403"

    @pytest.mark.parametrize("kind", ["js-polling", "python-polling"])
    @pytest.mark.parametrize(("code", "comes_back"), [("revoked", False), ("disconnected", True)])
    def test_who_is_between_two_polls_is_told_as_well(
        self, hub: HubProcess, clients: list[ClientProcess], kind: str, code: str, comes_back: bool
    ) -> None:
        user = f"{kind}-{code}"
        proxy = Proxy(hub.port, plain=True)
        client = ClientProcess(kind, f"http://127.0.0.1:{proxy.port}", token=token(user), channels=["chat:x"])
        clients.append(client.wait_ready())
        proxy.pause()
        # Whatever poll waits at the hub has its answer now, and the next one does not arrive before the end.
        hub.publish(f"user:{user}", "before", 1)
        if comes_back:
            status, answer, _ = hub.request("POST", f"/api/users/{user}/disconnect")
            assert (status, answer["disconnected"]) == (200, 1)
        else:
            assert hub.request("POST", "/api/revocations", {"user": user, "for_s": 600})[0] == 201
        proxy.resume()
        client.wait(lambda client: client.records_of("close"), why="being told")
        assert client.records_of("close")[0]["code"] == code
        assert client.data() == [1]
        if comes_back:
            client.wait_ready(2)
        proxy.close()

    def test_a_revoked_token_leaves_the_users_others_alone(self, hub: HubProcess) -> None:
        first, _ = joined(hub, {"token": token("two", jti="one")})
        second, _ = joined(hub, {"token": token("two", jti="two")})
        hub.request("POST", "/api/revocations", {"jti": "one", "for_s": 60})
        assert event(first)[1]["code"] == "revoked"
        hub.publish("user:two", "still", 1)
        assert event(second)[0] == "still"

    def test_a_disconnected_user_may_come_back(self, hub: HubProcess, clients: list[ClientProcess]) -> None:
        client = ClientProcess("js-websocket", hub.url, token=token("dora"), channels=[])
        clients.append(client.wait_ready())
        status, answer, _ = hub.request("POST", "/api/users/dora/disconnect")
        assert (status, answer) == (200, {"disconnected": 1, "nodes": 1, "missing": []})
        client.wait_ready(2)
        assert client.records_of("close")[0]["code"] == "disconnected"

    def test_who_sends_too_fast_is_closed_with_a_code(self, hub: HubProcess) -> None:
        made, _ = joined(hub, {"token": token("flood")})
        for _ in range(80):
            made.send_text('42["tidings:history",{}]')
        assert made.close_code() == 4005
        wait_until(lambda: hub.metric("tidings_closed_too_fast_total") >= 1, why="it is counted")


class TestOrigins:
    @pytest.mark.parametrize(
        "origin",
        [
            "http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1",
            "http://127.0.0.1:{port}.evil.example", "http://x127.0.0.1:{port}",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("path", [POLL, PATH, "/sse?channels=chat:a"])
    def test_foreign_pages_are_refused(self, hub: HubProcess, origin: str, path: str) -> None:
        origin = origin.format(port=hub.port)
        forged = {"Host": f"127.0.0.1:{hub.port}", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
        connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=10)
        upgrade = {
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        }  # fmt: skip
        connection.request("GET", path, headers={"Origin": origin, **forged, **(upgrade if path == PATH else {})})
        assert connection.getresponse().status == 403
        connection.close()

    def test_the_hubs_own_page_is_served(self, hub: HubProcess) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=10)
        connection.request("GET", POLL, headers={"Origin": f"http://127.0.0.1:{hub.port}"})
        assert connection.getresponse().status == 200
        connection.close()


class TestEventStreams:
    @contextmanager
    def get(self, hub: HubProcess, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=10)
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as answer:
            yield answer
        connection.close()

    @pytest.mark.parametrize(
        ("path", "headers", "status", "code"),
        [
            ("/sse?channels=chat:a", {}, 401, "unauthorized"),
            ("/sse?channels=chat:a", {"Authorization": "Basic eDp5"}, 400, "bad_request"),
            ("/sse?channels=chat:a", {"Authorization": "Bearer x"}, 401, "unauthorized"),
            ("/sse?channels=", {"T": "1"}, 400, "bad_channel"),
            ("/sse", {"T": "1"}, 400, "bad_channel"),
            ("/sse?channels=nonsense", {"T": "1"}, 400, "bad_channel"),
            ("/sse?channels=orders:1", {"T": "1"}, 403, "forbidden"),
            ("/sse?channels=none:1", {"T": "1"}, 404, "unknown_namespace"),
            ("/sse?channels=chat:a", {"T": "1", "Last-Event-ID": "x"}, 400, "bad_cursor"),
        ],
    )
    def test_errors_are_answers(
        self, hub: HubProcess, path: str, headers: dict[str, str], status: int, code: str
    ) -> None:
        sent = dict(headers)
        if sent.pop("T", None):
            sent["Authorization"] = f"Bearer {token('s')}"
        with self.get(hub, path, **sent) as answer:
            said = answer.read()
        assert (answer.status, json.loads(said)["error"]["code"]) == (status, code)

    def test_a_token_in_the_query_works(self, hub: HubProcess) -> None:
        with self.get(hub, f"/sse?channels=chat:q,nonsense&token={token('q')}") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-store"
            lines = [answer.readline().decode().strip() for _ in range(5)]
            ready = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
            assert ready["channels"]["nonsense"]["error"]["code"] == "bad_channel"
            assert ready["channels"]["chat:q"] == {"recovered": False}
            hub.publish("chat:q", "hi", {"a": 1})
            while (line := answer.readline().decode()) != "event: hi\n":
                assert line
            assert json.loads(answer.readline()[6:]) == {"channel": "chat:q", "data": {"a": 1}}
