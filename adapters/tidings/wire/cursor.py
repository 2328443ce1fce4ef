"""The cursor: one string from which a client resumes every channel (PROTOCOL.md section 1).

A cursor is `<epoch>.<seq>`. If the broker has several buckets, it has a place in each: `<epoch>.<seq>~<epoch>.<seq>`.
An epoch names one sequence permanently, so the order of the places has no meaning. Clients treat a cursor as opaque;
only hubs and emitters parse it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tidings.errors import BadCursor

# 19 digits: the counters of Redis are signed 64-bit integers.
_FORM = re.compile(r"([A-Za-z0-9_-]{1,32})\.(0|[1-9][0-9]{0,18})\Z")
_PLACE_MAX = 64
PLACES_MAX = 16


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in one sequence: `epoch` names the sequence, `seq` the place.

    `seq` 0 is before the first publication. `other_places` are the places in the sequences of the
    other buckets, if the broker has several. They have no `other_places` themselves.
    """

    epoch: str
    seq: int
    other_places: tuple[Cursor, ...] = ()

    def __str__(self) -> str:
        own = f"{self.epoch}.{self.seq}"
        return f"{own}~{'~'.join(map(str, self.other_places))}" if self.other_places else own

    @property
    def places(self) -> tuple[Cursor, ...]:
        """This place and the others."""
        return (self, *self.other_places)

    def seq_in(self, epoch: str) -> int | None:
        """The seq in the sequence of this epoch; None if this cursor has no place in it."""
        if epoch == self.epoch:
            return self.seq
        return next((place.seq for place in self.other_places if place.epoch == epoch), None)

    def capped(self, epoch: str, seq: int) -> Cursor:
        """This cursor, at most at `seq` in the sequence of that epoch."""
        others = tuple(place.capped(epoch, seq) for place in self.other_places)
        return replace(self, seq=min(self.seq, seq) if epoch == self.epoch else self.seq, other_places=others)

    @classmethod
    def parse(cls, text: object) -> Cursor:
        """The cursor that `str(cursor)` wrote.

        Raises:
            BadCursor: `text` is not a string of that form.
        """
        if not isinstance(text, str) or len(text) > _PLACE_MAX * PLACES_MAX:
            raise BadCursor
        own, *others = [_parse_place(place) for place in text.split("~", PLACES_MAX)]
        if len(others) >= PLACES_MAX:
            raise BadCursor
        return replace(own, other_places=tuple(others)) if others else own


def _parse_place(text: str) -> Cursor:
    match = _FORM.match(text)
    if match is None:
        raise BadCursor
    return Cursor(match[1], int(match[2]))
