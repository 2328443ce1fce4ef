"""What every broker promises, as tests. Subclass it and provide the fixture `make`."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support.history import Listener, Recorder, check
from support.limits import broker_limits
from support.waiting import wait_until
from tidings.errors import TidingsError, UnknownNamespace
from tidings.publishers.base import OutgoingPublication
from tidings.receipts import Receipt
from tidings.wire.control import CommandResult, command_result, disconnect, revoke, subscribe
from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication, encode_body
from tidings_hub.brokers.base import Broker, BrokerLimits, HistorySnapshot
from tidings_hub.core.lease import LeaseReply
from tidings_hub.core.recovery import Gap, missed_since
from tidings_hub.core.session_records import ClaimedSession, RecordOperation, SessionRecord, WriteResult

LIMITS = broker_limits(message_max_bytes=131_072, linger_s=0.2, position_check_s=0.3, timeout_s=10.0)
Make = Callable[[BrokerLimits], Broker]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Keep:
    history: int
    history_ttl_s: int


RULES = {
    "orders": Keep(100, 3600),
    "long": Keep(300, 3600),
    "brief": Keep(5, 3600),
    "gone": Keep(0, 0),
    "soon": Keep(10, 1),
}


def outgoing(
    channel: str, *, id: str | None = None, data: bytes = b'{"n":1}', idempotency_s: int = 30, options: str = "-"
) -> OutgoingPublication:
    id = id or f"id{next(_numbers)}"
    body = encode_body("updated", data, id=id, at_ms=time.time_ns() // 1_000_000, options=options)
    return OutgoingPublication(channel, body, id, idempotency_s)


@dataclass
class Node:
    """A started broker with its recorded sink."""

    broker: Broker
    sink: Listener

    def publish(self, channel: str, *, id: str | None = None, idempotency_s: int = 30) -> Receipt:
        item = outgoing(channel, id=id, idempotency_s=idempotency_s)
        self.sink.recorder.note("backend", "sending", channel, id=item.id)
        receipt = self.broker.publish(channel, item.body, id=item.id, idempotency_s=item.idempotency_s)
        self.sink.recorder.acked("backend", channel, item.id, receipt)
        return receipt

    def subscribe(self, *channels: str) -> None:
        self.broker.subscribe(channels)
        assert self.broker.position is not None
        for channel in channels:
            self.sink.recorder.note(self.sink.actor, "subscribed", channel, cursor=str(self.broker.position))

    def wait_for(self, channel: str, ids: list[str]) -> None:
        wait_until(
            lambda: self.sink.ids(channel) == ids, why=lambda: f"{channel} has {self.sink.ids(channel)}, not {ids}"
        )


def ids(past: HistorySnapshot, channel: str) -> list[str]:
    return [item.id for item in past.channels[channel].publications]


class BrokerContract:
    # Two channels of one sequence, where a broker has several.
    neighbours = ("orders:1", "orders:2")

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    @pytest.fixture
    def node(self, make: Make, tmp_path: Path) -> Iterator[Node]:
        recorder = Recorder(tmp_path / "history.jsonl")
        node = Node(make(LIMITS), Listener(recorder))
        node.broker.write_rules(RULES)
        node.broker.start(node.sink)
        try:
            wait_until(lambda: node.broker.state().connected, why="the broker connects")
            yield node
            # What was acknowledged last is still on its way to the sink.
            wait_until(lambda: check(recorder.path) == [], within_s=5.0, why=f"history in {recorder.path} is complete")
        finally:
            node.broker.stop()
            recorder.close()
        assert check(recorder.path) == []

    def test_receipt_has_the_position_and_seq_counts_over_all_channels(self, node: Node) -> None:
        first, second = node.publish(self.neighbours[0], id="a"), node.publish(self.neighbours[1], id="b")
        assert (first.id, second.id) == ("a", "b")
        assert not first.duplicate
        item, two = Cursor.parse(first.cursor), Cursor.parse(second.cursor)
        assert (two.epoch, two.seq) == (item.epoch, item.seq + 1)

    def test_only_subscribed_channels_are_delivered_in_order(self, node: Node) -> None:
        node.subscribe("orders:1", "gone:1")
        expected = [node.publish("orders:1").id for _ in range(20)]
        node.publish("orders:2")
        volatile = node.publish("gone:1").id
        node.wait_for("orders:1", expected)
        node.wait_for("gone:1", [volatile])
        assert {item.channel for item in node.sink.publications} == {"orders:1", "gone:1"}
        chain = [item for item in node.sink.publications if item.channel == "orders:1"]
        assert all(later.prev == earlier.seq for earlier, later in itertools.pairwise(chain))

    def test_repeated_id_returns_the_first_receipt(self, node: Node) -> None:
        node.subscribe("orders:1")
        first = node.publish("orders:1", id="same", idempotency_s=300)
        repeated = node.publish("orders:1", id="same", idempotency_s=300)
        elsewhere = node.publish("orders:2", id="same", idempotency_s=300)
        assert (repeated.id, repeated.cursor, repeated.duplicate) == (first.id, first.cursor, True)
        assert not elsewhere.duplicate
        end = node.publish("orders:1").id
        node.wait_for("orders:1", ["same", end])

    def test_id_that_a_client_chose_is_that_of_its_user_alone(self, node: Node) -> None:
        items = [replace(outgoing("orders:1", id="same"), user=user) for user in ("7", "8", "")]
        first = [answer for answer in node.broker.publish_many(items) if isinstance(answer, Receipt)]
        assert [answer.duplicate for answer in first] == [False] * 3
        repeated = [answer for answer in node.broker.publish_many(items) if isinstance(answer, Receipt)]
        assert [(answer.cursor, answer.duplicate) for answer in repeated] == [(item.cursor, True) for item in first]

    def test_id_expires_after_its_idempotency_time(self, node: Node) -> None:
        assert not node.publish("orders:1", id="same", idempotency_s=1).duplicate
        wait_until(lambda: not node.publish("orders:1", id="same", idempotency_s=1).duplicate, why="the id expires")

    def test_without_idempotency_the_same_id_is_published_twice(self, node: Node) -> None:
        item, two = (node.publish("orders:9", id="same", idempotency_s=0) for _ in range(2))
        assert item.cursor != two.cursor
        assert not two.duplicate

    def test_unknown_namespace_is_rejected_at_its_position_in_a_batch(self, node: Node) -> None:
        with pytest.raises(UnknownNamespace, match="nobody"):
            node.publish("nobody:1")
        answers = node.broker.publish_many([outgoing("orders:1"), outgoing("nobody:1"), outgoing("orders:1")])
        assert [isinstance(answer, TidingsError) for answer in answers] == [False, True, False]

    def test_a_batch_keeps_its_order(self, node: Node) -> None:
        node.subscribe("orders:1")
        items = [outgoing("orders:1") for _ in range(300)]
        answers = node.broker.publish_many(items)
        seqs = [Cursor.parse(answer.cursor).seq for answer in answers if isinstance(answer, Receipt)]
        assert len(seqs) == 300
        assert seqs == sorted(seqs)
        node.wait_for("orders:1", [item.id for item in items])

    def test_star_rule_applies_to_every_other_namespace(self, node: Node) -> None:
        node.broker.write_rules({"*": Keep(10, 60)})
        wait_until(lambda: not isinstance(node.broker.publish_many([outgoing("any:1")])[0], TidingsError))

    def test_read_since_returns_publications_after_a_cursor(self, node: Node) -> None:
        node.subscribe("orders:1", "orders:2")
        node.publish("orders:1")
        start = node.broker.read_since(["orders:1", "orders:2"], None, limit=1).position
        expected = [node.publish("orders:1").id for _ in range(3)]
        other = node.publish("orders:2").id
        past = node.broker.read_since(["orders:1", "orders:2", "orders:3"], start, limit=10)
        assert ids(past, "orders:1") == expected
        assert ids(past, "orders:2") == [other]
        assert past.channels["orders:3"].last is None
        results = missed_since(start, past.position, past.channels["orders:1"], limit=10)
        assert not isinstance(results, Gap)
        assert [item.id for item in results] == expected

    def test_read_since_without_a_cursor_reads_no_publications(self, node: Node) -> None:
        end = Cursor.parse(node.publish("orders:1").cursor)
        past = node.broker.read_since(["orders:1"], None, limit=10)
        assert (past.position.epoch, past.position.seq) == (end.epoch, end.seq)
        assert past.channels["orders:1"].last == end.seq
        assert past.channels["orders:1"].publications == []

    def test_read_since_returns_after_everything_up_to_its_position_was_delivered(self, node: Node) -> None:
        node.subscribe("orders:1")
        for round_ in range(20):
            expected = [node.publish("orders:1").id for _ in range(10)]
            past = node.broker.read_since(["orders:1"], None, limit=1)
            assert node.sink.ids("orders:1")[round_ * 10 :] == expected
            assert node.broker.position is not None
            assert node.broker.position.seq >= past.position.seq

    def test_position_equals_the_delivered_position(self, node: Node) -> None:
        """Clients receive the position as the cursor of all channels, so it must not be ahead of what they have."""
        node.subscribe("orders:1", "orders:2")
        deliver, ahead, behind = node.sink.deliver, [], []

        def look(publications: list[Publication]) -> None:
            position = node.broker.position
            assert position is not None
            epoch = publications[0].epoch
            seq = position.seq_in(epoch)
            assert seq is not None
            ahead.extend([item.cursor for item in publications if item.seq <= seq])
            behind.extend([item.cursor for item in node.sink.publications if item.epoch == epoch and item.seq > seq])
            deliver(publications)

        node.sink.deliver = look  # type: ignore[method-assign]
        for _ in range(20):
            node.broker.publish_many([outgoing(f"orders:{1 + number % 2}") for number in range(100)])
        wait_until(lambda: len(node.sink.publications) == 2000, why="all are delivered")
        end = node.sink.publications[-1]
        wait_until(lambda: node.broker.position.seq_in(end.epoch) == end.seq, why="the position follows")  # type: ignore[union-attr]
        assert (ahead, behind) == ([], [])

    def test_read_since_returns_at_most_one_more_than_the_limit(self, node: Node) -> None:
        start = Cursor.parse(node.publish("orders:1").cursor)
        for _ in range(8):
            node.publish("orders:1")
        past = node.broker.read_since(["orders:1"], start, limit=4)
        assert len(past.channels["orders:1"].publications) == 5
        assert isinstance(missed_since(start, past.position, past.channels["orders:1"], limit=4), Gap)

    def test_callers_with_different_cursors_read_at_the_same_time(self, node: Node) -> None:
        node.subscribe("orders:1")
        cursors = [Cursor.parse(node.publish("orders:1").cursor) for _ in range(30)]
        missed: dict[int, object] = {}

        def read(number: int) -> None:
            past = node.broker.read_since(["orders:1", f"orders:own-{number}"], cursors[number], limit=10)
            missed[number] = missed_since(cursors[number], past.position, past.channels["orders:1"], limit=10)

        threads = [threading.Thread(target=read, args=(number,)) for number in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, publications in missed.items():
            if number < 19:
                # A client that missed more than the limit does not cut short what the others get.
                assert publications == Gap("limit")
            else:
                assert isinstance(publications, list)
                assert [item.seq for item in publications] == [cursor.seq for cursor in cursors[number + 1 :]]
        assert len(missed) == 30

    def test_trimmed_publications_are_a_gap(self, node: Node) -> None:
        start = Cursor.parse(node.publish("brief:1").cursor)
        # Redis trims in whole nodes of a hundred entries or so.
        node.broker.publish_many([outgoing("brief:1") for _ in range(500)])
        past = node.broker.read_since(["brief:1"], start, limit=1000)
        assert 5 <= len(past.channels["brief:1"].publications) < 400
        assert isinstance(missed_since(start, past.position, past.channels["brief:1"], limit=1000), Gap)

    def test_trimmed_history_is_a_gap(self, node: Node) -> None:
        start = Cursor.parse(node.publish("soon:1").cursor)
        node.publish("soon:1")
        wait_until(lambda: node.broker.history("soon:1", since=None, limit=9, newest=False)[1] == [], why="it expires")
        past = node.broker.read_since(["soon:1"], start, limit=10)
        assert past.channels["soon:1"].last is not None
        assert isinstance(missed_since(start, past.position, past.channels["soon:1"], limit=10), Gap)

    def test_a_volatile_channel_is_a_gap_only_when_something_was_published(self, node: Node) -> None:
        start = Cursor.parse(node.publish("gone:1").cursor)
        past = node.broker.read_since(["gone:1"], start, limit=10)
        assert missed_since(start, past.position, past.channels["gone:1"], limit=10) == []
        node.publish("gone:1")
        past = node.broker.read_since(["gone:1"], start, limit=10)
        assert isinstance(missed_since(start, past.position, past.channels["gone:1"], limit=10), Gap)

    def test_first_publication_after_a_subscribe_is_not_a_gap(self, node: Node) -> None:
        node.publish("orders:other")
        node.subscribe("orders:new")
        start = node.broker.position
        assert start is not None
        node.publish("orders:other")
        id = node.publish("orders:new").id
        past = node.broker.read_since(["orders:new"], start, limit=10)
        results = missed_since(start, past.position, past.channels["orders:new"], limit=10)
        assert not isinstance(results, Gap)
        assert [item.id for item in results] == [id]

    def test_history_pages_from_both_ends(self, node: Node) -> None:
        receipts = [node.publish("orders:1") for _ in range(6)]
        names = [receipt.id for receipt in receipts]
        after = Cursor.parse(receipts[1].cursor)

        def page(since: Cursor | None, *, newest: bool) -> list[str]:
            position, results = node.broker.history("orders:1", since=since, limit=2, newest=newest)
            assert f"{position.epoch}.{position.seq}" == receipts[-1].cursor
            return [item.id for item in results]

        assert page(None, newest=False) == names[:2]
        assert page(None, newest=True) == names[-2:]
        assert page(after, newest=False) == names[2:4]
        assert page(after, newest=True) == names[-2:]
        assert page(Cursor("another", 99), newest=False) == names[:2]
        assert node.broker.history("orders:none", since=None, limit=2, newest=True)[1] == []

    def test_history_of_many_publications_is_one_page_in_order(self, node: Node) -> None:
        """Redis reads a page in steps of 100 entries."""
        names = [node.publish("long:1").id for _ in range(250)]
        for limit in (99, 100, 101, 230, 250, 999):
            for newest, expected in ((False, names[:limit]), (True, names[-limit:])):
                _, results = node.broker.history("long:1", since=None, limit=limit, newest=newest)
                assert [item.id for item in results] == expected

    def test_unsubscribe_takes_effect_after_the_linger_time(self, node: Node) -> None:
        node.subscribe("orders:1", "orders:2")
        node.broker.unsubscribe(["orders:1", "orders:2", "orders:never"])
        node.broker.subscribe(["orders:2"])
        wait_until(lambda: node.broker.state().channels == 1, why="the channel is unsubscribed")
        node.sink.recorder.note("node", "left", "orders:1")
        node.publish("orders:1")
        id = node.publish("orders:2").id
        node.wait_for("orders:2", [id])
        assert node.sink.ids("orders:1") == []

    def test_channel_added_again_after_its_removal(self, node: Node) -> None:
        node.subscribe("orders:1")
        node.broker.unsubscribe(["orders:1"])
        wait_until(lambda: node.broker.state().channels == 0)
        # Not recorded, because no client listened. The history has it for clients that resume.
        assert not isinstance(node.broker.publish_many([outgoing("orders:1")])[0], TidingsError)
        node.broker.subscribe(["orders:1"])
        id = node.publish("orders:1").id
        wait_until(lambda: node.sink.ids("orders:1")[-1:] == [id])
        assert node.sink.ids("orders:1") == [id]
        assert node.sink.losses == []

    def test_many_threads_subscribe_and_publish_together(self, node: Node) -> None:
        expected: dict[str, list[str]] = {f"orders:{number}": [] for number in range(8)}
        failures: list[BaseException] = []

        def work(channel: str) -> None:
            try:
                node.subscribe(channel, "orders:all")
                for _ in range(25):
                    expected[channel].append(node.publish(channel).id)
                    node.publish("orders:all")
            except BaseException as error:
                failures.append(error)
                raise

        workers = [threading.Thread(target=work, args=(channel,)) for channel in expected]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
        assert failures == []
        node.broker.read_since([*expected, "orders:all"], None, limit=1)
        for channel, names in expected.items():
            assert node.sink.ids(channel) == names
        for epoch in {item.epoch for item in node.sink.publications}:
            seqs = [item.seq for item in node.sink.publications if item.epoch == epoch]
            assert seqs == sorted(seqs)
        assert node.sink.losses == []

    def test_control_messages_reach_the_node_itself(self, node: Node) -> None:
        message: dict[str, object] = {"do": "disconnect", "user": "ü-1"}
        node.broker.send_control(message)
        wait_until(lambda: len(node.sink.controls) == 1, why="the node receives its own control message")
        assert {name: node.sink.controls[0][name] for name in message} == message

    def answering(self, node: Node, **fields: object) -> None:
        """From now on the node answers every order with this, from a thread as a hub would."""

        def control(message: dict[str, object]) -> None:
            answer = {"node": "n1", **fields}
            threading.Thread(target=node.broker.reply, args=(str(message["reply"]), answer)).start()

        node.sink.reply_to_control = control

    def test_command_is_replied_to(self, node: Node) -> None:
        self.answering(node, connections=2)
        node.broker.write_node("n1", {"node": "n1", "sessions": 3}, lease_s=60)
        order = disconnect(user="7", connection=None)
        answers = node.broker.run_command(order, timeout_s=20)
        assert command_result(answers) == CommandResult(2, 1)
        assert (node.sink.controls[0]["do"], node.sink.controls[0]["user"]) == ("disconnect", "7")

    def test_node_that_does_not_reply_is_listed_after_the_timeout(self, node: Node) -> None:
        self.answering(node, connections=1)
        node.broker.write_node("n1", {"node": "n1"}, lease_s=60)
        node.broker.write_node("n2", {"node": "n2"}, lease_s=60)
        assert command_result(
            node.broker.run_command(disconnect(user="7", connection=None), timeout_s=20)
        ) == CommandResult(1, 1, ("n2",))
        node.sink.reply_to_control = None
        start_s = time.monotonic()
        nobody = command_result(node.broker.run_command(disconnect(user="7", connection=None), timeout_s=0.3))
        assert nobody == CommandResult(0, 0, ("n1", "n2"))
        assert 0.3 <= time.monotonic() - start_s < 10

    def test_revocation_command_is_stored(self, node: Node) -> None:
        now_s = time.time()
        self.answering(node, connections=0)
        for for_s in (100, 50):
            order = revoke(user="7", jti=None, for_s=for_s, until_s=None, now_s=now_s)
            assert command_result(node.broker.run_command(order, timeout_s=20)).nodes == 1
        assert node.broker.revocations() == {"user:7": pytest.approx(now_s + 100)}

    def test_failed_command_of_a_node_is_an_error(self, node: Node) -> None:
        self.answering(node, error={"code": "unknown_namespace", "message": "no namespace"})
        answers = node.broker.run_command(subscribe(user="7", channel="orders:1"), timeout_s=20)
        with pytest.raises(UnknownNamespace, match="no namespace"):
            command_result(answers)

    def test_node_records_expire_with_their_lease(self, node: Node) -> None:
        node.broker.write_node("n2", {"node": "n2", "connections": {"sse": 2}}, lease_s=0.05)
        results = node.broker.write_node("n1", {"node": "n1", "channels": 4, "address": "here:1"}, lease_s=60)
        assert [item.channels for item in results if item.node == "n1"] == [4]
        wait_until(lambda: [item.node for item in node.broker.nodes()] == ["n1"], why="the lease of n2 ends")
        assert node.broker.write_node("n1", None, lease_s=0) == []

    def test_revocations_expire(self, node: Node) -> None:
        now_s = time.time()
        node.broker.write_revocations({"user:7": now_s + 100, "jti:x": now_s - 1})
        assert node.broker.revocations() == {"user:7": now_s + 100}
        assert node.broker.revocations() == {"user:7": now_s + 100}

    def test_written_revocations_never_shorten_stored_ones(self, node: Node) -> None:
        now_s = time.time()
        many = {f"jti:{number}": now_s + 100 + number for number in range(2_500)}
        node.broker.write_revocations(many)
        node.broker.write_revocations({"jti:0": now_s + 50, "jti:1": now_s + 900, "user:é": now_s + 0.25 + 60})
        node.broker.write_revocations({})
        expected = {**many, "jti:1": now_s + 900, "user:é": now_s + 0.25 + 60}
        assert node.broker.revocations() == expected

    def test_session_record_is_claimed_once(self, node: Node) -> None:
        body = b'{"joins":[["fresh","e.1",["orders:1"]]],"x":"\xc3\xbc"}'
        new = SessionRecord(RecordOperation.CREATE, "key-1", "one", 60, "user-7", body)
        assert node.broker.write_sessions(
            [new, SessionRecord(RecordOperation.CREATE, "key-2", "one", 60, "user-8", b"{}")]
        ) == [WriteResult.OK, WriteResult.OK]
        assert node.broker.write_sessions([new]) == [WriteResult.OK], "the same again, after an answer that was lost"
        assert node.broker.claim_session("key-1", "user-8") == ClaimedSession("", "", b"")
        assert node.broker.claim_session("key-1", "user-7") == ClaimedSession("one", "user-7", body)
        assert node.broker.claim_session("key-1", "user-7") is None
        assert node.broker.claim_session("key-2", "") == ClaimedSession("one", "user-8", b"{}")
        assert node.broker.claim_session("never", "user-7") is None

    def test_session_record_changes_only_for_its_owner(self, node: Node) -> None:
        operations = [RecordOperation.UPDATE, RecordOperation.TOUCH, RecordOperation.DELETE]
        assert (
            node.broker.write_sessions(
                [SessionRecord(operation, "key", "one", 60, "u", b"old") for operation in operations]
            )
            == [WriteResult.MISSING] * 3
        )
        assert node.broker.write_sessions([]) == []
        node.broker.write_sessions([SessionRecord(RecordOperation.CREATE, "key", "one", 60, "u", b"old")])
        foreign_records = [
            SessionRecord(operation, "key", "two", 60, "u", b"theirs")
            for operation in (RecordOperation.CREATE, *operations)
        ]
        assert node.broker.write_sessions(foreign_records) == [WriteResult.NOT_OWNER] * 4
        own_records = [
            SessionRecord(RecordOperation.UPDATE, "key", "one", 60, "u", b"new"),
            SessionRecord(RecordOperation.TOUCH, "key", "one", 60),
        ]
        assert node.broker.write_sessions(own_records) == [WriteResult.OK, WriteResult.OK]
        assert node.broker.claim_session("key", "u") == ClaimedSession("one", "u", b"new")
        assert node.broker.write_sessions([SessionRecord(RecordOperation.CREATE, "key", "two", 60, "u", b"")]) == [
            WriteResult.OK
        ]
        assert node.broker.write_sessions([SessionRecord(RecordOperation.DELETE, "key", "two")]) == [WriteResult.OK]
        assert node.broker.claim_session("key", "u") is None

    def test_only_one_of_many_claims_gets_a_session_record(self, node: Node) -> None:
        node.broker.write_sessions([SessionRecord(RecordOperation.CREATE, "key", "one", 60, "u", b"x")])
        results: list[ClaimedSession | None] = []
        claims = [
            threading.Thread(target=lambda: results.append(node.broker.claim_session("key", "u"))) for _ in range(8)
        ]
        for claim in claims:
            claim.start()
        for claim in claims:
            claim.join(30)
        assert len(results) == 8
        assert [item for item in results if item is not None] == [ClaimedSession("one", "u", b"x")]

    def test_session_record_expires_unless_it_is_touched(self, node: Node) -> None:
        records = [SessionRecord(RecordOperation.CREATE, key, "one", 1, "u", b"x") for key in ("short", "long")]
        assert (
            node.broker.write_sessions([*records, SessionRecord(RecordOperation.TOUCH, "long", "one", 60)])
            == [WriteResult.OK] * 3
        )
        # A claim by another user has no effect.
        wait_until(lambda: node.broker.claim_session("short", "another") is None, why="the record expires")
        assert node.broker.claim_session("long", "u") == ClaimedSession("one", "u", b"x")

    def test_node_leases_name_every_node_with_a_lease(self, node: Node) -> None:
        first = node.broker.renew_node_lease("n1", "10.0.0.1:8000", lease_s=60)
        assert set(first.by_node) == {"n1"}
        assert first.by_node["n1"].address == "10.0.0.1:8000"
        assert 50 < first.by_node["n1"].left_s <= 60
        assert abs(first.now_s - time.time()) < 30
        leases = node.broker.renew_node_lease("n2", "unix:/run/n2", lease_s=60)
        assert {name: lease.address for name, lease in leases.by_node.items()} == {
            "n1": "10.0.0.1:8000",
            "n2": "unix:/run/n2",
        }
        moved = node.broker.renew_node_lease("n1", "10.0.0.9:8000", lease_s=60)
        assert moved.by_node["n1"].address == "10.0.0.9:8000"

    def test_lease_that_is_not_renewed_ends(self, node: Node) -> None:
        node.broker.renew_node_lease("gone", "10.0.0.1:8000", lease_s=0.3)
        wait_until(lambda: "gone" not in node.broker.renew_node_lease("here", "10.0.0.2:8000", lease_s=60).by_node)

    def test_released_node_lease_has_no_address(self, node: Node) -> None:
        node.broker.renew_node_lease("leaving", "10.0.0.1:8000", lease_s=60)
        node.broker.renew_node_lease("leaving", "", lease_s=60)
        assert node.broker.renew_node_lease("here", "10.0.0.2:8000", lease_s=60).by_node["leaving"].address == ""

    def test_lease_has_one_holder_at_a_time(self, node: Node) -> None:
        hold = node.broker.acquire_lease
        assert hold("work", "a", lease_s=60) is LeaseReply.ACQUIRED
        assert hold("work", "b", lease_s=60) is LeaseReply.DENIED
        assert hold("other", "b", lease_s=60) is LeaseReply.ACQUIRED
        assert hold("work", "a", lease_s=60) is LeaseReply.RENEWED
        assert hold("work", "b", lease_s=0) is LeaseReply.DENIED
        assert hold("work", "a", lease_s=60) is LeaseReply.RENEWED
        assert hold("work", "a", lease_s=0) is LeaseReply.DENIED
        assert hold("work", "b", lease_s=60) is LeaseReply.ACQUIRED

    def test_lease_that_is_not_renewed_is_acquired_again(self, node: Node) -> None:
        assert node.broker.acquire_lease("work", "a", lease_s=0.2) is LeaseReply.ACQUIRED
        wait_until(
            lambda: node.broker.acquire_lease("work", "b", lease_s=60) is LeaseReply.ACQUIRED, why="the lease of a ends"
        )
        assert node.broker.acquire_lease("work", "a", lease_s=60) is LeaseReply.DENIED

    def test_canary_arrives(self, node: Node) -> None:
        assert 0 <= node.broker.canary() < 5

    def test_every_part_of_a_reachable_broker_is_served(self, node: Node) -> None:
        node.broker.canary()
        state = node.broker.state()
        assert state.can_serve
        assert [part for part in state.parts if not part.is_served] == []
        assert len({part.name for part in state.parts}) == len(state.parts)

    def test_no_doubt_without_a_loss(self, node: Node) -> None:
        node.subscribe("orders:1")
        cursor = Cursor.parse(node.publish("orders:1").cursor)
        assert not node.broker.is_doubted("orders:1", cursor)
        assert not node.broker.is_doubted("orders:1", Cursor("another", 1))
        assert node.broker.read_since(["orders:1"], cursor, limit=1).channels["orders:1"].doubted == ()

    def test_failing_sink_receives_the_gap(self, node: Node) -> None:
        node.subscribe("orders:1")
        deliver, failed = node.sink.deliver, []

        def fail(publications: object) -> None:
            failed.append(publications)
            node.sink.deliver = deliver  # type: ignore[method-assign]
            raise RuntimeError("error in the sink")

        node.sink.deliver = fail  # type: ignore[method-assign]
        node.publish("orders:1")
        wait_until(lambda: failed, why="the sink was called")
        id = node.publish("orders:1").id
        node.wait_for("orders:1", [id])
        assert node.sink.lost_channels() == {"orders:1"}

    def test_position_is_never_ahead_of_the_sink(self, node: Node) -> None:
        """A client may receive this position at any moment, and be cut off before it receives anything else."""
        ahead: list[tuple[str, int]] = []
        deliver = node.sink.deliver

        def look(publications: list[Publication]) -> None:
            position = node.broker.position
            assert position is not None
            ahead.extend(
                (str(position), item.seq) for item in publications if (position.seq_in(item.epoch) or 0) >= item.seq
            )
            deliver(publications)

        node.sink.deliver = look  # type: ignore[method-assign]
        node.subscribe("orders:1", "orders:2")
        for number in range(50):
            end = node.publish(f"orders:{number % 2 + 1}")
        last = Cursor.parse(end.cursor)
        wait_until(lambda: node.broker.position.seq_in(last.epoch) == last.seq, why="the position follows")  # type: ignore[union-attr]
        wait_until(lambda: len(node.sink.publications) == 50, why="all are delivered")
        assert ahead == []

    def test_stopping_makes_waiting_callers_fail(self, node: Node) -> None:
        node.broker.stop()
        with pytest.raises(TidingsError):
            node.broker.subscribe(["orders:1"])
        assert not node.broker.state().connected
