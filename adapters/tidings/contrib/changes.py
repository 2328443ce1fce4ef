"""The rows that one transaction changed, and the op to publish for each. No database, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tidings.errors import TooLarge
from tidings.models.describe import Op, template_channels
from tidings.models.rules import Rule
from tidings.wire.channels import check_channels


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

    def is_new(self, key: object) -> bool:
        """Whether the transaction created this row, so that it was never visible."""
        return key in self._rows and self._rows[key][1] in {"created", None}

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


@dataclass(frozen=True, slots=True)
class RowChange:
    """A changed row. `replaced`: the deleted object in whose place `obj` was stored under the same key."""

    obj: object
    op: Op
    replaced: object | None = None


def one_per_row(rows: Iterable[tuple[object, Op]], key_of: Callable[[object], object]) -> list[RowChange]:
    """The rows, without deleted objects in whose place another object has been stored under the same key.

    That one is an updated row. A deletion with the version of the new row would remove it from lists, since the clock
    of a transaction has one time.
    """
    keyed = [(key_of(obj), obj, op) for obj, op in rows]
    stored = {key for key, _, op in keyed if op != "deleted"}
    replaced = {key: obj for key, obj, op in keyed if op == "deleted" and key in stored}
    return [
        RowChange(obj, "updated" if key in replaced else op, replaced.get(key))
        for key, obj, op in keyed
        if not (op == "deleted" and key in replaced)
    ]


def channels_of(rule: Rule, obj: object) -> list[str]:
    """The channels of a row, by its templates or a registered function.

    Raises:
        BadChannel, BadData: the templates or the function give no channel.
    """
    explicit = explicit_channels(rule, obj)
    return template_channels(obj, rule) if explicit is None else explicit


def explicit_channels(rule: Rule, obj: object) -> list[str] | None:
    """The channels that a registered function returns; none of them: no publication. None: the rule has templates.

    Raises:
        BadChannel: it returned neither None nor a channel nor a list of channels.
    """
    if not callable(rule.channels):
        return None
    # None is what a function without a `return` for this object gives.
    channels: object = rule.channels(obj)
    if channels is None:
        return []
    if isinstance(channels, str | bytes | dict) or not isinstance(channels, Iterable):
        return check_channels([channels] if isinstance(channels, str) else channels)
    names = list(channels)
    return check_channels(names) if names else []
