"""The code blocks of docs/stock-clients.md together are a program that does what the page describes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.network.proxy import Proxy
from support.processes.client import ClientProcess
from support.processes.hub import ROOT, HubProcess, token

PAGE = ROOT / "docs" / "stock-clients.md"
NAMESPACES = """
[namespaces.orders]
subscribe = "token"
[namespaces.chat]
subscribe = "public"
publish = "subscribers"
presence = true
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    process = HubProcess(tmp_path)
    text = process.config.read_text()
    process.config.write_text(
        "presence_grace_s = 2.0\nexpiry_warning_s = 598.0\n" + text[: text.index("[namespaces")] + NAMESPACES
    )
    yield process.start()
    process.stop()


def calls(client: ClientProcess, kind: str) -> list[tuple[object, ...]]:
    return [tuple(value for name, value in record.items() if name != "kind") for record in client.records_of(kind)]


def test_program_of_the_page_runs(hub: HubProcess, clients: list[ClientProcess]) -> None:
    with closing(Proxy(hub.port, plain=True)) as proxy:
        page = ClientProcess(
            "page",
            f"http://127.0.0.1:{proxy.port}",
            token=token("7", "orders:*", expires_in_s=600),
            channels=[],
            next=token("7", "orders:*"),
        )
        clients.append(page)
        page.wait(lambda page: page.records_of("end"), why="the program has run")
        (end,) = page.records_of("end")
        assert end["blocks"] == PAGE.read_text(encoding="utf-8").count("```js\n") >= 8
        assert calls(page, "load") == [("orders:42",), ("orders:43",)]
        page.wait(lambda page: ("there", "7") in calls(page, "show"), why="presence")
        show_calls = calls(page, "show")
        assert [call for call in show_calls if call[0] == "chat:lobby"] == [("chat:lobby", {"text": "hello"})]
        assert ("receipt", False) in show_calls
        assert ("history", {"text": "hello"}) in show_calls
        page.wait(lambda page: page.records_of("renewed"), why="the warning before the token expires")

        friend = ClientProcess("js-websocket", hub.url, token=token("8"), channels=["chat:lobby"])
        clients.append(friend)
        page.wait(lambda page: ("join", "8") in calls(page, "show"), why="a join")
        friend.stop()
        page.wait(lambda page: ("leave", "8") in calls(page, "show"), why="a leave")

        assert hub.request("POST", "/api/users/7/subscribe", {"channel": "orders:44"})[1]["connections"] == 1
        page.wait(
            lambda page: ("orders:44",) in calls(page, "load"),
            why="a channel that the backend subscribed the client to",
        )
        assert hub.request("POST", "/api/users/7/unsubscribe", {"channel": "orders:44"})[1]["connections"] == 1
        page.wait(
            lambda page: ("orders:44", "taken") in calls(page, "complain"), why="the backend unsubscribed the client"
        )

        hub.publish("orders:42", "updated", {"n": 1})
        page.wait(lambda page: ("orders:42", {"n": 1}) in calls(page, "show"), why="a publication")
        proxy.refuse()
        page.wait(lambda page: page.records_of("disconnect"), why="the disconnect")
        hub.publish("orders:42", "updated", {"n": 2})
        proxy.accept_again()
        page.wait(lambda page: ("orders:42", {"n": 2}) in calls(page, "show"), why="the missed publication")
        assert [(record["id"], record["recovered"]) for record in page.records_of("connect")] == [(end["id"], True)]
        assert ("orders:42",) not in calls(page, "load")[2:]

        assert hub.request("POST", "/api/revocations", {"user": "7", "for_s": 60})[0] == 201
        page.wait(lambda page: ("close", "revoked") in calls(page, "complain"), why="the reason of the close")


def test_readme_links_the_page() -> None:
    assert "docs/stock-clients.md" in (ROOT / "README.md").read_text(encoding="utf-8")
