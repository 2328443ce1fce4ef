"""Push services over TLS that answer every push with 201 after a while, for the case `web-push`.

    python push_sink.py CERTIFICATE KEY SERVICES DELAY_S     prints one line of JSON with the ports

One process for all of them. It parses no more of HTTP than a response needs, so that the sender is what is measured.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys

_RESPONSE = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
_LENGTH = b"content-length: "


class Sink(asyncio.Protocol):
    """One connection."""

    delay_s = 0.0

    def __init__(self) -> None:
        self._input = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._input += data
        head, end, rest = self._input.partition(b"\r\n\r\n")
        length = head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0]
        if not end or len(rest) < int(length):
            return
        self._input = rest[int(length) :]
        asyncio.get_running_loop().call_later(self.delay_s, self._respond)

    def _respond(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_RESPONSE)


async def main(certificate: str, key: str, services: int, delay_s: float) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    Sink.delay_s = delay_s
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Sink, "127.0.0.1", 0, ssl=tls, backlog=1024) for _ in range(services)]
    sys.stdout.write(json.dumps({"ports": [server.sockets[0].getsockname()[1] for server in servers]}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
