"""Requests of the JavaScript SDK that a hub cannot take: they fail by themselves, and the connection stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.processes.client import ClientProcess
from support.processes.hub import HubProcess, token

CHANNEL = "chat:large"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path_factory.mktemp("hub")).start()
    yield process
    process.stop()


def publish(client: ClientProcess, text: str) -> Any:
    before = len(client.records_of("ack"))
    client.send_command({"publish": [CHANNEL, "said", text]})
    client.wait(lambda client: len(client.records_of("ack")) > before, why="a response")
    return client.records_of("ack")[before]["answer"]


@pytest.mark.parametrize("kind", ["sdk-websocket", "sdk-polling"])
def test_a_publish_that_is_too_large_is_rejected_and_costs_no_connection(
    kind: str, hub: HubProcess, clients: list[ClientProcess]
) -> None:
    """A hub closes the connection that sends it, and the SDK would send it again over the next one."""
    client = ClientProcess(kind, hub.url, tokens=[token("7", "chat:*")], channels=[CHANNEL])
    clients.append(client)
    client.wait(lambda client: client.records_of("ready"), why="the connection")
    assert publish(client, "ü" * 33_000) == {"error": {"code": "too_large"}}
    assert "cursor" in publish(client, "ü" * 32_000)
    assert client.records_of("waiting") == []
