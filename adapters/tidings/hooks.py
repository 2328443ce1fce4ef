"""Hooks: requests of a hub to a backend over HTTP, and how the backend verifies them (PROTOCOL.md section 12).

from tidings.hooks import HEADER, verify

@app.post("/tidings")
def hook():
hook_request = verify(SECRET, request.headers.get(HEADER), request.get_data())
return {"error": {"code": "forbidden", "message": "closed"}} if hook_request["user"] == "7" else {}

The hub keeps its connection if the response repeats the header `Tidings-Signature`. Otherwise it opens one per hook.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from typing import Any, Final

from tidings.errors import BadRequest, Unauthorized

HEADER: Final = "Tidings-Signature"
# The tolerated difference between the clocks of hub and backend. For so long a request can be replayed.
TOLERANCE_S: Final = 300.0
_FORM = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})\Z")


def sign(secret: str, body: bytes, *, at_s: float) -> str:
    """The header's value: `t=<unix seconds>,v1=<HMAC-SHA256 of "<t>." and the body, in hex>`."""
    at = str(int(at_s))
    return f"t={at},v1={_digest(secret, at, body)}"


def verify(
    secret: str, header: str | None, body: bytes, *, now_s: float | None = None, tolerance_s: float = TOLERANCE_S
) -> dict[str, Any]:
    """The hub's request, as an object, if its signature is valid. `body` is the body of the request, unchanged.

    Raises:
        Unauthorized: no signature, a wrong one, or one that is older than `tolerance_s` seconds.
        BadRequest: correctly signed, but not a JSON object.
    """
    signature = _FORM.match(header or "")
    if signature is None or not hmac.compare_digest(_digest(secret, signature[1], body), signature[2]):
        raise Unauthorized(f"not signed by the hub: the header {HEADER} is missing or does not match the body")
    if abs((time.time() if now_s is None else now_s) - int(signature[1])) > tolerance_s:
        raise Unauthorized("signed too long ago, or the clocks of hub and backend differ")
    try:
        hook_request = json.loads(body)
    except ValueError as error:
        raise BadRequest("a hook's body is JSON") from error
    if not isinstance(hook_request, dict):
        raise BadRequest("a hook's body is an object")
    return hook_request


def _digest(secret: str, at: str, body: bytes) -> str:
    return hmac.new(secret.strip().encode(), at.encode() + b"." + body, "sha256").hexdigest()
