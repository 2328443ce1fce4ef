"""Pushes per second of the sender of Web Push, for the case `web-push`.

    python push_rate.py KEY_FILE COUNT PORT…     prints one line of JSON

The messages are made as they are sent, as the service reads them from its database: some hundreds wait at a time.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import threading
import time
from pathlib import Path

from bench import machine
from support.network.push_service import Browser
from tidings_hub.config.web_push import WebPush
from tidings_notifications.core.delivery import Outcome, Sent
from tidings_notifications.core.push_message import encode_payload
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.web_push.client import PushMessage
from tidings_notifications.web_push.encryption import MessageKeys
from tidings_notifications.web_push.sender import Job, PushSender
from tidings_notifications.web_push.vapid import VapidKey

WAITING_MAX = 1_000
BATCH = 100
WARM_UP = 2_000
BROWSERS = 500


class Load:
    """Submits messages while fewer than `WAITING_MAX` are without an outcome."""

    def __init__(self, sender: PushSender, ports: list[int]) -> None:
        self._sender = sender
        self._origins = itertools.cycle([f"https://127.0.0.1:{port}" for port in ports])
        self._browsers = itertools.cycle([Browser("") for _ in range(BROWSERS)])
        self._changed = threading.Condition()
        self._submitted = self.sent = self.failed = 0

    def run(self, count: int) -> float:
        """Send `count` messages. Returns the seconds that it took."""
        began_s = time.monotonic()
        for first in range(0, count, BATCH):
            self._wait(WAITING_MAX - BATCH)
            numbers = range(first, min(first + BATCH, count))
            self._submitted += len(numbers)
            self._sender.submit([self._job(number) for number in numbers])
        self._wait(0)
        return time.monotonic() - began_s

    def _wait(self, waiting_max: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._submitted - self.sent - self.failed <= waiting_max)

    def _job(self, number: int) -> Job:
        browser = next(self._browsers)
        payload = encode_payload(
            {
                "id": f"01890000-0000-7000-8000-{number:012}",
                "title": "Your order has shipped",
                "body": "Your parcel has left our warehouse. It arrives on Friday between eight and twelve.",
                "url": f"/orders/{number}",
                "icon": "/static/box.png",
            }
        )
        endpoint = f"{next(self._origins)}/send/{number}"
        keys = MessageKeys(browser.p256dh, browser.auth)
        return Job(PushMessage(endpoint, keys, payload, ttl_s=3600, topic="T" * 32), self._on_outcome)

    def _on_outcome(self, outcome: Outcome) -> None:
        with self._changed:
            if isinstance(outcome, Sent):
                self.sent += 1
            else:
                self.failed += 1
            self._changed.notify()


def main(key_file: str, count: int, ports: list[int]) -> None:
    options = WebPush(
        vapid_key_file=key_file,
        contact="mailto:ops@shop.example",
        hosts=tuple(f"127.0.0.1:{port}" for port in ports),
        allow_private=True,
    )
    sender = PushSender(options, VapidKey.load(Path(key_file)), ServiceMetrics())
    thread = threading.Thread(target=sender.run)
    thread.start()
    load = Load(sender, ports)
    load.run(min(WARM_UP, count))
    before, cpu_s, sent = machine.memory(os.getpid()).rss_bytes, time.process_time(), load.sent
    machine.reset_peak(os.getpid())
    took_s = load.run(count)
    figures = {
        "pushes_per_s": count / took_s,
        "cpu_us": (time.process_time() - cpu_s) / count * 1e6,
        "sent_pct": (load.sent - sent) / count * 100,
        "grown_mib": (machine.peak_bytes(os.getpid()) - before) / 2**20,
    }
    sender.stop()
    thread.join()
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(port) for port in sys.argv[3:]])
