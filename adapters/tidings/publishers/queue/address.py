"""Queue URLs, and how kombu connects to them. Only this file imports kombu.

amqp://user:password@host:5672[,host:5672…]/vhost?queue=tidings         RabbitMQ and what speaks AMQP 0-9-1
amqps://user:password@host/vhost?ca_certs=/etc/tls/ca.pem               the same over TLS, always verified
kombu+redis://user:password@host:6379/0?queue=tidings                   kombu's redis:// transport; others likewise
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlencode

from tidings.drivers import load_driver
from tidings.errors import BadConfig, MissingExtra
from tidings.http_client.hosts import check_quoted_host, check_unicode
from tidings.publishers.queue.queue_connection import HostReports, QueueConnection
from tidings.publishers.queue.read_deadline import bound_reads
from tidings.redis_client.host_order import HostOrder
from tidings.redis_client.hosts_url import HostAndPort, HostsUrl
from tidings.redis_client.tls_files import check_tls
from tidings.redis_client.url_options import NUMBER, parse_option, read_query, unknown_option

QUEUE = "tidings"
AMQP_SCHEMES = ("amqp", "amqps")
OWN_PREFIX = "kombu+"
# kombu's other names for RabbitMQ. As transports of kombu they would give receipts without confirms.
_AMQP_NAMES = {"pyamqp": "amqp", "librabbitmq": "amqp"}
# Of the other transports kombu reads the host, if they have one, from the URL.
_ONLY_HOST: HostAndPort = ("", 0)
_PORTS = {"amqp": 5672, "amqps": 5671}
# Transports whose receipts would mean nothing: no hub receives what they have stored.
_UNSHARED = {
    "memory": "only this process could read it; use memory:// for tests",
    "filesystem": "without kombu's own options it writes to one folder and reads from another",
    "sentinel": "without kombu's own options it does not know the name of the master; use redis+sentinel://",
}
_TLS_OPTIONS = ("ca_certs", "certfile", "keyfile")
_KOMBU_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_QUEUE_FORM = re.compile(r"[A-Za-z0-9_.:-]{1,200}\Z")
_TRANSPORT_FORM = re.compile(r"[a-z][a-z0-9]{1,31}\Z")


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """A queue's name and its server. `str()` shows neither user nor password. `amqp`: it has confirms and returns.

    `options`: arguments for kombu's Connection, one set per host. `hosts`: the order in which they are tried.
    """

    display_url: str
    queue: str
    amqp: bool
    options: Mapping[HostAndPort, Mapping[str, Any]] = field(repr=False)
    hosts: HostOrder = field(repr=False, compare=False)
    tls_options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.display_url

    @classmethod
    def parse(cls, url: str, *, queue: str | None = None) -> QueueAddress:
        """Parse a URL. `queue` replaces the queue's name in the URL.

        Raises:
            BadConfig: an invalid URL or an unknown option. The message does not repeat the URL.
        """
        scheme, mark, rest = url.partition("://")
        kind = scheme.removeprefix(OWN_PREFIX)
        kind = _AMQP_NAMES.get(kind, kind)
        if not mark or not _TRANSPORT_FORM.match(kind) or not (scheme in AMQP_SCHEMES or scheme.startswith(OWN_PREFIX)):
            raise BadConfig("not a queue URL; it begins with amqp://, amqps:// or kombu+<transport>://")
        try:
            address = _parse_amqp(f"{kind}://{rest}") if kind in AMQP_SCHEMES else _parse_other(kind, rest)
        except ValueError as error:
            raise BadConfig("not a queue URL; its form is amqp://[user:password@]host[:port]/vhost") from error
        cls.check_name(queue or address.queue)
        return replace(address, queue=queue or address.queue)

    @staticmethod
    def check_name(queue: str) -> None:
        """Check the name of a queue.

        Raises:
            BadConfig: the name is invalid.
        """
        if not _QUEUE_FORM.match(queue):
            raise BadConfig("a queue's name is 1 to 200 letters, digits and the characters _ . : -")

    def check(self) -> None:
        """Check that kombu is installed and has the transport. Does not connect.

        Raises:
            MissingExtra: kombu, or a package of its transport, is not installed.
            BadConfig: there is no such transport, or a TLS option is wrong.
        """
        kombu_module()
        check_tls(self.tls_options, "ssl_" if self.display_url.startswith(OWN_PREFIX) else "", "")
        try:
            load_driver("kombu", "", self._load_transport)
        except TypeError as error:
            raise BadConfig(f"the URL of {self} has an option that kombu does not know") from error
        except (KeyError, ValueError) as error:
            raise BadConfig(f"kombu has no transport for {self}") from error
        except (BadConfig, NameError) as error:
            # Some transports replace a missing package by None, and then fail to use it.
            raise MissingExtra(f"kombu's transport for {self} needs a package: {error}") from error

    def _load_transport(self) -> Any:
        return self._new_connection(next(iter(self.options.values())), 1.0, 0.0, 1.0).get_transport_cls()

    def connect(self, *, timeout_s: float, heartbeat_s: float = 0.0, redelivery_s: float = 3600.0) -> QueueConnection:
        """Connect to the first host that responds. The hosts share `timeout_s`; those that failed last come last.

        `heartbeat_s`: AMQP's heartbeat interval; then `check_heartbeat` must be called every second. `redelivery_s`:
        the time after which transports other than AMQP redeliver a message that was not acknowledged.

        Raises:
            MissingExtra: a package of kombu's transport is not installed.
            Exception: an error of kombu, its driver or the system: no host could be connected to.
        """
        last_error: Exception = TimeoutError("no time left to connect")
        for host, share_s in self.hosts.candidates(time.monotonic() + timeout_s):
            # Two steps can block, one after the other: the TCP connect and the first reply.
            step_s = share_s / 2
            connection = self._new_connection(self.options[host], step_s, heartbeat_s, redelivery_s)
            try:
                if self.amqp:
                    bound_reads(connection.transport, end_s=time.monotonic() + share_s)
                raw = connection.transport.establish_connection()
            except ImportError as error:
                # Some transports look for their package only now.
                raise MissingExtra(f"kombu's transport for {self} needs a package: {error}") from error
            except Exception as error:  # noqa: BLE001 - each transport has errors of its own
                last_error = error
                self.hosts.report_silent(host)
                continue
            reports = HostReports(partial(self.hosts.report_answer, host), partial(self.hosts.report_silent, host))
            return QueueConnection(connection, raw, reports, amqp=self.amqp, step_s=step_s)
        raise last_error

    def _new_connection(
        self, options: Mapping[str, Any], step_s: float, heartbeat_s: float, redelivery_s: float
    ) -> Any:
        if self.amqp:
            return kombu_module().Connection(**options, connect_timeout=step_s, heartbeat=heartbeat_s)
        unacked_key = f"{self.queue}.unacked"
        return kombu_module().Connection(
            **options,
            connect_timeout=step_s,
            # Each transport ignores options that it does not have. Without separate keys, unacknowledged messages would
            # be mixed with those of a Celery on the same Redis.
            transport_options={
                "socket_timeout": step_s,
                "socket_connect_timeout": step_s,
                "visibility_timeout": redelivery_s,
                "unacked_key": unacked_key,
                "unacked_index_key": f"{unacked_key}.index",
                "unacked_mutex_key": f"{unacked_key}.mutex",
                "priority_steps": [0],
            },
        )


@cache
def kombu_module() -> ModuleType:
    """kombu, imported at the first use, so after any monkey patching."""
    return load_driver("kombu", "a queue URL needs kombu: pip install 'tidings[kombu]'", _load_kombu)


def _load_kombu() -> ModuleType:
    import kombu

    # kombu imports the modules of these at their first use.
    for name in ("Connection", "Consumer", "Queue"):
        getattr(kombu, name)
    return kombu


def is_refusal(error: BaseException) -> bool:
    """Whether the server rejects the login, the virtual host or TLS: a retry cannot succeed."""
    names = {"AccessRefused", "NotAllowed", "AuthenticationError", "AuthenticationWrongNumberOfArgsError"}
    return type(error).__name__ in names or isinstance(error, ssl.SSLCertVerificationError)


def is_too_large(error: BaseException | None) -> bool:
    """Whether RabbitMQ closed a channel because a message exceeds its `max_message_size`."""
    return type(error).__name__ == "PreconditionFailed" and "message size" in str(error)


def _parse_amqp(url: str) -> QueueAddress:
    parts = HostsUrl.parse(url, port=_PORTS[url.partition("://")[0]])
    query = read_query(parts.query)
    queue = str(query.pop("queue", QUEUE))
    tls: dict[str, Any] | bool = False
    if parts.scheme == "amqps":
        tls = {name: query.pop(name) for name in _TLS_OPTIONS if name in query} | {"cert_reqs": ssl.CERT_REQUIRED}
    if query:
        known = dict.fromkeys(("queue", *(_TLS_OPTIONS if parts.scheme == "amqps" else ())))
        raise unknown_option(next(iter(query)), parts.query, parts.scheme, known)
    vhost = unquote(parts.path) or "/"
    login = {"userid": parts.login.get("username"), "password": parts.login.get("password")}
    options = {
        (host, port): {
            **login,
            "hostname": host,
            "port": port,
            "virtual_host": vhost,
            "transport": "pyamqp",
            # Without the name py-amqp accepts a certificate for any host.
            "ssl": {**tls, "server_hostname": host} if isinstance(tls, dict) else False,
        }
        for host, port in parts.nodes
    }
    return QueueAddress(
        f"{parts.display_url}/{'' if vhost == '/' else parts.path}",
        queue,
        amqp=True,
        options=options,
        hosts=HostOrder(options, rotates=False),
        tls_options={name: tls[name] for name in _TLS_OPTIONS if name in tls} if isinstance(tls, dict) else {},
    )


def _parse_other(kind: str, rest: str) -> QueueAddress:
    if kind in _UNSHARED:
        raise BadConfig(f"{OWN_PREFIX}{kind}:// reaches no hub: {_UNSHARED[kind]}")
    check_unicode(rest)
    location, _, query_string = rest.partition("?")
    query = read_query(query_string)
    queue = str(query.pop("queue", QUEUE))
    if kind in ("redis", "rediss"):
        _check_redis(kind, location, query_string, query)
    if kind == "rediss":
        # By default kombu does not verify the certificate and only logs a line.
        query = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"} | query
    url = f"{kind}://{location}" + (f"?{urlencode(query)}" if query else "")
    return QueueAddress(
        f"{OWN_PREFIX}{kind}://{location.rpartition('@')[2]}",
        queue,
        amqp=False,
        options={_ONLY_HOST: {"hostname": url}},
        hosts=HostOrder([_ONLY_HOST]),
        tls_options={name: value for name, value in query.items() if name in _TLS_FILES},
    )


def _check_redis(kind: str, location: str, query_string: str, query: dict[str, str]) -> None:
    """Check database and options, of which kombu takes a wrong one for another, or raises at the first publish."""
    host, _, path = location.rpartition("@")[2].partition("/")
    if host and not host.startswith("["):
        check_quoted_host(host.partition(":")[0])
    database = path.strip("/")
    if database and not NUMBER.match(database):
        raise BadConfig("the database in the URL is not a number")
    known = dict.fromkeys(("queue", *(_KOMBU_TLS_OPTIONS if kind == "rediss" else ())))
    for name, value in list(query.items()):
        if name not in known:
            raise unknown_option(name, query_string, f"{OWN_PREFIX}{kind}", known)
        if name == "ssl_cert_reqs":
            # kombu also knows the names of Python's constants.
            parse_option(name, value.removeprefix("CERT_").lower(), kind)
        elif name == "ssl_check_hostname":
            # kombu takes everything but `false` for true.
            query[name] = str(parse_option(name, value, kind)).lower()
