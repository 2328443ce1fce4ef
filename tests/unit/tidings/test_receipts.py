from __future__ import annotations

import asyncio
import pickle
from dataclasses import asdict

import pytest

from tidings.async_emitter import AsyncEmitter
from tidings.emitter import Emitter
from tidings.errors import (
    BadConfig,
    BadRequest,
    TimedOut,
)
from tidings.receipts import AsyncReceipt, Receipt


class TestReceipt:
    def test_waiter_is_not_compared_and_not_in_repr(self, url: str) -> None:
        with Emitter(url) as emitter:
            receipt = emitter.emit("e", channel="a:1", ack=True, id="x")
        plain = Receipt("x", receipt.cursor)
        assert (receipt, hash(receipt), repr(receipt)) == (plain, hash(plain), repr(plain))
        assert asdict(receipt) == {"id": "x", "cursor": receipt.cursor, "duplicate": False}
        assert receipt != Receipt("x", receipt.cursor, duplicate=True)
        assert receipt != ("x", receipt.cursor, False)

    @pytest.mark.parametrize("kind", [Receipt, AsyncReceipt])
    def test_pickled_receipt_cannot_wait(self, kind: type[Receipt]) -> None:
        receipt = kind("x", "e.1", duplicate=True)
        receipt.set_waiter(max)
        unpickled = pickle.loads(pickle.dumps(receipt))
        assert (type(unpickled), unpickled) == (kind, receipt)
        with pytest.raises(BadRequest, match="ack=True"):
            Receipt.wait(unpickled)

    def test_receipt_waits_only_with_ack(self, url: str) -> None:
        with Emitter(url) as emitter:
            receipt, _ = emitter.emit("e", channels=["a:1", "a:2"], ack=True)
            assert receipt.wait(acks=0).recipients == 0
            with pytest.raises(TimedOut, match=f"{receipt.id}: 0 of 1"):
                receipt.wait(timeout_s=0.2)
            with pytest.raises(BadRequest, match="acks"):
                receipt.wait(acks=-1)
            with pytest.raises(BadRequest, match="ack=True"):
                emitter.emit("e", channel="a:1").wait()
            with emitter.batch() as batch:
                batch.emit("e", channel="a:1", ack=True)
            (collected,) = batch.results
            assert isinstance(collected, Receipt)
            assert collected.wait(acks=0).channel == "a:1"

    @pytest.mark.parametrize(
        ("scheme", "reason"),
        [("amqp://localhost", "only takes publications"), ("socketio+redis://localhost", "do not reply to an emitter")],
    )
    def test_ack_error_states_why_the_url_has_no_acks(self, scheme: str, reason: str) -> None:
        for emitter in (Emitter(scheme), Emitter(scheme).batch().begin()):
            with pytest.raises(BadConfig, match=reason):
                emitter.emit("e", channel="a:1", ack=True)
        with pytest.raises(BadConfig, match=reason):
            asyncio.run(AsyncEmitter(scheme).emit("e", channel="a:1", ack=True))
