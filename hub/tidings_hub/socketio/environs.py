"""What upstream's connect handlers get as a client's WSGI environ, made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

from tidings_hub.socketio.client import Client


class Environs(MutableMapping[str, Mapping[str, object]]):
    """By connection: its REMOTE_ADDR. A dictionary per connection would be a tenth of what an idle one takes."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        self._clients = clients

    def __getitem__(self, sid: str) -> Mapping[str, object]:
        return {"REMOTE_ADDR": self._clients[sid].connection.remote}

    def __setitem__(self, sid: str, environ: object) -> None:
        """Upstream stores what it was given; the connection has it already."""

    def __delitem__(self, sid: str) -> None:
        """Upstream forgets; it goes with the client."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)
