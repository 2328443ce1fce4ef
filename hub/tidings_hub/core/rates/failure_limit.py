"""A limit on failures per address, in bounded memory."""

from __future__ import annotations


class FailureLimit:
    """Counts failures per address in windows of `per_s` seconds, for at most `addresses_max` addresses.

    An address with more than `failures_max` failures in a window is over the limit until the window ends. If more
    addresses fail than can be counted, the window ends early for all of them: a limit per address does not stop an
    attacker with that many addresses.
    """

    def __init__(self, failures_max: int, *, per_s: float = 60.0, addresses_max: int = 10_000) -> None:
        self._failures_max = failures_max
        self._per_s = per_s
        self._addresses_max = addresses_max
        self._counts: dict[str, int] = {}
        self._until_s = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, address: str, *, now_s: float) -> bool:
        """Count one failure. Returns whether the address is over the limit now."""
        if now_s >= self._until_s or len(self._counts) >= self._addresses_max:
            self._counts.clear()
            self._until_s = now_s + self._per_s
        count = self._counts.get(address, 0) + 1
        self._counts[address] = count
        return count > self._failures_max
