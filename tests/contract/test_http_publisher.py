"""HttpPublisher and the emitters over it, against a real HTTP server with faults."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.network.http_hub import (
    API_KEY,
    HttpHub,
    chunked,
    closing,
    closing_in_silence,
    cut,
    cut_within,
    say,
    stall,
    trickle,
)
from support.network.scripted_server import Peer, ScriptedServer, answering, response
from support.ports import free_port
from tidings.async_emitter import AsyncEmitter
from tidings.emitter import Emitter
from tidings.errors import (
    BadConfig,
    BadRequest,
    Forbidden,
    Internal,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownCategory,
    UnknownNamespace,
)
from tidings.publishers.base import OutgoingPublication
from tidings.publishers.http.publisher import ITEMS_MAX, HttpPublisher
from tidings.receipts import BatchFailed, NotificationReceipt, Receipt
from tidings.wire.publication import encode_body

SECRET = "hunter2"


@pytest.fixture
def hub() -> Iterator[HttpHub]:
    with HttpHub() as hub:
        yield hub


@pytest.fixture
def emitter(hub: HttpHub) -> Iterator[Emitter]:
    with Emitter(hub.url, api_key=API_KEY) as emitter:
        yield emitter


def item(number: int, *, size: int = 0) -> OutgoingPublication:
    data = b'{"n":%d,"x":"%b"}' % (number, b"x" * size)
    return OutgoingPublication("a:1", encode_body('é, "b" c', data, id=f"i{number}", at_ms=1), f"i{number}", 30)


class TestRequests:
    def test_event_and_data_arrive_unchanged(self, hub: HttpHub, emitter: Emitter) -> None:
        receipt = emitter.emit('é, "b" c', {"text": "ü\u2028\n", "n": [1.5, None]}, channel="a:1", id="x")
        assert hub.requests == [
            [{"channel": "a:1", "id": "x", "event": 'é, "b" c', "data": {"text": "ü\u2028\n", "n": [1.5, None]}}]
        ]
        assert receipt == Receipt("x", f"{hub.store.epoch}.1")
        assert emitter.emit("e", 2, channel="a:1", id="x") == Receipt("x", receipt.cursor, duplicate=True)

    def test_a_batch_is_one_request(self, hub: HttpHub, emitter: Emitter) -> None:
        with emitter.batch() as batch:
            for number in range(ITEMS_MAX):
                batch.emit("e", number, channel="a:1")
        assert len(hub.requests) == 1
        assert hub.published("a:1") == list(range(ITEMS_MAX))
        assert all(isinstance(result, Receipt) for result in batch.results)

    def test_a_larger_batch_is_split_in_order(self, hub: HttpHub, emitter: Emitter) -> None:
        with emitter.batch() as batch:
            for number in range(250):
                batch.emit("e", number, channel="a:1")
        assert [len(request) for request in hub.requests] == [100, 100, 50]
        assert hub.published("a:1") == list(range(250))
        assert len({result.cursor for result in batch.results if isinstance(result, Receipt)}) == 250

    def test_request_size_is_limited(self, hub: HttpHub) -> None:
        publisher = HttpPublisher(hub.url, api_key=API_KEY, request_max_bytes=1_000)
        answers = publisher.publish([item(1, size=400), item(2, size=400), item(3, size=5_000), item(4)], timeout_s=5)
        publisher.close()
        assert [len(request) for request in hub.requests] == [2, 1, 1]
        assert [answer.id for answer in answers if isinstance(answer, Receipt)] == ["i1", "i2", "i3", "i4"]

    def test_one_connection_serves_many_requests(self, hub: HttpHub, emitter: Emitter) -> None:
        hub.faults.append(chunked)
        for number in range(20):
            emitter.emit("e", number, channel="a:1")
        assert hub.connections == 1

    def test_threads_share_connections(self, hub: HttpHub, emitter: Emitter) -> None:
        receipts: list[Receipt] = []

        def run() -> None:
            receipts.extend(emitter.emit("e", n, channel="a:1") for n in range(25))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({receipt.cursor for receipt in receipts}) == 200
        assert hub.connections <= 16


class TestFaults:
    @pytest.mark.parametrize("fault", [cut, cut_within, say(503, b"<html>"), say(502, b""), say(504, b"")])
    def test_lost_response_is_retried_and_published_once(self, hub: HttpHub, emitter: Emitter, fault: Any) -> None:
        hub.faults.append(fault)
        receipt = emitter.emit("e", 1, channel="a:1")
        assert len(hub.requests) == 2
        assert hub.published("a:1") == [1]
        assert receipt == Receipt(receipt.id, f"{hub.store.epoch}.1", duplicate=False)

    def test_batch_with_a_lost_response_is_published_once(self, hub: HttpHub, emitter: Emitter) -> None:
        hub.faults.append(cut)
        with emitter.batch() as batch:
            for number in range(10):
                batch.emit("e", number, channel="a:1")
        assert hub.published("a:1") == list(range(10))
        assert [str(result.cursor) for result in batch.results if isinstance(result, Receipt)] == [
            f"{hub.store.epoch}.{seq}" for seq in range(1, 11)
        ]

    @pytest.mark.parametrize("last", [closing, closing_in_silence])
    def test_connection_that_the_hub_closed_is_replaced(self, hub: HttpHub, emitter: Emitter, last: Any) -> None:
        for number in range(3):
            hub.faults.append(last)
            emitter.emit("e", number, channel="a:1")
        assert hub.published("a:1") == [0, 1, 2]
        assert hub.connections == 3

    def test_stray_second_response_is_not_the_response_to_the_next_publish(self, hub: HttpHub) -> None:
        def answer_twice(handler: Any, body: bytes) -> None:
            handler.answer(200, body)
            handler.answer(200, body)

        with Emitter(hub.url, api_key=API_KEY) as emitter:
            hub.faults.append(answer_twice)
            receipts = [emitter.emit("e", number, channel="a:1", id=f"i{number}") for number in range(3)]
        assert [receipt.id for receipt in receipts] == ["i0", "i1", "i2"]
        assert [str(receipt.cursor) for receipt in receipts] == [f"{hub.store.epoch}.{seq}" for seq in (1, 2, 3)]
        assert hub.connections == 2

    @pytest.mark.parametrize("request_kind", ["command", "query"])
    def test_stray_response_is_not_the_response_to_a_command_or_query(self, request_kind: str) -> None:
        """It arrives after the request was sent. Unlike a receipt, such a response has no id that would show it."""
        receipt = b'{"results": [{"id": "x", "cursor": "e.1", "duplicate": false}]}'
        old, current = (b'{"connections": %d, "nodes": 1, "missing": [], "members": []}' % n for n in (7, 0))

        def answer_late(peer: Peer) -> None:
            peer.read_request()
            peer.send(response(receipt))
            peer.read_request()
            peer.send(response(old))

        with ScriptedServer(answer_late) as server, Emitter(server.url) as emitter:
            emitter.emit("e", 1, channel="a:1", id="x")
            server.script = answering(response(current if request_kind == "command" else b'{"nodes": []}'))
            if request_kind == "command":
                assert emitter.revoke(user="7", for_s=60).connections == 0
            else:
                assert emitter.nodes() == []
            assert server.connections == 2

    @pytest.mark.parametrize("status", [200, 403])
    def test_stray_error_is_not_the_response_to_the_next_publish(self, status: int) -> None:
        """The hub publishes what the caller would believe to be refused."""
        error = b'{"error": {"code": "forbidden", "message": "no"}}'
        stray = error if status == 403 else b'{"results": [%b]}' % error
        receipts = [b'{"results": [{"id": "%b", "cursor": "e.1", "duplicate": false}]}' % id for id in (b"x", b"y")]

        def answer_late(peer: Peer) -> None:
            peer.read_request()
            peer.send(response(receipts[0]))
            peer.read_request()
            peer.send(response(stray).replace(b" 200 ", b" %d " % status))

        with ScriptedServer(answer_late) as server, Emitter(server.url) as emitter:
            emitter.emit("e", 1, channel="a:1", id="x")
            server.script = answering(response(receipts[1]))
            assert emitter.emit("e", 2, channel="a:1", id="y") == Receipt("y", "e.1")
            assert server.connections == 2

    def test_refusal_on_a_kept_connection_is_requested_once_more(self, hub: HttpHub, emitter: Emitter) -> None:
        emitter.emit("e", 1, channel="a:1")
        refusal = say(403, {"error": {"code": "forbidden", "message": "no"}})
        hub.faults.extend([refusal, refusal])
        with pytest.raises(Forbidden):
            emitter.emit("e", 2, channel="a:1")
        assert (len(hub.requests), hub.connections) == (3, 2)

    def test_response_to_another_publish_is_no_receipt(self, hub: HttpHub, emitter: Emitter) -> None:
        """The publication may be published, so the emitter sends it again with the same id."""
        receipt = {"id": "other", "cursor": f"{hub.store.epoch}.9", "duplicate": False}
        hub.faults.append(say(200, {"results": [receipt]}))
        assert emitter.emit("e", 1, channel="a:1", id="x") == Receipt("x", f"{hub.store.epoch}.1", duplicate=True)
        assert hub.connections == 2

    @pytest.mark.parametrize("fault", [stall, trickle])
    def test_missing_response_times_out(self, hub: HttpHub, fault: Any) -> None:
        hub.faults.append(fault)
        with Emitter(hub.url, api_key=API_KEY, timeout_s=0.5) as emitter:
            start_s = time.monotonic()
            with pytest.raises(TimedOut, match="publish again with the same id"):
                emitter.emit("e", 1, channel="a:1")
            assert 0.4 < time.monotonic() - start_s < 5

    def test_hub_that_stops_after_a_request_is_a_timeout(self, hub: HttpHub) -> None:
        def stop_hub(handler: Any, body: bytes) -> None:
            hub._server.socket.close()
            cut(handler, body)

        hub.faults.append(stop_hub)
        with Emitter(hub.url, api_key=API_KEY, timeout_s=0.5) as emitter, pytest.raises(TimedOut):
            emitter.emit("e", 1, channel="a:1")
        assert hub.published("a:1") == [1]

    def test_unreachable_hub_is_unavailable(self) -> None:
        port = free_port()
        with Emitter(f"http://127.0.0.1:{port}", api_key=SECRET, timeout_s=0.5) as emitter:
            start_s = time.monotonic()
            with pytest.raises(Unavailable, match=f"no hub at 127.0.0.1:{port}.*is it running") as caught:
                emitter.emit("e", 1, channel="a:1")
            assert time.monotonic() - start_s < 5
        assert not isinstance(caught.value, TimedOut)
        assert SECRET not in str(caught.value)

    def test_broker_that_is_away_is_unavailable_and_no_timeout(self, hub: HttpHub) -> None:
        """A hub needs its own time limit to find out. A second attempt would end at the deadline, without a result."""

        def refuse_late(handler: Any, body: bytes) -> None:
            threading.Event().wait(0.6)
            say(503, {"error": {"code": "unavailable", "message": "the broker is away"}})(handler, body)

        hub.faults += [refuse_late] * 3
        with Emitter(hub.url, api_key=API_KEY, timeout_s=1) as emitter, pytest.raises(Unavailable) as caught:
            emitter.emit("e", 1, channel="a:1")
        assert "the broker is away" in str(caught.value)
        assert hub.connections == 1

    def test_connect_without_a_reply_is_unavailable(self) -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(3)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            with Emitter(f"http://127.0.0.1:{full.getsockname()[1]}", timeout_s=0.5) as emitter:
                with pytest.raises(Unavailable) as caught:
                    emitter.emit("e", 1, channel="a:1")
                assert not isinstance(caught.value, TimedOut)
            for filler in fillers:
                filler.close()

    def test_unknown_host_name_is_unavailable(self) -> None:
        with Emitter("http://nowhere.invalid", timeout_s=30) as emitter, pytest.raises(Unavailable, match="nowhere"):
            emitter.emit("e", 1, channel="a:1")

    @pytest.mark.parametrize(
        ("status", "body", "error", "message"),
        [
            (400, {"error": {"code": "too_large", "message": "items: 101"}}, TooLarge, "items: 101"),
            (404, {"error": {"code": "unknown_namespace", "message": "no rule"}}, UnknownNamespace, "no rule"),
            (401, b"", Unauthorized, "set api_key"),
            (404, b"<html>not here</html>", BadConfig, "no tidings hub at this URL"),
            (404, {"error": {"code": "not_found", "message": "nothing"}}, BadConfig, "no tidings hub at this URL"),
            (405, {"error": {"code": "not_allowed", "message": "GET"}}, BadConfig, "no tidings hub at this URL"),
            (413, b"<html>nginx</html>", TooLarge, "raise its body limit"),
            (418, b"", BadRequest, "HTTP 418"),
            (200, b"<html>welcome</html>", Internal, "not a hub's"),
            (200, {"results": []}, Internal, "not a hub's"),
            (200, {"results": [{"id": 1}]}, Internal, "not a hub's"),
            (200, [1], Internal, "not a hub's"),
            (200, b"[" * 100_000, Internal, "not a hub's"),
            (200, b"x" * 1_100_000, Internal, "more than 1048576 bytes"),
        ],
    )
    def test_rejected_publish_is_not_retried(
        self, hub: HttpHub, emitter: Emitter, status: int, body: Any, error: type[Exception], message: str
    ) -> None:
        hub.faults.append(say(status, body))
        with pytest.raises(error, match=message):
            emitter.emit("e", 1, channel="a:1")
        assert len(hub.requests) == 1
        emitter.emit("e", 2, channel="a:1")

    def test_a_redirect_is_not_followed(self, hub: HttpHub, emitter: Emitter) -> None:
        with HttpHub() as elsewhere:
            hub.faults.append(say(307, b"", Location=f"{elsewhere.url}/api/publish"))
            with pytest.raises(BadConfig, match="HTTP 307"):
                emitter.emit("e", 1, channel="a:1")
            assert elsewhere.connections == 0

    def test_wrong_api_key_is_unauthorized(self, hub: HttpHub) -> None:
        with Emitter(hub.url, api_key=SECRET) as emitter, pytest.raises(Unauthorized) as caught:
            emitter.emit("e", 1, channel="a:1")
        assert SECRET not in str(caught.value)

    def test_invalid_item_does_not_fail_the_others(self, hub: HttpHub, emitter: Emitter) -> None:
        hub.store.write_rules({"a": (10, 60)})
        with pytest.raises(BatchFailed) as caught, emitter.batch() as batch:  # noqa: PT012
            batch.emit("e", 1, channel="a:1")
            batch.emit("e", 2, channel="b:1")
            batch.emit("e", 3, channel="a:1")
        assert [type(result) for result in caught.value.results] == [Receipt, UnknownNamespace, Receipt]
        assert hub.published("a:1") == [1, 3]

    def test_closed_emitter_is_unavailable(self, hub: HttpHub, emitter: Emitter) -> None:
        emitter.emit("e", 1, channel="a:1")
        emitter.close()
        with pytest.raises(Unavailable, match="closed"):
            emitter.emit("e", 1, channel="a:1")


class TestNotifications:
    def test_every_field_arrives_unchanged(self, hub: HttpHub, emitter: Emitter) -> None:
        fields: dict[str, Any] = {
            "title": "<b>ü</b> &amp;",
            "body": 'Line 1\nLine "2"',
            "url": "https://shop.example/ä?x=1",
            "icon": "/box.png",
            "data": {"n": [1.5, None]},
            "group": "order:42",
            "expires_in_s": 90.5,
        }
        receipt = emitter.notify("order_shipped", user="7", id="x", **fields)
        assert hub.requests == [[{"category": "order_shipped", "user": "7", "id": "x", **fields}]]
        assert receipt == NotificationReceipt("x", "stored")
        assert emitter.notify("order_shipped", user="7", id="x", title="again").duplicate
        [stored] = hub.store.notifications.stored("7")
        assert (stored.title, stored.url, stored.data_json) == (fields["title"], fields["url"], b'{"n":[1.5,null]}')

    def test_users_are_split_into_requests_in_order(self, hub: HttpHub, emitter: Emitter) -> None:
        receipts = emitter.notify("order_shipped", users=[f"u{number}" for number in range(250)], title="x")
        assert [len(request) for request in hub.requests] == [100, 100, 50]
        assert [item["user"] for request in hub.requests for item in request] == [f"u{n}" for n in range(250)]
        assert {(receipt.state, receipt.duplicate) for receipt in receipts} == {("stored", False)}
        assert len({receipt.id for receipt in receipts}) == 1

    def test_a_batch_of_both_is_one_request_each(self, hub: HttpHub, emitter: Emitter) -> None:
        with emitter.batch() as batch:
            batch.notify("order_shipped", user="7", title="x")
            batch.emit("e", 1, channel="a:1")
            batch.notify("order_shipped", users=["8", "9"], title="y")
        assert [len(request) for request in hub.requests] == [1, 3]
        assert [type(result) for result in batch.results] == [NotificationReceipt, Receipt, *[NotificationReceipt] * 2]
        assert hub.connections == 1

    @pytest.mark.parametrize("fault", [cut, cut_within, say(503, b"<html>"), say(502, b""), say(504, b"")])
    def test_lost_response_is_requested_again_and_stored_once(self, hub: HttpHub, emitter: Emitter, fault: Any) -> None:
        hub.faults.append(fault)
        receipt = emitter.notify("order_shipped", user="7", title="x")
        assert not receipt.duplicate, "the repetition was the emitter's own"
        assert [item.id for item in hub.store.notifications.stored("7")] == [receipt.id]
        assert len(hub.requests) == 2
        hub.faults.append(fault)
        assert emitter.notify("order_shipped", user="7", title="x", id="mine").duplicate

    def test_missing_response_times_out(self, hub: HttpHub) -> None:
        hub.faults.append(stall)
        with Emitter(hub.url, api_key=API_KEY, timeout_s=0.5) as emitter, pytest.raises(TimedOut):
            emitter.notify("order_shipped", user="7", title="x")

    def test_publications_that_take_all_the_time_leave_none_for_notifications(self, hub: HttpHub) -> None:
        hub.faults.append(stall)
        with (  # noqa: PT012
            Emitter(hub.url, api_key=API_KEY, timeout_s=0.5) as emitter,
            pytest.raises(BatchFailed) as caught,
            emitter.batch() as batch,
        ):
            batch.notify("order_shipped", user="7", title="x")
            batch.emit("e", 1, channel="a:1")
        assert [type(result) for result in caught.value.results] == [Unavailable, TimedOut]
        assert "the publications took all the time" in str(caught.value.results[0])
        assert len(hub.requests) == 1

    @pytest.mark.parametrize("status", [404, 405])
    def test_hub_without_notifications_is_bad_config(self, hub: HttpHub, emitter: Emitter, status: int) -> None:
        hub.faults.append(say(status, {"error": {"code": "not_found", "message": "There is nothing here."}}))
        with pytest.raises(BadConfig, match=f"HTTP {status}: this hub takes no notifications; set \\[notifications"):
            emitter.notify("order_shipped", user="7", title="x")

    def test_unknown_category_is_final(self, hub: HttpHub, emitter: Emitter) -> None:
        hub.store.notifications.set_categories(["order_shipped"])
        with pytest.raises(UnknownCategory, match="order_lost"):
            emitter.notify("order_lost", user="7", title="x")
        rejection = say(404, {"error": {"code": "unknown_category", "message": "no such category"}})
        # The first may be a late response to an earlier request.
        hub.faults.extend([rejection, rejection])
        with pytest.raises(UnknownCategory, match="no such category"):
            emitter.notify("order_shipped", user="7", title="x")
        assert len(hub.requests) == 3

    @pytest.mark.parametrize(
        "answer",
        [
            {},
            {"results": []},
            {"results": [{"id": "x", "cursor": "e.1", "duplicate": False}]},
            {"results": [{"id": "x", "state": 1, "duplicate": False}]},
            {"results": [None]},
        ],
    )
    def test_answer_of_another_form_is_no_receipt(self, hub: HttpHub, emitter: Emitter, answer: object) -> None:
        hub.faults.append(say(200, answer))
        with pytest.raises(Internal, match="not a hub's"):
            emitter.notify("order_shipped", user="7", title="x", id="x")

    def test_answer_to_another_request_is_no_receipt(self, hub: HttpHub, emitter: Emitter) -> None:
        hub.faults.append(say(200, {"results": [{"id": "other", "state": "stored", "duplicate": False}]}))
        assert emitter.notify("order_shipped", user="7", title="x", id="x").id == "x"
        assert hub.connections == 2

    def test_state_of_the_service_is_passed_on(self, hub: HttpHub, emitter: Emitter) -> None:
        hub.faults.append(say(200, {"results": [{"id": "x", "state": "suppressed", "duplicate": False}]}))
        assert emitter.notify("order_shipped", user="7", title="x", id="x").state == "suppressed"

    def test_wrong_api_key_is_unauthorized(self, hub: HttpHub) -> None:
        with Emitter(hub.url, api_key=SECRET) as emitter, pytest.raises(Unauthorized):
            emitter.notify("order_shipped", user="7", title="x")

    def test_from_asyncio(self, hub: HttpHub) -> None:
        async def run() -> list[NotificationReceipt]:
            async with AsyncEmitter(hub.url, api_key=API_KEY) as emitter:
                calls = (emitter.notify("order_shipped", user="7", title=str(n)) for n in range(50))
                return list(await asyncio.gather(*calls))

        assert len({receipt.id for receipt in asyncio.run(run())}) == 50
        assert len(hub.store.notifications.stored("7")) == 50


class TestSettings:
    @pytest.mark.parametrize(
        "url",
        [
            "http://",
            "http:///path",
            "http://host:99999",
            "http://host:x",
            f"http://user:{SECRET}@host",
            f"http://{SECRET}@host",
            f"http://host?key={SECRET}",
            f"http://host/#{SECRET}",
            "http://ho st",
            "http://host/a\r\nX-Evil: 1",
        ],
    )
    def test_invalid_url_is_rejected(self, url: str) -> None:
        with pytest.raises(BadConfig) as caught:
            HttpPublisher(url)
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize("key", ["", "a b", "a\r\nX-Evil: 1", "ключ", "x" * 600])
    def test_api_key_with_a_line_break_is_rejected(self, key: str) -> None:
        with pytest.raises(BadConfig, match="the API key contains"):
            HttpPublisher("http://host", api_key=key)

    def test_https_verifies_the_certificate(self, hub: HttpHub) -> None:
        secure = hub.url.replace("http:", "https:")
        with Emitter(secure, api_key=API_KEY, timeout_s=0.5) as emitter, pytest.raises(Unavailable):
            emitter.emit("e", 1, channel="a:1")
        assert hub.requests == []
        context = HttpPublisher("https://host")._address.tls
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


class TestAsync:
    def test_a_hundred_concurrent_emits(self, hub: HttpHub) -> None:
        async def run() -> list[Receipt]:
            async with AsyncEmitter(hub.url, api_key=API_KEY) as emitter:
                return await asyncio.gather(*[emitter.emit("e", n, channel="a:1") for n in range(100)])

        receipts = asyncio.run(run())
        assert len({receipt.cursor for receipt in receipts}) == 100
        assert sorted(hub.published("a:1")) == list(range(100))

    def test_timeout_includes_the_wait_for_a_thread(self, hub: HttpHub) -> None:
        hub.faults.extend([stall] * 16)

        async def run() -> list[Any]:
            async with AsyncEmitter(hub.url, api_key=API_KEY, timeout_s=0.5) as emitter:
                calls = [emitter.emit("e", n, channel="a:1") for n in range(40)]
                return await asyncio.gather(*calls, return_exceptions=True)

        start_s = time.monotonic()
        results = asyncio.run(run())
        assert time.monotonic() - start_s < 10
        assert {type(result) for result in results} <= {Receipt, TimedOut, Unavailable}
        assert [type(result) for result in results].count(TimedOut) >= 16

    def test_closed_emitter_is_unavailable(self, hub: HttpHub) -> None:
        async def run() -> None:
            emitter = AsyncEmitter(hub.url, api_key=API_KEY)
            await emitter.emit("e", 1, channel="a:1")
            await emitter.close()
            with pytest.raises(Unavailable, match="closed"):
                await emitter.emit("e", 1, channel="a:1")

        asyncio.run(run())
