from __future__ import annotations

from tidings.wire.publication import Publication
from tidings_hub.core.herd.frame_cache import FrameCache


def publication(seq: int, *, channel: str = "orders:1", epoch: str = "e", other_places: str = "") -> Publication:
    return Publication(channel, seq, seq - 1, epoch, f"id{seq}", 1, "-", 3, b'"x","%b"' % (b"d" * 100), other_places)


def test_clients_share_the_frame_of_a_publication() -> None:
    cache = FrameCache(10_000)
    assert cache.frame(publication(1)) is cache.frame(publication(1))


def test_publications_with_other_numbers_have_other_frames() -> None:
    cache = FrameCache(10_000)
    others = [
        publication(1),
        publication(2),
        publication(1, channel="orders:2"),
        publication(1, epoch="f"),
        publication(1, other_places="~g.7"),
    ]
    frames = [cache.frame(item) for item in others]
    assert [frame.publication for frame in frames] == others
    assert len({frame.packet for frame in frames}) == len(others)


def test_memory_is_bounded() -> None:
    cache = FrameCache(10_000)
    for seq in range(1000):
        cache.frame(publication(seq))
    assert 10 <= len(cache) <= 10_000 // (2 * 100)


def test_frame_that_is_used_survives_and_others_are_discarded() -> None:
    cache = FrameCache(10_000)
    used, _ = cache.frame(publication(1)), cache.frame(publication(2))
    for _ in range(3):
        cache.age()
        assert cache.frame(publication(1)) is used
    assert len(cache) == 1
    cache.age()
    cache.age()
    assert len(cache) == 0
