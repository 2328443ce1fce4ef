from __future__ import annotations

from tidings.wire.publication import Publication
from tidings_hub.core.delivery_plan import plan
from tidings_hub.core.frame import Frame
from tidings_hub.core.subscriptions import Catchup, Subscriptions


def frame(channel: str, seq: int) -> Frame:
    return Frame(Publication(channel, seq, seq - 1, "e", f"id{seq}", 0, "-", 3, b'"x",1'))


def live(subscriptions: Subscriptions[str], connection: str, *channels: str) -> None:
    catchup = Catchup(connection, channels, None, hold_max=10)
    subscriptions.begin(catchup)
    subscriptions.finish(catchup)


def planned_seqs(frames: list[Frame], subscriptions: Subscriptions[str]) -> dict[str, list[int]]:
    """The seqs of each connection. Fails if a connection is in two groups."""
    seqs: dict[str, list[int]] = {}
    for connections, group_frames in plan(frames, subscriptions):
        for connection in connections:
            assert connection not in seqs
            seqs[connection] = [item.seq for item in group_frames]
    return seqs


def test_channel_exists_from_its_first_to_its_last_connection() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    live(subscriptions, "a", "o:1", "o:2")
    live(subscriptions, "b", "o:1")
    assert sorted(subscriptions.names()) == ["o:1", "o:2"]
    assert subscriptions.count("o:1") == 2
    assert subscriptions.leave("a", ["o:1", "o:2", "o:3"]) == ["o:2"]
    assert subscriptions.leave("b", ["o:1"]) == ["o:1"]
    assert len(subscriptions) == 0


def test_a_catchup_holds_live_publications_back() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    catchup = Catchup("a", ["o:1"], None, hold_max=2)
    subscriptions.begin(catchup)
    assert "o:1" in subscriptions
    assert subscriptions.count("o:1") == 0
    for seq in (1, 2, 3):
        catchup.hold(frame("o:1", seq))
    assert [late_frame.seq for late_frame in catchup.held_frames] == [1, 2]
    assert catchup.overflowed
    subscriptions.finish(catchup)
    assert subscriptions.count("o:1") == 1


def test_a_loss_drops_only_the_held_publications_of_its_channel() -> None:
    catchup = Catchup("a", ["o:1", "o:2"], None, hold_max=9)
    for late_frame in (frame("o:1", 1), frame("o:2", 2), frame("o:1", 3)):
        catchup.hold(late_frame)
    catchup.lose("o:1")
    assert [late_frame.seq for late_frame in catchup.held_frames] == [2]
    assert catchup.lost == {"o:1"}


def test_an_abandoned_catchup_frees_only_channels_without_others() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    live(subscriptions, "b", "o:1")
    catchup = Catchup("a", ["o:1", "o:2"], None, hold_max=9)
    subscriptions.begin(catchup)
    assert subscriptions.abandon(catchup) == ["o:2"]
    assert subscriptions.count("o:1") == 1


def test_the_plan_of_one_channel_is_its_live_set_itself() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    live(subscriptions, "a", "o:1")
    ((connections, group_frames),) = plan([frame("o:1", 1), frame("o:9", 2), frame("o:1", 3)], subscriptions)
    channel = subscriptions.get("o:1")
    assert channel is not None
    assert connections is channel.live
    assert [item.seq for item in group_frames] == [1, 3]


def test_connections_in_several_channels_are_written_once_in_order_of_seq() -> None:
    subscriptions: Subscriptions[str] = Subscriptions()
    live(subscriptions, "both", "o:1", "o:2")
    live(subscriptions, "one", "o:1")
    live(subscriptions, "two", "o:2")
    live(subscriptions, "none", "o:3")
    frames = [frame("o:1", 1), frame("o:2", 2), frame("o:1", 3), frame("o:2", 4)]
    assert planned_seqs(frames, subscriptions) == {"both": [1, 2, 3, 4], "one": [1, 3], "two": [2, 4]}


def test_channels_without_subscribers_are_not_planned() -> None:
    assert planned_seqs([frame("o:1", 1)], Subscriptions()) == {}
