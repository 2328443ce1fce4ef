"""What a history says in figures: the longest silence of each client, and the longest way of a publication."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from faults.load import MARK
from support.history import Line


@dataclass(slots=True)
class Figures:
    """Of one run. Times are those of the lines, in seconds; marks do not count."""

    receipts: int = 0
    returns: int = 0
    cuts: Counter[str] = field(default_factory=Counter)
    unrecovered: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    silence_s: dict[str, float] = field(default_factory=dict)
    way_s: dict[str, float] = field(default_factory=dict)
    _last_s: dict[str, float] = field(default_factory=dict)
    _sent_s: dict[str, float] = field(default_factory=dict)

    def watch(self, lines: Iterator[Line]) -> Iterator[Line]:
        """The same lines, after looking at them."""
        for line in lines:
            self._see(line)
            yield line

    def _see(self, line: Line) -> None:
        do, who, at_s = line["do"], line["who"], line["at"]
        namespace = line["channel"].partition(":")[0]
        if do == "got":
            self.receipts += 1
            if not line["id"].startswith(MARK):
                self.silence_s[who] = max(self.silence_s.get(who, 0.0), at_s - self._last_s.get(who, at_s))
                self.way_s[who] = max(self.way_s.get(who, 0.0), at_s - self._sent_s.get(line["id"], at_s))
                self._last_s[who] = at_s
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
            self.refused.append(f"{who} in {line['channel']}: {line['error']}")


def quantile_ms(values: dict[str, float], share: float) -> float:
    """Of the clients' values, in milliseconds; 1.0 is the largest."""
    ordered = sorted(values.values())
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
