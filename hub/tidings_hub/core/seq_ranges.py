"""Ranges of seq, both ends included. A sequence of them is in order, and no two overlap or are adjacent."""

from __future__ import annotations

from collections.abc import Sequence

# The first and the last seq.
SeqRange = tuple[int, int]


def covers(ranges: Sequence[SeqRange], seq: int) -> bool:
    """Whether one of the ranges has this seq."""
    return any(first <= seq <= last for first, last in ranges)


def with_range(ranges: Sequence[SeqRange], first: int, last: int) -> list[SeqRange]:
    """The ranges and this one. Those that overlap it or are adjacent to it become one with it."""
    before = [known for known in ranges if known[1] < first - 1]
    after = [known for known in ranges if known[0] > last + 1]
    for known_first, known_last in ranges[len(before) : len(ranges) - len(after)]:
        first, last = min(first, known_first), max(last, known_last)
    return [*before, (first, last), *after]


def without_ranges(first: int, last: int, ranges: Sequence[SeqRange]) -> list[SeqRange]:
    """The parts of one range that none of the others has."""
    parts: list[SeqRange] = []
    for known_first, known_last in ranges:
        if known_last >= first and known_first <= last:
            parts.append((first, known_first - 1))
            first = known_last + 1
    return [part for part in (*parts, (first, last)) if part[0] <= part[1]]
