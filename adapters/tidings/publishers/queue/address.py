"""Queue URLs and kombu's connections. Only this file imports kombu.

amqp://user:password@host:5672[,host:5672…]/vhost?queue=tidings         RabbitMQ and what speaks AMQP 0-9-1
amqps://user:password@host/vhost?ca_certs=/etc/tls/ca.pem               the same over TLS, always verified
kombu+redis://user:password@host:6379/0?queue=tidings                   kombu's redis:// transport; others likewise
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from tidings.errors import BadConfig, MissingExtra
from tidings.redis_client.url import HostsUrl

QUEUE = "tidings"
AMQP_SCHEMES = ("amqp", "amqps")
OWN_PREFIX = "kombu+"
_PORTS = {"amqp": 5672, "amqps": 5671}
_TLS_OPTIONS = ("ca_certs", "certfile", "keyfile")
_QUEUE_FORM = re.compile(r"[A-Za-z0-9_.:-]{1,200}\Z")
_TRANSPORT_FORM = re.compile(r"[a-z][a-z0-9]{1,31}\Z")
# The timeout of the close handshake.
_CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """A queue's name and its server. `str()` shows neither user nor password. `amqp`: it has confirms and returns.

    `options`: arguments for kombu's Connection, one set per host.
    """

    display_url: str
    queue: str
    amqp: bool
    options: tuple[Mapping[str, Any], ...] = field(repr=False)

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
            MissingExtra: kombu, or a package of its transport, is not installed. BadConfig: there is no such transport.
        """
        try:
            self._new_connection(self.options[0], 1.0, 0.0, 1.0).get_transport_cls()
        except (ImportError, AttributeError) as error:
            raise MissingExtra(f"kombu's transport for {self} needs a package: {error}") from error
        except (KeyError, ValueError) as error:
            raise BadConfig(f"kombu has no transport for {self}") from error

    def connect(self, *, timeout_s: float, heartbeat_s: float = 0.0, redelivery_s: float = 3600.0) -> QueueConnection:
        """Connect to the first host that responds. Each host gets an equal part of `timeout_s`.

        `heartbeat_s`: AMQP's heartbeat interval; then `check_heartbeat` must be called every second. `redelivery_s`:
        the time after which transports other than AMQP redeliver a message that was not acknowledged.

        Raises:
            Exception: an error of kombu, its driver or the system: no host could be connected to.
        """
        last_error: Exception | None = None
        for options in self.options:
            # Two steps can block, one after the other: the TCP connect and the first reply.
            step_s = timeout_s / len(self.options) / 2
            connection = self._new_connection(options, step_s, heartbeat_s, redelivery_s)
            try:
                return QueueConnection(
                    connection, connection.transport.establish_connection(), amqp=self.amqp, step_s=step_s
                )
            except Exception as error:  # noqa: BLE001 - each transport has errors of its own
                last_error = error
        assert last_error is not None  # noqa: S101 - there is at least one host
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


class QueueConnection:
    """One connection, for one thread or greenlet at a time. `errors`: the types that mean it broke."""

    def __init__(self, connection: Any, raw: Any, *, amqp: bool, step_s: float) -> None:
        self._transport = connection.transport
        self._raw = raw
        self.amqp = amqp
        self.step_s = step_s
        # py-amqp raises AttributeError if a connection breaks while it is in use (kombu/transport/pyamqp.py).
        self.errors: tuple[type[Exception], ...] = (
            *(*connection.connection_errors, *connection.channel_errors),
            *(OSError, AttributeError),
        )

    def channel(self) -> Any:
        """A new channel (kombu's interface)."""
        return self._transport.create_channel(self._raw)

    def drain(self, timeout_s: float) -> None:
        """Wait for the next event from the server and handle it.

        Raises:
            TimeoutError: no event for `timeout_s`. One of `errors`: the connection broke.
        """
        # Not 0: then py-amqp would spin while only half a frame has arrived.
        self._transport.drain_events(self._raw, timeout=max(timeout_s, 0.001))

    def set_timeout(self, timeout_s: float) -> None:
        """Set the timeout of each later step, where the transport supports it.

        Raises:
            OSError: the connection is closed. py-amqp itself would silently open a new one.
        """
        if self.amqp:
            if not self._raw.connected:
                raise ConnectionResetError("the connection was closed")
            self._raw.transport.sock.settimeout(timeout_s)

    def on_blocked(self, callback: Any) -> None:
        """Call `callback(reason)` when RabbitMQ blocks publishers (an alarm), `callback("")` when it unblocks them."""
        if self.amqp:
            self._raw.on_blocked = callback
            self._raw.on_unblocked = lambda: callback("")
            # Otherwise py-amqp checks for it before each publish, in the spinning way described above.
            self._raw.client_properties.setdefault("capabilities", {})["connection.blocked"] = False

    def check_heartbeat(self) -> None:
        """Send a heartbeat if one is due, and check the server's. Call it every second.

        Raises:
            One of `errors`: the server sent none for too long.
        """
        self._transport.heartbeat_check(self._raw)

    def close(self) -> None:
        """Close the connection with AMQP's close handshake. Idempotent."""
        try:
            self.set_timeout(_CLOSE_S)
            self._transport.close_connection(self._raw)
        except self.errors:
            self.drop()

    def drop(self) -> None:
        """Close a broken connection without a handshake."""
        # Errors while closing a broken connection have no remedy.
        with suppress(*self.errors):
            if self.amqp:
                self._raw.collect()
            else:
                self._transport.close_connection(self._raw)


def kombu_module() -> ModuleType:
    """kombu, imported at the first use, so after any monkey patching."""
    try:
        import kombu
    except ImportError as error:
        raise MissingExtra("a queue URL needs kombu: pip install 'tidings[kombu]'") from error
    return kombu


def is_refusal(error: BaseException) -> bool:
    """Whether the server rejects the login, the virtual host or TLS: a retry cannot succeed."""
    names = {"AccessRefused", "NotAllowed", "AuthenticationError", "AuthenticationWrongNumberOfArgsError"}
    return type(error).__name__ in names or isinstance(error, ssl.SSLCertVerificationError)


def _parse_amqp(url: str) -> QueueAddress:
    parts = HostsUrl.parse(url, port=_PORTS[url.partition("://")[0]])
    query = dict(parts.query)
    queue = str(query.pop("queue", QUEUE))
    tls: dict[str, Any] | bool = False
    if parts.scheme == "amqps":
        tls = {name: query.pop(name) for name in _TLS_OPTIONS if name in query} | {"cert_reqs": ssl.CERT_REQUIRED}
    if query:
        # The message does not repeat the option: it is part of the password if that contains a `?`.
        raise BadConfig("unknown option in a queue URL; there are queue and, over TLS, ca_certs, certfile, keyfile")
    vhost = unquote(parts.path) or "/"
    login = {"userid": parts.login.get("username"), "password": parts.login.get("password")}
    options = [
        {
            **login,
            "hostname": host,
            "port": port,
            "virtual_host": vhost,
            "transport": "pyamqp",
            # Without the name py-amqp accepts a certificate for any host.
            "ssl": {**tls, "server_hostname": host} if isinstance(tls, dict) else False,
        }
        for host, port in parts.nodes
    ]
    return QueueAddress(
        f"{parts.display_url}/{'' if vhost == '/' else parts.path}", queue, amqp=True, options=tuple(options)
    )


def _parse_other(kind: str, rest: str) -> QueueAddress:
    location, _, query_string = rest.partition("?")
    query = dict(parse_qsl(query_string))
    queue = str(query.pop("queue", QUEUE))
    if kind == "rediss":
        # By default kombu does not verify the certificate and only logs a line.
        query = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"} | query
    url = f"{kind}://{location}" + (f"?{urlencode(query)}" if query else "")
    return QueueAddress(
        f"{OWN_PREFIX}{kind}://{location.rpartition('@')[2]}", queue, amqp=False, options=({"hostname": url},)
    )
