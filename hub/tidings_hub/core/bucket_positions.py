"""Positions in several buckets at once (PROTOCOL.md section 1).

A broker with several buckets has one sequence per bucket. One cursor string resumes the channels of all of them. The
cursor of a publication starts with the publication's own place. Then follows how far this node had delivered each
other bucket at that moment. So a client that resumes with it has everything up to there, in every bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication


class BucketPositions:
    """How far this node has delivered each bucket; None for a bucket that it has not reached yet."""

    def __init__(self, positions: Sequence[Cursor | None]) -> None:
        self._positions = positions

    def others(self, bucket: int) -> str:
        """The places of all buckets but this one, in the form of `Publication.other_places`."""
        return cursor_suffix(
            place for number, place in enumerate(self._positions) if number != bucket and place is not None
        )

    def combine(self, places: Mapping[int, Cursor]) -> Cursor:
        """One cursor of `places` (at least one bucket), completed with this node's places in all other buckets."""
        first, *more = places.values()
        missing = (place for number, place in enumerate(self._positions) if number not in places and place is not None)
        return replace(first, other_places=(*more, *missing))

    @property
    def cursor(self) -> Cursor | None:
        """The places in all buckets; None while one of them is unknown."""
        first = self._positions[0]
        return None if first is None or None in self._positions else self.combine({0: first})


def cursor_suffix(places: Iterable[Cursor]) -> str:
    """`places` as they follow the publication's own place in its cursor."""
    return "".join([f"~{place}" for place in places])


def rebase_cursors(since: Cursor, position: Cursor, publications: Sequence[Publication]) -> list[Publication]:
    """Copies of `publications` whose cursors advance from `since` one publication at a time.

    So a client that is cut off in between resumes after the last one it received. For buckets where `since` has no
    valid place, `position` is used: their channels are reported as not recovered.
    """
    if not position.other_places:
        return list(publications)
    seqs: dict[str, int] = {}
    for place in (position, *position.other_places):
        seq = since.seq_in(place.epoch)
        seqs[place.epoch] = place.seq if seq is None or seq > place.seq else seq
    rebased = []
    for publication in publications:
        seqs[publication.epoch] = publication.seq
        others = cursor_suffix(Cursor(epoch, seq) for epoch, seq in seqs.items() if epoch != publication.epoch)
        rebased.append(replace(publication, other_places=others))
    return rebased


def cursor_max(cursor: Cursor, floor: Cursor) -> Cursor:
    """`cursor`, with each of its places raised to that of `floor` where it is behind it."""
    first, *others = (
        replace(place, seq=max(place.seq, floor.seq_in(place.epoch) or 0), other_places=()) for place in cursor.places
    )
    return replace(first, other_places=tuple(others))


def with_floor(position: Cursor, publication: Publication) -> Publication:
    """`publication` with a cursor that is not behind `position` in any bucket but the publication's own."""
    if not position.other_places:
        return publication
    cursor = Cursor.parse(publication.cursor)
    places = [place for place in (position, *position.other_places) if place.epoch != publication.epoch]
    others = cursor_suffix(
        replace(place, seq=max(place.seq, cursor.seq_in(place.epoch) or 0), other_places=()) for place in places
    )
    return replace(publication, other_places=others)
