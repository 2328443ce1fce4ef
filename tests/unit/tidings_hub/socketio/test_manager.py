from __future__ import annotations

import itertools

import pytest

from tidings_hub.socketio.manager import HubManager


class Ids:
    """An engine that only generates ids."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.eio = self

    def generate_id(self) -> str:
        return f"sid{next(self._numbers)}"


@pytest.fixture
def manager() -> HubManager:
    new_manager = HubManager()
    new_manager.server = Ids()
    return new_manager


def accepted(manager: HubManager, eio_sid: str, namespace: str = "/") -> str:
    sid = manager.pre_connect(eio_sid, namespace)
    assert sid is not None
    return manager.connect(sid, namespace)


def test_client_receives_events_only_between_connect_and_disconnect(manager: HubManager) -> None:
    sid = manager.pre_connect("e1", "/")
    assert sid is not None
    assert not manager.is_connected(sid, "/")
    manager.connect(sid, "/")
    assert manager.is_connected(sid, "/")
    assert manager.pre_disconnect(sid, "/") == "e1"
    assert not manager.is_connected(sid, "/")
    assert manager.sid_from_eio_sid("e1", "/") == sid
    manager.disconnect(sid, "/")
    assert manager.sid_from_eio_sid("e1", "/") is None


def test_a_connection_has_one_client_per_namespace(manager: HubManager) -> None:
    accepted(manager, "e1")
    assert manager.pre_connect("e1", "/") is None
    assert accepted(manager, "e1", "/admin") != manager.sid_from_eio_sid("e1", "/")


def test_a_client_cannot_enter_the_room_of_another(manager: HubManager) -> None:
    mine, other = accepted(manager, "e1"), accepted(manager, "e2")
    with pytest.raises(ValueError, match="sid room"):
        manager.enter_room(mine, "/", other)
    with pytest.raises(ValueError, match="not connected"):
        manager.enter_room("unknown", "/", "room")


def test_participants_of_rooms_of_clients_and_of_all(manager: HubManager) -> None:
    first, second, third = (accepted(manager, f"e{number}") for number in range(3))
    manager.enter_room(first, "/", "room")
    manager.enter_room(second, "/", "room")
    assert dict(manager.get_participants("/", "room")) == {first: "e0", second: "e1"}
    assert dict(manager.get_participants("/", third)) == {third: "e2"}
    assert dict(manager.get_participants("/", [third, "room"])) == {first: "e0", second: "e1", third: "e2"}
    assert len(dict(manager.get_participants("/", None))) == 3
    assert dict(manager.get_participants("/nowhere", "room")) == {}


def test_disconnected_clients_leave_nothing_behind(manager: HubManager) -> None:
    for number in range(100):
        sid = accepted(manager, f"e{number}")
        manager.enter_room(sid, "/", "room")
        manager.enter_room(sid, "/", f"room{number}")
        assert manager.get_rooms(sid, "/") == [sid, "room", f"room{number}"]
        manager.pre_disconnect(sid, "/")
        manager.disconnect(sid, "/")
    assert manager.rooms == {}
    assert manager._rooms_of == {}
    assert manager._connecting == set()
    assert manager._leaving == set()
