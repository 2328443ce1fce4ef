"""The outbox from a transaction to a client: killed relays, several relays, and outages of database and broker."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.processes.client import ClientProcess
from support.processes.database import KINDS, Database, Postgresql, new_table
from support.processes.hub import HubProcess, token
from support.processes.outbox import OutboxProcess
from support.processes.redis import RedisProcess
from support.programs.outbox_killed import STEPS
from support.waiting import wait_until
from tidings import Emitter
from tidings.contrib.outbox import Outbox, outbox_table
from tidings.redis_client.keys import RedisKeys

HISTORY_MAX = 100


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisProcess) -> Iterator[HubProcess]:
    prefix = f"test-{secrets.token_hex(4)}:"
    extra = f'broker = "{shared_redis.url}"\nprefix = "{prefix}"\n'
    process = HubProcess(tmp_path_factory.mktemp("hub"), extra=extra)
    yield process.start()
    process.stop()


@dataclass
class Shop:
    """A backend with an outbox, and the hub that its relays publish to."""

    database: Database
    hub: HubProcess
    table: str
    stack: ExitStack = field(default_factory=ExitStack)
    name: str = field(default_factory=lambda: secrets.token_hex(3))

    def channel(self, number: int = 0) -> str:
        return f"orders:{self.name}-{number}"

    def relay(self, *flags: str, killed_when: str | None = None) -> OutboxProcess:
        """Start a relay process; broker and prefix come from the hub's settings file."""
        arguments = [self.database.url, "--table", self.table, "--config", str(self.hub.config), *flags]
        process = OutboxProcess(self.hub.config.parent, *arguments, killed_when=killed_when)
        self.stack.callback(process.stop)
        return process

    def write(self, *numbers: int, channels: int = 1) -> None:
        """Write these numbers in one transaction; number modulo `channels` selects the channel."""
        with self.database.engine().begin() as connection:
            for number in numbers:
                Outbox(connection, table=self.table).emit("n", number, channel=self.channel(number % channels))

    def published(self, number: int = 0) -> list[Any]:
        """Return the data of all publications in the hub's history of a channel, in order."""
        status, answer, _ = self.hub.get(f"/api/channels/{self.channel(number)}/history?limit={HISTORY_MAX}")
        assert status == 200, answer
        return [publication["data"] for publication in answer["publications"]]

    def count_rows(self) -> int:
        """Return the number of rows in the outbox table."""
        with self.database.engine().connect() as connection:
            return int(connection.scalar(sa.text(f"SELECT count(*) FROM {self.table}")) or 0)


@contextmanager
def shop_in(database: Database, hub: HubProcess) -> Iterator[Shop]:
    shop = Shop(database, hub, new_table())
    outbox_table(sa.MetaData(), shop.table).create(database.engine())
    with shop.stack:
        yield shop


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, database_of: Callable[[str], Database], hub: HubProcess) -> Iterator[Shop]:
    with shop_in(database_of(request.param), hub) as shop:
        yield shop


@pytest.fixture
def on_postgresql(database_of: Callable[[str], Database], hub: HubProcess) -> Iterator[Shop]:
    with shop_in(database_of("postgresql"), hub) as shop:
        yield shop


def test_client_receives_each_publication_once_despite_killed_relays(shop: Shop, clients: list[ClientProcess]) -> None:
    client = ClientProcess("sse", shop.hub.url, token=token("7", "*"), channels=[shop.channel()])
    clients.append(client)
    client.wait_ready()
    expected: list[int] = []
    for step in STEPS:
        numbers = range(len(expected), len(expected) + 5)
        expected += numbers
        shop.write(*numbers)
        relay = shop.relay("--once", killed_when=step)
        assert relay.wait() == -9, relay.log_lines
        # Rows are deleted only by the commit.
        assert shop.count_rows() == (0 if step == "committed" else len(expected))
    shop.write(len(expected))
    expected.append(len(expected))
    last = shop.relay("--once")
    assert last.wait() == 0, last.log_lines
    assert shop.count_rows() == 0
    assert shop.published() == expected
    client.wait(lambda self: len(self.data()) >= len(expected), why="the client has received all publications")
    assert client.data() == expected


def test_several_relays_publish_once_and_keep_the_order_of_each_channel(shop: Shop) -> None:
    relays = [shop.relay("--interval", "0.05", "--batch", "7") for _ in range(3)]
    wait_until(lambda: all(relay.has_logged("relaying") for relay in relays), why="all relays have started")
    with ThreadPoolExecutor() as threads:
        writers = [threads.submit(_write, shop, start) for start in range(0, 240, 80)]
        # One relay is suspended while it may hold rows, and then killed. The others publish its rows.
        wait_until(lambda: shop.published(0), why="the relays publish")
        relays[0].pause()
        relays[0].stop()
        for writer in writers:
            writer.result(60)
    wait_until(lambda: shop.count_rows() == 0, within_s=40, why="all rows are published")
    for number in range(8):
        published = shop.published(number)
        assert sorted(published) == [value for value in range(240) if value % 8 == number]
        for start in range(0, 240, 80):
            of_writer = [value for value in published if start <= value < start + 80]
            assert of_writer == sorted(of_writer), "the order of each writer"
    assert [relay.terminate() for relay in relays[1:]] == [0, 0]


def _write(shop: Shop, start: int) -> None:
    for first in range(start, start + 80, 8):
        shop.write(*range(first, first + 8), channels=8)


def test_commit_wakes_a_relay_that_polls_once_a_minute(on_postgresql: Shop) -> None:
    shop = on_postgresql
    relay = shop.relay("--interval", "60")
    wait_until(lambda: relay.has_logged("relaying"), why="the relay has started")
    for number in range(3):
        shop.write(number)
        wait_until(lambda: len(shop.published()) > number, within_s=20, why="the relay was woken")  # noqa: B023 - awaited here
    assert relay.terminate() == 0, "SIGTERM ends the wait as well"


def test_relay_continues_after_a_database_outage(hub: HubProcess) -> None:
    database = Postgresql()
    try:
        database.start()
        with shop_in(database, hub) as shop:
            relay = shop.relay("--interval", "60")
            shop.write(1)
            wait_until(lambda: shop.published() == [1], why="the relay publishes")
            database.kill()
            wait_until(lambda: relay.has_logged("the database failed"), why="the relay logs the failure")
            database.start()
            shop.write(2)
            wait_until(lambda: shop.published() == [1, 2], why="the relay publishes again")
            shop.write(3)
            wait_until(lambda: shop.published() == [1, 2, 3], within_s=20, why="the relay is woken again")
            assert relay.terminate() == 0
    finally:
        database.stop()


def test_rows_wait_for_the_broker_and_a_failing_channel_delays_no_other(tmp_path: Path, on_postgresql: Shop) -> None:
    shop = on_postgresql
    redis = RedisProcess(tmp_path).start()
    try:
        with redis.client() as client:
            client.execute_command("ACL", "SETUSER", "relay", "on", ">secret", "+@all", "~*", "&*")
        to = redis.url.replace("redis://", "redis://relay:secret@")
        relay = shop.relay("--interval", "0.1", "--batch", "5", "--to", to)
        shop.write(*range(20), channels=2)
        wait_until(
            lambda: relay.has_logged("no hub has started on this broker yet"), why="the relay logs the missing hub"
        )
        assert shop.count_rows() == 20
        extra = f'broker = "{redis.url}"\nprefix = "{_prefix(shop.hub)}"\n'
        (tmp_path / "hub").mkdir()
        second = HubProcess(tmp_path / "hub", extra=extra).start()
        shop.stack.callback(second.stop)
        with Emitter(redis.url, prefix=_prefix(shop.hub)) as emitter:

            def published(number: int) -> list[object]:
                return [publication["data"] for publication in emitter.history(shop.channel(number)).publications]

            wait_until(lambda: len(published(0)) + len(published(1)) == 20, within_s=40, why="the hub has started")
            assert published(0) == list(range(0, 20, 2))
            assert published(1) == list(range(1, 20, 2))
            # A permanent failure: Redis forbids the relay to publish in this channel.
            other = RedisKeys(_prefix(shop.hub)).pubsub(shop.channel(1)).decode()
            with redis.client() as client:
                client.execute_command("ACL", "SETUSER", "relay", "resetchannels", f"&{other}")
                shop.write(*range(20, 40), channels=2)
                wait_until(lambda: published(1) == list(range(1, 40, 2)), why="the other channel is published")
                assert shop.count_rows() == 10
                client.execute_command("ACL", "SETUSER", "relay", "allchannels")
            wait_until(
                lambda: published(0) == list(range(0, 40, 2)),
                within_s=40,
                why="the rows of the failed channel are published in order",
            )
        wait_until(lambda: shop.count_rows() == 0, why="no rows are left")
    finally:
        redis.stop()


def _prefix(hub: HubProcess) -> str:
    return hub.config.read_text().partition('prefix = "')[2].partition('"')[0]


def test_relay_publishes_over_http_with_the_api_key(on_postgresql: Shop) -> None:
    shop = on_postgresql
    shop.write(*range(5))
    wrong = OutboxProcess(
        shop.hub.config.parent,
        *("--table", shop.table, "--to", shop.hub.url, "--once"),
        more={"TIDINGS_OUTBOX_URL": shop.database.url, "TIDINGS_API_KEY": "the-key-of-another-hub"},
    )
    shop.stack.callback(wrong.stop)
    assert wrong.wait() == 1
    assert wrong.has_logged("not published; retrying")
    assert shop.count_rows() == 5, "rows stay in the table when the API key is wrong"
    relay = shop.relay("--once", "--to", shop.hub.url)
    assert relay.wait() == 0, relay.log_lines
    assert shop.published() == list(range(5))
