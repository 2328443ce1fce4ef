"""Redis URLs, and how redis-py connects to them.

    redis://[user:password@]host[:port][/db]      rediss:// with TLS      unix:///path?db=0
    redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/db]     rediss+sentinel://

`url_options.py` reads the query, `topology.py` the URLs of clusters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from tidings.drivers import load_driver
from tidings.errors import BadConfig
from tidings.http_client.hosts import check_host, check_unicode
from tidings.redis_client.host_order import HostOrder
from tidings.redis_client.hosts_url import HostAndPort, HostsUrl
from tidings.redis_client.sentinel_errors import no_master
from tidings.redis_client.tls_files import check_tls
from tidings.redis_client.url_options import NUMBER, read_options

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
_FORM = "redis://[user:password@]host[:port][/db]"
_FORMS = {
    "redis+sentinel": "redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/db]",
    "rediss+sentinel": "rediss+sentinel://[user:password@]host[:port][,host[:port]…]/service[/db]",
    "unix": "unix:///path?db=0",
}
_SENTINEL_PORT = 26379
# `sun_path` of Linux, without its end (man 7 unix).
_UNIX_PATH_MAX_BYTES = 107


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A parsed URL. `str(address)` and `repr(address)` hold no password."""

    display_url: str
    options: dict[str, Any] = field(repr=False)
    sentinels: HostOrder | None = field(default=None, repr=False)
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
        scheme = url.partition("://")[0]
        try:
            check_unicode(url)
            if scheme in CLUSTER_SCHEMES:
                raise BadConfig("this is a cluster URL; use the URL of a single Redis here")
            if scheme not in _SCHEMES or "://" not in url:
                schemes = ", ".join(f"{name}://" for name in (*_SCHEMES, *CLUSTER_SCHEMES))
                raise BadConfig(f"not a Redis URL; it begins with one of {schemes}")
            if scheme.endswith("+sentinel"):
                return _parse_sentinel(url)
            if "#" in url:
                # Everything behind it would be ignored, and the part of a password before it taken for the host.
                raise BadConfig("a Redis URL contains no #; if the password contains one, write %23 for it")
            return _parse_plain(url)
        except ValueError as error:
            raise BadConfig(f"not a Redis URL; its form is {_FORMS.get(scheme, _FORM)}") from error

    @classmethod
    def open(cls, url: str) -> RedisAddress:
        """As `parse`, and checks the address. It imports the driver: a fork during a later import hangs the child.

        Raises:
            BadConfig: as `parse` and `check`. MissingExtra: redis-py is not installed.
        """
        address = cls.parse(url)
        address.check()
        redis_module()
        return address

    def check(self) -> None:
        """Check the TLS options by loading what they name. Does not connect.

        Raises:
            BadConfig: a file is missing or malformed, or options contradict each other.
        """
        check_tls(self.options, "ssl_", "")
        check_tls(self.sentinel_options, "ssl_", "sentinel_")

    def connect(self, *, timeout_s: float) -> Any:
        """A connected redis-py `Connection` in RESP2. Each of its steps takes at most `timeout_s`.

        All sentinels share it: one that hangs leaves time for the others.

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
        if self.sentinels is None:
            return None
        errors: list[Exception] = []
        for host, share_s in self.sentinels.candidates(time.monotonic() + timeout_s):
            sentinel = self._open_sentinel(async_module(), host, share_s)
            client = sentinel.sentinels[0]
            try:
                async with asyncio.timeout(share_s):
                    masters = await client.sentinel_masters()
            except _connection_errors() as error:
                errors.append(error)
                self.sentinels.report_silent(host)
                continue
            finally:
                await client.aclose()
            self.sentinels.report_answer(host)
            if master := self._master_of(sentinel, masters):
                return master
        raise no_master(redis_module(), self.service, errors, is_tls=bool(self.sentinel_options.get("ssl")))

    def _master(self, timeout_s: float) -> HostAndPort | None:
        if self.sentinels is None:
            return None
        errors: list[Exception] = []
        for host, share_s in self.sentinels.candidates(time.monotonic() + timeout_s):
            sentinel = self._open_sentinel(redis_module(), host, share_s)
            client = sentinel.sentinels[0]
            try:
                masters = client.sentinel_masters()
            except _connection_errors() as error:
                errors.append(error)
                self.sentinels.report_silent(host)
                continue
            finally:
                client.close()
            self.sentinels.report_answer(host)
            if master := self._master_of(sentinel, masters):
                return master
        raise no_master(redis_module(), self.service, errors, is_tls=bool(self.sentinel_options.get("ssl")))

    def _open_sentinel(self, module: Any, host: HostAndPort, timeout_s: float) -> Any:
        # redis-py's own discover_master hides why each sentinel failed.
        return module.Sentinel([host], sentinel_kwargs=self._sentinel_options(module, timeout_s))

    def _master_of(self, sentinel: Any, masters: Any) -> HostAndPort | None:
        state = masters.get(self.service)
        return (state["ip"], state["port"]) if state and sentinel.check_master_state(state, self.service) else None

    def _sentinel_options(self, module: Any, timeout_s: float) -> dict[str, Any]:
        backoff: Any = redis_module().backoff
        # By default redis-py retries a sentinel that is down for seconds before it tries the next one.
        no_retries = module.retry.Retry(backoff.NoBackoff(), 0)
        timeouts = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        return {**self.sentinel_options, **timeouts, "retry": no_retries}

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


def _connection_errors() -> tuple[type[Exception], ...]:
    exceptions: Any = redis_module().exceptions
    return exceptions.ConnectionError, exceptions.TimeoutError, TimeoutError


@cache
def redis_module() -> ModuleType:
    """redis-py, imported at the first use, so after any monkey patching."""
    return load_driver("redis", "a redis:// URL needs redis: pip install redis", _load_redis)


def _load_redis() -> ModuleType:
    import redis
    import redis.backoff
    import redis.connection
    import redis.sentinel

    # What redis-py itself imports for its first connection.
    utils: Any = redis.utils
    utils.get_lib_version()
    return redis


@cache
def async_module() -> Any:
    """`redis.asyncio`, as Any: redis-py's own types are incomplete."""
    redis_module()
    return load_driver("redis", "", _load_async)


def _load_async() -> Any:
    import redis.asyncio

    return redis.asyncio


def _parse_plain(url: str) -> RedisAddress:
    location, _, query = url.partition("?")
    kind = location.partition("://")[0]
    query_options = read_options(query, kind)
    connection: Any = redis_module().connection
    in_location: dict[str, Any] = connection.parse_url(location)
    check_once(in_location, query_options)
    options: dict[str, Any] = {**in_location, **query_options, "kind": kind}
    options.pop("connection_class", None)
    if kind == "unix":
        path = options.get("path", "")
        if not path or "\0" in path or len(path.encode()) > _UNIX_PATH_MAX_BYTES:
            raise ValueError("no path, or none that a socket can have")
        return RedisAddress(f"unix://{path}?db={options.get('db', 0)}", options)
    parts = urlsplit(location)
    path = parts.path.strip("/")
    if (path and not NUMBER.match(path)) or parts.port == 0:
        # redis-py would use database 0, and the usual port.
        raise ValueError("the database is not a number, or the port does not exist")
    check_host(options.setdefault("host", "localhost"))
    options.setdefault("port", 6379)
    return RedisAddress(f"{kind}://{options['host']}:{options['port']}/{options.get('db', 0)}", options)


def _parse_sentinel(url: str) -> RedisAddress:
    parts = HostsUrl.parse(url, port=_SENTINEL_PORT)
    service, _, db = unquote(parts.path).partition("/")
    if not service:
        raise ValueError("no service")
    if db and not NUMBER.match(db):
        raise ValueError("the database is not a number")
    query_options = read_options(parts.query, parts.scheme)
    check_once({**parts.login, **({"db": db} if db else {})}, query_options)
    sentinel = {
        name.removeprefix("sentinel_"): query_options.pop(name)
        for name in list(query_options)
        if name.startswith("sentinel_")
    }
    if sentinel.get("ssl"):
        # The authority that the Redises have, unless the sentinels have another one.
        sentinel = {name: value for name, value in query_options.items() if name.startswith("ssl_")} | sentinel
    elif any(name.startswith("ssl_") for name in sentinel):
        raise BadConfig("options that begin with sentinel_ssl_ need sentinel_ssl=true")
    options = {"db": int(db or 0), **query_options, **parts.login, "kind": parts.scheme.removesuffix("+sentinel")}
    display_url = f"{parts.display_url}/{service}/{options['db']}"
    return RedisAddress(display_url, options, HostOrder(parts.nodes), service, sentinel)


def check_once(in_location: Mapping[str, object], query_options: Mapping[str, object]) -> None:
    """Check that no option is both before the `?` of a URL and after it.

    Raises:
        BadConfig: one is.
    """
    for name in query_options:
        if in_location.get(name) is not None:
            raise BadConfig(f"the option {name} is twice in the URL: before the ? and after it")
