"""Redis URLs, and how redis-py connects to them.

    redis://[user:password@]host[:port][/db]      rediss:// with TLS      unix:///path?db=0
    redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/db]     rediss+sentinel://

The query may hold arguments of redis-py's connections (`ssl_ca_certs=…`), and for Sentinel itself `sentinel_username`
and `sentinel_password`. `topology.py` reads URLs of clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tidings.errors import BadConfig, MissingExtra

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
_SENTINEL_PORT = 26379
HostAndPort = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A parsed URL. `str(address)` and `repr(address)` hold no password."""

    display_url: str
    options: dict[str, Any] = field(repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.display_url

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """The address in a URL.

        Raises:
            BadConfig: an invalid URL. The message does not repeat it, because it may hold a password.
        """
        try:
            scheme = url.partition("://")[0]
            if scheme in CLUSTER_SCHEMES:
                raise BadConfig("this is a cluster URL; use the URL of a single Redis here")
            if scheme not in _SCHEMES or "://" not in url:
                schemes = ", ".join(f"{name}://" for name in (*_SCHEMES, *CLUSTER_SCHEMES))
                raise BadConfig(f"not a Redis URL; it begins with one of {schemes}")
            return _parse_sentinel(url) if scheme.endswith("+sentinel") else _parse_plain(url)
        except ValueError as error:
            raise BadConfig("not a Redis URL; its form is redis://[user:password@]host[:port][/db]") from error

    def connect(self, *, timeout_s: float) -> Any:
        """A connected redis-py `Connection` in RESP2. Each of its steps takes at most `timeout_s`.

        Raises:
            redis.RedisError, OSError: the connection or its handshake failed.
        """
        connection = self._new_connection(redis_module(), self._options_for(timeout_s, self._master(timeout_s)))
        connection.connect()
        return connection

    async def connect_async(self, *, timeout_s: float) -> Any:
        """As `connect`, of `redis.asyncio`."""
        connection = self._new_connection(
            async_module(), self._options_for(timeout_s, await self._master_async(timeout_s))
        )
        try:
            await connection.connect()
        except BaseException:
            # Also on cancellation, after which redis-py itself does not clean up.
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _master_async(self, timeout_s: float) -> HostAndPort | None:
        if not self.sentinels:
            return None
        module = async_module()
        sentinel = module.Sentinel(list(self.sentinels), sentinel_kwargs=self._sentinel_options(module, timeout_s))
        try:
            master: HostAndPort = await sentinel.discover_master(self.service)
            return master
        finally:
            for client in sentinel.sentinels:
                await client.aclose()

    def _master(self, timeout_s: float) -> HostAndPort | None:
        if not self.sentinels:
            return None
        module: Any = redis_module()
        sentinel = module.Sentinel(list(self.sentinels), sentinel_kwargs=self._sentinel_options(module, timeout_s))
        try:
            master: HostAndPort = sentinel.discover_master(self.service)
            return master
        finally:
            for client in sentinel.sentinels:
                client.close()

    def _sentinel_options(self, module: Any, timeout_s: float) -> dict[str, Any]:
        from redis.backoff import NoBackoff

        # By default redis-py retries a sentinel that is down for seconds before it tries the next one.
        no_retries = module.retry.Retry(NoBackoff(), 0)
        timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        return {**timeouts, "retry": no_retries, **self.sentinel_options}

    def _options_for(self, timeout_s: float, master: HostAndPort | None) -> dict[str, Any]:
        options = {**self.options, "protocol": 2, "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        if master:
            options["host"], options["port"] = master
        return options

    def _new_connection(self, module: Any, options: dict[str, Any]) -> Any:
        kind = options.pop("kind")
        if kind == "unix":
            return module.UnixDomainSocketConnection(**options)
        return (module.SSLConnection if kind == "rediss" else module.Connection)(**options)


def redis_module() -> ModuleType:
    """redis-py, imported at the first use, so after any monkey patching."""
    try:
        import redis
    except ImportError as error:
        raise MissingExtra("a redis:// URL needs redis: pip install redis") from error
    return redis


def async_module() -> Any:
    """`redis.asyncio`, as Any: redis-py's own types are incomplete."""
    redis_module()
    import redis.asyncio

    return redis.asyncio


def _parse_plain(url: str) -> RedisAddress:
    redis_module()
    from redis import connection

    untyped: Any = connection
    options: dict[str, Any] = dict(untyped.parse_url(url))
    options.pop("connection_class", None)
    options["kind"] = kind = urlsplit(url).scheme
    db = options.get("db", 0)
    if kind == "unix":
        return RedisAddress(f"unix://{options.get('path', '')}?db={db}", options)
    options.setdefault("host", "localhost")
    options.setdefault("port", 6379)
    return RedisAddress(f"{kind}://{options['host']}:{options['port']}/{db}", options)


def _parse_sentinel(url: str) -> RedisAddress:
    parts = HostsUrl.parse(url, port=_SENTINEL_PORT)
    service, _, db = unquote(parts.path).partition("/")
    if not service:
        raise ValueError("no service")
    query = parts.query
    sentinel = {name.removeprefix("sentinel_"): query.pop(name) for name in list(query) if name.startswith("sentinel_")}
    options = {"kind": parts.scheme.removesuffix("+sentinel"), "db": int(db or 0), **query, **parts.login}
    return RedisAddress(f"{parts.display_url}/{service}/{options['db']}", options, parts.nodes, service, sentinel)


@dataclass(slots=True)
class HostsUrl:
    """The parts of `scheme://[user:password@]host[:port][,host[:port]…]/path?query`."""

    scheme: str
    login: dict[str, Any] = field(repr=False)
    nodes: tuple[HostAndPort, ...]
    path: str
    query: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str, *, port: int) -> HostsUrl:
        """Parse a URL. `port` is the default for hosts without one.

        Raises:
            ValueError: there is no host, or a port is not a number.
        """
        scheme, _, rest = url.partition("://")
        rest, _, query = rest.partition("?")
        authority, _, path = rest.partition("/")
        credentials, at, hosts = authority.rpartition("@")
        nodes = tuple(_host_and_port(host, port) for host in hosts.split(",") if host)
        if not nodes:
            raise ValueError("no host")
        login: dict[str, Any] = {}
        if at:
            user, colon, password = credentials.partition(":")
            login = {"username": unquote(user) or None} | ({"password": unquote(password)} if colon else {})
        return cls(scheme, login, nodes, path, dict(parse_qsl(query)))

    @property
    def display_url(self) -> str:
        """Scheme and hosts, without user and password."""
        return f"{self.scheme}://" + ",".join(f"{host}:{port}" for host, port in self.nodes)


def _host_and_port(text: str, default: int) -> HostAndPort:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest.removeprefix(":") or default)
    host, _, port = text.partition(":")
    return unquote(host), int(port or default)
