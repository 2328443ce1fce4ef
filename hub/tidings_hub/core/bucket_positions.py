"""Places in several buckets at once: what makes one string resume every channel of a broker with many (DESIGN 3).

A publication's cursor says its own place first, then how far this node had delivered each of the other
buckets when it delivered this one. So whoever returns with it has everything up to there, in every bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tidings.wire.cursor import Cursor
from tidings.wire.publication import Publication


class BucketPositions:
    """How far this node has delivered every bucket; None where it has not begun."""

    def __init__(self, at: Sequence[Cursor | None]) -> None:
        self._at = at

    def others(self, bucket: int) -> str:
        """The other buckets' places, as `Publication.other_places` has them."""
        return cursor_suffix(at for number, at in enumerate(self._at) if number != bucket and at is not None)

    def combine(self, known: Mapping[int, Cursor]) -> Cursor:
        """Places in some buckets, at least one, with this node's places in the others."""
        own, *more = known.values()
        rest = (at for number, at in enumerate(self._at) if number not in known and at is not None)
        return replace(own, other_places=(*more, *rest))

    @property
    def cursor(self) -> Cursor | None:
        """The places in all buckets; None while one is unknown."""
        own = self._at[0]
        return None if own is None or None in self._at else self.combine({0: own})


def cursor_suffix(places: Iterable[Cursor]) -> str:
    """Places as they follow a publication's own in its cursor."""
    return "".join([f"~{one}" for one in places])


def rebase_cursors(since: Cursor, position: Cursor, publications: Sequence[Publication]) -> list[Publication]:
    """What was missed between two cursors, each with the cursor of a client that got it in this order.

    Where `since` says nothing of a bucket, or nothing that can be, its channels are loaded anew: there the
    client is at `position`.
    """
    if not position.other_places:
        return list(publications)
    at: dict[str, int] = {}
    for one in (position, *position.other_places):
        seq = since.seq_in(one.epoch)
        at[one.epoch] = one.seq if seq is None or seq > one.seq else seq
    found = []
    for publication in publications:
        at[publication.epoch] = publication.seq
        others = cursor_suffix(Cursor(epoch, seq) for epoch, seq in at.items() if epoch != publication.epoch)
        found.append(replace(publication, other_places=others))
    return found


def cursor_max(cursor: Cursor, floor: Cursor) -> Cursor:
    """The cursor, in none of its places before `floor`."""
    own, *others = (
        replace(one, seq=max(one.seq, floor.seq_in(one.epoch) or 0), other_places=()) for one in cursor.places
    )
    return replace(own, other_places=tuple(others))


def with_floor(position: Cursor, publication: Publication) -> Publication:
    """The publication with a cursor that is nowhere behind `position`, but for its own place."""
    if not position.other_places:
        return publication
    seen = Cursor.parse(publication.cursor)
    places = [one for one in (position, *position.other_places) if one.epoch != publication.epoch]
    others = cursor_suffix(
        replace(one, seq=max(one.seq, seen.seq_in(one.epoch) or 0), other_places=()) for one in places
    )
    return replace(publication, other_places=others)
