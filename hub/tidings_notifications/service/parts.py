"""The parts of a service process, built from the settings."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tidings.errors import BadConfig
from tidings.publishers import kind_of, open_publisher
from tidings.redis_client.keys import RedisKeys
from tidings.redis_client.topology import open_buckets
from tidings.redis_client.url import RedisAddress
from tidings_hub.config.notifications import Notifications
from tidings_hub.config.settings import Settings
from tidings_hub.config.web_push import WebPush
from tidings_notifications.api.push_views import PushSettings
from tidings_notifications.core.delivery import Sender
from tidings_notifications.core.notification import WEB_PUSH, WEBHOOK, Category, PushRule
from tidings_notifications.inbox import Inbox
from tidings_notifications.inbox.deliveries import Deliveries
from tidings_notifications.inbox.subscriptions import Subscriptions
from tidings_notifications.intake.consumer import StreamConsumer
from tidings_notifications.intake.stream import NotificationStream, StreamRules
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.scheduler.delivery_loop import DeliveryLoop
from tidings_notifications.scheduler.event_relay import EventRelay
from tidings_notifications.scheduler.sweeper import Sweeper
from tidings_notifications.scheduler.webhook_sender import WebhookSender
from tidings_notifications.store.database import Database
from tidings_notifications.web_push.endpoints import EndpointRules
from tidings_notifications.web_push.push_deliveries import PushDeliveries
from tidings_notifications.web_push.sender import PushSender
from tidings_notifications.web_push.vapid import VapidKey
from tidings_notifications.writer import NotificationWriter

# A sender has the result of a delivery within about three times that of one push.
_LEASE_MIN_S: Final = 60.0
_LEASE_TIMEOUTS: Final = 4
# Claimed deliveries for each connection: enough that none waits for the database.
_IN_FLIGHT: Final = 3


@dataclass(frozen=True, slots=True)
class ServiceTarget:
    """Where events go: the broker of the hub, or the hub itself over HTTP. `api_key`: only for HTTP."""

    url: str
    prefix: str
    api_key: str | None

    @property
    def is_redis(self) -> bool:
        """Whether emitters reach the service through this Redis."""
        return kind_of(self.url) in {"redis", "cluster"}

    def streams(self, *, consumer: str, rules: StreamRules) -> Iterator[NotificationStream]:
        """The streams of this Redis: one, or one for each bucket of a cluster."""
        if kind_of(self.url) == "cluster":
            for bucket in open_buckets(self.url, self.prefix):
                yield NotificationStream(bucket.address, bucket.keys, consumer=consumer, rules=rules)
        elif self.is_redis:
            yield NotificationStream(
                RedisAddress.open(self.url), RedisKeys(self.prefix), consumer=consumer, rules=rules
            )


class ServiceParts:
    """The parts that run in threads, and what they share.

    `consumer`: a name that no other running service has.

    Raises:
        BadConfig: the database or the broker cannot be used.
    """

    def __init__(self, settings: Settings, target: ServiceTarget, database: Database, *, consumer: str) -> None:
        options, max_bytes = settings.notifications, settings.publication_max_bytes
        self.metrics = ServiceMetrics()
        self.stopping = threading.Event()
        publisher = open_publisher(target.url, prefix=target.prefix, api_key=target.api_key)
        self.relay = EventRelay(database, publisher, publication_max_bytes=max_bytes, metrics=self.metrics)
        self.inbox = Inbox(
            database,
            categories_of(options),
            keep_days=options.keep_days,
            event_max_bytes=max_bytes,
            on_events=self.relay.wake,
        )
        self.subscriptions = Subscriptions(database, user_max=options.web_push.subscriptions_max)
        self.push_settings = push_settings_of(options.web_push)
        self.writer = NotificationWriter(self.inbox, self.metrics)
        self.sweeper = Sweeper(
            self.inbox,
            metrics=self.metrics,
            stopping=self.stopping,
            observe=self.relay.observe,
        )
        rules = StreamRules(tuple(options.categories), options.stream_max, options.dead_max)
        self.consumers = [
            self._consumer_of(stream, max_bytes) for stream in target.streams(consumer=consumer, rules=rules)
        ]
        self.push_sender = self._push_sender(options.web_push)
        self.webhook_sender = webhook_sender_of(settings)
        pushes = None if self.push_sender is None else PushDeliveries(self.push_sender)
        lease_s = max(_LEASE_MIN_S, _LEASE_TIMEOUTS * max(options.web_push.timeout_s, settings.hooks.timeout_s))

        def loop(method: str, sender: Sender | None, connections: int) -> DeliveryLoop:
            deliveries = Deliveries(database, self.inbox.categories, method=method, lease_s=lease_s)
            return DeliveryLoop(
                *(deliveries, sender),
                in_flight_max=_IN_FLIGHT * connections,
                metrics=self.metrics,
                stopping=self.stopping,
            )

        self.delivery_loops = {
            WEB_PUSH: loop(WEB_PUSH, pushes, options.web_push.connections),
            WEBHOOK: loop(WEBHOOK, self.webhook_sender, settings.hooks.connections),
        }

    def _consumer_of(self, stream: NotificationStream, publication_max_bytes: int) -> StreamConsumer:
        return StreamConsumer(
            stream,
            # A consumer has nothing else to do, and its own stream needs the same broker.
            partial(self.writer.store, publisher=self.relay),
            publication_max_bytes=publication_max_bytes,
            metrics=self.metrics,
            stopping=self.stopping,
        )

    def _push_sender(self, options: WebPush) -> PushSender | None:
        if not options.is_enabled:
            return None
        return PushSender(options, VapidKey.load(Path(options.vapid_key_file)), self.metrics)


def webhook_sender_of(settings: Settings) -> WebhookSender | None:
    """The sender of webhooks, with the secret of `[hooks]`. None: no category has one.

    Raises:
        BadConfig: there is no secret, or a URL is not https.
    """
    hooks = settings.hooks
    urls = {category.webhook for category in settings.notifications.categories.values() if category.webhook}
    if not urls:
        return None
    if not hooks.allow_private and any(not url.startswith("https://") for url in urls):
        raise BadConfig("webhook must be https: webhooks contain data of users; or set allow_private in [hooks]")
    return WebhookSender(hooks, hooks.signing_secret())


def push_settings_of(options: WebPush) -> PushSettings | None:
    """What Web Push needs. None: it is not set up.

    Raises:
        BadConfig: vapid_key_file has no key.
    """
    if not options.is_enabled:
        return None
    key = VapidKey.load(Path(options.vapid_key_file))
    return PushSettings(key.public_key, EndpointRules(options.hosts, allow_private=options.allow_private))


def categories_of(options: Notifications) -> dict[str, Category]:
    """The rules of the categories."""
    return {
        name: Category(
            category.label,
            category.required,
            category.digest_s,
            PushRule(category.web_push) if options.web_push.is_enabled else PushRule.NEVER,
            category.push_after_s,
            category.urgency,
            category.webhook,
        )
        for name, category in options.categories.items()
    }


def consumer_name(listening: socket.socket) -> str:
    """The name of this process in the consumer group: the address that it alone has bound, and its host.

    After a restart it is the same, so the process continues at once with what it had read before.
    """
    host, port = listening.getsockname()[:2]
    return f"{socket.gethostname()}/{host}:{port}"
