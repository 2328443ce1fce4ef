"""Reads the body of an API request, up to a limit."""

from __future__ import annotations

from flask import Request
from werkzeug.datastructures import MIMEAccept

from tidings.errors import BadRequest, TooLarge
from tidings_hub.core.strict_json import loads
from tidings_hub.web.responses import UnsupportedMedia

_CHUNK_BYTES = 65_536


def json_body(request: Request, *, max_bytes: int) -> object:
    """The decoded JSON body.

    Raises:
        UnsupportedMedia: the headers do not announce JSON in UTF-8, or the body is compressed.
        TooLarge: the body is longer than `max_bytes`. The rest is not read.
        BadRequest: the body is not valid JSON (see `core.strict_json`).
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
    """The body as bytes.

    Raises:
        TooLarge: the body is longer than `max_bytes`. The rest is not read.
        BadRequest: there is no body.
    """
    length = request.content_length
    if length is not None and length > max_bytes:
        raise TooLarge(f"the body has {length} bytes; api_body_max_bytes allows {max_bytes}")
    chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    if length is None and not chunked:
        raise BadRequest("the request has no body")
    # Werkzeug reads a chunked body only if the server sets `wsgi.input_terminated`. The engine's input ends with the
    # body, but the flag is not set.
    stream = request.environ["wsgi.input"] if chunked else request.stream
    parts: list[bytes] = []
    size = 0
    while part := stream.read(min(_CHUNK_BYTES, max_bytes + 1 - size)):
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise TooLarge(f"the body has more than {max_bytes} bytes, the limit of api_body_max_bytes")
    return b"".join(parts)


def accepts(request: Request, media_type: str) -> bool:
    """Whether the Accept header of `request` allows `media_type` (RFC 9110 section 12.5.1)."""
    accepted: MIMEAccept = request.accept_mimetypes
    return not accepted or accepted.quality(media_type) > 0
