"""The client manager: which Socket.IO client is in which Socket.IO room.

Overrides python-socketio's bookkeeping as a whole. Upstream stores a room (two dictionaries, about 580 bytes) per
client and searches all rooms when a client leaves. Here a client without rooms costs two entries, and leaving costs its
own rooms. The rules of 5.17 and 5.18 apply: no client enters another client's own room, and nothing is dispatched
before the connect handler has accepted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from bidict import bidict
from socketio import Manager

from tidings_hub.log import log_rate_limited

logger = logging.getLogger("tidings.socketio")


class HubManager(Manager):  # type: ignore[misc]  # python-socketio has no types
    """Rooms and pending clients; O(1) to connect, O(own rooms) to leave."""

    def __init__(self) -> None:
        super().__init__()
        self._rooms_of: dict[str, set[str]] = {}
        self._connecting: set[tuple[str, str]] = set()
        self._leaving: set[tuple[str, str]] = set()

    def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        """Register a client of the namespace, not yet accepted. None: the connection already has one."""
        rooms = self.rooms.setdefault(namespace, {})
        clients = rooms.get(None)
        if clients is None:
            clients = rooms[None] = bidict()
        elif eio_sid in clients.inverse:
            return None
        sid: str = self.server.eio.generate_id()
        clients[sid] = eio_sid
        self._connecting.add((sid, namespace))
        return sid

    def connect(self, sid: str, namespace: str) -> str:
        """Accept the client, on behalf of the connect handler."""
        self._connecting.discard((sid, namespace))
        return sid

    def is_pre_connected(self, sid: str, namespace: str) -> bool:
        """Whether the connect handler has not decided yet."""
        return (sid, namespace) in self._connecting

    def is_connected(self, sid: str | None, namespace: str) -> bool:
        """Whether events of this client may be dispatched."""
        if sid is None or (sid, namespace) in self._connecting or (sid, namespace) in self._leaving:
            return False
        return sid in self.rooms.get(namespace, {}).get(None, ())

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        """The client of a connection in a namespace."""
        clients = self.rooms.get(namespace, {}).get(None)
        return None if clients is None else clients.inverse.get(eio_sid)

    def has_joined(self, eio_sid: str) -> bool:
        """Whether a connection is a client of any namespace."""
        for rooms in self.rooms.values():
            clients = rooms.get(None)
            if clients is not None and eio_sid in clients.inverse:
                return True
        return False

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        """The connection of a client."""
        eio_sid: str | None = self.rooms.get(namespace, {}).get(None, {}).get(sid)
        return eio_sid

    def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]:
        """The (sid, eio_sid) pairs of a room, of a client's own room, or of all clients (None)."""
        rooms = room if isinstance(room, list | tuple) else [room]
        participants: dict[str, str] = {}
        clients = self.rooms.get(namespace, {}).get(None, {})
        for name in rooms:
            if name is not None and name in clients:
                participants[name] = clients[name]
            else:
                participants.update(self.rooms.get(namespace, {}).get(name, {}))
        yield from participants.items()

    def emit(self, event: str, data: Any, namespace: str, *args: Any, callback: object = None, **options: Any) -> None:
        """As upstream's, for what an app emits. Warns of an event that ends the recovery of stock clients."""
        if namespace == "/" and not callback and isinstance(_last_argument(event, data), str):
            log_rate_limited(
                logger,
                logging.WARNING,
                "string at the end of an emit",
                "app.sio.emit(%r) ends with a string: a stock client takes it for its offset and cannot resume its"
                " session, or not even connect again if it is long; append None, or use app.emit",
                event,
            )
        super().emit(event, data, namespace, *args, callback=callback, **options)

    def pre_disconnect(self, sid: str, namespace: str) -> str | None:
        """Mark a client whose disconnect handler is about to run and may still look it up."""
        self._leaving.add((sid, namespace))
        return self.eio_sid_from_sid(sid, namespace)

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: object) -> None:
        """Remove the client."""
        for room in list(self._rooms_of.get(sid, ())):
            self.basic_leave_room(sid, namespace, room)
        self.basic_leave_room(sid, namespace, None)
        self.callbacks.pop(sid, None)
        self._connecting.discard((sid, namespace))
        self._leaving.discard((sid, namespace))

    def is_sid_room(self, namespace: str, room: object) -> bool:
        """Whether the name is a client's own room."""
        return room in self.rooms.get(namespace, {}).get(None, {})

    def basic_enter_room(self, sid: str, namespace: str, room: str, eio_sid: str | None = None) -> None:
        """Put a client into a room.

        Raises:
            ValueError: no such client, or the room is another client's own.
        """
        clients = self.rooms.get(namespace, {}).get(None, {})
        if sid not in clients:
            raise ValueError("sid is not connected to requested namespace")
        if self.is_sid_room(namespace, room):
            if sid != room:
                raise ValueError("cannot enter a sid room")
            return
        self.rooms[namespace].setdefault(room, {})[sid] = clients[sid]
        self._rooms_of.setdefault(sid, set()).add(room)

    def basic_leave_room(self, sid: str, namespace: str, room: str | None) -> None:
        """Remove a client from a room, and the room if it is empty."""
        members = self.rooms.get(namespace, {}).get(room)
        if members is None or sid not in members:
            return
        del members[sid]
        if not members:
            del self.rooms[namespace][room]
            if not self.rooms[namespace]:
                del self.rooms[namespace]
        client_rooms = self._rooms_of.get(sid)
        if client_rooms is not None:
            client_rooms.discard(room)
            if not client_rooms:
                del self._rooms_of[sid]

    def get_rooms(self, sid: str, namespace: str) -> list[str]:
        """The client's rooms, its own among them, as upstream lists them."""
        own_room = [sid] if self.is_sid_room(namespace, sid) else []
        return own_room + sorted(self._rooms_of.get(sid, ()))


def _last_argument(event: str, data: object) -> object:
    """What a client receives as the last argument. Without data that is the event's name."""
    arguments = data if isinstance(data, tuple) else () if data is None else (data,)
    return arguments[-1] if arguments else event
