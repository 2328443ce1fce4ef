"""What a hostile client does to make a hub and its notification service grow: each act uses new names."""

from __future__ import annotations

from typing import Any

from growth.attacks import ATTACKER, attacker, fresh
from support.network.push_service import Browser
from support.notification_node import NotificationNode
from support.processes.hub import token

_SUBSCRIPTIONS = "/inbox/push-subscriptions"
_BROWSER = Browser("https://fcm.googleapis.com/fcm/send/one").to_json()


def _new_browser() -> dict[str, Any]:
    return _BROWSER | {"endpoint": f"https://fcm.googleapis.com/fcm/send/{fresh()}"}


def inbox_events(node: NotificationNode, count: int) -> None:
    """Request, mark and set with unknown categories, ids, fields and methods."""
    with attacker(node.hub.port, pid=None) as client:
        for number in range(count):
            client.call("tidings:inbox", {"category": fresh(), "before": fresh()})
            client.call("tidings:inbox", {fresh(): fresh()})
            client.call("tidings:inbox_mark", {"action": fresh(), "ids": [fresh()]})
            client.call("tidings:inbox_mark", {"action": "read", "ids": [fresh()]})
            client.call("tidings:inbox_mark", {"action": "read", "all": True, "before": fresh()})
            client.call("tidings:inbox_preferences", {"category": fresh(), "method": fresh(), "enabled": False})
            choice = {"category": "mention", "method": "web_push", "enabled": bool(number % 2)}
            assert "error" not in client.call("tidings:inbox_preferences", choice)
            client.call("tidings:push", {"unsubscribe": f"https://fcm.googleapis.com/{fresh()}"})
            client.call("tidings:push", {"subscription": {fresh(): fresh()}})


def push_subscriptions(node: NotificationNode, count: int) -> None:
    """Subscribe one browser after the other, and renew each as another one."""
    with attacker(node.hub.port, pid=None) as client:
        for _ in range(count):
            stored = client.call("tidings:push", {"subscription": _new_browser()})
            renewal = stored | {"subscription": _new_browser()}
            assert node.hub.request("POST", f"{_SUBSCRIPTIONS}/renew", renewal)[0] == 200
            node.hub.request("POST", f"{_SUBSCRIPTIONS}/mark", stored | {"action": "read", "ids": [fresh()]})


def inbox_requests(node: NotificationNode, count: int) -> None:
    """Requests over HTTP, with unknown subscriptions, tokens, origins, paths, and as new users."""
    for _ in range(count):
        unknown = {"id": f"00000000-0000-4000-8000-{fresh()[:12]}", "key": fresh()}
        node.hub.request("POST", f"{_SUBSCRIPTIONS}/renew", unknown | {"subscription": _new_browser()})
        node.hub.request("POST", f"{_SUBSCRIPTIONS}/mark", unknown | {"action": "read", "ids": [fresh()]})
        forged = {"Authorization": f"Bearer {fresh()}", "Origin": f"https://{fresh()}.example"}
        node.hub.request("GET", f"/inbox?{fresh()}={fresh()}", None, forged)
        stranger = {"Authorization": f"Bearer {token(fresh())}"}
        node.hub.request("GET", f"/inbox?category={fresh()}", None, stranger)
        node.hub.request("POST", "/inbox/mark", {"action": "seen", "all": True}, stranger)
        node.hub.request("POST", f"/inbox/{fresh()}", {}, {"Authorization": f"Bearer {token(ATTACKER)}"})


INBOX_ATTACKS = (inbox_events, push_subscriptions, inbox_requests)
