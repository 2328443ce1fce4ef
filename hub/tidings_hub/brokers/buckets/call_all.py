"""The same call on every bucket of a cluster, of which some may be away."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tidings.errors import HubError


def call_all(calls: Iterable[Callable[[], object]]) -> None:
    """Call all of `calls`, one after the other, also those behind one that failed.

    Raises:
        HubError: the error of the first call that failed.
    """
    errors: list[HubError] = []
    for call in calls:
        try:
            call()
        except HubError as error:
            errors.append(error)
    if errors:
        raise errors[0]
