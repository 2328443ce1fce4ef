"""A page with Web Push in a real Chromium: a stand-in for `PushManager` subscribes, and DevTools delivers messages."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import BrowserContext, CDPSession, Page, Worker

from support.browsers.push_stand_in import new_subscription, push_stand_in
from support.notification_node import NotificationNode
from support.processes.hub import token
from support.waiting import wait_until

PAGE = """<!doctype html><title>push</title><script src="/tidings.js"></script><script>
  const parameters = new URLSearchParams(location.search);
  let user = parameters.get("user");
  const hub = tidings.connect(parameters.get("hub") ?? "/", { getToken: () => (%(tokens)s)[user] });
  let push, failure;
  const opened = parameters.has("plain") || hub.push().then((opened) => (push = opened));
  const attempt = (promise) => promise.catch((error) => (failure = error.code));
</script><button onclick="attempt(push.enable())">Enable</button>"""


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

    @property
    def is_subscribed(self) -> bool:
        """Whether the browser has a subscription."""
        return self.evaluate("() => localStorage.getItem('subscription')") is not None

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


def subscriptions(node: NotificationNode, page: PushPage) -> int:
    """How many subscriptions of the page's endpoint the hub deletes now: 1 if it had it."""
    total = 0
    for user in ("ann", "ben"):
        headers = {"Authorization": f"Bearer {token(f'{page.name}-{user}')}"}
        body = {"endpoint": page.subscription["endpoint"]}
        total += node.hub.request("DELETE", "/inbox/push-subscriptions", body, headers)[1]["deleted"]
    return total
