"""Sends notifications to the webhooks of their categories: signed as the hub's other hooks, a few at a time."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from tidings.errors import TidingsError
from tidings.hooks import HEADER, sign
from tidings.http_client.connection import HttpAddress, HttpConnection
from tidings.http_client.deadline import Deadline
from tidings.http_client.public_address import is_public
from tidings_hub.config.hooks import Hooks
from tidings_notifications.core.delivery import DueDelivery, Failed, Gone, Outcome, Retry
from tidings_notifications.core.events import full_item_of
from tidings_notifications.web_push.host_lanes import HostLanes
from tidings_notifications.web_push.responses import outcome_of

logger = logging.getLogger("tidings.notifications")

WAIT_MAX_S: Final = 20.0
_UNEXPECTED: Final = "an unexpected error; the log has it"
_STOPPED: Final = "the service was stopped"
_SLOW: Final = "its webhook does not respond in time"
_REASON_MAX: Final = 200
_SERVER_ERROR: Final = 500
Done = Callable[[DueDelivery, Outcome], None]


class WebhookSender:
    """Sends webhooks in threads, with the secret and the limits of `[hooks]`. One that is slow delays no other.

    A delivery that waits for longer than `WAIT_MAX_S` is postponed, so every one has an outcome soon after that.
    """

    def __init__(self, hooks: Hooks, secret: str) -> None:
        self._hooks = hooks
        self._secret = secret
        self._tls = ssl.create_default_context()
        self._lock = threading.Lock()
        per_host = max(1, hooks.connections // 2)
        self._lanes: HostLanes[tuple[DueDelivery, Done]] = HostLanes(total=hooks.connections, per_host=per_host)
        self._threads = ThreadPoolExecutor(hooks.connections, thread_name_prefix="webhook")
        self._is_stopping = False

    def submit(self, deliveries: Sequence[DueDelivery], done: Done) -> None:
        """See `Sender.submit`."""
        with self._lock:
            for due in deliveries:
                self._lanes.add(urlsplit(due.category.webhook).netloc, (due, done), time.monotonic())
        self._start()

    def stop(self) -> None:
        """Start no further webhook, and postpone those that wait."""
        with self._lock:
            self._is_stopping = True
            waiting = self._lanes.overdue(float("inf"))
        _postpone(waiting, _STOPPED)
        self._threads.shutdown(wait=False)

    def _start(self) -> None:
        with self._lock:
            late = self._lanes.overdue(float("inf") if self._is_stopping else time.monotonic() - WAIT_MAX_S)
            # Only as many start as there are threads.
            for host, (due, done) in self._lanes.start():
                self._threads.submit(self._run, host, due, done)
        _postpone(late, _SLOW)

    def _run(self, host: str, due: DueDelivery, done: Done) -> None:
        outcome: Outcome = Retry(None, _UNEXPECTED)
        is_healthy = False
        try:
            outcome, is_healthy = self._exchange(due)
        except Exception:
            # Its place must be free again, and its delivery has an outcome.
            logger.exception("unexpected error in a webhook")
        with self._lock:
            away = self._lanes.finish(host, is_healthy=is_healthy)
        done(due, outcome)
        _postpone(away, _SLOW)
        self._start()

    def _exchange(self, due: DueDelivery) -> tuple[Outcome, bool]:
        """The outcome, and whether the webhook responded and its server did not fail."""
        parts = urlsplit(due.category.webhook)
        is_secure = parts.scheme == "https"
        address = HttpAddress(
            parts.hostname or "",
            parts.port or (443 if is_secure else 80),
            self._tls if is_secure else None,
            None if self._hooks.allow_private else is_public,
        )
        body = webhook_body(due)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tidings",
            HEADER: sign(self._secret, body, at_s=time.time()),
        }
        try:
            response = HttpConnection(address).deliver(
                *((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers),
                deadline=Deadline.after(self._hooks.timeout_s),
                response_max_bytes=self._hooks.answer_max_bytes,
            )
        except (OSError, TidingsError) as error:
            return Retry(None, f"{type(error).__name__}: {error}"[:_REASON_MAX]), False
        status = response.status
        outcome = outcome_of(status, response.header("Retry-After"), response.body, unix_s=time.time())
        if isinstance(outcome, Gone):
            outcome = Failed(f"status {status}")
        return outcome, status < _SERVER_ERROR


def webhook_body(due: DueDelivery) -> bytes:
    """The body of a webhook. `id` is the same when it is sent again."""
    fields = {
        "hook": "notification",
        "id": due.id,
        "at_ms": due.notification.created_ms,
        "user": due.notification.user_id,
        "notification": full_item_of(due.notification),
        "counts": due.counts.to_wire(),
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _postpone(waiting: Sequence[tuple[DueDelivery, Done]], reason: str) -> None:
    for due, done in waiting:
        done(due, Retry(None, reason))
