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
    """Opens one client per call, for the given user. All of them are stopped at the end of the test."""

    def __init__(self, hub: HubProcess, clients: list[ClientProcess]) -> None:
        self._hub = hub
        self._clients = clients

    def __call__(self, user: str, *channels: str, watch: str = "", kind: str = "sdk-websocket", url: str = "") -> Any:
        tokens = [token(user, "*", info={"name": user.title()})]
        options = {"watch": [watch]} if watch else {}
        client = ClientProcess(kind, url or self._hub.url, tokens=tokens, channels=list(channels), **options)
        self._clients.append(client)
        return client.wait_ready()


@pytest.fixture
def page(hub: HubProcess, clients: list[ClientProcess]) -> Pages:
    return Pages(hub, clients)


def snapshot(client: ClientProcess) -> dict[str, Any]:
    """Return the last snapshot. `users` is None if the members are not listed."""
    last = client.records_of("present")[-1]
    users = None if last["members"] is None else sorted(member["user"] for member in last["members"])
    return {"users": users, "count": last["count"], "state": last["state"]}


def wait_members(client: ClientProcess, *users: str, within_s: float = 20.0) -> None:
    expected = {"users": sorted(users), "count": len(users), "state": "ready"}
    client.wait(lambda client: snapshot(client) == expected, within_s=within_s, why=f"{users} are listed")


def changes(client: ClientProcess) -> list[tuple[str, str]]:
    return [(record["kind"], record["user"]) for record in list(client.records) if record["kind"] in ("join", "leave")]


@pytest.mark.parametrize("kind", ["sdk-websocket", "sdk-polling"])
def test_joins_and_leaves_are_reported(kind: str, page: Pages) -> None:
    room = f"room:{kind}"
    ann = page("ann", room, watch=room, kind=kind)
    wait_members(ann, "ann")
    bob = page("bob", room, kind=kind)
    wait_members(ann, "ann", "bob")
    # The snapshot is emitted before the join event.
    ann.wait(lambda client: ("join", "bob") in changes(client), why="the join event of Bob")
    assert ann.records_of("join")[-1]["info"] == {"name": "Bob"}
    # Bob opens another page within the grace period, so there is no leave event.
    second_page = page("bob", room)
    bob.stop()
    cleo = page("cleo", room, watch=room)
    wait_members(cleo, "ann", "bob", "cleo")
    second_page.stop()
    wait_members(ann, "ann", "cleo")
    wait_members(cleo, "ann", "cleo")
    ann.wait(lambda client: ("leave", "bob") in changes(client), why="the leave event of Bob")
    assert [change for change in changes(ann) if change != ("join", "ann")] == [
        ("join", "bob"),
        ("join", "cleo"),
        ("leave", "bob"),
    ]
    # Presence events are not delivered as publications.
    assert ann.records_of("publication") == cleo.records_of("publication") == []


def test_changes_during_a_disconnect_are_reported_after_it(hub: HubProcess, page: Pages) -> None:
    room = "room:cut"
    with closing(Proxy(hub.port, plain=True)) as proxy:
        ann = page("ann", room, watch=room, url=f"http://127.0.0.1:{proxy.port}")
        bob = page("bob", room, watch=room)
        wait_members(ann, "ann", "bob")
        wait_members(bob, "ann", "bob")
        proxy.refuse()
        wait_members(bob, "bob")
        page("cleo", room)
        bob.send_command({"do": "close"})
        bob.wait(lambda client: client.records_of("closed"), why="Bob leaves")
        proxy.accept_again()
        wait_members(ann, "ann", "cleo", within_s=BACK_S)
        # The SDK requests the members again and derives the changes during the disconnect.
        ann.wait(lambda client: {("join", "cleo"), ("leave", "bob")} <= set(changes(client)), why="the changes")
        page("dora", room)
        wait_members(ann, "ann", "cleo", "dora")


def test_presence_ends_with_its_last_listener(hub: HubProcess, page: Pages) -> None:
    room = "room:ends"
    ann = page("ann", room, watch=room)
    wait_members(ann, "ann")
    # Ann's user channel, the room, and the room's join and leave events. Clients of earlier tests have disconnected.
    wait_until(lambda: hub.metric("tidings_subscriptions") == 3, why="only Ann is connected")
    ann.send_command({"unwatch": room})
    wait_until(lambda: hub.metric("tidings_subscriptions") == 2, why="the end of join and leave events")
    hub.publish(room, "said", 1)
    ann.wait(lambda client: client.data(room) == [1], why="a publication")
    before = len(ann.records_of("present"))
    bob = page("bob", room, watch=room)
    wait_members(bob, "ann", "bob")
    assert len(ann.records_of("present")) == before
    ann.send_command({"watch": room})
    wait_members(ann, "ann", "bob")


def test_large_channel_has_only_a_count(page: Pages) -> None:
    room = "room:large"
    ann = page("ann", room, watch=room)
    members = [page(f"user-{number}", room) for number in range(LIST_MAX)]
    ann.wait(lambda client: snapshot(client)["users"] is None, why="the members are no longer listed")
    expected = {"users": None, "count": LIST_MAX + 1, "state": "ready"}
    ann.wait(lambda client: snapshot(client) == expected, why="the count")
    # A client that joins a large channel receives the count as well.
    late = page("late", room, watch=room)
    late.wait(lambda client: snapshot(client) == expected | {"count": LIST_MAX + 2}, why="the count for a later client")
    for member in (*members, late):
        member.stop()
    wait_members(ann, "ann", within_s=BACK_S)


def test_namespace_without_presence_is_refused(hub: HubProcess, page: Pages) -> None:
    ann = page("ann", "orders:1", watch="orders:1")
    ann.wait(lambda client: client.records_of("present")[-1]["state"] == "failed", why="a refusal")
    assert (ann.records_of("present")[-1]["code"], ann.records_of("present")[-1]["members"]) == ("forbidden", [])
    hub.publish("orders:1", "updated", {"n": 1})
    ann.wait(lambda client: client.data() == [{"n": 1}], why="a publication in the channel itself")
    # The refusal is the only error, and the hub reports it as well.
    assert [record["code"] for record in ann.records_of("error")] == ["forbidden"]


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
