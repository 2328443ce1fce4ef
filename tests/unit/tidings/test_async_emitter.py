from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.models import Thing
from tidings.async_emitter import AsyncEmitter
from tidings.errors import (
    Unavailable,
)


class TestAsyncEmitter:
    def test_has_the_methods_of_emitter(self, url: str, stored: Callable[[str], Any]) -> None:
        async def run() -> None:
            async with AsyncEmitter(url) as emitter:
                receipt = await emitter.emit("one", 1, channel="a:1")
                receipts = await emitter.emit("two", 2, channels=["a:1", "a:2"])
                models = await emitter.push_model(Thing(5))
                async with emitter.batch() as batch:
                    batch.emit("three", 3, channel="a:1")
                    batch.push_model(Thing(6), channel="a:3")
                assert len({receipt.cursor, *(r.cursor for r in (*receipts, *models))}) == 5
                assert len(batch.results) == 2
                with pytest.raises(ZeroDivisionError):  # noqa: PT012
                    async with emitter.batch() as broken:
                        broken.emit("never", channel="a:1")
                        _ = 1 / 0
                by_hand = emitter.batch().begin()
                by_hand.emit("four", 4, channel="a:1")
                await by_hand.send()
                await by_hand.send()
            with pytest.raises(Unavailable, match="closed"):
                await emitter.emit("e", channel="a:1")

        asyncio.run(run())
        assert stored("a:1") == [("one", 1), ("two", 2), ("three", 3), ("four", 4)]

    def test_serves_one_event_loop_after_another(self, url: str, stored: Callable[[str], Any]) -> None:
        emitter = AsyncEmitter(url)
        for number in range(3):
            asyncio.run(emitter.emit("e", number, channel="a:1"))
        assert [data for _, data in stored("a:1")] == [0, 1, 2]
