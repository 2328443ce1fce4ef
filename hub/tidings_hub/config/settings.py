"""The settings of a node: one frozen model, read once (`sources.py` reads it).

Each setting has its unit in its name, a default that is safe, bounds, and, where it is a
bound on what others do, a policy and the metric that counts it. docs/settings.md is
generated from this file and checked against it.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from tidings.errors import BadConfig
from tidings.tokens import KeySet
from tidings.tokens.signing_keys import SECRET_MIN_BYTES, Key
from tidings_hub.config.fields import JwksSource, KeySource, Model, Namespace, check_secret, is_placeholder, setting
from tidings_hub.config.hooks import Hooks
from tidings_hub.config.ingress import Ingress
from tidings_hub.core.access import RESERVED_NAMESPACES, USER_NAMESPACE, Access, Origins, Publish, Rule, Subscribe

API_KEY_MIN_BYTES = 16
USER_RULE = Rule(subscribe=Subscribe.USER, history=100, history_ttl_s=86_400)
DEV_RULE = Rule(subscribe=Subscribe.PUBLIC, publish=Publish.SUBSCRIBERS, history=100, history_ttl_s=300, presence=True)
NAMESPACE_FORM = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_NODE_ID = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_PASSWORD = re.compile(r"://[^/?#@]*:([^/?#@]*)@")
_PLAIN_REDIS = re.compile(r"(rediss?|unix|rediss?\+sentinel)://")
_BROKER = re.compile(r"(memory|rediss?|unix|rediss?\+(sentinel|cluster))://")


def _made_up() -> str:
    return secrets.token_hex(3)


class _Listening(Model):
    """Where the node listens, and who it is."""

    host: str = setting("127.0.0.1", "Address to listen on")
    port: int = setting(8000, "Port to listen on; 0 takes a free one", ge=0, le=65_535)
    backlog: int = setting(4096, "Connections that wait to be accepted", ge=1, le=65_535)
    node_id: str = Field(
        default_factory=_made_up,
        description="This node's name among the nodes; made up if not given",
        validate_default=True,
    )
    broker: str = setting(
        "memory://",
        "Where nodes meet: memory://, redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://",
        shown=False,
    )
    prefix: str = setting("tidings:", "What all the hub's names in the broker begin with")
    advertise: str = setting(
        "",
        "`host:port` where other nodes reach this one, to relay requests that came to the wrong node; none: no relaying"
        " (behind a sticky balancer none is needed)",
    )
    lease_s: float = setting(
        10.0,
        "Seconds after which the others count a silent node as gone",
        ge=0.3,
        le=600,
        policy="answer its sessions as unknown: the clients connect anew",
        metric="relay_unknown",
    )
    relay_max: int = setting(
        10_000,
        "Requests and WebSockets at once that are on their way to other nodes",
        ge=1,
        le=1_000_000,
        policy="answer 503; a WebSocket stays on polling",
        metric="relay_full",
    )
    relay_timeout_s: float = setting(
        3.0,
        "Seconds until another node has taken a request",
        ge=0.1,
        le=60,
        policy="answer as an unknown session: the client connects anew",
        metric="relay_failed",
    )
    workers: int = setting(
        1, "Nodes on this machine that share the port, started and watched by one supervisor; needs Redis", ge=1, le=256
    )
    drain_notice_s: float = setting(
        2.0,
        "Seconds between the first failing /readyz of a stopping node and its last accepted connection, for a balancer"
        " to notice; none under --dev",
        ge=0,
        le=600,
    )
    drain_s: float = setting(
        10.0,
        "Seconds in which a stopping node sends its connections away",
        ge=0,
        le=600,
        policy="close with `draining`",
        metric="connections_closed",
    )
    dev: bool = setting(
        default=False, about="Anonymous clients, any namespace, no API key; only on loopback. For local trial only"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Least important line that is logged")


class _Security(Model):
    """Who may connect, and how tokens and API keys are checked."""

    origins: tuple[str, ...] = setting(
        (),
        "Origins of pages that may connect; empty is the hub's own origin, `*` any page (unsafe)",
        policy="refuse with `bad_origin`",
        metric="bad_origins",
    )
    trusted_proxies: tuple[str, ...] = setting((), "Networks whose X-Forwarded-For and -Proto headers are believed")
    secret: SecretStr | None = setting(
        None, f"The short way to one HS256 key: a secret of at least {SECRET_MIN_BYTES} bytes that backends sign with"
    )
    relay_secret: SecretStr | None = setting(
        None, "What nodes prove themselves to each other with; default: `secret`, or the first HS256 secret of `keys`"
    )
    keys: tuple[KeySource, ...] = setting((), "Keys that tokens are checked with; several at once for rotation")
    jwks: tuple[JwksSource, ...] = setting((), "Issuers whose keys are read from a JWKS")
    audience: str = setting("", "The `aud` that tokens must have; empty asks for none")
    issuer: str = setting("", "The `iss` that tokens made with `keys` must have; empty asks for none")
    token_leeway_s: float = setting(10.0, "Clock difference allowed in `exp`, `nbf` and `iat`", ge=0, le=300)
    auth_failures_per_minute: int = setting(
        60,
        "Tokens that do not hold, from one address in a minute, that are answered",
        ge=1,
        le=1_000_000,
        policy="close with `too_fast`, without an answer; tokens that hold are not affected",
        metric="auth_throttled",
    )
    expiry_warning_s: float = setting(30.0, "Seconds before a token's end at which its client is told", ge=0, le=3600)
    api_keys: tuple[SecretStr, ...] = setting(
        (),
        f"Keys of backends for the HTTP API, each at least {API_KEY_MIN_BYTES} bytes; several for rotation",
        policy="refuse with `unauthorized`",
        metric="api_unauthorized",
    )
    namespaces: dict[str, Namespace] = setting(
        {}, "The namespaces and their rules; `user` is always there, with a day of history"
    )


class _Connections(Model):
    """Limits on connections. A client that passes one gets a code; nobody else is disturbed."""

    max_connections: int = setting(
        50_000, "Connections per node", ge=1, le=5_000_000, policy="refuse with `full`", metric="refused_full"
    )
    connections_per_address: int = setting(
        0,
        "Sessions from one address, or from one /64 of IPv6, as trusted_proxies say; 0 is no limit",
        ge=0,
        le=5_000_000,
        policy="refuse with `too_many_connections` and status 429",
        metric="refused_per_address",
    )
    ping_interval_s: float = setting(25.0, "Seconds between pings to a client", ge=0.05, le=600)
    ping_timeout_s: float = setting(
        20.0,
        "Seconds that a client has to answer a ping",
        ge=0.05,
        le=600,
        policy="close with `ping_timeout`",
        metric="closed_ping_timeout",
    )
    connect_timeout_s: float = setting(
        10.0,
        "Seconds from the handshake until a session must be authenticated",
        ge=0.1,
        le=300,
        policy="close with `connect_timeout`",
        metric="closed_connect_timeout",
    )
    head_timeout_s: float = setting(
        10.0,
        "Seconds for a request's head to arrive",
        ge=0.1,
        le=300,
        policy="answer 408, close",
        metric="http_timeouts",
    )
    body_timeout_s: float = setting(
        20.0,
        "Seconds from the end of a request's head for its body to arrive",
        ge=0.1,
        le=600,
        policy="answer 408, close",
        metric="http_timeouts",
    )
    answer_timeout_s: float = setting(
        60.0,
        "Seconds that an HTTP client has to read an answer",
        ge=0.1,
        le=3600,
        policy="close",
        metric="http_unread",
    )
    head_max_bytes: int = setting(
        16_384, "Bytes of a request's head", ge=1024, le=262_144, policy="answer 431, close", metric="http_refused"
    )
    keep_alive_s: float = setting(
        75.0, "Seconds an idle HTTP connection is kept", ge=0, le=3600, policy="close", metric="http_idle"
    )
    upgrade_timeout_s: float = setting(
        10.0,
        "Seconds that a client has to complete its move from long polling to a WebSocket",
        ge=0.1,
        le=300,
        policy="close the WebSocket; the session goes on with long polling",
        metric="upgrade_timeouts",
    )
    close_linger_s: float = setting(
        2.0,
        "Seconds that a closed connection has to read what was written to it last",
        ge=0,
        le=60,
        policy="cut it off",
        metric="closes_cut",
    )
    max_payload_bytes: int = setting(
        65_536,
        "Bytes of one message or POST body of a client",
        ge=1024,
        le=67_108_864,
        policy="refuse before it is buffered, close with 1009 or answer 413",
        metric="closed_too_large",
    )
    poll_pace_ms: int = setting(
        3,
        "Least time between two answers to one long-polling client while publications pour in; 0 is none",
        ge=0,
        le=1000,
        policy="join what comes meanwhile into one answer; the first publication is never delayed",
        metric="polls_paced",
    )
    out_buffer_bytes: int = setting(
        1_048_576,
        "Bytes waiting for one slow connection",
        ge=16_384,
        le=268_435_456,
        policy="close with `slow`; the client recovers from its cursor",
        metric="closed_slow",
    )
    inbound_rate_per_s: float = setting(
        50.0,
        "Messages per second that one connection may send, in the long run",
        ge=0.1,
        le=100_000,
        policy="close with `too_fast`",
        metric="closed_too_fast",
    )
    inbound_burst: int = setting(
        200,
        "Messages that one connection may send at once",
        ge=1,
        le=1_000_000,
        policy="close with `too_fast`",
        metric="closed_too_fast",
    )
    channels_per_connection: int = setting(
        128,
        "Channels that one connection may subscribe to",
        ge=1,
        le=100_000,
        policy="refuse with `too_many_channels`",
        metric="channels_refused",
    )


class _Work(Model):
    """Limits on the work that a node does at once, and on the HTTP API."""

    handlers: int = setting(256, "Client events handled at once", ge=1, le=100_000)
    handler_queue: int = setting(
        10_000,
        "Client events waiting for a handler",
        ge=1,
        le=1_000_000,
        policy="answer `unavailable`",
        metric="handlers_refused",
    )
    wsgi_requests: int = setting(256, "HTTP requests for Flask answered at once", ge=1, le=100_000)
    wsgi_queue: int = setting(
        256,
        "HTTP requests that wait to be answered by Flask",
        ge=0,
        le=100_000,
        policy="answer 503",
        metric="wsgi_refused",
    )
    wsgi_timeout_s: float = setting(
        30.0, "Seconds for one answer of Flask", ge=0.1, le=600, policy="answer 500, close", metric="wsgi_timeouts"
    )
    wsgi_response_max_bytes: int = setting(
        16_777_216,
        "Bytes of one answer of Flask",
        ge=65_536,
        le=1_073_741_824,
        policy="answer 500, close",
        metric="wsgi_too_large",
    )
    api_body_max_bytes: int = setting(
        1_048_576, "Bytes of an API request", ge=1024, le=268_435_456, policy="answer 413", metric="api_too_large"
    )
    max_batch: int = setting(
        100, "Publications in one API request", ge=1, le=10_000, policy="answer 413", metric="api_too_large"
    )
    publication_max_bytes: int = setting(
        65_536,
        "Bytes of a publication's data as JSON",
        ge=256,
        le=16_777_216,
        policy="refuse with `too_large`",
        metric="publications_too_large",
    )


class _Recovery(Model):
    """What is kept for clients that were away, and how loss is found."""

    history_page_max: int = setting(
        1000,
        "Publications in one history answer",
        ge=1,
        le=10_000,
        policy="answer fewer over HTTP, refuse with `bad_request` over Socket.IO",
        metric="history_limited",
    )
    recovery_max: int = setting(
        1000,
        "Publications recovered per channel",
        ge=1,
        le=10_000,
        policy="answer `recovered: false`",
        metric="recoveries_failed",
    )
    recovery_max_bytes: int = setting(
        4_194_304,
        "Bytes read from the broker for one recovery or history answer",
        ge=65_536,
        le=268_435_456,
        policy="answer `recovered: false`; a history answer has fewer",
        metric="recoveries_failed",
    )
    hold_max: int = setting(
        10_000,
        "Live publications held back while a connection recovers",
        ge=1,
        le=1_000_000,
        policy="answer `recovered: false`",
        metric="held_overflows",
    )
    recovery_window_s: float = setting(
        120.0,
        "Seconds, at least, in which a stock client that was cut off may return as the session that it was (pid);"
        " 0: never",
        ge=0,
        le=86_400,
    )
    recovery_sessions_max: int = setting(
        200_000,
        "Sessions of this node that the broker keeps for a return, the live ones included",
        ge=1,
        le=10_000_000,
        policy="give no pid: such a client begins anew",
        metric="recovery_sessions_refused",
    )
    recovery_session_max_bytes: int = setting(
        32_768,
        "Bytes of what the broker keeps of one session: its channels",
        ge=256,
        le=1_048_576,
        policy="keep nothing of it: such a client begins anew",
        metric="recovery_sessions_too_large",
    )
    idempotency_s: int = setting(300, "Seconds that the broker knows a publication's id", ge=1, le=86_400)
    linger_s: float = setting(30.0, "Seconds a node stays in a channel after its last subscription", ge=0, le=3600)
    canary_interval_s: float = setting(5.0, "Seconds between two canaries through the broker", ge=0.1, le=300)
    canary_timeout_s: float = setting(
        3.0,
        "Seconds a canary has to come back",
        ge=0.1,
        le=300,
        policy="/readyz answers 503",
        metric="canaries_lost",
    )
    position_check_s: float = setting(5.0, "Seconds between two checks for lost publications", ge=0.1, le=300)


class _Broker(Model):
    """Bounds between the node and its broker. What passes one is repaired, or told as a gap."""

    broker_timeout_s: float = setting(
        5.0,
        "Seconds to wait for one answer of the broker",
        ge=0.1,
        le=300,
        policy="answer `unavailable` or `timeout`",
        metric="broker_timeouts",
    )
    pointer_ttl_s: int = setting(
        604_800,
        "Seconds that the broker knows a channel's end after its last use",
        ge=14_400,
        le=31_536_000,
        policy="what came before counts as a gap: `recovered: false`",
        metric="recoveries_failed",
    )
    link_max_bytes: int = setting(
        67_108_864,
        "Bytes of an unfinished message on the link to the broker",
        ge=1_048_576,
        le=536_870_912,
        policy="make the link anew, without the message",
        metric="broker_oversize",
    )
    early_max: int = setting(
        256,
        "Live publications kept of one channel while the node joins it",
        ge=1,
        le=100_000,
        policy="drop; found missing and repaired",
        metric="broker_held_dropped",
    )
    held_max_bytes: int = setting(
        16_777_216,
        "Bytes of live publications kept back while channels are repaired",
        ge=65_536,
        le=1_073_741_824,
        policy="drop; found missing and repaired",
        metric="broker_held_dropped",
    )
    repair_max_bytes: int = setting(
        67_108_864,
        "Bytes read from the broker in one repair",
        ge=65_536,
        le=1_073_741_824,
        policy="tell a gap in the channels beyond it",
        metric="gaps_lost",
    )
    doubts_max: int = setting(
        10_000,
        "Channels of which is known which cursors lack something that this node had lost",
        ge=1,
        le=10_000_000,
        policy="doubt such cursors in every channel: `recovered: false`",
        metric="doubts_widened",
    )


class _Cluster(Model):
    """What all nodes do together."""

    control_timeout_s: float = setting(
        2.0,
        "Seconds that an order to all nodes waits for their answers",
        ge=0.05,
        le=60,
        policy="answer which nodes are missing",
        metric="control_unanswered",
    )
    node_record_s: float = setting(
        5.0,
        "Seconds between two records that a node writes of itself; after three without one it counts as gone",
        ge=0.1,
        le=300,
    )


class _Reports(Model):
    """What is kept of publications that ask what became of them."""

    report_keep_s: float = setting(
        60.0, "Seconds that it is known whom such a publication reached and who acknowledged it", ge=1, le=3600
    )
    ack_timeout_s: float = setting(
        10.0,
        "Seconds after which acknowledgements that have not come are awaited no longer; they still count",
        ge=0,
        le=3600,
    )
    reports_max: int = setting(
        1000,
        "Such publications that a node knows of",
        ge=1,
        le=1_000_000,
        policy="forget the oldest",
        metric="reports_dropped",
    )
    acks_max: int = setting(
        100_000,
        "Acknowledgements of all of them that a node knows of; those of the latest may be more",
        ge=1,
        le=100_000_000,
        policy="forget the oldest publication",
        metric="reports_dropped",
    )


class _Presence(Model):
    """Who is where, in namespaces with the rule `presence`."""

    presence_grace_s: float = setting(
        3.0, "Seconds until a user whose last connection left a channel counts as gone", ge=0, le=600
    )
    presence_lease_s: float = setting(
        15.0, "Seconds without a sign of a node after which its users count as gone", ge=0.4, le=600
    )
    presence_list_max: int = setting(
        1000,
        "Users of a channel up to which they are listed and their joins and leaves told",
        ge=1,
        le=10_000,
        policy="tell their number instead",
        metric="presence_lists_refused",
    )
    presence_info_max_bytes: int = setting(
        512,
        "Bytes of a token's `info` as JSON, if presence is to show it",
        ge=2,
        le=1024,
        policy="show null instead",
        metric="presence_infos_refused",
    )


class _Ingress(Model):
    """Other ways in. Each is off unless it is named: durable queues, and other emitters' wire formats."""

    ingress: Ingress = setting(
        Ingress(),
        "Queues, each a table `[ingress.<name>]` (docs/backends.md), and formats, `[ingress.<format>]`"
        " (docs/other-emitters.md)",
    )
    ingress_lease_s: float = setting(
        3.0,
        "Seconds after which another node listens to a format that comes over Redis, when the one that did is silent",
        ge=0.3,
        le=600,
        policy="drop what is read after it: another node may have published it",
        metric="wires_dropped",
    )
    ingress_message_max_bytes: int = setting(
        262_144,
        "Bytes of one message of these formats",
        ge=1024,
        le=67_108_864,
        policy="refuse with `too_large`",
        metric="wires_refused",
    )


class _Code(Model):
    """Code of your own in the node: handlers of client events (docs/handlers.md), and a WSGI application beside it."""

    app: str = setting("", "Module with a `tidings_hub.App`, as `myapp.realtime` or `myapp.realtime:app`")
    wsgi: str = setting("", "WSGI application that gets every address that is not the hub's own, as `myapp:app`")
    app_handlers: int = setting(
        64, "Calls of one handler, and packets that wait for one kind of hook, at once", ge=1, le=100_000
    )
    hooks: Hooks = setting(Hooks(), "A backend that is asked over HTTP, see below")
    app_handler_queue: int = setting(
        1000,
        "Calls of one handler that wait",
        ge=0,
        le=1_000_000,
        policy="answer `unavailable`; leave out `on_disconnect`",
        metric="app_refused",
    )
    app_timeout_s: float = setting(
        5.0,
        "Seconds for one call of a handler, which is interrupted where it next waits; for `on_connect` to be"
        " kept below `connect_timeout_s`",
        ge=0.05,
        le=600,
        policy="answer `timeout`",
        metric="app_timeouts",
    )
    stall_warn_s: float = setting(
        1.0,
        "Seconds that code of yours may keep the event loop from everybody else",
        ge=0.05,
        le=600,
        policy="log where it stands; it cannot be interrupted",
        metric="loop_stalls",
    )


class Settings(
    _Code, _Ingress, _Presence, _Reports, _Cluster, _Broker, _Recovery, _Work, _Connections, _Security, _Listening
):
    """All settings of one node. `sources.load` makes it; tests may make it directly."""

    @field_validator("broker")
    @classmethod
    def _broker(cls, value: str) -> str:
        if not _BROKER.match(value):
            raise ValueError(
                "a broker is memory://, redis://host:port/0, rediss://, unix://, redis+sentinel:// or redis+cluster://"
            )
        return value

    @field_validator("node_id")
    @classmethod
    def _node_id(cls, value: str) -> str:
        if not value:
            return _made_up()
        if not _NODE_ID.match(value):
            raise ValueError("a node_id is 1 to 32 letters, digits and the signs _ -")
        return value

    @field_validator("advertise")
    @classmethod
    def _advertise(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and not (host and port.isdecimal() and int(port) <= 65_535):
            raise ValueError("an address is host:port, such as 10.0.0.5:8000")
        if host in {"0.0.0.0", "[::]"}:
            raise ValueError(f"{host} is every address of this machine; name the one that other nodes reach")
        return value

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if not _PREFIX.match(value):
            raise ValueError("a prefix is 1 to 64 letters, digits and the signs _ . : -")
        return value

    @field_validator("origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            Origins(value)
        except BadConfig as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("secret", "relay_secret")
    @classmethod
    def _secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_secret(value, min_bytes=SECRET_MIN_BYTES)
        return value

    @field_validator("api_keys")
    @classmethod
    def _api_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in value:
            check_secret(key, min_bytes=API_KEY_MIN_BYTES)
        return value

    @field_validator("namespaces")
    @classmethod
    def _namespaces(cls, value: dict[str, Namespace]) -> dict[str, Namespace]:
        for name, rules in value.items():
            if not NAMESPACE_FORM.match(name) or name in RESERVED_NAMESPACES:
                raise ValueError(
                    f"{name!r} cannot be a namespace: 1 to 64 letters, digits, _ and -, not a reserved word"
                )
            if name == USER_NAMESPACE and rules.subscribe is not Subscribe.USER:
                raise ValueError('the namespace "user" always has subscribe = "user"')
        return value

    @field_validator("ingress")
    @classmethod
    def _ingress(cls, value: Ingress) -> Ingress:
        for name in value.queues:
            if not _NODE_ID.match(name):
                raise ValueError("the name of an ingress is 1 to 32 letters, digits and the signs _ -")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.dev and not is_loopback(self.host):
            raise ValueError(f"dev is for loopback only, and host is {self.host}; configure keys and drop dev")
        tables = self.ingress.tables()
        urls = {"broker": self.broker} | {f"ingress.{name}": getattr(tables[name], "url", "") for name in tables}
        for name, url in () if self.dev else urls.items():
            if any(is_placeholder(password) for password in _PASSWORD.findall(url)):
                raise ValueError(f"{name}: its password is a placeholder; `openssl rand -hex 24` makes a good one")
        kids = [key.kid for key in self.keys if key.kid]
        if len(kids) != len(set(kids)):
            raise ValueError("two keys have the same kid")
        for name in ("link_max_bytes", "held_max_bytes", "repair_max_bytes", "recovery_max_bytes"):
            if getattr(self, name) < 2 * self.publication_max_bytes:
                raise ValueError(f"{name} is less than two publications of publication_max_bytes; raise it")
        return self

    @property
    def has_keys(self) -> bool:
        """Whether any token can be checked."""
        return bool(self.keys or self.jwks or self.secret)

    def rules(self) -> dict[str, Rule]:
        """The rule of each namespace, `user` included."""
        return {USER_NAMESPACE: USER_RULE} | {name: rules.rule() for name, rules in self.namespaces.items()}

    def broker_rules(self) -> dict[str, Rule]:
        """The rules as the broker keeps them; under dev `*` stands for every other namespace."""
        return self.rules() | ({"*": DEV_RULE} if self.dev else {})

    def access(self) -> Access:
        """Who may do what in a channel."""
        return Access(self.rules(), elsewhere=DEV_RULE if self.dev else None)

    def origin_policy(self) -> Origins:
        """Which pages may connect."""
        return Origins(self.origins)

    def key_set(self, *, env: Mapping[str, str] | None = None) -> KeySet | None:
        """What tokens are checked with; None if there is no key. Reads key files; fetches nothing.

        Raises:
            BadConfig: a key that is missing or too weak.
        """
        if not self.has_keys:
            return None
        keys = [each.key(os.environ if env is None else env) for each in self.keys]
        if self.secret is not None:
            keys.append(Key("HS256", self.secret.get_secret_value()))
        return KeySet(
            keys,
            audience=self.audience,
            issuer=self.issuer,
            leeway_s=self.token_leeway_s,
            jwks=[each.open() for each in self.jwks],
        )

    def relay_secrets(self, *, env: Mapping[str, str] | None = None) -> list[str]:
        """The secrets that all nodes have: the first one makes stamps, all of them are believed.

        Raises:
            BadConfig: a key's secret cannot be read.
        """
        if self.relay_secret is not None:
            return [self.relay_secret.get_secret_value()]
        own = [] if self.secret is None else [self.secret.get_secret_value()]
        named = os.environ if env is None else env
        return own + [each.text(named) for each in self.keys if each.algorithm == "HS256"]

    def check_serving(self) -> None:
        """Returns if a node may serve with these settings.

        Raises:
            BadConfig: no key to check tokens with, or one that does not do; the message says how to make one.
            MissingExtra: what an ingress needs is not installed.
        """
        if self.key_set() is None and not self.dev:
            raise BadConfig(
                "no key to check tokens with; run `export TIDINGS_SECRET=$(openssl rand -base64 32)` first,"
                " or try it out with --dev"
            )
        if self.advertise and not self.relay_secrets():
            raise BadConfig("nodes that relay need a secret in common; set relay_secret to the same on all of them")
        if self.workers > 1 and self.broker.startswith("memory://"):
            raise BadConfig("workers meet in Redis: set broker to redis://host:6379/0, or workers to 1")
        for name, source in self.ingress.listening().items():
            if not _PLAIN_REDIS.match(source.url or self.broker):
                raise BadConfig(f"ingress.{name} listens on one Redis: set its url to redis://host:6379/0")
        for queue in self.ingress.queues.values():
            queue.address().check()

    def insecure(self) -> list[str]:
        """Every unsafe choice, in words; warned about at start and shown by /healthz."""
        found = []
        if self.dev:
            found.append("dev: anonymous clients, any namespace, no API key")
        if self.hooks.events and self.hooks.fail_open:
            found.append("hooks: fail_open allows what nobody answered")
        if "*" in self.origins:
            found.append("origins: any page may connect")
        if not is_loopback(self.host) and any(network.endswith("/0") for network in self.trusted_proxies):
            found.append("trusted_proxies: forwarded headers are believed from anywhere")
        return found


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
