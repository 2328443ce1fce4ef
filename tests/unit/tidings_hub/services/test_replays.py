from __future__ import annotations

from support.recording_hub import Clock, join, open_session, publish, recorder
from tidings.wire.cursor import Cursor
from tidings_hub.services.hub import Hub
from tidings_hub.services.subscribe import go_live, subscribe


def test_clients_that_missed_the_same_share_its_frames(hub: Hub, clock: Clock) -> None:
    join(hub, open_session(hub, clock), "orders:1")
    since = Cursor.parse(publish(hub, "orders:1", 0).cursor)
    for number in range(1, 4):
        publish(hub, "orders:1", number)
    sessions = [open_session(hub, clock) for _ in range(2)]
    first, second = (subscribe(hub, session, ["orders:1"], since) for session in sessions)
    assert len(first.missed) == 3
    assert [id(frame) for frame in first.missed] == [id(frame) for frame in second.missed]
    for session, pending in zip(sessions, (first, second), strict=True):
        go_live(hub, session, pending)
        assert recorder(session).data() == [1, 2, 3]


def test_frames_are_discarded_when_no_client_returns_any_more(hub: Hub, clock: Clock) -> None:
    join(hub, open_session(hub, clock), "orders:1")
    since = Cursor.parse(publish(hub, "orders:1", 0).cursor)
    publish(hub, "orders:1", 1)
    (before,) = subscribe(hub, open_session(hub, clock), ["orders:1"], since).missed
    hub.tick()
    hub.tick()
    (after,) = subscribe(hub, open_session(hub, clock), ["orders:1"], since).missed
    assert before is not after
    assert before.packet == after.packet
