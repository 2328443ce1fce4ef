"""The asyncio pool against a server whose TLS confirms the end of a connection late."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.network.certificates import Authority
from tidings.redis_client.async_connection import AsyncRedisPool
from tidings.redis_client.scripts import pack
from tidings.redis_client.url import RedisAddress

_SECONDS_TO_CLOSE = 0.3


def serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):  # the test closes the listener
        while True:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as session:
                while request := session.recv(65_536):
                    session.sendall(b"+OK\r\n" * len(re.findall(rb"\*\d+\r\n", request)))
                time.sleep(_SECONDS_TO_CLOSE)


@pytest.fixture
def slow_to_close(tmp_path: Path) -> Iterator[RedisAddress]:
    authority = Authority.make(tmp_path / "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("redis"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, context), daemon=True)
        thread.start()
        yield RedisAddress.parse(f"rediss://127.0.0.1:{listener.getsockname()[1]}?ssl_ca_certs={authority.file}")
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=10)


def test_closed_pool_leaves_no_open_transport(slow_to_close: RedisAddress) -> None:
    # pytest fails the test for a transport that the event loop left open.
    async def call_and_close() -> None:
        pool = AsyncRedisPool(slow_to_close)
        assert await pool.call(pack(b"PING"), 1, time.monotonic() + 5) == [b"OK"]
        await pool.close()

    asyncio.run(call_and_close())
