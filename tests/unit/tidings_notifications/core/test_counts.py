from __future__ import annotations

import pytest

from tidings_notifications.core.counts import InboxCounts, counted
from tidings_notifications.core.notification import Place


def test_only_what_is_in_the_inbox_counts() -> None:
    assert counted(Place.INBOX, None, None) == (1, 1)
    assert counted(Place.INBOX, 5, None) == (0, 1)
    assert counted(Place.INBOX, 5, 5) == (0, 0)


@pytest.mark.parametrize("place", [Place.ARCHIVED, Place.WAITING, Place.DELETED])
def test_other_places_do_not_count(place: Place) -> None:
    assert counted(place, None, None) == (0, 0)


def test_counts_change_and_versions_grow_by_one() -> None:
    counts = InboxCounts("7", unseen=2, unread=3, version=8)
    counts.change(unseen=-1, unread=1)
    assert (counts.next_version(), counts.next_version()) == (9, 10)
    assert counts.to_wire() == {"unseen": 1, "unread": 4}
