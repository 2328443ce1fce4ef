"""The outbox from a transaction to a browser: relays killed, several at once, without a database or a broker."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
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
        """A relay; the hub's settings say which broker and prefix."""
        arguments = [self.database.url, "--table", self.table, "--config", str(self.hub.config), *flags]
        process = OutboxProcess(self.hub.config.parent, *arguments, killed_when=killed_when)
        self.stack.callback(process.stop)
        return process

    def write(self, *numbers: int, channels: int = 1) -> None:
        """One transaction with these numbers, each in the channel that it falls to."""
        with self.database.engine().begin() as connection:
            for number in numbers:
                Outbox(connection, table=self.table).emit("n", number, channel=self.channel(number % channels))

    def got(self, number: int = 0) -> list[Any]:
        """What the hub has kept of a channel: all that was ever published there, in order."""
        status, answer, _ = self.hub.get(f"/api/channels/{self.channel(number)}/history?limit={HISTORY_MAX}")
        assert status == 200, answer
        return [each["data"] for each in answer["publications"]]

    def left(self) -> int:
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
    with shop_in(database_of(request.param), hub) as made:
        yield made


@pytest.fixture
def on_postgresql(database_of: Callable[[str], Database], hub: HubProcess) -> Iterator[Shop]:
    with shop_in(database_of("postgresql"), hub) as made:
        yield made


def test_a_browser_gets_it_once_however_often_relays_are_killed(shop: Shop, clients: list[ClientProcess]) -> None:
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
        # All that was ever written: until the commit nothing is deleted.
        assert shop.left() == (0 if step == "committed" else len(expected))
    shop.write(len(expected))
    expected.append(len(expected))
    last = shop.relay("--once")
    assert last.wait() == 0, last.log_lines
    assert shop.left() == 0
    assert shop.got() == expected
    client.wait(lambda self: len(self.data()) >= len(expected), why="the browser has them all")
    assert client.data() == expected


def test_several_relays_publish_once_and_keep_the_order_of_each_channel(shop: Shop) -> None:
    relays = [shop.relay("--interval", "0.05", "--batch", "7") for _ in range(3)]
    wait_until(lambda: all(relay.has_logged("relaying") for relay in relays), why="all of them work")
    writers = [threading.Thread(target=_write, args=(shop, start)) for start in range(0, 240, 80)]
    for writer in writers:
        writer.start()
    # One is frozen while it may hold rows, and killed: what it held is the others'.
    wait_until(lambda: shop.got(0), why="they publish")
    relays[0].pause()
    relays[0].stop()
    for writer in writers:
        writer.join(60)
    wait_until(lambda: shop.left() == 0, within_s=40, why="all of it is published")
    for number in range(8):
        got = shop.got(number)
        assert sorted(got) == [each for each in range(240) if each % 8 == number]
        for start in range(0, 240, 80):
            mine = [each for each in got if start <= each < start + 80]
            assert mine == sorted(mine), "each writer's own order"
    assert [relay.terminate() for relay in relays[1:]] == [0, 0]


def _write(shop: Shop, start: int) -> None:
    for first in range(start, start + 80, 8):
        shop.write(*range(first, first + 8), channels=8)


def test_a_commit_wakes_a_relay_that_looks_once_a_minute(on_postgresql: Shop) -> None:
    shop = on_postgresql
    relay = shop.relay("--interval", "60")
    wait_until(lambda: relay.has_logged("relaying"), why="it works")
    for number in range(3):
        shop.write(number)
        wait_until(lambda: len(shop.got()) > number, within_s=20, why="it was woken")  # noqa: B023 - awaited here
    assert relay.terminate() == 0, "SIGTERM ends the wait as well"


def test_a_database_that_goes_away_comes_back(hub: HubProcess) -> None:
    database = Postgresql()
    try:
        database.start()
        with shop_in(database, hub) as shop:
            relay = shop.relay("--interval", "60")
            shop.write(1)
            wait_until(lambda: shop.got() == [1], why="it works")
            database.kill()
            wait_until(lambda: relay.has_logged("the database failed"), why="it says so")
            database.start()
            shop.write(2)
            wait_until(lambda: shop.got() == [1, 2], why="it goes on")
            shop.write(3)
            wait_until(lambda: shop.got() == [1, 2, 3], within_s=20, why="and is woken again")
            assert relay.terminate() == 0
    finally:
        database.stop()


def test_without_a_broker_everything_waits_and_one_bad_channel_holds_up_no_other(
    tmp_path: Path, on_postgresql: Shop
) -> None:
    shop = on_postgresql
    redis = RedisProcess(tmp_path).start()
    try:
        with redis.client() as client:
            client.execute_command("ACL", "SETUSER", "relay", "on", ">secret", "+@all", "~*", "&*")
        to = redis.url.replace("redis://", "redis://relay:secret@")
        relay = shop.relay("--interval", "0.1", "--batch", "5", "--to", to)
        shop.write(*range(20), channels=2)
        wait_until(lambda: relay.has_logged("no hub has started on this broker yet"), why="it says what is missing")
        assert shop.left() == 20
        extra = f'broker = "{redis.url}"\nprefix = "{_prefix(shop.hub)}"\n'
        (tmp_path / "hub").mkdir()
        second = HubProcess(tmp_path / "hub", extra=extra).start()
        shop.stack.callback(second.stop)
        with Emitter(redis.url, prefix=_prefix(shop.hub)) as emitter:

            def got(number: int) -> list[object]:
                return [each["data"] for each in emitter.history(shop.channel(number)).publications]

            wait_until(lambda: len(got(0)) + len(got(1)) == 20, within_s=40, why="now there is a hub")
            assert got(0) == list(range(0, 20, 2))
            assert got(1) == list(range(1, 20, 2))
            # What no publish can mend: the relay may not speak in this channel.
            other = RedisKeys(_prefix(shop.hub)).pubsub(shop.channel(1)).decode()
            with redis.client() as client:
                client.execute_command("ACL", "SETUSER", "relay", "resetchannels", f"&{other}")
                shop.write(*range(20, 40), channels=2)
                wait_until(lambda: got(1) == list(range(1, 40, 2)), why="the other channel goes on")
                assert shop.left() == 10
                client.execute_command("ACL", "SETUSER", "relay", "allchannels")
            wait_until(lambda: got(0) == list(range(0, 40, 2)), within_s=40, why="mended, and in order")
        wait_until(lambda: shop.left() == 0, why="nothing is left")
    finally:
        redis.stop()


def _prefix(hub: HubProcess) -> str:
    return hub.config.read_text().partition('prefix = "')[2].partition('"')[0]


def test_over_http_with_the_hubs_own_key(on_postgresql: Shop) -> None:
    shop = on_postgresql
    shop.write(*range(5))
    wrong = OutboxProcess(
        shop.hub.config.parent,
        *("--table", shop.table, "--to", shop.hub.url, "--once"),
        more={"TIDINGS_OUTBOX_URL": shop.database.url, "TIDINGS_API_KEY": "of-somebody-else-entirely"},
    )
    shop.stack.callback(wrong.stop)
    assert wrong.wait() == 1
    assert wrong.has_logged("not published; retrying")
    assert shop.left() == 5, "a wrong key is not the rows' fault"
    relay = shop.relay("--once", "--to", shop.hub.url)
    assert relay.wait() == 0, relay.log_lines
    assert shop.got() == list(range(5))
