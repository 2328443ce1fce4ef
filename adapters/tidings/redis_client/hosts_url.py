"""URLs with several hosts: those of sentinels, clusters and RabbitMQ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tidings.http_client.hosts import check_host, check_unicode
from tidings.redis_client.url_options import NUMBER

HostAndPort = tuple[str, int]


@dataclass(slots=True)
class HostsUrl:
    """The parts of `scheme://[user:password@]host[:port][,host[:port]…]/path?query`."""

    scheme: str
    login: dict[str, Any] = field(repr=False)
    nodes: tuple[HostAndPort, ...]
    path: str
    query: str = field(repr=False)

    @classmethod
    def parse(cls, url: str, *, port: int) -> HostsUrl:
        """Parse a URL. `port` is the default for hosts without one.

        Raises:
            ValueError: there is no host, a host or port cannot exist, or a part behind `#` would be lost; or the URL
                is not UTF-8.
        """
        check_unicode(url)
        scheme, _, rest = url.partition("://")
        rest, _, query = rest.partition("?")
        authority, _, path = rest.partition("/")
        credentials, at, hosts = authority.rpartition("@")
        if "#" in path:
            raise ValueError("a fragment")
        nodes = tuple(_host_and_port(host, port) for host in hosts.split(",") if host)
        if not nodes:
            raise ValueError("no host")
        login: dict[str, Any] = {}
        if at:
            user, colon, password = credentials.partition(":")
            login = {"username": unquote(user) or None} | ({"password": unquote(password)} if colon else {})
        return cls(scheme, login, nodes, path, query)

    @property
    def display_url(self) -> str:
        """Scheme and hosts, without user and password."""
        return f"{self.scheme}://" + ",".join(f"{host}:{port}" for host, port in self.nodes)


def _host_and_port(text: str, default: int) -> HostAndPort:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("not an IPv6 address and a port")
        return check_host(host), _port(rest[1:], default)
    host, _, port = text.partition(":")
    return check_host(unquote(host)), _port(port, default)


def _port(text: str, default: int) -> int:
    if text and not NUMBER.match(text):
        # Python's numbers may have signs, underscores and white space.
        raise ValueError("not the number of a port")
    port = int(text or default)
    # The system would use the lower 16 bits of a larger number.
    if not 0 < port < 65_536:
        raise ValueError("not the number of a port")
    return port
