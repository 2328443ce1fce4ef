from __future__ import annotations

import random
import uuid

import pytest

from tidings_notifications.core.ids import (
    BACK_MAX_MS,
    IdSequence,
    digest_key,
    first_id,
    group_key,
    idempotency_key,
    is_id,
)


def test_id_is_a_uuid_of_version_7_with_its_time() -> None:
    id_, created_ms = IdSequence(random.Random(1).randbytes).next(1_750_000_000_123)
    parsed = uuid.UUID(id_)
    assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, id_)
    assert (parsed.int >> 80, created_ms) == (1_750_000_000_123, 1_750_000_000_123)


def test_ids_grow_also_if_the_clock_goes_back() -> None:
    ids = IdSequence(lambda size: b"\xff" * size)
    created = [ids.next(now_ms) for now_ms in [5, 5, 5, 4, 3, 6, 6, 2]]
    assert created == sorted(created)
    assert len(set(created)) == len(created)
    assert [created_ms for _, created_ms in created] == [5, 5, 5, 5, 5, 6, 6, 6]
    assert all(uuid.UUID(id_).version == 7 for id_, _ in created)


def test_ids_follow_a_clock_that_was_far_ahead() -> None:
    ids = IdSequence(random.Random(3).randbytes)
    ids.next(BACK_MAX_MS + 5)
    assert ids.next(5)[1] == BACK_MAX_MS + 5
    assert ids.next(4)[1] == 4


def test_first_id_of_a_time_is_below_its_ids_and_above_earlier_ones() -> None:
    ids = IdSequence(random.Random(2).randbytes)
    early, late = ids.next(1_000)[0], ids.next(1_001)[0]
    assert first_id(1_000) < early < first_id(1_001) < late
    assert first_id(-5) == first_id(0)


@pytest.mark.parametrize("text", [None, 3, "", "x" * 36, "0198F2E0-0000-7000-8000-000000000000", first_id(1) + "\n"])
def test_other_values_are_no_ids(text: object) -> None:
    assert not is_id(text)
    assert is_id(first_id(1))


def test_keys_of_different_subjects_differ() -> None:
    keys = [
        idempotency_key("7", "a"),
        idempotency_key("7a", ""),
        idempotency_key("", "7a"),
        group_key("7", "a"),
        digest_key("7", "a", None),
        digest_key("7", "a", ""),
        digest_key("7", "", "a"),
    ]
    assert len(set(keys)) == len(keys)
    assert all(is_id(key) for key in keys)
    assert idempotency_key("7", "a") == keys[0]
