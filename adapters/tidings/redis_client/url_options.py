"""The options in the query of a Redis URL, as arguments of redis-py's connections. docs/backends.md lists them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from tidings.errors import BadConfig

Parse = Callable[[str], Any]

# A port or a database. Python does not convert very long texts to an integer.
NUMBER = re.compile(r"[0-9]{1,9}\Z")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}\Z")
_CLIENT_NAME = re.compile(r"[!-~]{1,512}\Z")
_TRUE = {"true", "yes", "1", "on"}
_FALSE = {"false", "no", "0", "off"}
_TLS_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return text.lower() in _TRUE


def _client_name(text: str) -> str:
    # What CLIENT SETNAME allows.
    if not _CLIENT_NAME.match(text):
        raise ValueError("ASCII characters without spaces")
    return text


def _number(text: str) -> int:
    if not NUMBER.match(text):
        raise ValueError("a number")
    return int(text)


def _verification(text: str) -> str:
    if text not in {"required", "optional", "none"}:
        raise ValueError("required, optional or none")
    return text


def _tls_version(text: str) -> ssl.TLSVersion:
    # redis-py's own URLs have the number of the version.
    by_number = {str(version.value): version for version in _TLS_VERSIONS.values()}
    if text not in _TLS_VERSIONS | by_number:
        raise ValueError(" or ".join(_TLS_VERSIONS))
    return (_TLS_VERSIONS | by_number)[text]


_LOGIN: Mapping[str, Parse] = {"username": str, "password": str}
_TLS: Mapping[str, Parse] = {
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_ca_data": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_ciphers": str,
    "ssl_cert_reqs": _verification,
    "ssl_check_hostname": _boolean,
    "ssl_min_version": _tls_version,
}
_CONNECTION: Mapping[str, Parse] = {"client_name": _client_name, "socket_keepalive": _boolean}
_SENTINEL: Mapping[str, Parse] = {
    f"sentinel_{name}": parse for name, parse in {**_LOGIN, "ssl": _boolean, **_TLS}.items()
}
_WITHOUT_TLS = frozenset({"redis", "redis+sentinel", "redis+cluster", "unix", "kombu+redis"})
# Options of redis-py that other programs need in the same URL. They have no effect: tidings has timeouts of its own,
# reads bytes in RESP2, and keeps its own connections.
_IGNORED = frozenset(
    {
        *("socket_timeout", "socket_connect_timeout", "socket_read_size", "retry_on_timeout", "health_check_interval"),
        *("max_connections", "timeout", "decode_responses", "encoding", "protocol"),
    }
)


def read_query(query: str) -> dict[str, str]:
    """The options in the query of a URL, by their names.

    Raises:
        BadConfig: one is there twice.
    """
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options and _NAME.match(name) and "@" not in query:
            raise BadConfig(f"the option {name} is twice in the URL")
        options[name] = value
    return options


def read_options(query: str, scheme: str) -> dict[str, Any]:
    """The options in the query of a URL, parsed, by their names. `scheme` decides which ones there are.

    Raises:
        BadConfig: an unknown option, or an invalid value. The message shows the name and never the value.
    """
    parsers = parsers_for(scheme)
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _IGNORED:
            continue
        if name not in parsers:
            raise unknown_option(name, query, scheme, parsers)
        if name in options:
            raise BadConfig(f"the option {name} is twice in the URL")
        options[name] = parse_option(name, value, scheme)
    return options


def parse_option(name: str, value: str, scheme: str) -> Any:
    """The value of an option that a URL with this scheme may have.

    Raises:
        BadConfig: an invalid value. The message does not show it.
    """
    try:
        return parsers_for(scheme)[name](value)
    except ValueError as error:
        raise BadConfig(f"the option {name} in the URL must be {error}") from error


def parsers_for(scheme: str) -> dict[str, Parse]:
    """The options that a URL with this scheme may have, with their parsers."""
    transport, _, topology = scheme.partition("+")
    parsers = {**_LOGIN, **_CONNECTION}
    if transport == "unix":
        parsers.pop("socket_keepalive")
    if transport == "rediss":
        parsers |= _TLS
    if topology == "sentinel":
        parsers |= _SENTINEL
    return parsers | ({"buckets": str} if topology == "cluster" else {"db": _number})


def unknown_option(name: str, query: str, scheme: str, known: Mapping[str, object]) -> BadConfig:
    """The error for an option that a URL cannot have. It lists those that it can."""
    if "@" in query or not _NAME.match(name):
        # Most likely the end of a password, of which no part may be shown.
        return BadConfig("unknown option in the URL; if the password contains a ?, write %3F for it")
    hint = "; options that begin with ssl_ need rediss" if name in _TLS and scheme in _WITHOUT_TLS else ""
    return BadConfig(f"the URL has the unknown option {name}{hint}. With {scheme}:// there are {', '.join(known)}")
