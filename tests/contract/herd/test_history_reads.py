"""Clients that request large pages of history, all at once, do not fill the memory of Redis."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from contract.broker_contract import LIMITS, RULES, outgoing
from support.history import Listener, Recorder
from support.processes.redis import RedisProcess
from support.waiting import wait_until
from tidings.receipts import Receipt
from tidings_hub.brokers.redis import RedisBroker
from tidings_hub.metrics import Metrics

CHANNEL = "orders:large"
PAGE_BYTES = 2_000_000
READS_AT_A_TIME = 2
READS = 32
LARGE = replace(
    LIMITS, recovery_max_bytes=PAGE_BYTES, recovery_round_max_bytes=READS_AT_A_TIME * PAGE_BYTES, timeout_s=30.0
)


def test_redis_holds_only_a_few_pages_for_many_reads(redis: RedisProcess, tmp_path: Path) -> None:
    metrics = Metrics()
    broker = RedisBroker(redis.url, limits=LARGE, metrics=metrics)
    broker.write_rules(RULES)
    recorder = Recorder(tmp_path / "history")
    broker.start(Listener(recorder))
    wait_until(lambda: broker.state().connected, why="the node connects")
    items = [outgoing(CHANNEL, data=b'"%s"' % (b"x" * 100_000)) for _ in range(19)]
    assert all(isinstance(answer, Receipt) for answer in broker.publish_many(items))
    with redis.client() as client, ThreadPoolExecutor(READS) as pool:
        before = client.info("memory")["used_memory_peak"]
        # Redis finds all reads that were sent meanwhile, and answers them before the node reads the first reply.
        redis.pause()
        pages = [pool.submit(broker.history, CHANNEL, since=None, limit=100, newest=True) for _ in range(READS)]
        wait_until(lambda: metrics.histories_deferred == READS - READS_AT_A_TIME, why="the other reads wait")
        time.sleep(0.5)
        redis.resume()
        assert {len(page.result()[1]) for page in pages} == {len(items)}
        # The reply, and what the script builds it from, for each read.
        assert client.info("memory")["used_memory_peak"] - before < 3 * READS_AT_A_TIME * PAGE_BYTES
    broker.stop()
    recorder.close()
