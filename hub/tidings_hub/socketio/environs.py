"""The WSGI environ that python-socketio's connect handlers receive, created at each access."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

from tidings_hub.socketio.client import Client


class Environs(MutableMapping[str, Mapping[str, object]]):
    """Maps a connection to an environ with its REMOTE_ADDR. Storing it would cost a tenth of an idle connection."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        self._clients = clients

    def __getitem__(self, sid: str) -> Mapping[str, object]:
        return {"REMOTE_ADDR": self._clients[sid].connection.remote}

    def __setitem__(self, sid: str, environ: object) -> None:
        """Ignored: the connection has the address already."""

    def __delitem__(self, sid: str) -> None:
        """Ignored: the entry ends with the client."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)
