from __future__ import annotations

import time

from tidings.wire.channels import check_id
from tidings.wire.ids import new_id


def test_id_has_22_characters_of_the_id_alphabet() -> None:
    new = new_id(time.time_ns() // 1_000_000)
    assert len(new) == 22
    assert check_id(new) == new
    assert new.isalnum()


def test_later_ids_sort_later() -> None:
    moments = [0, 1, 61, 62, 1_000_000, 1_790_000_000_000, 1_790_000_000_001, 62**8 - 1]
    ids = [new_id(moment) for moment in moments]
    assert ids == sorted(ids)


def test_ids_of_one_millisecond_differ() -> None:
    assert len({new_id(1_790_000_000_000) for _ in range(10_000)}) == 10_000


def test_every_character_occurs_about_equally_often() -> None:
    characters = "".join(new_id(0, random_bytes=bytes([value]).__mul__)[-14:] for value in range(256))
    assert {characters.count(sign) // 14 for sign in set(characters)} == {4, 5}
    assert len(set(characters)) == 62
    assert new_id(0, random_bytes=bytes) == "0" * 22
