"""Web Push in a real Chromium, with a real hub and service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser as Chromium

from support.browsers.push_page import PushPage, subscriptions
from support.browsers.push_stand_in import ENDPOINT
from support.network.push_service import Browser
from support.notification_node import NotificationNode
from support.processes.hub import token
from support.waiting import wait_until
from tidings_notifications.web_push.vapid import VapidKey


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotificationNode]:
    folder = tmp_path_factory.mktemp("node")
    key_file = folder / "vapid.pem"
    VapidKey.create(key_file)
    rate = "user_requests_per_minute = 60000\n"
    table = f'[notifications.web_push]\nvapid_key_file = "{key_file}"\ncontact = "mailto:ops@shop.example"'
    process = NotificationNode(folder, options=rate + table)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
def page(browser: Chromium, node: NotificationNode, request: pytest.FixtureRequest) -> Iterator[PushPage]:
    context = browser.new_context()
    context.grant_permissions(["notifications"], origin=node.hub.url)
    name = request.node.name.removeprefix("test_")[:40]
    page = PushPage(context, node, name)
    yield page
    context.close()
    assert page.errors == []


def test_click_subscribes_the_browser_and_a_reload_knows_it(page: PushPage, node: NotificationNode) -> None:
    page.open()
    assert page.state == "off"
    page.enable()
    assert (page.state, page.evaluate("() => failure")) == ("on", None)
    options = json.loads(page.evaluate("() => localStorage.getItem('options')"))
    key = VapidKey.load(node.hub.config.parent / "vapid.pem").public_key
    assert options == {"userVisibleOnly": True, "applicationServerKey": key}
    assert page.open().state == "on"
    page.evaluate("() => push.disable()")
    assert page.state == "off"
    assert subscriptions(node, page) == 0
    assert page.open().state == "off"


def test_another_user_of_the_browser_does_not_get_the_pushes_of_the_first(
    page: PushPage, node: NotificationNode
) -> None:
    page.open().enable()
    page.open("ben")
    page.page.wait_for_function("() => push.getSnapshot().state === 'off'")
    assert not page.is_subscribed
    page.enable()
    assert page.state == "on"
    assert subscriptions(node, page) == 1


def test_next_user_sees_nothing_that_was_shown_to_the_first(page: PushPage) -> None:
    page.open().enable()
    page.deliver(page.notify("For ann"))
    wait_until(page.shown, why="it is shown")
    page.open("ben")
    page.page.wait_for_function("() => push.getSnapshot().state === 'off'")
    assert page.worker.evaluate("async () => (await registration.getNotifications()).length") == 0


def test_page_without_push_ends_the_subscription_of_another_user(page: PushPage) -> None:
    page.open().enable()
    page.page.goto(f"{page.node.hub.url}/page?user=ann&plain")
    page.page.wait_for_function("() => hub.state === 'connected'")
    assert page.is_subscribed
    page.page.goto(f"{page.node.hub.url}/page?user=ben&plain")
    wait_until(lambda: not page.is_subscribed, why="the subscription has ended")


def test_address_of_the_hub_may_be_spelled_in_another_way(page: PushPage, node: NotificationNode) -> None:
    page.open().enable()
    spelled = quote(node.hub.url.replace("http", "ws") + "//", safe="")
    page.page.goto(f"{node.hub.url}/page?user=ben&plain&hub={spelled}")
    wait_until(lambda: not page.is_subscribed, why="the subscription has ended")


def test_next_user_does_not_take_over_the_subscription_of_the_first(page: PushPage) -> None:
    page.open().enable()
    page.evaluate("() => localStorage.setItem('broken', '1')")
    page.open("ben")
    page.page.wait_for_function("() => push.getSnapshot().error")
    page.enable()
    # It is still that of ann, for whom messages may be on their way.
    assert (page.state, page.evaluate("() => failure")) == ("off", "load_failed")
    page.evaluate("() => localStorage.removeItem('broken')")
    page.evaluate("() => { failure = undefined; }")
    page.page.evaluate("""() => {
      const { removeItem } = Storage.prototype;
      Storage.prototype.removeItem = function (key) { (window.removed = key), removeItem.call(this, key); };
    }""")
    page.enable()
    assert (page.state, page.evaluate("() => window.removed")) == ("on", "subscription")


def test_subscription_that_the_browser_cannot_end_shows_nothing_and_ends_later(page: PushPage) -> None:
    page.open().enable()
    message = page.notify("For ann")
    page.evaluate("() => localStorage.setItem('broken', '1')")
    page.open("ben")
    page.page.wait_for_function("() => push.getSnapshot().state === 'off' && push.getSnapshot().error")
    assert page.is_subscribed
    push = """async (message) => {
      let handled;
      const waitUntil = (promise) => (handled = promise);
      dispatchEvent(Object.assign(new Event("push"), { data: { json: () => message }, waitUntil }));
      await handled;
      return (await registration.getNotifications()).length;
    }"""
    assert page.worker.evaluate(push, message) == 0
    page.evaluate("() => localStorage.removeItem('broken')")
    page.open("ben")
    wait_until(lambda: not page.is_subscribed, why="the subscription has ended")
    page.enable()
    assert page.worker.evaluate(push, message) == 1


def test_click_of_the_first_user_does_not_subscribe_the_next(page: PushPage, node: NotificationNode) -> None:
    page.open()
    page.evaluate("""() => {
      const { subscribe } = PushManager.prototype;
      PushManager.prototype.subscribe = async function (...values) {
        hub.close();
        user = "ben";
        hub.connect();
        await new Promise((resolve) => hub.on("state", (state) => state === "connected" && resolve()));
        return subscribe.apply(this, values);
      };
    }""")
    page.enable()
    assert (page.evaluate("() => failure"), page.state, page.is_subscribed) == ("closed", "off", False)
    assert subscriptions(node, page) == 0


def test_user_who_says_no_and_a_hub_without_web_push(browser: Chromium, node: NotificationNode) -> None:
    context = browser.new_context()
    page = PushPage(context, node, "no").open().enable()
    assert page.evaluate("() => failure") == "forbidden"
    assert page.state in {"denied", "off"}
    context.close()


def test_push_service_without_an_answer_is_an_error_and_a_later_click_subscribes(page: PushPage) -> None:
    page.open()
    page.page.clock.install()
    page.evaluate(
        """() => {
          const { subscribe } = PushManager.prototype;
          PushManager.prototype.subscribe = function () {
            PushManager.prototype.subscribe = subscribe;
            window.isWaiting = true;
            return new Promise(() => {});
          };
        }"""
    )
    page.page.get_by_role("button").click()
    page.page.wait_for_function("() => window.isWaiting")
    page.page.clock.fast_forward(29_000)
    assert page.evaluate("() => failure") is None
    page.page.clock.fast_forward(1_000)
    page.page.wait_for_function("() => failure")
    assert page.evaluate("() => [failure, push.getSnapshot().error.code]") == ["timeout", "timeout"]
    page.evaluate("() => void (failure = undefined)")
    assert page.enable().evaluate("() => [failure, push.getSnapshot().error]") == [None, None]


def test_push_is_shown_and_a_click_opens_its_page_and_marks_it_read(page: PushPage) -> None:
    page.open().enable()
    message = page.notify("It has shipped", body="On <b>Friday</b>", url="/orders/42", group="order:42")
    page.deliver(message)
    wait_until(page.shown, why="it is shown")
    (shown,) = page.shown()
    assert (shown["title"], shown["body"], shown["tag"]) == ("It has shipped", "On <b>Friday</b>", "order:42")
    page.dispatch("notificationclick")
    assert page.worker.evaluate("() => opened") == [f"{page.node.hub.url}/orders/42"]
    wait_until(lambda: page.item("It has shipped")["read_at"], why="the hub has it as read")
    assert page.shown() == []


def test_click_focuses_the_page_that_is_open(page: PushPage) -> None:
    page.open().enable()
    page.deliver(page.notify("Look", url="/page?user=ann"))
    wait_until(page.shown, why="it is shown")
    page.dispatch("notificationclick")
    assert page.worker.evaluate("() => opened") == [f"focus {page.node.hub.url}/page?user=ann"]


def test_dismissed_push_is_seen_and_not_read(page: PushPage) -> None:
    page.open().enable()
    page.deliver(page.notify("Dismissed"))
    wait_until(page.shown, why="it is shown")
    page.dispatch("notificationclose")
    wait_until(lambda: page.item("Dismissed")["seen_at"], why="the hub has it as seen")
    assert page.item("Dismissed")["read_at"] is None


def test_what_was_read_elsewhere_is_closed(page: PushPage) -> None:
    page.open().enable()
    messages = [page.notify(title) for title in ("first", "second", "third")]
    for message in messages:
        page.deliver(message)
    wait_until(lambda: len(page.shown()) == 3, why="all are shown")
    headers = {"Authorization": f"Bearer {token(f'{page.name}-ann')}"}
    mark = {"action": "read", "ids": [messages[1]["id"]]}
    assert page.node.hub.request("POST", "/inbox/mark", mark, headers)[0] == 200
    wait_until(lambda: [shown["title"] for shown in page.shown()] == ["first", "third"], why="the second one is closed")
    before = {"action": "seen", "all": True, "before": messages[0]["id"]}
    assert page.node.hub.request("POST", "/inbox/mark", before, headers)[0] == 200
    wait_until(lambda: [shown["title"] for shown in page.shown()] == ["third"], why="the first one is closed")


@pytest.mark.parametrize("message", ["no JSON", "null", "[]", {"title": "another sender's"}, {"id": 1, "title": "x"}])
def test_message_of_another_sender_is_left_to_the_site(page: PushPage, message: object) -> None:
    page.open().enable()
    page.deliver(message)
    page.deliver(page.notify("ours"))
    wait_until(page.shown, why="it is shown")
    assert [shown["title"] for shown in page.shown() if shown["data"]] == ["ours"]


def test_replaced_subscription_is_renewed_without_a_page(page: PushPage, node: NotificationNode) -> None:
    page.open().enable()
    renewed = Browser(f"{ENDPOINT}{page.name}-renewed").to_json()
    page.worker.evaluate(
        """async (json) => {
          let handled;
          const newSubscription = { endpoint: json.endpoint, toJSON: () => json };
          const waitUntil = (promise) => (handled = promise);
          dispatchEvent(Object.assign(new Event("pushsubscriptionchange"), { newSubscription, waitUntil }));
          await handled;
        }""",
        renewed,
    )
    assert subscriptions(node, page) == 0
    page.subscription = renewed
    assert subscriptions(node, page) == 1
