"""The version of a pushed object, and its kind. Receivers compare versions of one kind only (PROTOCOL.md section 3).

Kinds: `field:<name>`, an attribute of the object. `given`, an argument or the result of a registered function.
`database`, the clock of the database, read while the row was locked. `clock:<id>`, the clock of the emitter.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tidings.errors import BadData
from tidings.models.rules import Rule, Version
from tidings.models.snapshots import Snapshot

GIVEN = "given"
DATABASE = "database"

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NS_PER_S = 1_000_000_000


class VersionOfKind(NamedTuple):
    """A version and what it may be compared with."""

    value: int | float | str
    kind: str


def version_of(
    obj: object, state: Snapshot, option: Version | None, rule: Rule, fallback: VersionOfKind
) -> VersionOfKind:
    """The first of these: the option, the rule's version, an integer `version_id_col` or `version`, the fallback.

    `updated_at` is none of them, since clocks differ and transactions of one row end in another order than they began.

    Raises:
        BadData: a version that cannot be compared, or that cannot be read without a query.
    """
    if option is not None:
        return VersionOfKind(comparable(option, "version"), GIVEN)
    if callable(rule.version):
        return VersionOfKind(comparable(rule.version(obj), f"the version of {state.name}"), GIVEN)
    if rule.version is not None:
        value = comparable(state.read(rule.version), f"{state.name}.{rule.version}")
        return VersionOfKind(value, f"field:{rule.version}")
    for name in ("version",) if state.version_name is None else (state.version_name,):
        version = state.read_if_present(name)
        # A version that is text (a UUID, "1.10") may not grow.
        if isinstance(version, int) and not isinstance(version, bool):
            return VersionOfKind(version, f"field:{name}")
    return fallback


def comparable(version: object, source: str) -> int | float | str:
    """`version` as it is sent. A datetime becomes microseconds since 1970; a naive one counts as UTC.

    Raises:
        BadData: it is no number, string or datetime. `source` is what the message calls it.
    """
    if isinstance(version, datetime):
        at = version.replace(tzinfo=UTC) if version.tzinfo is None else version
        return (at - _UNIX_EPOCH) // _MICROSECOND
    if isinstance(version, int | float | str) and not isinstance(version, bool) and _finite(version):
        return version
    raise BadData(f"{source} is {version!a:.40}; a version is a number, a string or a datetime that grows")


def _finite(version: float | str) -> bool:
    return not isinstance(version, float) or math.isfinite(version)


class EmitterClock:
    """Versions from the clock of this machine, in microseconds since 1970. They never decrease.

    Their kind names the machine and what its clock is set to. So versions of two machines are not compared, nor those
    from before and after the clock was set.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._latest = VersionOfKind(0, "")

    def version(self) -> VersionOfKind:
        """The version of an object that is pushed now."""
        now_ns = self._clock_ns()
        kind = _clock_kind((now_ns - _machine_ns()) // _NS_PER_S)
        # Two threads may race here. Then one version is equal to or just below the other, which is harmless: two
        # pushes of one object at the same moment have no order anyway.
        latest = self._latest
        floor = latest.value if latest.kind == kind and isinstance(latest.value, int) else 0
        self._latest = VersionOfKind(max(floor, now_ns // 1000), kind)
        return self._latest


def _machine_ns() -> int:
    """Nanoseconds since this machine was started, the same in all processes. This clock cannot be set."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@lru_cache(maxsize=8)
def _clock_kind(offset_s: int) -> str:
    """The kind of versions of this machine while its clock is `offset_s` ahead of the time since its start."""
    try:
        boot_id = _BOOT_ID.read_text(encoding="ascii")
    except OSError:
        boot_id = _process_id()
    return f"clock:{hashlib.sha256(f'{boot_id} {offset_s}'.encode()).hexdigest()[:8]}"


@lru_cache(maxsize=1)
def _process_id() -> str:
    return os.urandom(16).hex()
