"""The WSGI environ that python-socketio's connect handlers receive, created at each access."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from urllib.parse import urlencode

from tidings_hub.socketio.client import Client

# A client may have written them. REMOTE_ADDR is what trusted proxies said.
_PROXY_HEADERS = ("x-forwarded-", "forwarded", "x-real-ip")


class Environs(MutableMapping[str, Mapping[str, object]]):
    """Maps a connection to the environ of its first request: path, query, headers with cookies, and REMOTE_ADDR.

    A request would cost a tenth of an idle connection, and its environ a tenth of a CONNECT. So only REMOTE_ADDR is
    there unless `are_kept`, read when a connection opens, says that an app has connect handlers.
    """

    def __init__(self, clients: Mapping[str, Client], *, are_kept: Callable[[], bool]) -> None:
        self._clients = clients
        self._are_kept = are_kept

    def __getitem__(self, sid: str) -> Mapping[str, object]:
        client = self._clients[sid]
        environ: dict[str, object] = {"REMOTE_ADDR": client.connection.remote}
        request = client.handshake
        if request is not None:
            environ |= {"REQUEST_METHOD": "GET", "PATH_INFO": request.path, "QUERY_STRING": urlencode(request.query)}
            environ |= {
                f"HTTP_{name.upper().replace('-', '_')}": value
                for name, value in request.headers.items()
                if not name.startswith(_PROXY_HEADERS)
            }
        return environ

    def __setitem__(self, sid: str, request: object) -> None:
        """Keep the first request of a connection, if it is needed."""
        if self._are_kept():
            self._clients[sid].handshake = request  # type: ignore[assignment]  # upstream passes on what the hub gave it

    def __delitem__(self, sid: str) -> None:
        """Ignored: the entry ends with the client."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)
