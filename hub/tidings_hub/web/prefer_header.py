"""The header `Prefer` (RFC 7240)."""

from __future__ import annotations

from collections.abc import Iterable


def prefers(values: Iterable[str], name: str) -> bool:
    """Whether a preference without a value is among those of a request; `name` is in lower case.

    Others, and parameters, are passed over, as section 2 of the RFC has it.
    """
    return any(part.partition(";")[0].strip().lower() == name for value in values for part in value.split(","))
