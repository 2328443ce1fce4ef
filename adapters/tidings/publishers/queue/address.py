"""Where a queue is, and how it is reached: from a URL to a connection of kombu, which only this file imports.

amqp://user:password@host:5672[,host:5672…]/vhost?queue=tidings         RabbitMQ and what speaks AMQP 0-9-1
amqps://user:password@host/vhost?ca_certs=/etc/tls/ca.pem               the same over TLS, always verified
kombu+redis://user:password@host:6379/0?queue=tidings                   what kombu calls redis://…, and so on
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
# How long the last words to a server may take.
_CLOSE_S = 1.0


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """A queue's name and where it is. `str()` shows neither user nor password; `amqp`: there are confirms and returns.

    `options` are what kombu's Connection is made with, one for each host to try.
    """

    display_url: str
    queue: str
    amqp: bool
    options: tuple[Mapping[str, Any], ...] = field(repr=False)

    def __str__(self) -> str:
        return self.display_url

    @classmethod
    def parse(cls, url: str, *, queue: str | None = None) -> QueueAddress:
        """The address in a URL; `queue` is the queue's name, if it is not the URL's.

        Raises:
            BadConfig: it is none, or has an unknown option; the message does not repeat the URL.
        """
        scheme, mark, rest = url.partition("://")
        kind = scheme.removeprefix(OWN_PREFIX)
        if not mark or not _TRANSPORT_FORM.match(kind) or not (scheme in AMQP_SCHEMES or scheme.startswith(OWN_PREFIX)):
            raise BadConfig("not a queue's URL; it begins with amqp://, amqps:// or kombu+<transport>://")
        try:
            found = _parse_amqp(f"{kind}://{rest}") if kind in AMQP_SCHEMES else _parse_other(kind, rest)
        except ValueError as error:
            raise BadConfig("not a queue's URL; its form is amqp://[user:password@]host[:port]/vhost") from error
        cls.check_name(queue or found.queue)
        return replace(found, queue=queue or found.queue)

    @staticmethod
    def check_name(queue: str) -> None:
        """Returns if this can be a queue's name.

        Raises:
            BadConfig: it cannot.
        """
        if not _QUEUE_FORM.match(queue):
            raise BadConfig("a queue's name is 1 to 200 letters, digits and the signs _ . : -")

    def check(self) -> None:
        """Returns if kombu is there and knows the transport. Connects to nothing.

        Raises:
            MissingExtra: kombu, or what its transport needs, is not installed. BadConfig: there is no such transport.
        """
        try:
            self._made(self.options[0], 1.0, 0.0, 1.0).get_transport_cls()
        except (ImportError, AttributeError) as error:
            raise MissingExtra(f"kombu's transport for {self} needs a package: {error}") from error
        except (KeyError, ValueError) as error:
            raise BadConfig(f"kombu has no transport for {self}") from error

    def connect(self, *, timeout_s: float, heartbeat_s: float = 0.0, redelivery_s: float = 3600.0) -> QueueConnection:
        """A connection, to the first host that answers; each of its steps takes at most its part of `timeout_s`.

        `heartbeat_s`: AMQP's heartbeat, for who calls `beat` every second. `redelivery_s`: where a transport hands
        out again what nobody acknowledged, after how long it does that.

        Raises:
            Exception: one of kombu's, its driver's or the system's: nobody answers there, or not in the right way.
        """
        last: Exception | None = None
        for options in self.options:
            # Two steps can stand still, one after the other: the network's connect, and the first answer.
            step_s = timeout_s / len(self.options) / 2
            made = self._made(options, step_s, heartbeat_s, redelivery_s)
            try:
                return QueueConnection(made, made.transport.establish_connection(), amqp=self.amqp, step_s=step_s)
            except Exception as error:  # noqa: BLE001 - each transport has errors of its own
                last = error
        assert last is not None  # noqa: S101 - there is a host
        raise last

    def _made(self, options: Mapping[str, Any], step_s: float, heartbeat_s: float, redelivery_s: float) -> Any:
        if self.amqp:
            return kombu_module().Connection(**options, connect_timeout=step_s, heartbeat=heartbeat_s)
        own = f"{self.queue}.unacked"
        return kombu_module().Connection(
            **options,
            connect_timeout=step_s,
            # Each transport takes those that it knows. Without names of its own, what is not acknowledged would lie
            # together with that of a Celery on the same Redis.
            transport_options={
                "socket_timeout": step_s,
                "socket_connect_timeout": step_s,
                "visibility_timeout": redelivery_s,
                "unacked_key": own,
                "unacked_index_key": f"{own}.index",
                "unacked_mutex_key": f"{own}.mutex",
                "priority_steps": [0],
            },
        )


class QueueConnection:
    """One connection, for one thread or greenlet at a time. `errors`: what breaks it. `step_s`: see `connect`."""

    def __init__(self, made: Any, raw: Any, *, amqp: bool, step_s: float) -> None:
        self._transport = made.transport
        self._raw = raw
        self.amqp = amqp
        self.step_s = step_s
        # py-amqp raises AttributeError where a connection breaks while it is in use (kombu/transport/pyamqp.py).
        self.errors: tuple[type[Exception], ...] = (
            *(*made.connection_errors, *made.channel_errors),
            *(OSError, AttributeError),
        )

    def channel(self) -> Any:
        """A new channel (kombu's interface)."""
        return self._transport.create_channel(self._raw)

    def drain(self, timeout_s: float) -> None:
        """Handle the next thing that the server says.

        Raises:
            TimeoutError: it said nothing for `timeout_s`. One of `errors`: the connection is of no use any more.
        """
        # Not 0: with it py-amqp would spin while half of a frame is there.
        self._transport.drain_events(self._raw, timeout=max(timeout_s, 0.001))

    def set_timeout(self, timeout_s: float) -> None:
        """Let no later step take longer than this, where the transport can be told.

        Raises:
            OSError: the connection is closed. py-amqp would quietly make a new one instead.
        """
        if self.amqp:
            if not self._raw.connected:
                raise ConnectionResetError("the connection was closed")
            self._raw.transport.sock.settimeout(timeout_s)

    def on_blocked(self, heard: Any) -> None:
        """Call `heard(reason)` when the server takes no publications for now (RabbitMQ's alarms), `heard("")` after."""
        if self.amqp:
            self._raw.on_blocked = heard
            self._raw.on_unblocked = lambda: heard("")
            # Otherwise each publish would first look for it, in the spinning way.
            self._raw.client_properties.setdefault("capabilities", {})["connection.blocked"] = False

    def check_heartbeat(self) -> None:
        """Send a heartbeat if it is time, and see whether the server's came. Call it every second.

        Raises:
            One of `errors`: it has been silent for too long.
        """
        self._transport.heartbeat_check(self._raw)

    def close(self) -> None:
        """End it, with a word to the server. Idempotent."""
        try:
            self.set_timeout(_CLOSE_S)
            self._transport.close_connection(self._raw)
        except self.errors:
            self.drop()

    def drop(self) -> None:
        """End it without a word: it is broken."""
        # Nothing can be done about what a broken connection says when it is given up.
        with suppress(*self.errors):
            if self.amqp:
                self._raw.collect()
            else:
                self._transport.close_connection(self._raw)


def kombu_module() -> ModuleType:
    """kombu, imported when a queue is first needed (after any monkey patching)."""
    try:
        import kombu
    except ImportError as error:
        raise MissingExtra("a queue's URL needs kombu: pip install 'tidings[kombu]'") from error
    return kombu


def is_refusal(error: BaseException) -> bool:
    """Whether the server refuses who we are or where we want to: trying again will not help."""
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
        # Its name is not repeated: with a password that holds a `?` it would be a part of that.
        raise BadConfig(
            "a queue's URL has an unknown option; there are queue and, over TLS, ca_certs, certfile, keyfile"
        )
    vhost = unquote(parts.path) or "/"
    login = {"userid": parts.login.get("username"), "password": parts.login.get("password")}
    options = [
        {
            **login,
            "hostname": host,
            "port": port,
            "virtual_host": vhost,
            "transport": "pyamqp",
            # Without the name py-amqp would take a certificate for any host.
            "ssl": {**tls, "server_hostname": host} if isinstance(tls, dict) else False,
        }
        for host, port in parts.nodes
    ]
    return QueueAddress(
        f"{parts.display_url}/{'' if vhost == '/' else parts.path}", queue, amqp=True, options=tuple(options)
    )


def _parse_other(kind: str, rest: str) -> QueueAddress:
    place, _, text = rest.partition("?")
    query = dict(parse_qsl(text))
    queue = str(query.pop("queue", QUEUE))
    if kind == "rediss":
        # kombu would not check the certificate, with no more than a line in a log.
        query = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"} | query
    url = f"{kind}://{place}" + (f"?{urlencode(query)}" if query else "")
    return QueueAddress(
        f"{OWN_PREFIX}{kind}://{place.rpartition('@')[2]}", queue, amqp=False, options=({"hostname": url},)
    )
