"""Presence in the JavaScript SDK with a real hub: changes, a disconnect, a large channel, a refusal, and a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from support.installed_programs import program
from support.network.proxy import Proxy
from support.processes.client import ClientProcess
from support.processes.hub import CONFIG, HubProcess, token
from support.processes.redis import RedisProcess
from support.waiting import wait_until

# The longest delay between two attempts to connect is 20 s. The first attempt after it has to succeed.
BACK_S = 60.0
TIMEOUT_MS = BACK_S * 1000
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
LIST_MAX = 4
EXTRA = f"""
presence_grace_s = 1.0
presence_list_max = {LIST_MAX}
"""
NAMESPACES = """
[namespaces.room]
subscribe = "public"
presence = true
"""


@pytest.fixture(scope="module")
def hub(shared_redis: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    extra = f'{EXTRA}prefix = "sdk-presence:"\n'
    folder = tmp_path_factory.mktemp("hub")
    process = HubProcess(folder, "--broker", shared_redis.url, extra=extra, config=CONFIG + NAMESPACES).start()
    yield process
    process.stop()


class Pages:
    """Opens one client per call, for the given user. All of them end with the test."""

    def __init__(self, hub: HubProcess, clients: list[ClientProcess]) -> None:
        self._hub = hub
        self._clients = clients

    def __call__(self, user: str, *channels: str, watch: str = "", kind: str = "sdk-websocket", url: str = "") -> Any:
        tokens = [token(user, "*", info={"name": user.title()})]
        more = {"watch": [watch]} if watch else {}
        client = ClientProcess(kind, url or self._hub.url, tokens=tokens, channels=list(channels), **more)
        self._clients.append(client)
        return client.wait_ready()


@pytest.fixture
def page(hub: HubProcess, clients: list[ClientProcess]) -> Pages:
    return Pages(hub, clients)


def present(client: ClientProcess) -> dict[str, Any]:
    """The last snapshot. `users` is None if the members are not listed."""
    last = client.records_of("present")[-1]
    users = None if last["members"] is None else sorted(member["user"] for member in last["members"])
    return {"users": users, "count": last["count"], "state": last["state"]}


def sees(client: ClientProcess, *users: str, within_s: float = 20.0) -> None:
    expected = {"users": sorted(users), "count": len(users), "state": "ready"}
    client.wait(lambda client: present(client) == expected, within_s=within_s, why=f"{users} are there")


def changes(client: ClientProcess) -> list[tuple[str, str]]:
    return [(record["kind"], record["user"]) for record in list(client.records) if record["kind"] in ("join", "leave")]


@pytest.mark.parametrize("kind", ["sdk-websocket", "sdk-polling"])
def test_joins_and_leaves(kind: str, page: Pages) -> None:
    room = f"room:{kind}"
    ann = page("ann", room, watch=room, kind=kind)
    sees(ann, "ann")
    bob = page("bob", room, kind=kind)
    sees(ann, "ann", "bob")
    # The snapshot is emitted before the join event.
    ann.wait(lambda client: ("join", "bob") in changes(client), why="the join event of Bob")
    assert ann.records_of("join")[-1]["info"] == {"name": "Bob"}
    # Bob opens another page within the grace period, so there is no leave event.
    second_page = page("bob", room)
    bob.stop()
    cleo = page("cleo", room, watch=room)
    sees(cleo, "ann", "bob", "cleo")
    second_page.stop()
    sees(ann, "ann", "cleo")
    sees(cleo, "ann", "cleo")
    ann.wait(lambda client: ("leave", "bob") in changes(client), why="the leave event of Bob")
    assert [change for change in changes(ann) if change != ("join", "ann")] == [
        ("join", "bob"),
        ("join", "cleo"),
        ("leave", "bob"),
    ]
    # Presence events are not delivered as publications.
    assert ann.records_of("publication") == cleo.records_of("publication") == []


def test_changes_during_a_disconnect(hub: HubProcess, page: Pages) -> None:
    room = "room:cut"
    with closing(Proxy(hub.port, plain=True)) as proxy:
        ann = page("ann", room, watch=room, url=f"http://127.0.0.1:{proxy.port}")
        bob = page("bob", room, watch=room)
        sees(ann, "ann", "bob")
        sees(bob, "ann", "bob")
        proxy.refuse()
        sees(bob, "bob")
        page("cleo", room)
        bob.send_command({"do": "close"})
        bob.wait(lambda client: client.records_of("closed"), why="Bob leaves")
        proxy.accept_again()
        sees(ann, "ann", "cleo", within_s=BACK_S)
        # The list is requested second_page, and yields the changes during the disconnect.
        ann.wait(lambda client: {("join", "cleo"), ("leave", "bob")} <= set(changes(client)), why="the changes")
        page("dora", room)
        sees(ann, "ann", "cleo", "dora")


def test_presence_ends_with_its_last_listener(hub: HubProcess, page: Pages) -> None:
    room = "room:ends"
    ann = page("ann", room, watch=room)
    sees(ann, "ann")
    # Ann's own channel, the room, and its join and leave events. All clients of earlier tests have ended.
    wait_until(lambda: hub.metric("tidings_subscriptions") == 3, why="Ann is alone")
    ann.send_command({"unwatch": room})
    wait_until(lambda: hub.metric("tidings_subscriptions") == 2, why="the end of join and leave events")
    hub.publish(room, "said", 1)
    ann.wait(lambda client: client.data(room) == [1], why="a publication")
    before = len(ann.records_of("present"))
    bob = page("bob", room, watch=room)
    sees(bob, "ann", "bob")
    assert len(ann.records_of("present")) == before
    ann.send_command({"watch": room})
    sees(ann, "ann", "bob")


def test_large_channel_has_only_a_count(page: Pages) -> None:
    room = "room:large"
    ann = page("ann", room, watch=room)
    others = [page(f"user-{number}", room) for number in range(LIST_MAX)]
    ann.wait(lambda client: present(client)["users"] is None, why="too many to be listed")
    expected = {"users": None, "count": LIST_MAX + 1, "state": "ready"}
    ann.wait(lambda client: present(client) == expected, why="the count")
    # A client that joins a large channel receives the count as well.
    late = page("late", room, watch=room)
    late.wait(lambda client: present(client) == expected | {"count": LIST_MAX + 2}, why="the count for a later client")
    for other in (*others, late):
        other.stop()
    sees(ann, "ann", within_s=BACK_S)


def test_namespace_without_presence_is_refused(hub: HubProcess, page: Pages) -> None:
    ann = page("ann", "orders:1", watch="orders:1")
    ann.wait(lambda client: client.records_of("present")[-1]["state"] == "failed", why="a refusal")
    assert (ann.records_of("present")[-1]["code"], ann.records_of("present")[-1]["members"]) == ("forbidden", [])
    hub.publish("orders:1", "updated", {"n": 1})
    ann.wait(lambda client: client.data() == [{"n": 1}], why="a publication in the channel itself")
    assert ann.records_of("error") == []


PAGE = """<!doctype html>
<p id="who"></p>
<script src="/tidings.js"></script>
<script>
  const hub = tidings.connect("/", { getToken: () => TOKEN });
  hub.channel("room:page").presence().subscribe(({ members, count }) => {
    document.querySelector("#who").textContent = `${count}: ${members.map(({ info }) => info.name).join(", ")}`;
  });
</script>
"""


@pytest.mark.timeout(240)
def test_page_in_chromium_with_the_served_bundle(hub: HubProcess, page: Pages) -> None:
    html = PAGE.replace("TOKEN", json.dumps(token("ann", "*", info={"name": "Ann"})))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), headless=True, args=FLAGS)
        try:
            tab = browser.new_page()
            tab.route("**/who", lambda route: route.fulfill(body=html, content_type="text/html"))
            tab.goto(f"{hub.url}/who")
            expect(tab.locator("#who")).to_have_text("1: Ann", timeout=TIMEOUT_MS)
            bob = page("bob", "room:page")
            expect(tab.locator("#who")).to_have_text("2: Ann, Bob", timeout=TIMEOUT_MS)
            bob.stop()
            expect(tab.locator("#who")).to_have_text("1: Ann", timeout=TIMEOUT_MS)
        finally:
            browser.close()
