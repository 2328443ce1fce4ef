from __future__ import annotations

from tidings.wire.cursor import Cursor
from tidings_hub.brokers.base import ChannelSnapshot, HistorySnapshot
from tidings_hub.brokers.herd.shared_lookups import Lookup, SharedLookup, share_lookups
from tidings_hub.brokers.lookup_script import LookupRequest


def lookup(*channels: str, after: int) -> Lookup:
    request = LookupRequest(channels, dict.fromkeys(channels, after), 11, 1000, refresh=True, channel_bytes_max=1000)
    return Lookup(request, deadline_s=0.0)


def share(*lookups: Lookup) -> SharedLookup:
    (shared,) = share_lookups(lookups, channels_max=100, bytes_max=5000)
    return shared


def snapshot(**channels: ChannelSnapshot) -> HistorySnapshot:
    return HistorySnapshot(Cursor("e", 50), channels, 3)


def test_shared_request_has_the_bounds_of_the_lookups_and_those_of_the_round() -> None:
    request = share(lookup("a", "b", after=5), lookup("a", after=2)).request
    assert request == LookupRequest(["a", "b"], {"a": 2, "b": 5}, 11, 5000, refresh=True, channel_bytes_max=1000)


def test_each_lookup_gets_its_own_channels_of_one_moment() -> None:
    first, second = lookup("a", "b", after=5), lookup("b", "c", after=2)
    channels = {name: ChannelSnapshot(last, []) for last, name in enumerate("abc")}
    pairs = list(share(first, second).results(snapshot(**channels)))
    assert [completed for completed, _ in pairs] == [first, second]
    assert [list(result.channels) for _, result in pairs] == [["a", "b"], ["b", "c"]]
    assert pairs[0][1].channels["b"] is pairs[1][1].channels["b"] is channels["b"]
    assert {(result.position, result.doubts) for _, result in pairs} == {(Cursor("e", 50), 3)}


def test_lookup_whose_channel_did_not_fit_waits_for_another_read() -> None:
    cut = ChannelSnapshot(9, [], is_unread=True)
    first, needs, has_all = lookup("a", after=5), lookup("b", after=5), lookup("b", after=9)
    shared = share(first, needs, has_all)
    assert [completed for completed, _ in shared.results(snapshot(a=ChannelSnapshot(9, []), b=cut))] == [first, has_all]


def test_lookup_of_its_own_is_complete_even_if_its_channels_do_not_fit() -> None:
    cut = ChannelSnapshot(9, [], is_unread=True)
    first = lookup("a", after=5)
    assert [completed for completed, _ in share(first).results(snapshot(a=cut))] == [first]


def test_first_lookup_waits_for_a_read_of_its_own_if_the_others_need_more_of_its_channels() -> None:
    cut = ChannelSnapshot(9, [], is_unread=True)
    first, deeper = lookup("a", "b", after=8), lookup("a", after=0)
    channels = {"a": ChannelSnapshot(9, []), "b": cut}
    assert [completed for completed, _ in share(first, deeper).results(snapshot(**channels))] == [deeper]
