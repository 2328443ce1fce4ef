"""The URL of a hub, for the publisher over HTTP. No I/O, except that the certificates of the system are read."""

from __future__ import annotations

import re
import ssl
from urllib.parse import urlsplit

from tidings.errors import BadConfig
from tidings.http_client.connection import HttpAddress
from tidings.http_client.hosts import check_quoted_host

_PORTS = {"http": 80, "https": 443}


def parse_hub_url(url: str, tls: ssl.SSLContext | None) -> tuple[HttpAddress, str]:
    """The address in a hub's URL, and the path below which its API is. `tls`: the context for https.

    Raises:
        BadConfig: it is not `http(s)://host[:port][/path]`. The message does not repeat it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        check_quoted_host(parts.hostname or "localhost")
    except ValueError as error:
        raise BadConfig("the hub's URL is malformed; it is http(s)://host[:port][/path]") from error
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise BadConfig("the hub's URL is http(s)://host[:port][/path], without ? and #")
    if parts.username is not None or parts.password is not None:
        raise BadConfig("the hub's URL must not contain a password; use api_key instead")
    if not re.fullmatch(r"[\x21-\x7e]*", url):
        raise BadConfig("the hub's URL contains white space or non-ASCII characters")
    context = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
    return HttpAddress(parts.hostname, port or _PORTS[parts.scheme], context), parts.path.rstrip("/")
