"""Error bodies of HTTP responses."""

from __future__ import annotations

import json

from tidings.codes import CODES


def error_json(name: str) -> bytes:
    """Return the code `name` of `tidings.codes` and its advice as a JSON object."""
    return json.dumps({"code": name, "message": CODES[name].advice}).encode()


def api_error_json(name: str) -> bytes:
    """Return the same in the form of the HTTP API: `{"error": {"code", "message"}}`."""
    return b'{"error": %b}' % error_json(name)
