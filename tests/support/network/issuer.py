"""An issuer of tokens: its key set, its tokens, and attempts to sign in with them."""

from __future__ import annotations

import json
import socket

import jwt
from cryptography.hazmat.primitives import serialization

from support.network.scripted_server import Peer, ScriptedServer, response
from support.tokens import pair
from tidings.tokens import issue

ISSUER = "https://id.example"


def key_set(*kids: str) -> bytes:
    """A JWKS with one key under these names."""
    public = serialization.load_pem_public_key(pair("ES256")[1].encode())
    entry = jwt.get_algorithm_by_name("ES256").to_jwk(public, as_dict=True)
    return json.dumps({"keys": [{**entry, "kid": kid} for kid in kids]}).encode()


def token_by(kid: str, *channels: str, issuer: str = ISSUER) -> str:
    """A token signed with the issuer's key."""
    return issue("ann", key=pair("ES256")[0], algorithm="ES256", kid=kid, issuer=issuer, channels=channels)


def publishing(*kids: str) -> ScriptedServer:
    """An issuer that responds with these keys. Replace its `script` for a fault."""

    def serve(peer: Peer) -> None:
        peer.read_request()
        peer.send(response(key_set(*kids)))

    return ScriptedServer(serve)


def sign_in(port: int, token: str, channel: str) -> tuple[int, str]:
    """Open an event stream with the token. Returns the status, and the code of a refusal."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = f"GET /sse?channels={channel} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
        data = b""
        while b"\r\n\r\n" not in data or not data.startswith(b"HTTP/1.1 200"):
            more = connection.recv(65_536)
            if not more:
                break
            data += more
    status = int(data[9:12])
    return status, "" if status == 200 else json.loads(data.partition(b"\r\n\r\n")[2])["error"]["code"]
