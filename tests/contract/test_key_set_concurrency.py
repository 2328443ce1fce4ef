"""A key set in programs with threads, asyncio, gevent and eventlet: a token never waits for a network."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.network.issuer import publishing, token_by
from support.network.scripted_server import ScriptedServer, dripping
from support.processes.hub import environment

PREAMBLE = {
    "threads": "import time\nfrom threading import Thread as run\n",
    "asyncio": "import asyncio, time\nfrom threading import Thread as run\n",
    "gevent": "from gevent import monkey; monkey.patch_all()\nimport time\nfrom threading import Thread as run\n",
    "eventlet": "import eventlet; eventlet.monkey_patch()\nimport time\nfrom threading import Thread as run\n",
}
PROGRAM = """
import sys
from tidings.errors import Unavailable
from tidings.tokens import KeySet
from tidings.tokens.jwks import Jwks
still, good, unknown, valid = sys.argv[1:]
keys = KeySet(
    jwks=[Jwks("still", url=still + "/jwks", timeout_s=1.0), Jwks("good", url=good + "/jwks", timeout_s=5.0)],
    wait_s=20.0, waiting_max=4,
)
began_s = time.monotonic()
assert [str(error).split(":")[0] for error in keys.refresh(5.0)] == ["no keys from the JWKS of still"]
# The fetch that drips ended at its deadline.
assert 0.9 < time.monotonic() - began_s < 4.0, time.monotonic() - began_s
refused = []
def sign_in():
    try:
        keys.verify_fresh(unknown, now_s=time.time())
    except Unavailable:
        refused.append(1)
others = [run(target=sign_in) for _ in range(20)]
for other in others:
    other.start()
VERIFY
for other in others:
    other.join()
assert len(refused) == 20, refused
print("done")
"""
VERIFY = """
began_s = time.monotonic()
for _ in range(50):
    assert keys.verify_fresh(valid, now_s=time.time()).sub == "ann"
assert time.monotonic() - began_s < 5.0
"""
VERIFY_ASYNC = """
async def main():
    for _ in range(50):
        assert keys.verify(valid, now_s=time.time()).sub == "ann"
    assert (await asyncio.to_thread(keys.verify_fresh, valid, now_s=time.time())).sub == "ann"
asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["threads", "asyncio", "gevent", "eventlet"])
def test_known_key_is_verified_while_another_issuer_drips(kind: str, scheme: str) -> None:
    """With https the issuer drips within the handshake. Greenlets have no deadline for that of their own."""
    if kind in {"gevent", "eventlet"}:
        pytest.importorskip(kind)
    tokens = [token_by("k1", issuer=issuer) for issuer in ("still", "good")]
    data = b"HTTP/1.1 200 OK\r\nX: " if scheme == "http" else b"\x16\x03\x03\x40\x00"
    with ScriptedServer(dripping(data, reads=scheme == "http")) as still, publishing("k1") as good:
        program = PREAMBLE[kind] + PROGRAM.replace("VERIFY", VERIFY_ASYNC if kind == "asyncio" else VERIFY)
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, f"{scheme}://127.0.0.1:{still.port}", good.url, *tokens],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(),
        )
    assert process.stdout == "done\n", process.stderr
