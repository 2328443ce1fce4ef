"""Web Push in a real Chromium, with a real hub and service. Chromium itself cannot reach its push service from a test:
a stand-in for `PushManager` subscribes, and DevTools delivers the messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, CDPSession, Page, Worker

from support.browsers.chromium import chromium
from support.browsers.push_stand_in import ENDPOINT, new_subscription, push_stand_in
from support.network.push_service import Browser
from support.notification_node import NotificationNode
from support.processes.hub import token
from support.waiting import wait_until
from tidings_notifications.web_push.vapid import VapidKey

PAGE = """<!doctype html><title>push</title><script src="/tidings.js"></script><script>
  const user = new URLSearchParams(location.search).get("user");
  const hub = tidings.connect("/", { getToken: () => (%(tokens)s)[user] });
  let push, failure;
  const opened = hub.push().then((opened) => (push = opened));
  const attempt = (promise) => promise.catch((error) => (failure = error.code));
</script><button onclick="attempt(push.enable())">Enable</button>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as browser:
        yield browser


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


class PushPage:
    """A page of the hub's origin, in a browser of its own."""

    def __init__(self, context: BrowserContext, node: NotificationNode, name: str) -> None:
        self.node = node
        self.name = name
        self.subscription = new_subscription(name)
        self.context = context
        self.page: Page = context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        tokens = {user: token(f"{name}-{user}") for user in ("ann", "ben")}
        body = PAGE % {"tokens": json.dumps(tokens)}
        context.add_init_script(push_stand_in(self.subscription))
        context.route("**/page?*", lambda route: route.fulfill(body=body, content_type="text/html"))

    def open(self, user: str = "ann") -> PushPage:
        """Load the page as a user, and wait until the state is known and the hub is connected."""
        self.page.goto(f"{self.node.hub.url}/page?user={user}")
        self.page.wait_for_function("() => push && hub.state === 'connected'")
        return self

    def enable(self) -> PushPage:
        """Click, and wait for the end."""
        self.page.get_by_role("button").click()
        self.page.wait_for_function("() => failure || push.getSnapshot().state === 'on'")
        return self

    def evaluate(self, script: str) -> Any:
        assert self.errors == []
        return self.page.evaluate(script)

    @property
    def state(self) -> str:
        """The state that the SDK shows."""
        return str(self.evaluate("() => push.getSnapshot().state"))

    @property
    def worker(self) -> Worker:
        """The service worker."""
        wait_until(lambda: self.context.service_workers, why="the service worker runs")
        return self.context.service_workers[0]

    def shown(self) -> list[dict[str, Any]]:
        """The notifications that are shown."""
        script = """() => navigator.serviceWorker.ready.then((ready) => ready.getNotifications()).then((list) =>
            list.map(({ title, body, tag, data }) => ({ title, body, tag, data })))"""
        return list(self.evaluate(script))

    def deliver(self, message: object) -> None:
        """Let DevTools deliver a push message."""
        session = self.context.new_cdp_session(self.page)
        registration = registration_of(session)
        data = message if isinstance(message, str) else json.dumps(message)
        session.send(
            "ServiceWorker.deliverPushMessage",
            {"origin": self.node.hub.url, "registrationId": registration, "data": data},
        )
        session.detach()

    def dispatch(self, kind: str) -> None:
        """Let the service worker handle an event of its first notification, as for a click. It opens no real window."""
        self.worker.evaluate(
            """async (kind) => {
              globalThis.opened ??= [];
              clients.openWindow = async (url) => void opened.push(url);
              WindowClient.prototype.focus = async function () { opened.push(`focus ${this.url}`); };
              const [notification] = await registration.getNotifications();
              let handled;
              const waitUntil = (promise) => (handled = promise);
              dispatchEvent(Object.assign(new Event(kind), { notification, waitUntil }));
              await handled;
            }""",
            kind,
        )

    def item(self, id_: str, user: str = "ann") -> dict[str, Any]:
        """An item of the user's inbox by its title."""
        headers = {"Authorization": f"Bearer {token(f'{self.name}-{user}')}"}
        items = self.node.hub.request("GET", "/inbox", headers=headers)[1]["items"]
        return next(item for item in items if item["title"] == id_)

    def notify(self, title: str, **more: object) -> dict[str, Any]:
        """Store a notification for ann; return the message that the service would push."""
        self.node.store(f"{self.name}-ann", title.replace(" ", "-"), title=title, **more)
        item = self.item(title)
        names = ("id", "category", "title", "body", "url")
        message = {name: item[name] for name in names if name in item}
        return message | {"tag": item.get("group", item["id"]), "counts": {"unseen": 1, "unread": 1}}


def registration_of(session: CDPSession) -> str:
    registration_ids: list[str] = []
    session.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda event: registration_ids.extend(
            entry["registrationId"] for entry in event["registrations"] if not entry["isDeleted"]
        ),
    )
    session.send("ServiceWorker.enable")
    wait_until(
        lambda: session.send("ServiceWorker.enable") is not None and registration_ids, why="DevTools names the worker"
    )
    return registration_ids[-1]


@pytest.fixture
def page(browser: Chromium, node: NotificationNode, request: pytest.FixtureRequest) -> Iterator[PushPage]:
    context = browser.new_context()
    context.grant_permissions(["notifications"], origin=node.hub.url)
    name = request.node.name.removeprefix("test_")[:40]
    page = PushPage(context, node, name)
    yield page
    context.close()
    assert page.errors == []


def subscriptions(node: NotificationNode, page: PushPage) -> int:
    """How many subscriptions of the page's endpoint the hub deletes now: 1 if it had it."""
    total = 0
    for user in ("ann", "ben"):
        headers = {"Authorization": f"Bearer {token(f'{page.name}-{user}')}"}
        body = {"endpoint": page.subscription["endpoint"]}
        total += node.hub.request("DELETE", "/inbox/push-subscriptions", body, headers)[1]["deleted"]
    return total


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
    assert page.evaluate("() => localStorage.getItem('subscription')") is None
    page.enable()
    assert page.state == "on"
    assert subscriptions(node, page) == 1


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
