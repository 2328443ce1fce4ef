"""The body of one API request, read within its limit."""

from __future__ import annotations

from flask import Request
from werkzeug.datastructures import MIMEAccept

from tidings.errors import BadRequest, TooLarge
from tidings_hub.core.strict_json import loads
from tidings_hub.web.responses import UnsupportedMedia

_CHUNK_BYTES = 65_536


def json_body(request: Request, *, max_bytes: int) -> object:
    """What the body says.

    Raises:
        UnsupportedMedia: it is not said to be JSON in UTF-8, or it is compressed.
        TooLarge: longer than `max_bytes`; no more than that was read.
        BadRequest: not JSON as `strict_json` wants it.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMedia("send the body with Content-Type: application/json")
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if charset not in {"utf-8", "utf8"}:
        raise UnsupportedMedia("JSON is UTF-8 (RFC 8259 section 8.1); leave the charset out")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("send the body uncompressed")
    return loads(read_body(request, max_bytes))


def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, whatever it is.

    Raises:
        TooLarge: longer than `max_bytes`; no more than that was read.
        BadRequest: there is none.
    """
    length = request.content_length
    if length is not None and length > max_bytes:
        raise TooLarge(f"a body of {length} bytes; api_body_max_bytes allows {max_bytes}")
    chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    if length is None and not chunked:
        raise BadRequest("the request has no body")
    # Werkzeug reads a chunked body only from servers that announce `wsgi.input_terminated`; eventlet
    # ends its input just as well but does not say so.
    stream = request.environ["wsgi.input"] if chunked else request.stream
    parts: list[bytes] = []
    size = 0
    while part := stream.read(min(_CHUNK_BYTES, max_bytes + 1 - size)):
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise TooLarge(f"a body of more than {max_bytes} bytes, which is what api_body_max_bytes allows")
    return b"".join(parts)


def accepts(request: Request, media_type: str) -> bool:
    """Whether the caller can read `media_type` (RFC 9110 section 12.5.1)."""
    wanted: MIMEAccept = request.accept_mimetypes
    return not wanted or wanted.quality(media_type) > 0
