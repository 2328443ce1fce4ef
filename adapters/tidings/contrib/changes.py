"""The rows that one transaction changed, and the op to publish for each. No database, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidings.errors import TooLarge
from tidings.models.describe import Op
from tidings.models.rules import Rule


@dataclass(slots=True)
class Changes:
    """The changed objects of one transaction or savepoint, in the order in which they were first changed.

    A row that changed several times is published once, with the combined op. More than `rows_max` rows are rejected.
    """

    rows_max: int
    _rows: dict[object, tuple[object, Op | None]] = field(default_factory=dict)

    def add(self, key: object, obj: object, op: Op) -> None:
        """Record a change of `obj`, whose row is `key`.

        Raises:
            TooLarge: too many rows for one transaction.
        """
        is_known = key in self._rows
        if not is_known and len(self._rows) >= self.rows_max:
            raise TooLarge(
                f"more than {self.rows_max} rows to push in one transaction; commit in parts, raise changes_max, "
                'or turn pushing off for this session: session.info["autopush"] = False'
            )
        self._rows[key] = (obj, combine(self._rows[key][1], op) if is_known else op)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def absorb(self, inner: Changes) -> None:
        """Add the changes of a savepoint that was released."""
        for key, (obj, op) in inner._rows.items():
            if op is not None:
                self.add(key, obj, op)

    def rows(self) -> list[tuple[object, Op]]:
        """Each changed object with its combined op."""
        return [(obj, op) for obj, op in self._rows.values() if op is not None]


def combine(first: Op | None, then: Op) -> Op | None:
    """The op that two changes of one row add up to. None: the row was created and deleted, so it was never visible."""
    if first is None or first == "created":
        return None if then == "deleted" else "created"
    if first == "deleted":
        return "deleted" if then == "deleted" else "updated"
    return then if then == "deleted" else "updated"


def explicit_channels(rule: Rule, obj: object) -> list[str] | None:
    """The channels that a registered function returns; none of them: no publication. None: the rule has templates."""
    if not callable(rule.channels):
        return None
    channels = rule.channels(obj)
    return [channels] if isinstance(channels, str) else list(channels)
