"""`GET /tidings.js`: the JavaScript SDK with socket.io-client in it, so that a page needs one `<script src>`."""

from __future__ import annotations

from pathlib import Path

from flask import Response, send_file

from tidings.errors import NotFound

# Built from npm by `make setup`, so not there in a checkout that was never set up.
FOLDER = Path(__file__).parent / "static" / "vendor"
NAMES = ("tidings.js", "tidings.js.map")
ENDPOINT = "sdk"
_TYPES = {".js": "text/javascript; charset=utf-8", ".map": "application/json"}


def is_built() -> bool:
    """Whether the SDK is here."""
    return (FOLDER / NAMES[0]).is_file()


def sdk_file(name: str) -> Response:
    """One of `NAMES`, for pages of any origin: what is in it is public. Browsers ask each time whether it changed.

    Raises:
        NotFound: it was never built.
    """
    path = FOLDER / name
    if not path.is_file():
        raise NotFound("the SDK is not built here; run `make setup` with npm installed")
    answer = send_file(path, mimetype=_TYPES[path.suffix], conditional=True, etag=True)
    answer.headers["Cache-Control"] = "no-cache"
    answer.headers["Access-Control-Allow-Origin"] = "*"
    return answer
