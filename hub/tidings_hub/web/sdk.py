"""`GET /tidings.js`: the JavaScript SDK, bundled with socket.io-client. A page needs only one `<script src>`."""

from __future__ import annotations

from pathlib import Path

from flask import Response, send_file

from tidings.errors import NotFound

# `make setup` builds the SDK with npm. In a checkout without `make setup` the files are missing.
FOLDER = Path(__file__).parent / "static" / "vendor"
NAMES = ("tidings.js", "tidings.js.map")
ENDPOINT = "sdk"
_TYPES = {".js": "text/javascript; charset=utf-8", ".map": "application/json"}


def is_built() -> bool:
    """Whether the SDK was built."""
    return (FOLDER / NAMES[0]).is_file()


def sdk_file(name: str) -> Response:
    """One of the files in `NAMES`. Pages of any origin may load it, and browsers revalidate it on each load.

    Raises:
        NotFound: the SDK was not built.
    """
    path = FOLDER / name
    if not path.is_file():
        raise NotFound("the SDK is not built here; run `make setup` with npm installed")
    response = send_file(path, mimetype=_TYPES[path.suffix], conditional=True, etag=True)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response
