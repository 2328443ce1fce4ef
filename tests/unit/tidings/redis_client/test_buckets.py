from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from support.vectors import examples
from tidings.errors import BadConfig
from tidings.redis_client.buckets import BUCKETS_MAX, SLOTS, bucket_of, check_buckets, slot_of, tag_of
from tidings.redis_client.keys import RedisKeys

VECTORS = examples("buckets")


@pytest.mark.parametrize("example", VECTORS["channels"], ids=lambda example: str(example["bucket"]))
def test_bucket_vectors_of_channels(example: dict[str, object]) -> None:
    assert bucket_of(str(example["channel"]), int(str(example["buckets"]))) == example["bucket"]


@pytest.mark.parametrize("example", VECTORS["tags"], ids=lambda example: example["tag"])
def test_tag_vectors_of_buckets(example: dict[str, object]) -> None:
    tag = tag_of(int(str(example["bucket"])), int(str(example["buckets"])))
    assert (tag, slot_of(tag)) == (example["tag"], example["slot"])


def test_every_bucket_lies_in_its_own_part_of_the_slots() -> None:
    for buckets in range(2, BUCKETS_MAX + 1):
        assert [slot_of(tag_of(bucket, buckets)) * buckets // SLOTS for bucket in range(buckets)] == list(
            range(buckets)
        )


def test_no_two_numbers_of_buckets_share_a_key() -> None:
    bases = [
        RedisKeys(tag=tag_of(bucket, buckets)).base
        for buckets in range(1, BUCKETS_MAX + 1)
        for bucket in range(buckets)
    ]
    assert len(set(bases)) == len(bases)


def test_channels_are_spread_evenly() -> None:
    counts = Counter(bucket_of(f"user:{number}", 4) for number in range(10_000))
    assert max(counts.values()) < 1.1 * min(counts.values())


@pytest.mark.parametrize("text", ["", "0", "17", "-1", "x", "4.0", "٤"])
def test_invalid_number_of_buckets_is_rejected(text: str) -> None:
    with pytest.raises(BadConfig, match="1 to 16"):
        check_buckets(text)


@pytest.mark.parametrize("prefix", [None, b"tidings:", 7, "a b", "{x}", "é"])
def test_invalid_prefix_is_rejected(prefix: Any) -> None:
    with pytest.raises(BadConfig, match="invalid prefix"):
        RedisKeys(prefix)
