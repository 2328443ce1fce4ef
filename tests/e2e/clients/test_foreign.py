"""Clients and backends with libraries of others, as these come: Java, Go, Python, Node and curl."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from support.installed_programs import program
from support.processes.foreign import ForeignProcess, go, java, stream_reader
from support.processes.hub import API_KEY, HubProcess, token
from support.waiting import wait_until

APP = """
from tidings_hub import App

app = App()


@app.on("echo")
def echo(session, data):
    app.sio.emit("echoed", data)
    return len(data)
"""
# Ends no test early: the next comment of a stream comes after this time.
SETTINGS = "ping_interval_s = 300\n"
LIBRARIES = ["requests", "urllib3", "httpx", "aiohttp", "urllib", "node", "go", "java", "curl"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "foreign_app.py").write_text(APP)
    process = HubProcess(folder, "--app", "foreign_app:app", extra=SETTINGS)
    yield process.start()
    process.stop()


class TestStreams:
    @pytest.mark.parametrize("library", LIBRARIES)
    def test_event_arrives_before_the_next_one_and_the_stream_ends_without_an_error(
        self, hub: HubProcess, library: str
    ) -> None:
        url = f"{hub.url}/sse?channels=chat:{library}"
        with ForeignProcess(stream_reader(library, url, token(library))) as reader:
            reader.wait_line("event: tidings:ready")
            for number in range(3):
                hub.publish(f"chat:{library}", "updated", {"n": number})
                reader.wait_line(f'data: {{"channel":"chat:{library}","data":{{"n":{number}}}}}')
            hub.publish(f"chat:{library}", "error", None)
            reader.wait_line(f'data: {{"channel":"chat:{library}","event":"error","data":null}}')
            assert "event: error" not in reader.lines
            hub.request("POST", f"/api/users/{library}/disconnect")
            assert reader.wait_end() == 0, reader.lines
            assert library == "curl" or reader.lines[-1] == "end"

    @pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
    def test_any_version_of_http_gets_the_stream(self, hub: HubProcess, version: str) -> None:
        user = f"curl{version[6:]}"
        command = stream_reader("curl", f"{hub.url}/sse?channels=chat:{user}", token(user))
        with ForeignProcess([*command, version, "--include"]) as reader:
            reader.wait_line("event: tidings:ready")
            assert ("Transfer-Encoding: chunked" in reader.lines) is (version != "--http1.0")
            hub.publish(f"chat:{user}", "updated", 1)
            reader.wait_line(f'data: {{"channel":"chat:{user}","data":1}}')
            hub.request("POST", f"/api/users/{user}/disconnect")
            assert reader.wait_end() == 0


class TestSockets:
    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    @pytest.mark.parametrize("language", ["java", "go"])
    def test_client_receives_its_channels_and_sends_binary_data(
        self, hub: HubProcess, language: str, transport: str
    ) -> None:
        names = [f"orders:{language}-{transport}", f"chat:{language}-{transport}"]
        command = {"java": java, "go": go}[language]
        with ForeignProcess(command("socket", hub.url, token("f", "orders:*"), transport, ",".join(names))) as client:
            (ready, *_) = json.loads(client.wait_line("tidings:ready ").removeprefix("tidings:ready "))
            assert set(names) <= set(ready["channels"])
            if (language, transport) != ("go", "polling"):  # That client never sends the event.
                client.wait_line("echoed equal")
                assert "1000" in client.wait_line("ack")
            for name in names:
                hub.publish(name, "updated", {"n": name})
            wait_until(
                lambda: sum(line.startswith("updated") for line in client.lines) == 2, why=lambda: f"{client.lines}"
            )
            for name, line in zip(names, [line for line in client.lines if line.startswith("updated")], strict=True):
                data, channel, cursor = json.loads(line.removeprefix("updated "))
                assert (data, channel) == ({"n": name}, name)
                assert "." in cursor


class TestBackends:
    """An offer of HTTP/2 (`Upgrade: h2c`) is ignored."""

    BODY = json.dumps({"channel": "chat:backend", "event": "updated", "data": 1})

    def test_http_client_of_java_publishes(self, hub: HubProcess) -> None:
        with ForeignProcess(java("publish", f"{hub.url}/api/publish", API_KEY, self.BODY)) as backend:
            assert backend.wait_line("200 HTTP_1_1 ").endswith('"duplicate":false}')

    def test_curl_with_http2_publishes(self, hub: HubProcess) -> None:
        command = [program("curl"), "--silent", "--http2", "--oauth2-bearer", API_KEY, "--json", self.BODY]
        done = subprocess.run(
            [*command, f"{hub.url}/api/publish"], capture_output=True, text=True, timeout=60, check=True
        )
        assert json.loads(done.stdout)["duplicate"] is False
