"""Figures of a history: the longest silence and the longest delivery time of each client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from faults.load import MARK
from support.history import Line


@dataclass(slots=True)
class Figures:
    """Figures of one run. Times are in seconds, from the lines of the history. Marks do not count."""

    receipts: int = 0
    returns: int = 0
    cuts: Counter[str] = field(default_factory=Counter)
    unrecovered: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    silence_s: dict[str, float] = field(default_factory=dict)
    delay_s: dict[str, float] = field(default_factory=dict)
    _last_s: dict[str, float] = field(default_factory=dict)
    _sent_s: dict[str, float] = field(default_factory=dict)

    def watch(self, lines: Iterator[Line]) -> Iterator[Line]:
        """Yield the lines unchanged and count them."""
        for line in lines:
            self._count(line)
            yield line

    def _count(self, line: Line) -> None:
        do, client, at_s = line["do"], line["who"], line["at"]
        namespace = line["channel"].partition(":")[0]
        if do == "got":
            self.receipts += 1
            if not line["id"].startswith(MARK):
                self.silence_s[client] = max(self.silence_s.get(client, 0.0), at_s - self._last_s.get(client, at_s))
                self.delay_s[client] = max(self.delay_s.get(client, 0.0), at_s - self._sent_s.get(line["id"], at_s))
                self._last_s[client] = at_s
        elif do == "sending":
            self._sent_s.setdefault(line["id"], at_s)
        elif do == "cut":
            self.cuts[line["why"]] += 1
        elif do == "lost":
            self.unrecovered[namespace] += 1
        elif do == "back":
            self.returns += 1
            self.unrecovered[namespace] += not line["recovered"]
        elif do == "refused" and "error" in line and "id" not in line:
            self.refused.append(f"{client} in {line['channel']}: {line['error']}")


def quantile_ms(values: dict[str, float], share: float) -> float:
    """A quantile of the clients' values, in milliseconds; 1.0 is the maximum."""
    ordered = sorted(values.values())
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
