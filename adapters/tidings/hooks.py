"""Hooks: what a hub asks a backend over HTTP, and how that knows the hub (PROTOCOL.md section 12).

from tidings.hooks import HEADER, verify

@app.post("/tidings")
def hook():
asked = verify(SECRET, request.headers.get(HEADER), request.get_data())
return {"error": {"code": "forbidden", "message": "closed"}} if asked["user"] == "7" else {}
"""

from __future__ import annotations

import hmac
import json
import re
import time
from typing import Any, Final

from tidings.errors import BadRequest, Unauthorized

HEADER: Final = "Tidings-Signature"
# How far the clocks of hub and backend may be apart, and how long a request can be replayed.
TOLERANCE_S: Final = 300.0
_FORM = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})\Z")


def sign(secret: str, body: bytes, *, at_s: float) -> str:
    """The header's value: `t=<unix seconds>,v1=<HMAC-SHA256 of "<t>." and the body, in hex>`."""
    at = str(int(at_s))
    return f"t={at},v1={_digest(secret, at, body)}"


def verify(
    secret: str, header: str | None, body: bytes, *, now_s: float | None = None, tolerance_s: float = TOLERANCE_S
) -> dict[str, Any]:
    """What the hub asks, if it was the hub: the body as an object. `body` is the request's, byte by byte.

    Raises:
        Unauthorized: no signature, a wrong one, or one that is older than `tolerance_s` seconds.
        BadRequest: rightly signed, and no object.
    """
    found = _FORM.match(header or "")
    if found is None or not hmac.compare_digest(_digest(secret, found[1], body), found[2]):
        raise Unauthorized(f"not signed by the hub: the header {HEADER} is missing or does not fit the body")
    if abs((time.time() if now_s is None else now_s) - int(found[1])) > tolerance_s:
        raise Unauthorized("signed too long ago, or the clocks of hub and backend differ")
    try:
        asked = json.loads(body)
    except ValueError as error:
        raise BadRequest("a hook's body is JSON") from error
    if not isinstance(asked, dict):
        raise BadRequest("a hook's body is an object")
    return asked


def _digest(secret: str, at: str, body: bytes) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + body, "sha256").hexdigest()
