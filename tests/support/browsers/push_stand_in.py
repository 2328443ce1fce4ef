"""A stand-in for `PushManager`: Chromium cannot reach its push service from a test."""

from __future__ import annotations

import json

from support.network.push_service import Browser

ENDPOINT = "https://fcm.googleapis.com/fcm/send/"
# Keeps its subscription over reloads, as a browser does.
_SCRIPT = """
  const newSubscription = %s;
  const load = () => JSON.parse(localStorage.getItem("subscription"));
  const open = (json) => json && {
    endpoint: json.endpoint,
    toJSON: () => json,
    unsubscribe: async () => {
      if (localStorage.getItem("broken")) throw new DOMException("no network", "NetworkError");
      localStorage.removeItem("subscription");
      return true;
    },
  };
  PushManager.prototype.getSubscription = async () => open(load());
  PushManager.prototype.subscribe = async (options) => {
    localStorage.setItem("options", JSON.stringify(options));
    localStorage.setItem("subscription", JSON.stringify(load() ?? newSubscription));
    return open(load());
  };
"""


def push_stand_in(subscription: dict[str, object]) -> str:
    """The script for a context: `subscribe` gives this subscription."""
    return _SCRIPT % json.dumps(subscription)


def new_subscription(name: str) -> dict[str, object]:
    """A subscription at the push service of Chromium."""
    return Browser(ENDPOINT + name).to_json()
