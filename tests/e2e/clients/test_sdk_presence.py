"""Presence in the JavaScript SDK and a real hub: two users, a cut, a large channel, a refusal, and a page."""

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

# The longest pause between two attempts to connect is 20 s, and the first attempt after it has to succeed.
BACK_S = 60.0
PATIENCE_MS = BACK_S * 1000
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
    """Opens pages, by their user, that end with the test."""

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
    """What the last snapshot says; `users` None where they are not listed."""
    last = client.records_of("present")[-1]
    users = None if last["members"] is None else sorted(member["user"] for member in last["members"])
    return {"users": users, "count": last["count"], "state": last["state"]}


def sees(client: ClientProcess, *users: str, within_s: float = 20.0) -> None:
    wanted = {"users": sorted(users), "count": len(users), "state": "ready"}
    client.wait(lambda client: present(client) == wanted, within_s=within_s, why=f"{users} are there")


def moves(client: ClientProcess) -> list[tuple[str, str]]:
    return [(each["kind"], each["user"]) for each in list(client.records) if each["kind"] in ("join", "leave")]


@pytest.mark.parametrize("kind", ["sdk-websocket", "sdk-polling"])
def test_who_comes_and_goes(kind: str, page: Pages) -> None:
    room = f"room:{kind}"
    ann = page("ann", room, watch=room, kind=kind)
    sees(ann, "ann")
    bob = page("bob", room, kind=kind)
    sees(ann, "ann", "bob")
    # Its snapshot is told first.
    ann.wait(lambda client: ("join", "bob") in moves(client), why="Bob's coming is told as well")
    assert ann.records_of("join")[-1]["info"] == {"name": "Bob"}
    # Another page of Bob's in time: he has never left.
    again = page("bob", room)
    bob.stop()
    cleo = page("cleo", room, watch=room)
    sees(cleo, "ann", "bob", "cleo")
    again.stop()
    sees(ann, "ann", "cleo")
    sees(cleo, "ann", "cleo")
    ann.wait(lambda client: ("leave", "bob") in moves(client), why="Bob's leaving is told as well")
    assert [move for move in moves(ann) if move != ("join", "ann")] == [
        ("join", "bob"),
        ("join", "cleo"),
        ("leave", "bob"),
    ]
    # None of it is a publication of the application's.
    assert ann.records_of("publication") == cleo.records_of("publication") == []


def test_a_cut_and_what_happened_meanwhile(hub: HubProcess, page: Pages) -> None:
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
        bob.wait(lambda client: client.records_of("closed"), why="Bob goes")
        proxy.accept_again()
        sees(ann, "ann", "cleo", within_s=BACK_S)
        # The list was asked for anew, and says who moved while nobody could tell her.
        ann.wait(lambda client: {("join", "cleo"), ("leave", "bob")} <= set(moves(client)), why="who moved")
        page("dora", room)
        sees(ann, "ann", "cleo", "dora")


def test_it_ends_with_the_last_listener_and_not_with_the_channel(hub: HubProcess, page: Pages) -> None:
    room = "room:ends"
    ann = page("ann", room, watch=room)
    sees(ann, "ann")
    # Her own channel, the room, and its joins and leaves; everybody of the tests before has gone.
    wait_until(lambda: hub.metric("tidings_subscriptions") == 3, why="Ann is alone")
    ann.send_command({"unwatch": room})
    wait_until(lambda: hub.metric("tidings_subscriptions") == 2, why="joins and leaves have ended")
    hub.publish(room, "said", 1)
    ann.wait(lambda client: client.data(room) == [1], why="a publication")
    before = len(ann.records_of("present"))
    bob = page("bob", room, watch=room)
    sees(bob, "ann", "bob")
    assert len(ann.records_of("present")) == before
    ann.send_command({"watch": room})
    sees(ann, "ann", "bob")


def test_a_large_channel_is_a_number(page: Pages) -> None:
    room = "room:large"
    ann = page("ann", room, watch=room)
    others = [page(f"user-{number}", room) for number in range(LIST_MAX)]
    ann.wait(lambda client: present(client)["users"] is None, why="too many to be listed")
    wanted = {"users": None, "count": LIST_MAX + 1, "state": "ready"}
    ann.wait(lambda client: present(client) == wanted, why="the count")
    # Who comes to a large channel gets the number as well.
    late = page("late", room, watch=room)
    late.wait(lambda client: present(client) == wanted | {"count": LIST_MAX + 2}, why="the count for who comes later")
    for other in (*others, late):
        other.stop()
    sees(ann, "ann", within_s=BACK_S)


def test_a_namespace_without_presence_says_so(hub: HubProcess, page: Pages) -> None:
    ann = page("ann", "orders:1", watch="orders:1")
    ann.wait(lambda client: client.records_of("present")[-1]["state"] == "failed", why="a refusal")
    assert (ann.records_of("present")[-1]["code"], ann.records_of("present")[-1]["members"]) == ("forbidden", [])
    hub.publish("orders:1", "updated", {"n": 1})
    ann.wait(lambda client: client.data() == [{"n": 1}], why="the channel itself goes on")
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
def test_a_page_in_chromium_with_the_bundle_that_hubs_serve(hub: HubProcess, page: Pages) -> None:
    html = PAGE.replace("TOKEN", json.dumps(token("ann", "*", info={"name": "Ann"})))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), headless=True, args=FLAGS)
        try:
            tab = browser.new_page()
            tab.route("**/who", lambda route: route.fulfill(body=html, content_type="text/html"))
            tab.goto(f"{hub.url}/who")
            expect(tab.locator("#who")).to_have_text("1: Ann", timeout=PATIENCE_MS)
            bob = page("bob", "room:page")
            expect(tab.locator("#who")).to_have_text("2: Ann, Bob", timeout=PATIENCE_MS)
            bob.stop()
            expect(tab.locator("#who")).to_have_text("1: Ann", timeout=PATIENCE_MS)
        finally:
            browser.close()
