"""Access control of a real hub: authentication, authorization and forced disconnects, with raw and stock clients."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.network.proxy import Proxy
from support.network.raw_client import RawWebSocket, masked_frame, request
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
    # The log must not contain any secret that the tests below send.
    assert SECRET not in log
    assert API_KEY not in log
    assert "eyJ" not in log


def connect(hub: HubProcess, auth: object, **headers: str) -> RawWebSocket:
    """Open a raw WebSocket and send CONNECT."""
    client = RawWebSocket(hub.port, PATH, **headers)
    assert client.handshake.status == 101
    assert client.receive_text().startswith("0{")
    client.send_text("40" + json.dumps(auth))
    return client


def connect_ready(hub: HubProcess, auth: object) -> tuple[RawWebSocket, Any]:
    """Connect a raw WebSocket, and return it with the data of `tidings:ready`."""
    client = connect(hub, auth)
    assert client.receive_text().startswith('40{"sid"')
    return client, receive_event(client)[1]


def receive_event(client: RawWebSocket) -> Any:
    packet = client.receive_text()
    assert packet.startswith("42["), packet
    return json.loads(packet[2:])


def call(client: RawWebSocket, name: str, data: object) -> Any:
    """Emit an event and return its acknowledgement; events that arrive before it are skipped."""
    client.send_text("427" + json.dumps([name, data]))
    while True:
        packet = client.receive_text()
        if packet.startswith("437"):
            return json.loads(packet[3:])[0]


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
    def test_refused_connect_gets_an_error_and_is_closed(self, hub: HubProcess, auth: object, code: str) -> None:
        client = connect(hub, auth)
        packet = client.receive_text()
        assert packet.startswith("44{")
        assert json.loads(packet[2:])["data"]["code"] == code
        assert client.close_code() == {"unauthorized": 4501, "expired": 4008}[code]

    @pytest.mark.parametrize("auth", ["the token", ["the token"], True])
    def test_auth_that_is_no_object_is_refused_with_a_code(self, hub: HubProcess, auth: object) -> None:
        """`auth: token` in place of `auth: {token}`. Before, a stock client retried for ever, without a reason."""
        client = connect(hub, auth)
        packet = client.receive_text()
        assert json.loads(packet[2:])["data"]["code"] == "bad_request"
        assert "auth must be an object" in packet
        assert client.close_code() == 4500

    def test_empty_since_is_no_cursor(self, hub: HubProcess) -> None:
        """A Java client can send only strings, also before it has a cursor."""
        _, ready = connect_ready(hub, {"token": token("u"), "channels": "orders:1", "since": ""})
        assert ready["channels"]["user:u"] == {"recovered": False}

    def test_malformed_cursor_is_refused(self, hub: HubProcess) -> None:
        client = connect(hub, {"token": token("u"), "since": "nonsense"})
        assert json.loads(client.receive_text()[2:])["data"]["code"] == "bad_cursor"

    @pytest.mark.parametrize("channels", [7, {"a": 1}, [1], [["orders:1"]], [None]])
    def test_channels_must_be_a_list_of_strings(self, hub: HubProcess, channels: object) -> None:
        client = connect(hub, {"token": token("u", "*"), "channels": channels})
        assert json.loads(client.receive_text()[2:])["data"]["code"] == "bad_channel"

    def test_channels_may_be_one_string(self, hub: HubProcess) -> None:
        """A client whose `auth` can only hold strings cannot send a list."""
        client = connect(hub, {"token": token("u", "*"), "channels": "orders:1, chat:a,,"})
        assert client.receive_text().startswith('40{"sid"')
        ready = json.loads(client.receive_text()[2:])[1]
        assert sorted(ready["channels"]) == ["chat:a", "orders:1", "user:u"]
        client.send_text('420["tidings:unsubscribe",{"channels":"orders:1,chat:a"}]')
        assert client.receive_text() == "430[{}]"
        client.send_text('421["tidings:subscribe",{"channels":"chat:b"}]')
        assert '"chat:b":{"recovered":false}' in client.receive_text()

    def test_refused_connect_over_polling_gets_an_error(self, hub: HubProcess) -> None:
        sid = json.loads(request(hub.port, "GET", POLL).body[1:])["sid"]
        request(hub.port, "POST", f"{POLL}&sid={sid}", b'40{"token":"x"}')
        response = request(hub.port, "GET", f"{POLL}&sid={sid}")
        assert response.body.startswith(b'44{"message"')
        # The next poll receives the close packet. After it the session is unknown.
        assert b"\x1e" not in response.body
        assert request(hub.port, "GET", f"{POLL}&sid={sid}").body == b"1"
        assert request(hub.port, "GET", f"{POLL}&sid={sid}").status == 400

    def test_token_expiry_is_announced_and_enforced(self, hub: HubProcess) -> None:
        client, ready = connect_ready(hub, {"token": token("short", expires_in_s=3)})
        assert 1 < ready["expires_in_s"] <= 4
        name, data = receive_event(client)
        assert name == "tidings:expiring"
        assert 0 < data["expires_in_s"] <= 2
        assert receive_event(client)[1]["code"] == "expired"
        assert client.close_code() == 4008

    def test_refreshed_token_keeps_the_connection_open(self, hub: HubProcess) -> None:
        client, _ = connect_ready(hub, {"token": token("fresh", "orders:*", expires_in_s=3), "channels": ["orders:1"]})
        refusal = call(client, "tidings:refresh", {"token": token("stranger", expires_in_s=60)})
        assert refusal["error"]["code"] == "forbidden"
        answer = call(client, "tidings:refresh", {"token": token("fresh", expires_in_s=60)})
        assert answer["left"] == ["orders:1"]
        assert 50 < answer["expires_in_s"] <= 61
        time.sleep(3.2)
        hub.publish("user:fresh", "hello", 1)
        assert receive_event(client)[0] == "hello"

    def test_a_client_that_does_not_connect_is_closed(self, hub: HubProcess) -> None:
        client = RawWebSocket(hub.port, PATH)
        assert client.close_code() == 4012


class TestChannels:
    def test_ready_reports_each_channel_separately(self, hub: HubProcess) -> None:
        channels = ["orders:1", "other:1", "user:somebody", "nonsense", "", "a b:c", "orders:*", "orders:\n"]
        _, ready = connect_ready(hub, {"token": token("eve", "orders:1"), "channels": channels})
        codes = {
            name: answer.get("error", {}).get("code", answer.get("recovered"))
            for name, answer in ready["channels"].items()
        }
        assert codes == {
            "user:eve": False, "orders:1": False, "other:1": "unknown_namespace", "user:somebody": "forbidden",
            "nonsense": "bad_channel", "": "bad_channel", "a b:c": "bad_channel", "orders:*": "bad_channel",
            "orders:\n": "bad_channel",
        }  # fmt: skip

    def test_number_of_channels_per_connection_is_limited(self, hub: HubProcess) -> None:
        client, _ = connect_ready(hub, {"token": token("many", "orders:*")})
        answer = call(client, "tidings:subscribe", {"channels": [f"orders:{n}" for n in range(8)]})["channels"]
        refused = [
            name for name, result in answer.items() if result.get("error", {}).get("code") == "too_many_channels"
        ]
        assert len(refused) == 4
        assert call(client, "tidings:unsubscribe", {"channels": ["orders:0"]}) == {}
        answer = call(client, "tidings:subscribe", {"channels": ["orders:7"]})["channels"]
        assert answer == {"orders:7": {"recovered": False}}

    @pytest.mark.parametrize("name", ["__proto__", "constructor", "toString"])
    def test_javascript_builtin_names_are_plain_data(self, hub: HubProcess, name: str) -> None:
        client, _ = connect_ready(hub, {"token": token(name, f"orders:{name}"), "channels": [f"orders:{name}"]})
        hub.publish(f"orders:{name}", name, {name: {name: 1}})
        assert receive_event(client)[:3] == [name, {name: {name: 1}}, f"orders:{name}"]

    def test_publication_without_a_valid_target_is_refused(self, hub: HubProcess) -> None:
        listener, _ = connect_ready(hub, {"token": token("victim")})
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
        assert receive_event(listener)[0] == "real"

    @pytest.mark.parametrize(
        "raw", [b"NaN", b"Infinity", b"-Infinity", b'"\\ud800"', b"1e999", b"[" * 5000 + b"]" * 5000]
    )
    def test_data_that_clients_cannot_parse_is_refused(self, hub: HubProcess, raw: bytes) -> None:
        status, answer, _ = hub.request("POST", "/api/publish", b'{"channel":"user:a","event":"x","data":' + raw + b"}")
        assert status == 400, answer


class TestForcedDisconnect:
    def test_revoked_user_is_disconnected_and_cannot_reconnect(
        self, hub: HubProcess, clients: list[ClientProcess]
    ) -> None:
        valid = token("rita")
        for kind in ("js-websocket", "js-polling", "sse"):
            client = ClientProcess(kind, hub.url, token=valid, channels=["chat:x"])
            clients.append(client)
        for client in clients:
            client.wait_ready()
        status, _, _ = hub.request("POST", "/api/revocations", {"user": "rita", "for_s": 600})
        assert status == 201
        for client in clients:
            client.wait(
                lambda client: client.records_of("close") or client.records_of("connect_error"), why="the close notice"
            )
            assert client.records_of("close")[0]["code"] == "revoked"
        # A stock client does not reconnect after a disconnect packet.
        clients[0].wait(lambda client: client.records_of("disconnect"), why="the disconnect")
        assert clients[0].records_of("disconnect")[0]["reason"] == "io server disconnect"
        client = connect(hub, {"token": valid})
        assert json.loads(client.receive_text()[2:])["data"]["code"] == "revoked"
        clients[2].wait(lambda client: client.records_of("connect_error"), why="403 on reconnect")
        assert clients[2].records_of("connect_error")[0]["message"] == "403"

    @pytest.mark.parametrize("kind", ["js-polling", "python-polling"])
    @pytest.mark.parametrize(("code", "reconnects"), [("revoked", False), ("disconnected", True)])
    def test_client_between_two_polls_receives_the_close_notice(
        self, hub: HubProcess, clients: list[ClientProcess], kind: str, code: str, reconnects: bool
    ) -> None:
        user = f"{kind}-{code}"
        proxy = Proxy(hub.port, plain=True)
        client = ClientProcess(kind, f"http://127.0.0.1:{proxy.port}", token=token(user), channels=["chat:x"])
        clients.append(client.wait_ready())
        proxy.pause()
        # This answers the poll that waits at the hub. The next poll arrives only after the disconnect.
        hub.publish(f"user:{user}", "before", 1)
        if reconnects:
            status, answer, _ = hub.request("POST", f"/api/users/{user}/disconnect")
            assert (status, answer["disconnected"]) == (200, 1)
        else:
            assert hub.request("POST", "/api/revocations", {"user": user, "for_s": 600})[0] == 201
        proxy.resume()
        client.wait(lambda client: client.records_of("close"), why="the close notice")
        assert client.records_of("close")[0]["code"] == code
        assert client.data() == [1]
        if reconnects:
            client.wait_ready(2)
        proxy.close()

    def test_revoking_a_token_keeps_other_tokens_of_the_user(self, hub: HubProcess) -> None:
        first, _ = connect_ready(hub, {"token": token("two", jti="one")})
        second, _ = connect_ready(hub, {"token": token("two", jti="two")})
        hub.request("POST", "/api/revocations", {"jti": "one", "for_s": 60})
        assert receive_event(first)[1]["code"] == "revoked"
        hub.publish("user:two", "still", 1)
        assert receive_event(second)[0] == "still"

    def test_disconnected_user_may_reconnect(self, hub: HubProcess, clients: list[ClientProcess]) -> None:
        client = ClientProcess("js-websocket", hub.url, token=token("dora"), channels=[])
        clients.append(client.wait_ready())
        status, answer, _ = hub.request("POST", "/api/users/dora/disconnect")
        assert (status, answer) == (200, {"disconnected": 1, "nodes": 1, "missing": []})
        client.wait_ready(2)
        assert client.records_of("close")[0]["code"] == "disconnected"

    def test_client_that_sends_too_fast_is_closed_with_a_code(self, hub: HubProcess) -> None:
        client, _ = connect_ready(hub, {"token": token("flood")})
        # In one write, so that the rate does not depend on the speed of this machine.
        client.send(masked_frame(1, b'42["tidings:history",{}]') * 160)
        assert client.close_code() == 4005
        wait_until(lambda: hub.metric("tidings_closed_too_fast_total") >= 1, why="the close is counted")


class TestOrigins:
    @pytest.mark.parametrize(
        "origin",
        [
            "http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1",
            "http://127.0.0.1:{port}.evil.example", "http://x127.0.0.1:{port}",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("path", [POLL, PATH, "/sse?channels=chat:a"])
    def test_pages_of_other_origins_are_refused(self, hub: HubProcess, origin: str, path: str) -> None:
        origin = origin.format(port=hub.port)
        forged = {"Host": f"127.0.0.1:{hub.port}", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
        connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=10)
        upgrade = {
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        }  # fmt: skip
        connection.request("GET", path, headers={"Origin": origin, **forged, **(upgrade if path == PATH else {})})
        response = connection.getresponse()
        if path == PATH:
            # Accepted, so that the page learns why, and closed at once.
            assert response.status == 101
        else:
            assert response.status == 403
            assert b"bad_origin" in response.read()
        connection.close()

    def test_refused_websocket_gets_the_reason_and_no_session(self, hub: HubProcess) -> None:
        before = hub.metric("tidings_opened_websocket_total")
        client = RawWebSocket(hub.port, PATH, Origin="https://evil.example")
        client.send_text("40" + json.dumps({"token": token("u")}))
        assert client.receive_text().startswith("0{")
        assert json.loads(client.receive_text().removeprefix("44"))["data"]["code"] == "bad_origin"
        assert client.close_code() == 4504
        assert hub.metric("tidings_opened_websocket_total") == before

    def test_pages_of_the_hub_itself_are_allowed(self, hub: HubProcess) -> None:
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
    def test_errors_are_http_responses(
        self, hub: HubProcess, path: str, headers: dict[str, str], status: int, code: str
    ) -> None:
        request_headers = dict(headers)
        if request_headers.pop("T", None):
            request_headers["Authorization"] = f"Bearer {token('s')}"
        with self.get(hub, path, **request_headers) as response:
            body = response.read()
        assert (response.status, json.loads(body)["error"]["code"]) == (status, code)

    @pytest.mark.parametrize("query", ["channels=chat:a&channels=chat:b", "channels=chat:a,+chat:b"])
    def test_list_is_read_as_http_clients_write_it(self, hub: HubProcess, query: str) -> None:
        """`requests`, `httpx` and `aiohttp` repeat a parameter for each entry of a list."""
        with self.get(hub, f"/sse?{query}&token={token('q')}") as answer:
            lines = [answer.readline().decode().strip() for _ in range(5)]
        ready = json.loads(next(line for line in lines if line.startswith("data: "))[6:])
        assert ready["channels"].keys() == {"chat:a", "chat:b", "user:q"}

    def test_token_in_the_query_is_accepted(self, hub: HubProcess) -> None:
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
