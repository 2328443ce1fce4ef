from __future__ import annotations

from tidings.wire.publication import Publication
from tidings_hub.core.delivery_plan import plan
from tidings_hub.core.frame import Frame
from tidings_hub.core.subscriptions import Catchup, Subscriptions


def frame(channel: str, seq: int) -> Frame:
    return Frame(Publication(channel, seq, seq - 1, "e", f"id{seq}", 0, "-", 3, b'"x",1'))


def subscribed(**channels_of: list[str]) -> Subscriptions[str]:
    """Subscriptions with these live connections, each with its channels."""
    subscriptions: Subscriptions[str] = Subscriptions()
    for connection, channels in channels_of.items():
        catchup = Catchup(connection, channels, None, hold_max=10)
        subscriptions.begin(catchup)
        subscriptions.finish(catchup)
    return subscriptions


def seqs_of_groups(frames: list[Frame], subscriptions: Subscriptions[str]) -> list[tuple[list[str], list[int]]]:
    return sorted(
        (sorted(connections), [frame.seq for frame in group]) for connections, group in plan(frames, subscriptions)
    )


def test_connections_with_the_same_publications_form_one_group() -> None:
    subscriptions = subscribed(a=["o:1", "o:2"], b=["o:2", "o:1"], c=["o:1"])
    assert seqs_of_groups([frame("o:1", 1), frame("o:2", 2)], subscriptions) == [(["a", "b"], [1, 2]), (["c"], [1])]


def test_a_group_of_several_channels_is_in_order_of_seq() -> None:
    subscriptions = subscribed(a=["o:1", "o:2", "o:3"])
    frames = [frame("o:3", 1), frame("o:1", 2), frame("o:2", 3), frame("o:3", 4), frame("o:1", 5)]
    assert seqs_of_groups(frames, subscriptions) == [(["a"], [1, 2, 3, 4, 5])]


def test_the_frames_themselves_are_planned_not_copies() -> None:
    only = frame("o:1", 1)
    ((_, frames),) = plan([only], subscribed(a=["o:1"]))
    assert frames[0] is only


def test_a_connection_that_still_catches_up_is_not_in_the_plan() -> None:
    subscriptions = subscribed(a=["o:1"])
    subscriptions.begin(Catchup("b", ["o:1"], None, hold_max=10))
    assert seqs_of_groups([frame("o:1", 1)], subscriptions) == [(["a"], [1])]
