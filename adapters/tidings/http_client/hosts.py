"""Which names of hosts can exist, for every kind of URL."""

from __future__ import annotations

import re
from urllib.parse import unquote

# A host that no system has is most likely several, or the rest of a password.
_HOST = re.compile(r"[^\x00-\x20\x7f,;#\\]+\Z")


def check_host(host: str) -> str:
    """The name or address of one host.

    Raises:
        ValueError: no host can have this name. The system's resolver would raise UnicodeError for it, at each connect.
    """
    if not _HOST.match(host):
        raise ValueError("not the name of a host")
    # Labels have 1 to 63 bytes in the encoding that `socket` uses.
    host.encode("idna")
    return host


def check_quoted_host(host: str | None) -> None:
    """As `check_host`, for a host that may have percent escapes."""
    check_host(unquote(host or ""))


def check_unicode(url: str) -> None:
    """Check that a URL can be encoded. One from the environment cannot, if it was not UTF-8 there.

    Raises:
        ValueError: it has half of a surrogate pair.
    """
    url.encode()
