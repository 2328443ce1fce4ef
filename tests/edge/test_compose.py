"""The services of docker-compose.yml: the example backend publishes, and stock clients receive through nginx."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.compose import ROOT, SECRETS, Composition
from support.processes.client import ClientProcess
from support.waiting import wait_until

# Client addresses in different networks, which ip_hash distributes over both nodes.
SOURCES = [f"127.0.{number}.1" for number in range(11, 15)]
NEW_SESSION = "/socket.io/?EIO=4&transport=polling"


@pytest.fixture(scope="module", params=["ip", "sid"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    variables = SECRETS | {"PROXY_ROUTING": request.param, "TIDINGS_LOG_LEVEL": "debug"}
    composition = Composition(tmp_path_factory.mktemp("compose"), variables)
    try:
        yield composition.start()
    finally:
        composition.stop()


@pytest.fixture
def clients() -> Iterator[list[ClientProcess]]:
    started: list[ClientProcess] = []
    yield started
    for client in started:
        client.stop()


def send_request(
    url: str,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    source: str | None = None,
) -> tuple[int, bytes, dict[str, str]]:
    """Send one request from the address `source`."""
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30, source_address=(source, 0) if source else None)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def token(running: Composition) -> str:
    """Return the token that the backend issues for its page."""
    status, body, _ = send_request(running["nginx"].url, "/token")
    assert status == 200
    token: str = json.loads(body)["token"]
    return token


def sessions(running: Composition, hub: str) -> list[dict[str, Any]]:
    """Return the connections of one hub."""
    key = {"Authorization": f"Bearer {SECRETS['TIDINGS_API_KEY']}"}
    status, body, _ = send_request(running[hub].url, "/api/connections?here=true&limit=1000", headers=key)
    assert status == 200, body
    rows: list[dict[str, Any]] = json.loads(body)["connections"]
    return rows


def test_forwarding_headers_of_a_client_are_ignored(running: Composition) -> None:
    forged = {
        "X-Forwarded-For": "6.6.6.6",
        "Forwarded": "for=6.6.6.6;host=evil.test;proto=https",
        "X-Real-IP": "6.6.6.6",
        "X-Forwarded-Host": "evil.test",
        "X-Forwarded-Proto": "https",
    }
    url = running["nginx"].url

    def closed_from(address: str) -> bool:
        line = f"connection from {address} closed"
        return any(line in running[hub].log.read_text() for hub in ("hub-1", "hub-2"))

    def end(at: str, headers: dict[str, str], source: str) -> None:
        """Open a session and close it."""
        status, body, _ = send_request(at, NEW_SESSION, headers=headers, source=source)
        assert status == 200, body
        sid = json.loads(body[1:])["sid"]
        assert (
            send_request(at, f"{NEW_SESSION}&sid={sid}", method="POST", body=b"1", headers=headers, source=source)[0]
            == 200
        )

    end(url, forged, "127.0.77.1")
    wait_until(lambda: closed_from("127.0.77.1"), why="the client's own address is in the log")
    assert not closed_from("6.6.6.6")
    # The hub compares the page's origin with the address that the browser requested.
    for origin, status in (("https://evil.test", 403), ("http://evil.test", 403), (url, 200), (url.upper(), 200)):
        assert send_request(url, NEW_SESSION, headers=forged | {"Origin": origin})[0] == status, origin
    # A request past nginx from its own address is trusted. This shows that the assertions above can fail.
    end(running["hub-1"].url, {"X-Forwarded-For": "6.6.6.6"}, "127.0.0.1")
    wait_until(lambda: closed_from("6.6.6.6"), why="the hub trusts its proxy")


def test_log_contains_no_token(running: Composition, clients: list[ClientProcess]) -> None:
    url, bearer = running["nginx"].url, token(running)
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request(
        "GET", f"/sse?channels=orders:42&token={bearer}", headers={"User-Agent": bearer, "Referer": bearer}
    )
    assert connection.getresponse().status == 200
    connection.close()
    log = Path(running["nginx"].local("/var/log/nginx")) / "access.log"
    wait_until(lambda: '"GET /sse HTTP/1.1" 200' in log.read_text(), why="the request is in the log")
    assert bearer[-20:] not in log.read_text()


@pytest.mark.parametrize("way", ["nginx", "hub-2", "redis"])
def test_doctor_finds_nothing_wrong(running: Composition, way: str) -> None:
    environment = running["hub-1"].environment
    command = [sys.executable, "-m", "tidings_hub", "doctor"]
    if way != "redis":
        names = {"TIDINGS_API_KEY", "TIDINGS_SECRET"}
        environment = {name: value for name, value in environment.items() if not name.startswith("TIDINGS_")}
        environment |= {name: SECRETS[name] for name in names}
        command += ["--url", running[way].url]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("all checks passed\n")


def test_nginx_serves_static_files_and_hides_internal_paths(running: Composition) -> None:
    url = running["nginx"].url
    status, body, headers = send_request(url, "/static/page.js", headers={"Accept-Encoding": "identity"})
    assert (status, body) == (200, (ROOT / "hub/tidings_hub/web/static/page.js").read_bytes())
    assert headers["x-content-type-options"] == "nosniff"
    assert "javascript" in headers["content-type"]
    assert send_request(url, "/static/page.js", headers={"Accept-Encoding": "gzip"})[2]["content-encoding"] == "gzip"
    status, body, headers = send_request(url, "/tidings.js", headers={"Accept-Encoding": "identity"})
    assert (status, body) == (200, (ROOT / "hub/tidings_hub/web/static/vendor/tidings.js").read_bytes())
    assert (headers["x-content-type-options"], headers["access-control-allow-origin"]) == ("nosniff", "*")
    assert headers["cache-control"] == "no-cache"
    assert send_request(url, "/tidings.js.map")[0] == 200
    assert send_request(url, "/tidings.jsx")[0] == 404
    for outside in ("/static/../app.py", "/static..%2fapp.py", "/static/%2e%2e/app.py", "/static../app.py"):
        assert send_request(url, outside)[0] in (400, 404), outside
    assert send_request(url, "/metrics")[0] == 404
    assert send_request(url, "/readyz")[0] == 200
    assert send_request(url, "/api/channels")[0] == 401
    assert send_request(url, "/nothing")[0] == 404
    assert "nginx/" not in str(send_request(url, "/static/nothing"))


def test_notifications_reach_the_inbox_of_a_client_behind_nginx(running: Composition) -> None:
    command = [sys.executable, "-m", "tidings_hub", "notify", "customer", "--category", "order_shipped"]
    command += ["--title", "Your order has shipped", "--id", "order-42"]
    environment = running["hub-1"].environment
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(result.stdout)["state"] == "accepted", result.stderr
    url, headers = running["nginx"].url, {"Authorization": f"Bearer {token(running)}"}

    def unseen() -> int:
        status, body, _ = send_request(url, "/inbox", headers=headers)
        assert status == 200, body
        return int(json.loads(body)["counts"]["unseen"])

    wait_until(lambda: unseen() == 1, why="the notification is in the inbox")
    mark = json.dumps({"action": "seen", "all": True}).encode()
    more = headers | {"Content-Type": "application/json"}
    status, body, _ = send_request(url, "/inbox/mark", method="POST", body=mark, headers=more)
    assert (status, json.loads(body)["counts"]["unseen"]) == (200, 0)
    assert send_request(url, "/inbox")[0] == 401


def test_requests_are_routed_by_session_id_or_by_client_address(running: Composition) -> None:
    url = running["nginx"].url
    hubs = [f"127.0.0.1:{running[hub].port}" for hub in ("hub-1", "hub-2")]
    log = Path(running["nginx"].local("/var/log/nginx")) / "access.log"
    upstreams = {}
    for number, node in enumerate(("n1", "n2", "n1-0", "n2-17", "n3", "n1-"), 21):
        source = "127.0.55.1"
        mark = f"/socket.io/{number}"
        send_request(url, f"{mark}?EIO=4&transport=polling&sid={node}{'x' * 20}", source=source)
        wait_until(lambda mark=mark: f"{mark} HTTP" in log.read_text(), why=f"{mark} is in the log")
        (line,) = [line for line in log.read_text().splitlines() if f"{mark} HTTP" in line]
        upstreams[node] = line.split()[-2]
    if running["nginx"].spec["environment"]["PROXY_ROUTING"] == "ip":
        assert len(set(upstreams.values())) == 1
    else:
        assert [upstreams[node] for node in ("n1", "n2", "n1-0", "n2-17")] == hubs * 2
    assert set(upstreams.values()) <= set(hubs)


def test_timeouts_are_longer_than_the_heartbeat(running: Composition) -> None:
    from tidings_hub.config.settings import Settings

    settings = Settings()
    text = (Path(running["nginx"].local("/etc/nginx/conf.d")) / "tidings.conf").read_text()
    for place in ("location /socket.io/ {", "location @tidings_session {", "location = /sse {"):
        block = text.split(place)[1].split("\n    }")[0]
        (idle_s,) = re.findall(r"proxy_read_timeout (\d+)s;", block)
        assert int(idle_s) > settings.ping_interval_s + settings.ping_timeout_s
    for idle in re.findall(r"keepalive_timeout (\d+)s;", text):
        assert int(idle) < settings.keep_alive_s, "nginx closes an idle connection first"


def ship(running: Composition, times: int) -> list[str]:
    """Make the backend publish, and return the cursors of its receipts."""
    cursors = []
    for _ in range(times):
        status, body, _ = send_request(running["nginx"].url, "/orders/42/ship", method="POST")
        assert status == 200, body
        cursors.append(json.loads(body)["cursor"])
    return cursors


def test_publications_reach_every_client_over_both_hubs_and_after_one_hub_stops(
    running: Composition, clients: list[ClientProcess]
) -> None:
    url, bearer = running["nginx"].url, token(running)
    kinds = ["python-polling"] * len(SOURCES) + ["python-websocket", "python-upgrade", "sse"]
    for kind, source in zip(kinds, SOURCES * 2, strict=False):
        clients.append(ClientProcess(kind, url, token=bearer, channels=["orders:42"], source=source))
    for client in clients:
        client.wait_ready()
    of_hub = {hub: sessions(running, hub) for hub in ("hub-1", "hub-2")}
    assert sum(len(connections) for connections in of_hub.values()) == len(clients)
    assert all(of_hub.values()), "both hubs have clients"
    cursors = ship(running, 20)
    for client in clients:
        client.wait(lambda client: len(client.data()) >= 20, why="20 publications")
        assert [item["cursor"] for item in client.records_of("publication")] == cursors
        # Sessions are sticky, so no client lost its session.
        assert (
            len(client.records_of("ready")),
            client.records_of("disconnect"),
            client.records_of("connect_error"),
        ) == (1, [], [])

    # This test must be the last one that uses its composition.
    running["hub-1"].stop()
    cursors += ship(running, 10)
    for client in clients:
        client.wait(lambda client: len(client.data()) >= 30, within_s=60, why="10 more publications")
        assert [item["cursor"] for item in client.records_of("publication")] == cursors
        assert all(item["channels"]["orders:42"]["recovered"] for item in client.records_of("ready")[1:])
    assert sum(len(client.records_of("ready")) - 1 for client in clients) == len(of_hub["hub-1"]), (
        "only the clients of the stopped hub reconnected"
    )


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_nothing_starts_with_a_sample_secret(name: str, tmp_path: Path) -> None:
    samples = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(samples) == set(SECRETS)
    composition = Composition(tmp_path, SECRETS | {name: samples[name]})
    hub = composition["hub-1"].start()
    try:
        assert hub.wait() == 2
    finally:
        hub.stop()
    assert "placeholder" in hub.log.read_text()
    assert samples[name] not in hub.log.read_text()
    with pytest.raises(AssertionError, match=name):
        Composition(tmp_path / "x", {other: value for other, value in SECRETS.items() if other != name})
