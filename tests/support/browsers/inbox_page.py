"""A page with `<tidings-inbox>` and a store of the page, under a strict content security policy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, Route

from support.browsers.chromium import SDK

URL = "http://shop.test/"
_POLICY = (
    "default-src 'none'; script-src 'self'; img-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_PAGE = """<!doctype html><html lang="en"><title>page</title><main><tidings-inbox></tidings-inbox></main>
<script src="/tidings-inbox.js"></script><script src="/store.js"></script></html>"""
# `calls` has what the element did with the store, `parts` the stores of the other tabs.
_STORE = """
const calls = [], violations = [], parts = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
const now = Date.now();
const item = (id, more) => ({
  id, category: "order_shipped", title: `title ${id}`, body: null, url: null, icon: null, count: 1,
  created_at: now, seen_at: null, read_at: null, archived_at: null, ...more,
});
const preferences = [
  { category: "news", label: "News", required: false, methods: { in_app: true } },
  { category: "order_shipped", label: "Shipping", required: false,
    methods: { in_app: true, web_push: true, webhook: false } },
  { category: "new_price", label: "new_price", required: true, methods: { in_app: true, web_push: true } },
];
function createStore(prefix) {
  const listeners = new Set();
  const store = {
    snapshot: { items: [], counts: { unseen: 0, unread: 0 }, state: "ready", error: undefined, hasMore: false },
    set(change) {
      store.snapshot = { ...store.snapshot, ...change };
      listeners.forEach((listener) => listener());
    },
    subscribe: (listener) => (listeners.add(listener), () => listeners.delete(listener)),
    getSnapshot: () => store.snapshot,
    markAllSeen: async () => {
      calls.push([`${prefix}markAllSeen`]);
      store.set({ counts: { ...store.snapshot.counts, unseen: 0 } });
    },
    preferences: async () => preferences,
    setPreference: async (...values) => {
      calls.push(["setPreference", ...values]);
      if (values[0] === "news") throw new Error("refused");
    },
  };
  for (const name of ["loadMore", "markRead", "markUnread", "markAllRead", "archive", "unarchive", "close"]) {
    store[name] = async (...values) => void calls.push([prefix + name, ...values]);
  }
  return store;
}
const inbox = createStore("");
const set = inbox.set;
const element = document.querySelector("tidings-inbox");
element.inbox = inbox;
const list = () => element.shadowRoot.querySelector("ul");
const rows = () => [...list().children];
"""


@contextmanager
def inbox_page(browser: Browser, *, has_clock: bool = False) -> Iterator[Page]:
    """The page. It had no error, and its policy was never violated. `has_clock`: the test advances the time."""
    page = browser.new_page()
    page.set_default_timeout(6000)
    page_errors: list[str] = []
    page.on("pageerror", lambda error: page_errors.append(str(error)))

    def serve(route: Route) -> None:
        name = route.request.url.removeprefix(URL)
        if name == "tidings-inbox.js":
            route.fulfill(path=SDK.with_name(name))
        elif name == "store.js":
            route.fulfill(body=_STORE, content_type="text/javascript")
        else:
            policy = {"Content-Security-Policy": _POLICY}
            route.fulfill(body=_PAGE, content_type="text/html", headers=policy)

    page.route("**/*", serve)
    if has_clock:
        page.clock.install()
    page.goto(URL)
    yield page
    assert page.evaluate("violations") == []
    assert page_errors == []
    page.close()


def show(page: Page, *items: dict[str, object], unseen: int = 0) -> None:
    """Let the store have these notifications."""
    counts = {"unseen": unseen, "unread": len(items)}
    page.evaluate(
        f"set({{ items: {json.dumps(items)}.map((more) => item(more.id, more)), counts: {json.dumps(counts)} }})"
    )


def open_panel(page: Page) -> None:
    """Click on the bell."""
    page.get_by_role("button", name="Notifications,").click()
