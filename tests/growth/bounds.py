"""What may be left of hostile acts, once everything that ends by time has ended."""

from __future__ import annotations

from growth.target import LASTING, Figures, Target
from tidings_hub.core.rates.new_channel_rate import NAMES_MAX

# Kinds of keys that outlive the acts: the longest life of each in seconds.
_EXPIRING = {"p": 7 * 86_400, "p of presence": 7 * 86_400, "canary": 7 * 86_400, "i": 300, "r": 60}
# Fields of the rules, the node, its leases.
_LASTING_MEMBERS_MAX = 40
# Timers and buffers of other work on the node.
_NOISE = 150
# Labels with a fixed set of values that appear with their first use.
_SERIES_NOISE = 20


def grown(before: Figures, now: Figures) -> dict[str, int]:
    """By how much types and containers grew, where it is more than a third of the noise."""
    counts = {**now.types, **now.largest}
    growth = {name: count - before.types.get(name, before.largest.get(name, 0)) for name, count in counts.items()}
    return {name: count for name, count in growth.items() if count > _NOISE // 3}


def violations(target: Target, before: Figures, now: Figures, acts: int) -> list[str]:
    """What grew with `acts` of one kind, from the figures before and after them. One entry in two acts is too much."""
    share = acts // 2
    # The node remembers new channels, so that they are not new again.
    remembered = min(NAMES_MAX, now.new_channels_max - before.new_channels_max)
    problems = [
        f"{what} grew by {increase} in {acts} acts"
        for what, increase in (
            ("the node's containers", now.entries - before.entries - remembered - _NOISE),
            ("the node's log", now.log_lines - before.log_lines),
        )
        if increase > share
    ]
    if now.series > before.series + _SERIES_NOISE:
        problems.append(f"metrics have {now.series - before.series} more series")
    for kind, count in now.keys.items():
        life_s = now.longest_s[kind]
        if kind in LASTING:
            continue
        if kind not in _EXPIRING:
            problems.append(f"{count} keys of the kind {kind!r} are left")
        elif life_s < 0 or life_s > _EXPIRING[kind]:
            problems.append(f"a key of the kind {kind!r} lives for {life_s} s")
    problems += [
        f"{now.keys[kind]} keys of the kind {kind!r}, more than new channels"
        for kind in ("p", "p of presence")
        if now.keys[kind] > now.new_channels_max
    ]
    problems += history_problems(now)
    members = target.lasting_members()
    if members > _LASTING_MEMBERS_MAX:
        problems.append(f"{members} members in keys that last")
    return problems


def history_problems(now: Figures) -> list[str]:
    """Whether users stored more history than `publish_bytes_per_minute` allows."""
    if now.history_bytes <= now.history_bytes_max:
        return []
    return [f"{now.history_bytes} bytes of history, and users may have published {now.history_bytes_max}"]
