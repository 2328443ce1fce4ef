"""What one transaction has changed, row by row: it decides which op is told, and needs no database."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidings.errors import TooLarge
from tidings.models.describe import Op
from tidings.models.rules import Rule


@dataclass(slots=True)
class Changes:
    """The changed objects of one transaction or savepoint, in the order in which they were first changed.

    A row changed several times is told once, by what became of it on the whole. More than `most` rows are refused.
    """

    rows_max: int
    _rows: dict[object, tuple[object, Op | None]] = field(default_factory=dict)

    def add(self, key: object, obj: object, op: Op) -> None:
        """`obj`, whose row is `key`, was changed.

        Raises:
            TooLarge: too many rows for one transaction.
        """
        known = key in self._rows
        if not known and len(self._rows) >= self.rows_max:
            raise TooLarge(
                f"more than {self.rows_max} rows to push in one transaction; commit in parts, raise changes_max, "
                'or push nothing of this session: session.info["autopush"] = False'
            )
        self._rows[key] = (obj, combine(self._rows[key][1], op) if known else op)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def absorb(self, inner: Changes) -> None:
        """Add what a savepoint has changed, now that it is released."""
        for key, (obj, op) in inner._rows.items():
            if op is not None:
                self.add(key, obj, op)

    def rows(self) -> list[tuple[object, Op]]:
        """Each object and what became of it."""
        return [(obj, op) for obj, op in self._rows.values() if op is not None]


def combine(first: Op | None, then: Op) -> Op | None:
    """What two changes of one row are on the whole; None: the row never was, for anybody else."""
    if first is None or first == "created":
        return None if then == "deleted" else "created"
    if first == "deleted":
        return "deleted" if then == "deleted" else "updated"
    return then if then == "deleted" else "updated"


def explicit_channels(rule: Rule, obj: object) -> list[str] | None:
    """The channels that a registered function names, maybe none: then nobody is told. None: templates say it."""
    if not callable(rule.channels):
        return None
    said = rule.channels(obj)
    return [said] if isinstance(said, str) else list(said)
