"""The outbox on every database: committed rows are published once and in order, rolled-back rows are not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from support.processes.database import CONCURRENT, KINDS, Database, new_table
from support.waiting import wait_until
from tidings.contrib.outbox import Outbox, Relay, outbox_table, status_lines
from tidings.contrib.outbox.locks import SILENCE_S
from tidings.contrib.outbox.relay import CLAIM_MAX_S
from tidings.contrib.outbox.store import OutboxStore
from tidings.errors import (
    BadChannel,
    BadConfig,
    BadData,
    BadRequest,
    Forbidden,
    Internal,
    TidingsError,
    TooLarge,
    Unavailable,
)
from tidings.options import TIMEOUT_S
from tidings.publishers.base import OutgoingPublication, Publisher, PublishResult
from tidings.publishers.memory.publisher import MemoryPublisher
from tidings.publishers.memory.store import MemoryStore
from tidings.wire.publication import Publication


@dataclass
class Bench:
    """One outbox table in one database, and the publications of its relays."""

    database: Database
    table: str
    engine: sa.Engine
    broker: MemoryStore
    published: list[Publication]
    stack: ExitStack = field(default_factory=ExitStack)

    def relay(self, publisher: Publisher | None = None, **options: Any) -> Relay:
        relay = Relay(
            self.database.url,
            publisher or MemoryPublisher(store=self.broker),
            table=self.table,
            timeout_s=1.0,
            **options,
        )
        return self.stack.enter_context(relay)

    def outbox(self, bind: Any) -> Outbox:
        return Outbox(bind, table=self.table)

    def data(self, channel: str = "") -> list[object]:
        return [item.to_wire()["data"] for item in self.published if not channel or item.channel == channel]

    def rows(self) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(sa.text(f"SELECT * FROM {self.table} ORDER BY row_no")))

    def insert(self, *rows: dict[str, object]) -> None:
        """Insert rows without any check, as another program would."""
        statement = f"INSERT INTO {self.table} (id, channel, event, data) VALUES (:id, :channel, :event, :data)"
        defaults = [
            {"id": f"raw-{number}", "channel": "orders:1", "event": "n", "data": "1"} for number in range(len(rows))
        ]
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), [values | row for values, row in zip(defaults, rows, strict=True)])


def bench_of(database: Database) -> Iterator[Bench]:
    published: list[Publication] = []
    broker = MemoryStore()
    broker.write_rules({"orders": (1000, 600), "user": (10, 600)})
    broker.add_listener(published.append)
    bench = Bench(database, new_table(), database.engine(), broker, published)
    with bench.stack:
        bench.relay().create()
        yield bench


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, database_of: Callable[[str], Database]) -> Iterator[Bench]:
    yield from bench_of(database_of(request.param))


@pytest.fixture(params=CONCURRENT)
def concurrent(request: pytest.FixtureRequest, database_of: Callable[[str], Database]) -> Iterator[Bench]:
    """A bench whose database allows two concurrent writers."""
    yield from bench_of(database_of(request.param))


def test_committed_rows_are_published_and_deleted(bench: Bench) -> None:
    before_ms = time.time_ns() // 1_000_000
    with bench.engine.begin() as connection:
        first = bench.outbox(connection).emit("shipped", {"é": [1, None, '"']}, channel="orders:1")
        bench.outbox(connection).emit("told", user="7", id="mine")
        bench.outbox(connection).emit("both", 3, channels=["orders:1", "orders:2"])
        assert bench.relay().once(), "nothing of it is visible yet"
        assert bench.published == []
    assert bench.relay().once()
    assert sorted((item.channel, item.event) for item in bench.published) == [
        ("orders:1", "both"),
        ("orders:1", "shipped"),
        ("orders:2", "both"),
        ("user:7", "told"),
    ]
    [shipped] = [item for item in bench.published if item.event == "shipped"]
    assert (shipped.id, shipped.to_wire()["data"]) == (first, {"é": [1, None, '"']})
    assert before_ms <= shipped.at_ms <= time.time_ns() // 1_000_000
    assert [item.id for item in bench.published if item.event == "told"] == ["mine"]
    assert len({item.id for item in bench.published if item.event == "both"}) == 1
    assert bench.rows() == []


def test_rolled_back_rows_are_not_published(bench: Bench) -> None:
    with bench.engine.connect() as connection:
        bench.outbox(connection).emit("n", 1, channel="orders:1")
        connection.rollback()
        bench.outbox(connection).emit("n", 2, channel="orders:1")
        with connection.begin_nested() as savepoint:
            bench.outbox(connection).emit("n", 3, channel="orders:1")
            savepoint.rollback()
        bench.outbox(connection).emit("n", 4, channel="orders:1")
        connection.commit()
    assert bench.relay().once()
    assert bench.data() == [2, 4]


def test_a_channel_keeps_its_order_over_many_batches(bench: Bench) -> None:
    numbers = range(60)
    for start in range(0, 60, 10):
        with bench.engine.begin() as connection:
            for number in numbers[start : start + 10]:
                bench.outbox(connection).emit("n", number, channel=f"orders:{number % 7}")
    relay = bench.relay(batch=4)
    assert relay.once()
    assert sorted(bench.data()) == list(numbers)  # type: ignore[type-var]
    for channel in range(7):
        assert bench.data(f"orders:{channel}") == list(numbers[channel::7])
    assert (relay.published, relay.duplicates, relay.put_aside) == (60, 0, 0)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "shop_orders"
    __channels__ = ("orders:{id}",)
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(sa.String(20))


def test_a_model_is_pushed_with_the_key_that_its_insert_gave_it(bench: Bench) -> None:
    Base.metadata.create_all(bench.engine)
    try:
        with Session(bench.engine) as session:
            order = Order(status="new")
            session.add(order)
            bench.outbox(session).push_model(order, op="created")
            assert order.id is not None
            session.commit()
            channel = f"orders:{order.id}"
        assert bench.relay().once()
        [push] = bench.data(channel)
        assert isinstance(push, dict)
        assert (push["class"], push["op"], push["model"]["status"]) == ("Order", "created", "new")
    finally:
        Base.metadata.drop_all(bench.engine)


def test_invalid_publication_raises_before_the_commit(bench: Bench) -> None:
    with Session(bench.engine) as session:
        outbox = bench.outbox(session)
        with pytest.raises(BadChannel):
            outbox.emit("n", 1)
        with pytest.raises(BadChannel):
            outbox.emit("n", 1, channel="everyone")
        with pytest.raises(BadData):
            outbox.emit("n", {"set": {1}}, channel="orders:1")
        with pytest.raises(TooLarge):
            Outbox(session, table=bench.table, publication_max_bytes=10).emit("n", "x" * 10, channel="orders:1")
        outbox.emit("n", "good", channel="orders:1")
        session.commit()
    assert bench.relay().once()
    assert bench.data() == ["good"]


def test_engine_is_rejected(bench: Bench) -> None:
    with pytest.raises(BadRequest, match="session or connection"):
        bench.outbox(bench.engine)


def test_lower_number_that_is_committed_later_is_published(concurrent: Bench) -> None:
    """Numbers are assigned at the insert and visible at the commit, so a relay must not rely on the highest."""
    bench = concurrent
    with bench.engine.connect() as slow, bench.engine.connect() as quick:
        bench.outbox(slow).emit("n", "slow 1", channel="orders:1")
        bench.outbox(quick).emit("n", "quick", channel="orders:1")
        bench.outbox(slow).emit("n", "slow 2", channel="orders:1")
        quick.commit()
        relay = bench.relay()
        assert relay.once()
        assert bench.data() == ["quick"]
        slow.commit()
        assert relay.once()
    assert bench.data() == ["quick", "slow 1", "slow 2"]


def test_transactions_that_touch_the_same_row_keep_their_order(concurrent: Bench) -> None:
    """The usual case: a transaction that changes order 1 waits for an earlier one, so it writes to the outbox later."""
    bench = concurrent
    locked = f"{bench.table}_orders"
    with bench.engine.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE {locked} (id INT PRIMARY KEY, n INT)"))
        connection.execute(sa.text(f"INSERT INTO {locked} VALUES (1, 0)"))
    for number in range(5):
        with bench.engine.begin() as connection:
            connection.execute(sa.text(f"UPDATE {locked} SET n = {number} WHERE id = 1"))
            bench.outbox(connection).emit("n", number, channel="orders:1")
    assert bench.relay(batch=2).once()
    assert bench.data() == [0, 1, 2, 3, 4]


def test_invalid_rows_are_rejected_and_do_not_stop_others(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    huge = '"' + "x" * 300_000 + '"'
    bench.insert(
        {"data": "0"}, {"data": "{"}, {"channel": "none:1"}, {"channel": "all"}, {"data": huge}, {"id": "a b"}, {}
    )
    relay = bench.relay()
    with caplog.at_level(logging.ERROR, "tidings.outbox"):
        assert relay.once()
    assert bench.data() == [0, 1]
    assert (relay.published, relay.put_aside) == (2, 5)
    rows = bench.rows()
    kinds = [row.failed.partition(":")[0] for row in rows]
    assert kinds == ["bad_data", "unknown_namespace", "bad_channel", "too_large", "bad_id"]
    assert {row.attempts for row in rows} == {1}
    assert any(record.getMessage() == "row rejected" for record in caplog.records)
    # The operator corrects the cause and resets `failed`, so that the rows are retried.
    bench.broker.write_rules({"orders": (1000, 600), "none": (10, 600)})
    with bench.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {bench.table} SET failed = NULL"))
    assert bench.relay().once()
    assert bench.data("none:1") == [1]
    assert [row.attempts for row in bench.rows()] == [2, 2, 2, 2]


def test_committed_notifications_are_handed_over_and_rolled_back_ones_are_not(bench: Bench) -> None:
    bench.broker.notifications.set_categories(["order_shipped"])
    title, body = "It has shipped é 🙂", 'Line 1\nLine "2"'
    with bench.engine.begin() as connection:
        outbox = bench.outbox(connection)
        first = outbox.notify(
            "order_shipped", user="7", title=title, body=body, data={"é": [1, None, '"']}, expires_in_s=60
        )
        outbox.emit("n", 1, user="7")
        assert outbox.notify("order_shipped", users=["7", "8"], title="both", id="mine") == "mine"
        with pytest.raises(TooLarge, match="title of 201"):
            outbox.notify("order_shipped", user="7", title="x" * 201)
    with bench.engine.connect() as connection, connection.begin() as transaction:
        bench.outbox(connection).notify("order_shipped", user="7", title="undone")
        transaction.rollback()
    assert bench.broker.notifications.stored("7") == []
    relay = bench.relay()
    assert relay.once()
    [shipped, both] = bench.broker.notifications.stored("7")
    assert (shipped.id, shipped.title, shipped.body, both.id) == (first, title, body, "mine")
    assert shipped.data_json == '{"é":[1,null,"\\""]}'.encode()
    assert shipped.expires_at_ms == shipped.at_ms + 60_000
    assert [item.id for item in bench.broker.notifications.stored("8")] == ["mine"]
    assert [(item.channel, item.event) for item in bench.published] == [("user:7", "n")]
    assert (relay.published, bench.rows()) == (4, [])


def test_malformed_notifications_are_dead_lettered(bench: Bench) -> None:
    bench.broker.notifications.set_categories(["order_shipped"])
    well = {"id": "x", "channel": "user:7", "event": "tidings:notify"}
    data = [
        '{"category": "order_shipped", "title": "fine"}',
        '{"category": "order_lost", "title": "x"}',
        '{"category": "order_shipped"}',
        '{"category": "order_shipped", "title": "x", "user": "8"}',
        '{"category": "order_shipped", "title": "x", "url": "javascript:alert(1)"}',
        "[]",
    ]
    rows: list[dict[str, object]] = [{**well, "data": text} for text in data]
    rows += [{**well, "channel": "orders:1", "data": data[0]}, {"channel": "user:7", "event": "tidings:inbox"}]
    bench.insert(*rows)
    assert bench.relay().once()
    assert [item.title for item in bench.broker.notifications.stored("7")] == ["fine"]
    reasons = [row.failed.partition(":")[0] for row in bench.rows()]
    malformed = ["unknown_category", "bad_request", "bad_data", "bad_request", "bad_data", "bad_channel", "bad_event"]
    assert reasons == malformed
    assert bench.published == []


def test_only_the_relay_of_a_notification_service_publishes_the_events_of_an_inbox(bench: Bench) -> None:
    bench.insert({"channel": "user:7", "event": "tidings:notification"}, {"channel": "user:7", "event": "tidings:gap"})
    assert bench.relay(inbox_events=True).once()
    assert [(item.channel, item.event) for item in bench.published] == [("user:7", "tidings:notification")]
    assert [row.failed.partition(":")[0] for row in bench.rows()] == ["bad_event"]


class PublishOnly:
    """A publisher that takes no notifications, as one to Socket.IO servers."""

    def __init__(self, store: MemoryStore) -> None:
        self._memory = MemoryPublisher(store=store)

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        return self._memory.publish(items, timeout_s=timeout_s)

    def close(self) -> None:
        self._memory.close()


def test_notification_waits_for_a_publisher_that_takes_it(bench: Bench) -> None:
    with bench.engine.begin() as connection:
        bench.outbox(connection).notify("order_shipped", user="7", title="x")
        bench.outbox(connection).emit("n", 1, channel="orders:1")
    assert not bench.relay(PublishOnly(bench.broker)).once()
    assert bench.data() == [1]
    assert [(row.attempts, row.failed) for row in bench.rows()] == [(0, None)]
    assert bench.relay().once()
    assert len(bench.broker.notifications.stored("7")) == 1


class Faulty(MemoryPublisher):
    """The memory publisher, as if the broker rejected some channels."""

    def __init__(self, store: MemoryStore, errors: dict[str, TidingsError]) -> None:
        super().__init__(store=store)
        self.errors = errors

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        return [
            self.errors.get(item.channel) or super(Faulty, self).publish([item], timeout_s=timeout_s)[0]
            for item in items
        ]


def test_failing_channel_waits_in_order_and_others_continue(bench: Bench) -> None:
    with bench.engine.begin() as connection:
        for number in range(30):
            bench.outbox(connection).emit("n", number, channel=f"orders:{number % 3}")
    publisher = Faulty(bench.broker, {"orders:1": Unavailable("this one not")})
    relay = bench.relay(publisher, batch=3)
    assert not relay.once(), "something is left"
    assert bench.data("orders:0") == list(range(0, 30, 3))
    assert bench.data("orders:2") == list(range(2, 30, 3))
    assert bench.data("orders:1") == []
    assert len(bench.rows()) == 10
    assert [row.attempts for row in bench.rows()] == [0] * 10
    publisher.errors.clear()
    assert bench.relay(publisher, batch=3).once()
    assert bench.data("orders:1") == list(range(1, 30, 3))


class Firewall(MemoryPublisher):
    """The memory publisher behind a proxy that answers 403 to a whole request because of one row."""

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        if any(b"<script>" in item.body for item in items):
            return [Forbidden("HTTP 403")] * len(items)
        return super().publish(items, timeout_s=timeout_s)


def test_row_that_is_refused_for_ever_delays_no_other_channel_and_is_dead_lettered(bench: Bench) -> None:
    publisher = Firewall(store=bench.broker)
    for attempt in (1, 2):
        with bench.engine.begin() as connection:
            if attempt == 1:
                bench.outbox(connection).emit("n", "<script>", channel="orders:1")
                bench.outbox(connection).emit("n", "next", channel="orders:1")
            for channel in range(2, 12):
                bench.outbox(connection).emit("n", attempt, channel=f"orders:{channel}")
        # Another relay each time, as with cron: the attempts are in the table.
        assert not bench.relay(publisher, attempts_max=3).once()
        assert [(row.attempts, row.failed) for row in bench.rows()] == [(attempt, None), (0, None)]
        assert all(bench.data(f"orders:{channel}")[-1] == attempt for channel in range(2, 12))
    with bench.engine.begin() as connection:
        for channel in range(2, 12):
            bench.outbox(connection).emit("n", 3, channel=f"orders:{channel}")
    relay = bench.relay(publisher, attempts_max=3)
    while not relay.once():
        # On databases with several shards, the relay may see only later that the hub accepts other rows.
        with bench.engine.begin() as connection:
            bench.outbox(connection).emit("n", 4, channel="orders:2")
    assert bench.data("orders:1") == ["next"]
    [row] = bench.rows()
    assert row.failed == f"forbidden: HTTP 403 (after {row.attempts} attempts)"
    assert row.attempts >= 3
    assert relay.put_aside == 1


def test_hub_that_refuses_everything_costs_no_row(bench: Bench) -> None:
    with bench.engine.begin() as connection:
        for number in range(4):
            bench.outbox(connection).emit("n", number, channel=f"orders:{number % 2}")
    errors: dict[str, TidingsError] = {f"orders:{number}": Internal("a bug") for number in range(2)}
    publisher = Faulty(bench.broker, errors)
    for _ in range(3):
        assert not bench.relay(publisher, attempts_max=1).once()
    assert [row.failed for row in bench.rows()] == [None] * 4
    publisher.errors.clear()
    assert bench.relay(publisher, attempts_max=1).once()
    assert (bench.data("orders:0"), bench.data("orders:1")) == ([0, 2], [1, 3])


def test_only_one_relay_has_a_shard(bench: Bench) -> None:
    stores = [OutboxStore(bench.relay()._engine, bench.table, publication_max_bytes=100) for _ in range(2)]
    with stores[0].claim(0) as first:
        assert first is not None
        with stores[1].claim(0) as second:
            assert second is None
        if stores[0].shards > 1:
            with stores[1].claim(1) as other:
                assert other is not None
    with stores[1].claim(0) as second:
        assert second is not None


@pytest.mark.parametrize("is_first", [True, False])
def test_schema_in_the_name_of_the_table_changes_no_lock(is_first: bool, bench: Bench) -> None:
    schema = {"sqlite": "main", "postgresql": "public", "mariadb": "test"}[bench.database.kind]
    names = [bench.table, f"{schema}.{bench.table}"]
    first, second = (
        OutboxStore(bench.relay()._engine, name, publication_max_bytes=100) for name in names[:: 1 if is_first else -1]
    )
    with first.claim(0) as claim:
        assert claim is not None
        with second.claim(0) as other:
            assert other is None
    other_table = OutboxStore(bench.relay()._engine, new_table(), publication_max_bytes=100)
    other_table.create()
    with first.claim(0), other_table.claim(0) as independent:
        assert independent is not None


def test_blocked_channel_is_reported_with_its_row(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.insert({"channel": "orders:a"}, {"channel": "orders:a"}, {"channel": "orders:b"})
    publisher = Faulty(bench.broker, {"orders:a": Unavailable("no such bucket")})
    relay = bench.relay(publisher, report_s=0.001)
    with caplog.at_level(logging.INFO, "tidings.outbox"):
        relay.sweep()
        time.sleep(0.002)
        relay._report()
    [blocked] = [record for record in caplog.records if record.getMessage().startswith("channel blocked")]
    first = bench.rows()[0]
    values = vars(blocked)
    assert (values["channel"], values["row_no"], values["attempts"]) == ("orders:a", first.row_no, 1)
    assert str(values["error"]) == "no such bucket"
    [report] = [vars(record) for record in caplog.records if record.getMessage() == "relayed"]
    assert (report["blocked"], report["waiting"], report["published"]) == (1, 2, 1)
    publisher.errors.clear()
    time.sleep(0.5)
    assert relay.once()
    caplog.clear()
    with caplog.at_level(logging.INFO, "tidings.outbox"):
        relay._report()
    assert [vars(record)["blocked"] for record in caplog.records] == [0]


def test_status_names_channels_and_dead_letters(bench: Bench) -> None:
    assert status_lines(bench.database.url, table=bench.table) == ["waiting=0 oldest_s=0.0 failed=0"]
    bench.insert(*[{"channel": f"orders:{name}"} for name in "baab"], {"channel": "orders:c", "data": "no JSON"})
    publisher = Faulty(bench.broker, {f"orders:{name}": Unavailable("away") for name in "ab"})
    assert not bench.relay(publisher).once()
    numbers = [row.row_no for row in bench.rows()]
    lines = status_lines(bench.database.url, table=bench.table)
    assert lines[0] == "waiting=4 oldest_s=0.0 failed=1"
    assert lines[1:3] == [
        f"channel=orders:b waiting=2 first_row={numbers[0]} oldest_s=0.0 attempts=0",
        f"channel=orders:a waiting=2 first_row={numbers[1]} oldest_s=0.0 attempts=0",
    ]
    [failed] = lines[3:]
    assert failed.startswith(f"failed row_no={numbers[4]} channel=orders:c: bad_data: the data is not JSON")


def test_frozen_relay_loses_its_shard(concurrent: Bench) -> None:
    query = {
        "postgresql": "SELECT setting FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'",
        "mariadb": "SELECT @@wait_timeout * 1000",
    }
    store = OutboxStore(concurrent.relay()._engine, concurrent.table, publication_max_bytes=100)
    with store.claim(0) as claim:
        assert claim is not None
        assert int(claim.connection.scalar(sa.text(query[concurrent.database.kind]))) == SILENCE_S * 1000
    assert CLAIM_MAX_S + TIMEOUT_S < SILENCE_S


def test_few_rows_are_one_claim_and_many_are_one_for_each_shard(bench: Bench) -> None:
    bench.insert(*[{"channel": f"orders:{number}"} for number in range(40)])
    first, second = (OutboxStore(bench.relay()._engine, bench.table, publication_max_bytes=100) for _ in range(2))
    assert first.claims((), 41) == [list(range(first.shards))]
    assert first.claims((), 40) == [[shard] for shard in range(first.shards)]
    with first.claim(0):
        with second.claim(*range(second.shards)) as claim:
            if second.shards == 1:
                assert claim is None
            else:
                assert claim is not None
                assert claim.shards == list(range(1, second.shards))
                assert 0 < len(claim.rows((), 100)) < 40
        with second.claim(0) as claim:
            assert claim is None
    with second.claim(*range(second.shards)) as claim:
        assert claim is not None
        assert [row.channel for row in claim.rows((), 100)] == [f"orders:{number}" for number in range(40)]


def test_end_of_a_claim_of_postgresql_does_not_wait_for_the_disk(bench: Bench) -> None:
    if bench.database.kind != "postgresql":
        pytest.skip("a setting of PostgreSQL")
    query = sa.text("SELECT setting FROM pg_settings WHERE name = 'synchronous_commit'")
    store = OutboxStore(bench.relay()._engine, bench.table, publication_max_bytes=100)
    with store.claim(0) as claim:
        assert claim is not None
        assert claim.connection.scalar(query) == "off"
    # Only in the claim's transaction: the connection returns to the pool.
    with store.engine.connect() as connection:
        assert connection.scalar(query) == "on"


@pytest.mark.parametrize(("journal", "synchronous"), [("wal", 1), ("delete", 2)])
def test_relay_of_sqlite_waits_for_the_disk_only_without_a_write_ahead_log(
    tmp_path: Path, journal: str, synchronous: int
) -> None:
    url = f"sqlite:///{tmp_path}/outbox.db"
    with sa.create_engine(url).connect() as connection:
        connection.exec_driver_sql(f"PRAGMA journal_mode = {journal}")
    relay = Relay(url, MemoryPublisher(store=MemoryStore()))
    try:
        relay.create()
        with relay._store.claim(0) as claim:
            assert claim is not None
            assert claim.connection.exec_driver_sql("PRAGMA synchronous").scalar() == synchronous
    finally:
        relay.close()


def test_woken_relay_publishes_the_rows_of_all_shards_that_no_other_relay_has(bench: Bench) -> None:
    relay = bench.relay()
    other = OutboxStore(bench.relay()._engine, bench.table, publication_max_bytes=100)
    bench.insert(*[{"channel": f"orders:{number}"} for number in range(40)])
    with other.claim(0) as claim:
        assert claim is not None
        theirs = len(claim.rows((), 100))
        relay.wake()
        assert relay.sweep() is (theirs < 40)
        assert relay.published == 40 - theirs
    relay.wake()
    assert relay.sweep()
    assert relay.published == 40
    assert not relay.sweep()


def test_failed_claim_releases_its_shard_and_keeps_its_rows(bench: Bench) -> None:
    bench.insert({}, {})
    first, second = (OutboxStore(bench.relay()._engine, bench.table, publication_max_bytes=100) for _ in range(2))
    [shards] = first.claims((), 10)
    with pytest.raises(ZeroDivisionError), first.claim(*shards) as claim:  # noqa: PT012 - the end of the claim raises
        assert claim is not None
        claim.record_results([row.row_no for row in claim.rows((), 10)], {}, [])
        raise ZeroDivisionError
    with second.claim(*shards) as claim:
        assert claim is not None
        assert len(claim.rows((), 10)) == 2
        assert claim.rows(["orders:1"], 10) == []
    assert second.claims(["orders:1"], 10) == []


def test_the_table_is_checked(bench: Bench) -> None:
    absent = Relay(bench.database.url, MemoryPublisher(store=bench.broker), table=new_table())
    with absent, pytest.raises(BadConfig, match="--create"):
        absent.once()
    with bench.engine.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE {bench.table} DROP COLUMN attempts"))
    with pytest.raises(BadConfig, match="attempts"):
        bench.relay().once()


def test_table_of_your_metadata(bench: Bench) -> None:
    metadata = sa.MetaData()
    table = outbox_table(metadata, f"{bench.table}_mine")
    metadata.create_all(bench.engine)
    with bench.engine.begin() as connection:
        Outbox(connection, table=table).emit("n", 1, channel="orders:1")
    relay = Relay(bench.database.url, MemoryPublisher(store=bench.broker), table=table.name)
    with relay:
        relay.create()
        assert relay.once()
    assert bench.data() == [1]


def test_names_that_differ_in_case_are_different(bench: Bench) -> None:
    bench.insert({"channel": "orders:a", "id": "x"}, {"channel": "orders:A", "id": "X"})
    publisher = Faulty(bench.broker, {"orders:a": Unavailable("this one not")})
    assert not bench.relay(publisher).once()
    assert [(item.channel, item.id) for item in bench.published] == [("orders:A", "X")]


def test_wake_ends_the_wait_of_a_relay(bench: Bench) -> None:
    relay = bench.relay(interval_s=3_600)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        for number in range(3):
            with bench.engine.begin() as connection:
                Outbox(connection, table=bench.table, notify=False).emit("n", number, channel="orders:1")
            relay.wake()
            wait_until(lambda: len(bench.published) == number + 1, why="it is published")  # noqa: B023
    finally:
        relay.stop()
        thread.join(20)
    assert bench.data() == [0, 1, 2]


@contextmanager
def running(relay: Relay) -> Iterator[None]:
    """`relay.run` in a thread."""
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield
    finally:
        relay.stop()
        thread.join(20)


def insert_unnoticed(bench: Bench, data: object, channel: str = "orders:1") -> None:
    """Insert a row of which the database notifies no relay."""
    with bench.engine.begin() as connection:
        Outbox(connection, table=bench.table, notify=False).emit("n", data, channel=channel)


def test_thread_that_committed_publishes_at_once(bench: Bench) -> None:
    relay = bench.relay(interval_s=3_600)
    for number in range(3):
        insert_unnoticed(bench, number)
        relay.publish_now()
        if bench.database.kind in ("postgresql", "sqlite"):
            assert bench.data() == list(range(number + 1)), "no other thread runs"
    with running(relay):
        wait_until(lambda: bench.data() == [0, 1, 2], why="the relay's thread publishes what is left to it")
    assert relay.published == 3
    assert bench.rows() == []


def test_what_cannot_be_published_at_once_is_left_to_the_thread_of_the_relay(bench: Bench) -> None:
    publisher = Faulty(bench.broker, {"orders:1": Unavailable("the broker is away")})
    relay = bench.relay(publisher, interval_s=3_600)
    insert_unnoticed(bench, 1)
    relay.publish_now()
    publisher.errors.clear()
    insert_unnoticed(bench, 2)
    relay.publish_now()
    assert bench.data() == [], "after a failure it only wakes the thread"
    with running(relay):
        wait_until(lambda: bench.data() == [1, 2], why="the relay's thread publishes both, in order")


def test_only_a_relay_that_has_published_everything_says_so(bench: Bench) -> None:
    publisher = Faulty(bench.broker, {})
    relay = bench.relay(publisher, interval_s=3_600)
    is_at_once = bench.database.kind in ("postgresql", "sqlite")
    insert_unnoticed(bench, 1)
    assert relay.publish_now() == is_at_once
    publisher.errors["orders:1"] = BadRequest("not this one")
    insert_unnoticed(bench, 2)
    insert_unnoticed(bench, 3, channel="orders:2")
    assert not relay.publish_now(), "one is a dead letter"
    publisher.errors["orders:1"] = Internal("a fault of the hub")
    insert_unnoticed(bench, 4)
    insert_unnoticed(bench, 5, channel="orders:2")
    assert not relay.publish_now(), "one is postponed"
    insert_unnoticed(bench, 6, channel="orders:2")
    assert not relay.publish_now(), "its channel is paused"
    relay.stop()
    insert_unnoticed(bench, 7, channel="orders:3")
    assert not bench.relay(batch=1).publish_now(), "there may be more"
    assert not relay.publish_now(), "it has ended"


def test_rows_of_a_shard_that_another_relay_has_are_left_to_the_thread_of_the_relay(bench: Bench) -> None:
    relay = bench.relay(interval_s=0.05)
    other = OutboxStore(bench.relay()._engine, bench.table, publication_max_bytes=100)
    insert_unnoticed(bench, 1)
    with other.claim(*range(other.shards)) as claim:
        assert claim is not None
        relay.publish_now()
        assert bench.data() == []
    with running(relay):
        wait_until(lambda: bench.data() == [1], why="it is published")


def test_threads_that_publish_at_once_keep_the_order_of_a_channel(bench: Bench) -> None:
    relay = bench.relay(interval_s=3_600)
    numbers = threading.Lock()
    next_number = iter(range(60))

    def write() -> None:
        while True:
            with numbers:
                number = next(next_number, None)
                if number is None:
                    return
                insert_unnoticed(bench, number)
            relay.publish_now()

    with running(relay):
        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        wait_until(lambda: len(bench.published) == 60, why="all are published")
    assert bench.data() == list(range(60))
    assert (relay.published, relay.duplicates, bench.rows()) == (60, 0, [])
