"""The output of `tidings nginx` with TLS, used by a real nginx in front of a hub and an application."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import websocket

from support.installed_programs import program
from support.network.proxy import Proxy
from support.ports import free_port
from support.processes.hub import HubProcess, token
from support.processes.nginx import certificate, check, write_config
from support.source_tree import ROOT
from support.waiting import wait_until
from tidings_hub.cli import main
from tidings_hub.web.sdk import NAMES

VENDOR = ROOT / "hub" / "tidings_hub" / "web" / "static" / "vendor"


class Echo(BaseHTTPRequestHandler):
    """An application that responds with the headers that it received."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps(self.headers.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Suppress the log, which would be mixed with the output of pytest."""


@dataclass(frozen=True)
class NginxServer:
    """The ports of nginx without and with TLS, the hub behind it, and the certificate."""

    plain: int
    tls: int
    hub: HubProcess
    proxy: Proxy
    chain: str


def listens(port: int) -> bool:
    """Return whether a server listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxServer]:
    """Run a hub behind nginx with the configuration that the command prints, with TLS."""
    folder = tmp_path_factory.mktemp("served")
    chain, key = certificate(folder)
    (folder / "hub").mkdir()
    hub = HubProcess(folder / "hub", extra='node_id = "n1"\ntrusted_proxies = ["127.0.0.1"]\n')
    plain, tls = free_port(), free_port()
    application = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=application.serve_forever, args=(0.05,))
    thread.start()
    nginx: subprocess.Popen[bytes] | None = None
    proxy: Proxy | None = None
    try:
        proxy = Proxy(hub.start().port, plain=True)
        arguments = ["--node", f"n1=127.0.0.1:{proxy.port}", "--routing", "sid", "--port", str(plain)]
        arguments += ["--certificate", chain, "--key", key, "--tls-port", str(tls)]
        arguments += ["--app", f"127.0.0.1:{application.server_port}"]
        (folder / "static").mkdir()
        (folder / "static" / "own.css").write_text("p { color: red }")
        arguments += ["--static", str(folder / "static")]
        with contextlib.redirect_stdout(io.StringIO()) as output:
            assert main(["nginx", *arguments]) == 0
        # Low enough for slow machines.
        path = write_config(
            folder, output.getvalue().replace("rate=50r/s", "rate=1r/m").replace("burst=200", "burst=9")
        )
        check(path)
        command = [program("nginx"), "-e", str(folder / "error.log"), "-c", str(path)]
        nginx = subprocess.Popen(command, start_new_session=True)
        wait_until(lambda: listens(plain) and listens(tls), why="nginx listens")
        yield NginxServer(plain, tls, hub, proxy, chain)
    finally:
        if nginx is not None:
            os.killpg(nginx.pid, signal.SIGTERM)
            nginx.wait(timeout=20)
        if proxy is not None:
            proxy.close()
        hub.stop()
        application.shutdown()
        application.server_close()
        thread.join()


def test_clients_connect_over_tls(served: NginxServer) -> None:
    plain, tls = served.plain, served.tls
    with closing(http.client.HTTPConnection("127.0.0.1", plain, timeout=20)) as connection:
        connection.request("GET", "/socket.io/?EIO=4")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Location")) == (308, "https://127.0.0.1/socket.io/?EIO=4")
    context = ssl.create_default_context(cafile=served.chain)
    with closing(http.client.HTTPSConnection("127.0.0.1", tls, timeout=20, context=context)) as connection:
        # The hub's own origin is allowed, because the hub receives the scheme and port that the client used.
        for origin, status in ((f"https://127.0.0.1:{tls}", 200), (f"http://127.0.0.1:{tls}", 403)):
            connection.request("GET", "/socket.io/?EIO=4&transport=polling", headers={"Origin": origin})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == status, body
            assert answer.getheader("Strict-Transport-Security")
            # Only once, although both the hub and nginx set it.
            assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
            if status == 200:
                assert json.loads(body[1:])["sid"].startswith("n1")
    client = websocket.create_connection(
        f"wss://127.0.0.1:{tls}/socket.io/?EIO=4&transport=websocket", timeout=20, sslopt={"ca_certs": served.chain}
    )
    with closing(client):
        assert str(client.recv()).startswith('0{"sid":"n1')
        client.send("40" + json.dumps({"token": token("ann")}))
        assert str(client.recv()).startswith("40")
        assert "tidings:ready" in str(client.recv())


def test_poll_is_not_repeated_by_nginx(served: NginxServer) -> None:
    """nginx repeats requests without a session on another connection, but reports the lost response of a poll."""
    context = ssl.create_default_context(cafile=served.chain)
    poll = "/socket.io/?EIO=4&transport=polling"

    def send(method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        # Longer than the hub holds a poll that may be a repeat.
        connection = http.client.HTTPSConnection("127.0.0.1", served.tls, timeout=60, context=context)
        with closing(connection):
            connection.request(method, target, body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    sid = json.loads(send("GET", f"{poll}&t=h")[1][1:])["sid"]
    repeated = served.hub.metric("tidings_polls_repeated_total")
    assert send("POST", f"{poll}&t=p&sid={sid}", b"40" + json.dumps({"token": token("ann")}).encode())[0] == 200
    served.proxy.lose_response(b"tidings:ready")
    statuses = [send("GET", f"{poll}&t=a{turn}&sid={sid}")[0] for turn in range(2)]
    assert 502 in statuses
    assert served.proxy.responses_lost == 1
    assert served.hub.metric("tidings_polls_repeated_total") == repeated


def test_nginx_replaces_forwarding_headers(served: NginxServer) -> None:
    context = ssl.create_default_context(cafile=served.chain)
    forged = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Server"), "6.6.6.6")
    forged |= {
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Prefix": "/x",
        "Forwarded": "for=6.6.6.6",
    }
    forged |= {"X_Forwarded_For": "6.6.6.6", "Upgrade": "h2c", "Connection": "Upgrade, X-Forwarded-For"}
    forged |= {"Host": f"Shop.Example:{served.tls}", "Authorization": "Bearer kept"}
    connection = http.client.HTTPSConnection(
        "127.0.0.1", served.tls, timeout=20, context=context, source_address=("127.0.66.1", 0)
    )
    with closing(connection):
        connection.request("GET", "/anything", headers=forged)
        headers = [(name.lower(), value) for name, value in json.loads(connection.getresponse().read())]
    assert sorted(headers) == [
        ("accept-encoding", "identity"),
        ("authorization", "Bearer kept"),
        ("host", f"shop.example:{served.tls}"),
        ("x-forwarded-for", "127.0.66.1"),
        ("x-forwarded-proto", "https"),
    ]


def test_connections_to_a_node_are_reused(served: NginxServer) -> None:
    context = ssl.create_default_context(cafile=served.chain)
    before = served.hub.metric("tidings_accepted_total")
    for _ in range(20):
        with closing(http.client.HTTPSConnection("127.0.0.1", served.tls, timeout=20, context=context)) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().read()
    assert served.hub.metric("tidings_accepted_total") - before < 10


def test_new_sessions_of_one_address_are_limited_and_polls_are_not(served: NginxServer) -> None:
    context = ssl.create_default_context(cafile=served.chain)

    def status(path: str, source: str) -> int:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", served.tls, timeout=20, context=context, source_address=(source, 0)
        )
        with closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status

    new = "/socket.io/?EIO=4&transport=polling"
    assert [status(new, "127.0.99.1") for _ in range(13)][:10] == [200] * 10
    assert status(new, "127.0.99.1") == 429
    assert status("/sse?channels=chat:room", "127.0.99.1") == 429
    # Other addresses and requests of sessions are not limited. The hub responds with 400 to an unknown session.
    assert status(new, "127.0.98.1") == 200
    assert status(f"{new}&sid=n1{'x' * 20}", "127.0.99.1") == 400


def test_sdk_is_served_beside_a_folder_of_own_files(served: NginxServer) -> None:
    context = ssl.create_default_context(cafile=served.chain)
    with closing(http.client.HTTPSConnection("127.0.0.1", served.tls, timeout=20, context=context)) as connection:

        def get(path: str, encoding: str = "identity") -> tuple[int, bytes, str | None]:
            connection.request("GET", path, headers={"Accept-Encoding": encoding})
            response = connection.getresponse()
            return response.status, response.read(), response.getheader("Content-Encoding")

        assert get("/static/own.css")[:2] == (200, b"p { color: red }")
        status, body, _ = get("/static/of-the-application.css")
        assert (status, "X-Forwarded-For" in dict(json.loads(body))) == (200, True)
        for name in NAMES:
            assert get(f"/{name}")[:2] == (200, (VENDOR / name).read_bytes())
        assert get("/tidings.js", "gzip")[2] == "gzip"
        assert get("/tidings.jsx")[1] != (VENDOR / "tidings.js").read_bytes()


def test_event_source_returns_after_a_limit_and_while_no_hub_answers(served: NginxServer) -> None:
    """It would give up for good after 429 or 502. Other programs get the status."""
    context = ssl.create_default_context(cafile=served.chain)

    def get(source: str, **headers: str) -> tuple[int, str | None, str]:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", served.tls, timeout=20, context=context, source_address=(source, 0)
        )
        with closing(connection):
            address = f"/sse?channels=chat:room&token={token('ann')}"
            connection.request("GET", address, headers={"Origin": "https://shop.example", **headers})
            response = connection.getresponse()
            is_live = response.getheader("X-Accel-Buffering") or response.getheader("Transfer-Encoding") == "chunked"
            return response.status, response.getheader("Content-Type"), "" if is_live else response.read().decode()

    def assert_returns(source: str, **headers: str) -> None:
        status, kind, text = get(source, **headers)
        assert (status, kind) == (200, "text/event-stream")
        assert text.startswith("retry: ")
        assert 'event: tidings:close\ndata: {"code":"unavailable"' in text

    served.proxy.refuse()
    try:
        assert get("127.0.97.1")[0] == 502
        assert_returns("127.0.97.1", Accept="text/event-stream")
        assert_returns("127.0.97.1", **{"Sec-Fetch-Mode": "cors"})
    finally:
        served.proxy.accept_again()
    wait_until(lambda: get("127.0.96.1")[0] in {200, 403}, why="nginx reaches the hub again")
    while get("127.0.95.1")[0] != 429:
        pass
    assert_returns("127.0.95.1", Accept="text/event-stream")
