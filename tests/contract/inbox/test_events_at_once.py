"""Events that the thread which stored a notification publishes itself: once and in order, whatever dies or waits."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from support.inbox import CATEGORIES, InboxBench, notification
from support.statements import observed_statements
from support.waiting import wait_until
from tidings.contrib.outbox import written_rows
from tidings.contrib.outbox.written_rows import WrittenRow
from tidings.errors import Unavailable
from tidings.publishers.base import OutgoingPublication, PublishResult
from tidings.publishers.memory.publisher import MemoryPublisher
from tidings.publishers.memory.store import MemoryStore
from tidings.wire.publication import Publication
from tidings_notifications.core.notification import NewNotification
from tidings_notifications.inbox import Inbox
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.scheduler.event_relay import EventRelay
from tidings_notifications.store.database import Database
from tidings_notifications.store.tables import event_table

# The other databases leave all events to the relay.
only_postgresql = pytest.mark.parametrize("filled", ["postgresql"], indirect=True)


class Broker(MemoryPublisher):
    """The broker in memory. `is_away`: it accepts nothing."""

    is_away = False

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        if self.is_away:
            return [Unavailable("the broker is away") for _ in items]
        return super().publish(items, timeout_s=timeout_s)


class SlowRelay(EventRelay):
    """Other things happen between the commit and the publication: `meanwhile`, once."""

    meanwhile: Callable[[], object] | None = None

    def publish_written(self, events: Sequence[WrittenRow], started_s: float) -> bool:
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            meanwhile()
        return super().publish_written(events, started_s)


@dataclass
class Service:
    """What one process has. Its relay has no thread, unless `running`."""

    inbox: Inbox
    relay: SlowRelay
    broker: Broker
    now_ms: int

    def store(self, *new: NewNotification) -> None:
        """Store and publish."""
        self.inbox.store(new, self.now_ms, publisher=self.relay)

    @property
    def counts(self) -> tuple[int, int]:
        """How many events it has published, and how many of them the broker had before."""
        return self.relay._relay.published, self.relay._relay.duplicates

    @contextmanager
    def running(self) -> Iterator[None]:
        """The thread of the relay runs."""
        thread = threading.Thread(target=self.relay.run)
        thread.start()
        try:
            yield
        finally:
            self.relay.stop()
            thread.join(20)


@dataclass
class Services:
    """Services on one database and one broker. `published`: what the broker has sent."""

    bench: InboxBench
    published: list[Publication] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.store = MemoryStore()
        self.store.write_rules({"user": (1000, 600)})
        self.store.add_listener(self.published.append)

    def new(self) -> Service:
        """One more service."""
        database = Database(self.bench.database.url)
        self.stack.callback(database.close)
        broker = Broker(store=self.store)
        relay = SlowRelay(database, broker, publication_max_bytes=65_536, metrics=ServiceMetrics())
        self.stack.callback(relay.close)
        return Service(Inbox(database, CATEGORIES, on_events=relay.wake), relay, broker, self.bench.now_ms)

    def versions(self, user: str = "7") -> list[int]:
        """The versions in a user's events, as they arrive."""
        events = [item for item in self.published if item.channel == f"user:{user}"]
        return [json.loads(event.data_json)["version"] for event in events]

    def check(self) -> None:
        """Each inbox has its counts, and each change of it was published once, in order."""
        for user in self.bench.users():
            stored, recounted = self.bench.inbox.recount(user)
            assert stored == recounted
            assert self.versions(user) == list(range(1, stored.version + 1))

    def waiting(self) -> int:
        """How many events are in the outbox."""
        with self.bench.database.engine.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(event_table)) or 0)


@pytest.fixture
def services(bench: InboxBench) -> Iterator[Services]:
    services = Services(bench)
    with services.stack:
        yield services


def statements_of(service: Service, *new: NewNotification) -> list[str]:
    """The first words of the statements that it takes to store and publish these notifications."""
    texts: list[str] = []
    with observed_statements(service.relay._database.engine, before=lambda text, _: texts.append(text.strip()[:14])):
        service.store(*new)
    return texts


@only_postgresql
def test_event_is_published_without_a_further_statement(services: Services) -> None:
    service = services.new()
    service.store(notification())
    assert statements_of(service, notification()) == ["WITH locked AS"], "the counts of the user are known"
    service.inbox.mark_all("7", "read", service.now_ms)
    assert service.relay.publish_now()
    assert statements_of(service, notification()) == ["SELECT (SELECT", "WITH locked AS"], "they are not"
    assert statements_of(service, notification()) == ["WITH locked AS"]
    assert services.versions() == [1, 2, 3, 4, 5]
    services.check()


@only_postgresql
def test_published_events_are_deleted_together_and_not_published_again(services: Services) -> None:
    service = services.new()
    with service.running():
        for number in range(10):
            service.store(notification(user=str(number)))
        wait_until(lambda: services.waiting() == 0, why="the relay deletes the published events")
    assert len(services.published) == 10
    assert service.counts == (10, 0)


@only_postgresql
def test_claim_deletes_events_that_are_published_without_a_repetition(services: Services) -> None:
    service = services.new()
    service.store(notification(), notification(user="8"))
    assert services.waiting() == 2
    service.inbox.mark_all("7", "read", service.now_ms)
    assert service.relay.publish_now()
    assert services.waiting() == 0
    assert service.counts == (3, 0)
    assert services.versions() == [1, 2]


def test_process_that_ends_between_commit_and_publication_leaves_the_event_to_others(services: Services) -> None:
    ended, other = services.new(), services.new()
    ended.store(notification())
    # Nothing publishes this one.
    Inbox(services.bench.database, CATEGORIES).store([notification()], ended.now_ms)
    other.store(notification())
    with other.running():
        wait_until(lambda: services.versions() == [1, 2, 3], why="the other service publishes it, in order")
        wait_until(lambda: services.waiting() == 0, why="the relay deletes it")
    services.check()


def test_process_that_ends_between_publication_and_deletion_repeats_nothing(services: Services) -> None:
    ended, other = services.new(), services.new()
    ended.store(notification())
    ended.store(notification())
    with other.running():
        other.store(notification())
        wait_until(lambda: services.versions() == [1, 2, 3], why="the other service publishes its event")
        wait_until(lambda: services.waiting() == 0, why="the relay deletes the events of the one that ended")
    assert services.versions() == [1, 2, 3]


@only_postgresql
def test_service_that_is_overtaken_between_commit_and_publication_changes_no_order(services: Services) -> None:
    first, second = services.new(), services.new()
    first.store(notification())
    first.relay.meanwhile = lambda: second.store(notification("of the second service"))
    first.store(notification())
    assert services.versions() == [1, 2, 3], "the second one has published the event of the first one before its own"
    assert first.counts == (2, 1)
    first.store(notification())
    second.store(notification())
    assert services.versions() == [1, 2, 3, 4, 5]
    services.check()


@only_postgresql
def test_event_of_the_same_user_from_another_thread_waits_for_the_earlier_one(services: Services) -> None:
    service = services.new()
    service.store(notification())
    service.relay.meanwhile = lambda: service.store(notification("of another thread"))
    service.store(notification())
    assert services.versions() == [1, 2, 3]
    services.check()


def test_event_that_waits_is_published_before_those_that_follow(services: Services) -> None:
    service = services.new()
    service.store(notification())
    # The mark of a service that does not publish.
    Inbox(services.bench.database, CATEGORIES).mark_all("7", "read", service.now_ms)
    service.store(notification(), notification(user="8"))
    service.store(notification())
    with service.running():
        wait_until(lambda: len(services.versions()) == 4, why="all are published")
    assert services.versions() == [1, 2, 3, 4]
    assert services.versions("8") == [1]


@only_postgresql
def test_event_whose_commit_was_long_ago_is_left_to_the_relay(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = services.new()
    service.store(notification())
    monkeypatch.setattr(written_rows, "FRESH_S", 0.0)
    service.store(notification())
    assert services.versions() == [1]
    monkeypatch.undo()
    # The service has not forgotten that it waits.
    service.store(notification())
    assert services.versions() == [1, 2, 3]


def test_events_of_a_broker_that_was_away_are_published_in_order(services: Services) -> None:
    service = services.new()
    service.store(notification())
    service.broker.is_away = True
    service.store(notification())
    service.broker.is_away = False
    service.store(notification())
    with service.running():
        wait_until(lambda: len(services.versions()) == 3, why="all are published")
        wait_until(lambda: services.waiting() == 0, why="all are deleted")
    assert services.versions() == [1, 2, 3]


@only_postgresql
def test_events_of_one_user_in_one_batch_are_in_order(services: Services) -> None:
    service = services.new()
    service.store(notification())
    service.store(*(notification(str(number)) for number in range(5)))
    assert services.versions() == [1, 2, 3, 4, 5, 6]


def test_threads_of_two_services_keep_the_order_of_each_user(services: Services) -> None:
    users, batch_count = ("7", "8", "9"), 8
    both = [services.new(), services.new()] if services.bench.database.is_postgresql else [services.new()]

    def work(service: Service) -> None:
        for number in range(batch_count):
            service.store(notification(user=users[number % 3]), notification(user=users[(number + 1) % 3]))
            service.inbox.mark_all(users[number % 3], "read", service.now_ms)

    with ExitStack() as stack:
        for service in both:
            stack.enter_context(service.running())
        threads = [threading.Thread(target=work, args=(service,)) for service in both for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        wait_until(lambda: services.waiting() == 0, why="all are published", within_s=60)
    services.check()
