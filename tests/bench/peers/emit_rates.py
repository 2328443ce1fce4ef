"""Publications per second of one emitter of tidings, and of the bare driver, for the case `emit`.

    python emit_rates.py REDIS_URL HUB_URL API_KEY SECONDS     prints one line of JSON, rates per second

`bare_per_s`: the same script through a redis-py pipeline, one publication per call, with arguments that were encoded
before. `batch_per_s`: `Emitter.batch()`, including encoding the data and generating the ids.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import redis

from bench.peers.emit import EVENT, data
from tidings import Emitter
from tidings.redis_client.keys import POINTER_TTL_S, RedisKeys
from tidings.redis_client.scripts import publish_script
from tidings.wire.ids import new_id
from tidings.wire.payload import encode_data
from tidings.wire.publication import encode_body

BATCH = 100
CHANNEL = "bench:emit"


def per_s(work: Callable[[], None], per_call: int, seconds: float) -> float:
    """Publications per second of `work`, which makes `per_call` publications per call."""
    work()
    calls, began_s = 0, time.monotonic()
    while time.monotonic() - began_s < seconds:
        work()
        calls += 1
    return calls * per_call / (time.monotonic() - began_s)


def bare(url: str, seconds: float) -> float:
    """Call the script through a pipeline of redis-py, without an `Emitter`."""
    client, keys = redis.Redis.from_url(url), RedisKeys()
    script = publish_script()
    client.script_load(script.text)
    body = encode_body(EVENT, encode_data(data(0)), id="bare", at_ms=0)
    # As an emitter does: one id per publication. Without an idempotency key the script does less.
    ids = [new_id(0) for _ in range(BATCH)]
    common_arguments = (b"candidate", b"%d" % POINTER_TTL_S, keys.publish)
    turn = 0

    def work() -> None:
        nonlocal turn
        turn += 1
        with client.pipeline(transaction=False) as pipeline:
            for id_ in ids:
                names = (keys.stream(CHANNEL), keys.pointer(CHANNEL), keys.idempotency(CHANNEL, f"{id_}{turn}"))
                arguments = (*common_arguments, b"bench", keys.pubsub(CHANNEL), body, b"30")
                pipeline.evalsha(script.sha.decode(), 5, keys.meta, keys.rules, *names, *arguments)
            pipeline.execute()

    return per_s(work, BATCH, seconds)


def single(url: str, api_key: str | None, seconds: float) -> float:
    """One emit after the other, each waits for its receipt."""
    with Emitter(url, api_key=api_key) as emitter:
        return per_s(lambda: _ignore(emitter.emit(EVENT, data(0), channel=CHANNEL)), 1, seconds)


def batch(url: str, api_key: str | None, seconds: float) -> float:
    """Batches of 100."""
    with Emitter(url, api_key=api_key) as emitter:

        def work() -> None:
            with emitter.batch() as pending:
                for _ in range(BATCH):
                    pending.emit(EVENT, data(0), channel=CHANNEL)

        return per_s(work, BATCH, seconds)


def _ignore(_: object) -> None:
    pass


def main(redis_url: str, hub_url: str, api_key: str, seconds: str) -> None:
    """Measure all five rates."""
    each_s = float(seconds)
    rates = {
        "single_per_s": single(redis_url, None, each_s),
        "batch_per_s": batch(redis_url, None, each_s),
        "bare_per_s": bare(redis_url, each_s),
        "http_per_s": single(hub_url, api_key, each_s),
        "http_batch_per_s": batch(hub_url, api_key, each_s),
    }
    sys.stdout.write(json.dumps(rates) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
