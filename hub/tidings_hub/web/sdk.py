"""`GET /tidings.js`, the JavaScript SDK with socket.io-client, and what belongs to it.

`/tidings-inbox.js` is the inbox element, `/tidings-sw.js` the service worker of Web Push.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

from flask import Response, request, send_file
from werkzeug.datastructures import Accept

from tidings.errors import NotFound

# `make setup` builds the SDK with npm. In a checkout without `make setup` the files are missing.
FOLDER = Path(__file__).parent / "static" / "vendor"
SERVICE_WORKER = "tidings-sw.js"
_SCRIPTS = ("tidings.js", "tidings-inbox.js", SERVICE_WORKER)
NAMES = (*_SCRIPTS, *(f"{name}.map" for name in _SCRIPTS))
ENDPOINT = "sdk"
_GZIP = ("gzip", "x-gzip")
# Flask adds the charset to a text type.
_TYPES = {".js": "text/javascript", ".map": "application/json"}


def is_built() -> bool:
    """Whether the SDK was built."""
    return (FOLDER / NAMES[0]).is_file()


def accepts_gzip(encodings: Accept) -> bool:
    """Whether a client's Accept-Encoding names gzip (RFC 9110 section 12.5.3). `*` or no header: it does not."""
    return any(name.lower() in _GZIP and quality > 0 for name, quality in encodings)


@lru_cache(maxsize=len(NAMES))
def _compress(path: Path, _changed_ns: int) -> bytes:
    """The file, compressed once per version of it."""
    return gzip.compress(path.read_bytes(), mtime=0)


def sdk_file(name: str) -> Response:
    """One of the files in `NAMES`. Pages of any origin may load it, and browsers revalidate it on each load.

    Raises:
        NotFound: the SDK was not built.
    """
    path = FOLDER / name
    if not path.is_file():
        raise NotFound("the SDK is not built here; run `make setup` with npm installed")
    mimetype = _TYPES[path.suffix]
    if accepts_gzip(request.accept_encodings):
        changed_ns = path.stat().st_mtime_ns
        response = Response(_compress(path, changed_ns), mimetype=mimetype)
        response.headers["Content-Encoding"] = "gzip"
        # Weak: another version of zlib may compress the same file to other bytes.
        response.set_etag(f"{changed_ns}-gzip", weak=True)
        response.make_conditional(request)
    else:
        response = send_file(path, mimetype=mimetype, conditional=True, etag=True)
    response.vary.add("Accept-Encoding")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Access-Control-Allow-Origin"] = "*"
    if name == SERVICE_WORKER:
        # The policy of a worker is that of its own script. This one sends requests to the hub, which may be elsewhere.
        response.headers["Content-Security-Policy"] = "default-src 'none'; connect-src *"
    return response
