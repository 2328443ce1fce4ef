"""HttpPublisher against the hub's own HTTP API: both sides mean the same form."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from support.direct_first import create_direct_app
from support.small_hub import API_KEY, SmallHub
from tidings.async_emitter import AsyncEmitter
from tidings.emitter import Emitter
from tidings.errors import (
    BadChannel,
    BadConfig,
    BadRequest,
    Forbidden,
    NotFound,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownNamespace,
)
from tidings.receipts import BatchFailed, Receipt
from tidings.wire.reports import Count
from tidings_hub.config.security import Namespace
from tidings_hub.config.settings import Settings
from tidings_hub.web.app import create_app


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing: a test's output is its own."""


@pytest.fixture
def hub() -> SmallHub:
    return SmallHub(Settings(api_keys=(SecretStr(API_KEY),), namespaces={"orders": Namespace()}))


@pytest.fixture(params=[create_app, create_direct_app], ids=["flask", "direct"])
def url(hub: SmallHub, request: pytest.FixtureRequest) -> Iterator[str]:
    app = request.param(hub)
    server: BaseWSGIServer = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def emitter(url: str) -> Iterator[Emitter]:
    with Emitter(url, api_key=API_KEY, timeout_s=2.0) as emitter:
        yield emitter


def test_emit_returns_receipts(hub: SmallHub, emitter: Emitter) -> None:
    first = emitter.emit('ä"', {"n": [1, None]}, channel="orders:1", id="x")
    repeated = emitter.emit('ä"', {"n": [1, None]}, channel="orders:1", id="x")
    generated = emitter.emit("e", channels=["orders:1", "orders:2"])
    assert (first.id, first.duplicate) == ("x", False)
    assert repeated == Receipt("x", first.cursor, duplicate=True)
    assert [len(receipt.id) for receipt in generated] == [22, 22]
    assert [(item.event, json.loads(item.data_json)) for item in hub.histories["orders:1"]] == [
        ('ä"', {"n": [1, None]}),
        ("e", None),
    ]


def test_batch_over_the_request_limit_is_split(hub: SmallHub, emitter: Emitter) -> None:
    with emitter.batch() as batch:
        for number in range(hub.settings.max_batch * 2 + 1):
            batch.emit("e", number, channel="orders:1")
    assert all(isinstance(result, Receipt) for result in batch.results)
    assert [int(item.data_json) for item in hub.histories["orders:1"]] == list(range(len(batch)))


def test_batch_of_the_largest_publications_is_accepted(hub: SmallHub, emitter: Emitter) -> None:
    with emitter.batch() as batch:
        for _ in range(20):
            batch.emit("e", "x" * (hub.settings.publication_max_bytes - 2), channel="orders:1")
    assert len(hub.histories["orders:1"]) == 20


def test_errors_of_the_hub_are_raised(hub: SmallHub, emitter: Emitter, url: str) -> None:
    with pytest.raises(UnknownNamespace):
        emitter.emit("e", channel="elsewhere:1")
    with pytest.raises(BatchFailed) as caught:
        emitter.emit("e", channels=["orders:1", "elsewhere:1"])
    assert [type(result) for result in caught.value.results] == [Receipt, UnknownNamespace]
    with Emitter(url, api_key="x" * 32) as stranger, pytest.raises(Unauthorized):
        stranger.emit("e", channel="orders:1")
    with (
        Emitter(f"{url}/nowhere", api_key=API_KEY) as lost,
        pytest.raises(BadConfig, match="no tidings hub at this URL"),
    ):
        lost.emit("e", channel="orders:1")
    with Emitter(url, api_key=API_KEY, publication_max_bytes=100_000) as large, pytest.raises(TooLarge):
        large.emit("e", "x" * 70_000, channel="orders:1")


def test_hub_without_its_broker_is_retried_and_then_unavailable(hub: SmallHub, emitter: Emitter) -> None:
    hub.down = True
    threading.Timer(0.3, setattr, (hub, "down", False)).start()
    emitter.emit("e", 1, channel="orders:1")
    assert len(hub.histories["orders:1"]) == 1
    hub.down = True
    with pytest.raises(Unavailable):
        emitter.emit("e", 2, channel="orders:1")


def test_a_receipt_waits_for_acknowledgements(hub: SmallHub, emitter: Emitter, url: str) -> None:
    first, second = emitter.emit("e", {"n": 1}, channels=["orders:1|$~", "orders:2"], ack=True, id="x")
    assert [publication.options for name in hub.histories for publication in hub.histories[name]] == ["ra", "ra"]
    report = first.wait(acks=1)
    assert (report.id, report.channel, report.cursor) == ("x", "orders:1|$~", first.cursor)
    assert (report.recipients, report.acks, report.nodes, report.settled) == (2, 1, {"n1": Count(2, 1)}, True)
    assert second.wait(acks=1).channel == "orders:2"
    hub.is_settled, hub.missing = False, ("n2",)
    with pytest.raises(TimedOut, match=r"more is expected after 0\.3 s, from 2 recipients, and no word of n2"):
        first.wait(acks=0, timeout_s=0.3)
    assert not first.wait(acks=1).settled
    assert asyncio.run(_wait_async(url)) == 1
    hub.reports.clear()
    with pytest.raises(NotFound):
        first.wait()
    hub.down = True
    with pytest.raises(Unavailable):
        first.wait(timeout_s=0.3)


async def _wait_async(url: str) -> int:
    async with AsyncEmitter(url, api_key=API_KEY) as emitter:
        receipt = await emitter.emit("e", 1, channel="orders:1", ack=True)
        return (await receipt.wait(acks=1, timeout_s=2)).acks


def test_presence_is_read(hub: SmallHub, emitter: Emitter, url: str) -> None:
    hub.present["orders:1|$~"] = {"7": b'{"name":"\xc3\xa9"}', "8": b"null"}
    assert emitter.presence("orders:1|$~").members == {"7": {"name": "é"}, "8": None}
    assert (emitter.presence("orders:1|$~", limit=1).count, emitter.presence("orders:1|$~", limit=1).members) == (
        2,
        None,
    )
    assert asyncio.run(_ask_async(url)) == {"7": {"name": "é"}, "8": None}
    with pytest.raises(BadChannel):
        emitter.presence("orders")
    with pytest.raises(BadRequest):
        emitter.presence("orders:1", limit=0)
    with pytest.raises(Forbidden):
        emitter.presence("user:7")
    with pytest.raises(UnknownNamespace):
        emitter.presence("elsewhere:1")
    with Emitter(url, api_key="x" * 32) as stranger, pytest.raises(Unauthorized):
        stranger.presence("orders:1")
    with Emitter(f"{url}/nowhere", api_key=API_KEY) as lost, pytest.raises(BadConfig):
        lost.presence("orders:1")
    hub.down = True
    with pytest.raises(Unavailable):
        emitter.presence("orders:1")
    emitter.close()
    with pytest.raises(Unavailable, match="closed"):
        emitter.presence("orders:1")


async def _ask_async(url: str) -> object:
    async with AsyncEmitter(url, api_key=API_KEY) as emitter:
        return (await emitter.presence("orders:1|$~")).members
