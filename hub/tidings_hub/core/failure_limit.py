"""How often something may happen per address, in bounded memory."""

from __future__ import annotations


class FailureLimit:
    """Counts failures per address in windows of `per_s` seconds; at most `addresses_max` are known.

    Policy: beyond `most` failures in a window the address is over the limit until the window ends.
    When more addresses fail than can be known, the window ends early for all of them: an
    attacker with that many addresses would not be stopped by a limit per address.
    """

    def __init__(self, most: int, *, per_s: float = 60.0, addresses_max: int = 10_000) -> None:
        self._most = most
        self._per_s = per_s
        self._addresses_max = addresses_max
        self._counts: dict[str, int] = {}
        self._until_s = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, address: str, *, now_s: float) -> bool:
        """Count one failure; whether the address is over the limit now."""
        if now_s >= self._until_s or len(self._counts) >= self._addresses_max:
            self._counts.clear()
            self._until_s = now_s + self._per_s
        count = self._counts.get(address, 0) + 1
        self._counts[address] = count
        return count > self._most
