"""The settings of a node: one frozen model.

`load.py` reads it at start, and again on SIGHUP, which replaces the fields named in `node/reload.py`. Each setting has
its unit in its name, a safe default, and bounds. A limit on clients or backends also has a policy and a metric that
counts it. `render.py` generates docs/settings.md from the models, and a test compares the two.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Self

from pydantic import SecretStr, field_validator, model_validator

from tidings.errors import BadConfig
from tidings.redis_client.topology import check_redis_url
from tidings.tokens import KeySet
from tidings.tokens.signing_keys import SECRET_MIN_BYTES, Key
from tidings_hub.config.broker import BrokerSettings, ClusterSettings
from tidings_hub.config.delivery import ChannelSettings, PresenceSettings, RecoverySettings, ReportSettings
from tidings_hub.config.fields import check_secret, is_placeholder
from tidings_hub.config.inbound import IngressSettings, UserCodeSettings
from tidings_hub.config.ingress import Ingress
from tidings_hub.config.network import ConnectionSettings, NodeSettings, random_node_id
from tidings_hub.config.notifications import NotificationSettings
from tidings_hub.config.security import API_KEY_MIN_BYTES, Namespace, SecuritySettings
from tidings_hub.config.work import WorkSettings
from tidings_hub.core.access import RESERVED_NAMESPACES, USER_NAMESPACE, Access, Origins, Publish, Rule, Subscribe

USER_RULE = Rule(subscribe=Subscribe.USER, history=100, history_ttl_s=86_400)
DEV_RULE = Rule(subscribe=Subscribe.PUBLIC, publish=Publish.SUBSCRIBERS, history=100, history_ttl_s=300, presence=True)
NAMESPACE_FORM = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_NODE_ID = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_PASSWORD = re.compile(r"://[^/?#@]*:([^/?#@]*)@")
_PLAIN_REDIS = re.compile(r"(rediss?|unix|rediss?\+sentinel)://")
# IPv4 addresses as a socket on `::` shows them.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_BROKER = re.compile(r"(memory|rediss?|unix|rediss?\+(sentinel|cluster))://")


class Settings(
    NotificationSettings,
    UserCodeSettings,
    IngressSettings,
    PresenceSettings,
    ReportSettings,
    ClusterSettings,
    BrokerSettings,
    RecoverySettings,
    WorkSettings,
    ChannelSettings,
    ConnectionSettings,
    SecuritySettings,
    NodeSettings,
):
    """All settings of one node. `load.load` creates it; tests may create it directly."""

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
            return random_node_id()
        if not _NODE_ID.match(value):
            raise ValueError("a node_id is 1 to 32 letters, digits and the signs _ -")
        return value

    @field_validator("advertise")
    @classmethod
    def _advertise(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value and not (host and re.fullmatch("[0-9]{1,5}", port) and int(port) <= 65_535):
            raise ValueError("an address is host:port, such as 10.0.0.5:8000")
        if host in {"0.0.0.0", "[::]"}:
            raise ValueError(f"{host} means every address of this machine; set the one that other nodes connect to")
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
            proxy_network(network)
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
    def _check_combinations(self) -> Self:
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
        for name in (
            "link_max_bytes",
            "held_max_bytes",
            "repair_max_bytes",
            "recovery_max_bytes",
            "publish_burst_bytes",
        ):
            if getattr(self, name) < 2 * self.publication_max_bytes:
                raise ValueError(f"{name} is less than two publications of publication_max_bytes; raise it")
        return self

    @property
    def has_keys(self) -> bool:
        """Whether there is any key to verify tokens with."""
        return bool(self.keys or self.jwks or self.secret)

    def rules(self) -> dict[str, Rule]:
        """The rule of each namespace, including `user`."""
        return {USER_NAMESPACE: USER_RULE} | {name: rules.rule() for name, rules in self.namespaces.items()}

    def broker_rules(self) -> dict[str, Rule]:
        """The rules for the broker. With dev, `*` is the rule of every other namespace."""
        return self.rules() | ({"*": DEV_RULE} if self.dev else {})

    def access(self) -> Access:
        """The access rules for channels."""
        return Access(self.rules(), default=DEV_RULE if self.dev else None)

    def origin_policy(self) -> Origins:
        """The origins whose pages may connect."""
        return Origins(self.origins)

    def proxy_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The networks of `trusted_proxies`."""
        return tuple(map(proxy_network, self.trusted_proxies))

    def key_set(self, *, env: Mapping[str, str] | None = None) -> KeySet | None:
        """The keys that verify tokens, or None if there is no key. Reads key files, but fetches no JWKS.

        Raises:
            BadConfig: a key is missing or too weak.
        """
        if not self.has_keys:
            return None
        keys = [source.load_key(os.environ if env is None else env) for source in self.keys]
        if self.secret is not None:
            keys.append(Key("HS256", self.secret.get_secret_value()))
        return KeySet(
            keys,
            audience=self.audience,
            issuer=self.issuer,
            leeway_s=self.token_leeway_s,
            jwks=[source.open() for source in self.jwks],
            wait_s=self.jwks_wait_s,
            waiting_max=self.waiting_max_per_issuer,
        )

    @property
    def waiting_max_per_issuer(self) -> int:
        """`jwks_waiting_max`, or less: the waits for all issuers leave half of the `handlers` for other CONNECTs."""
        return max(1, min(self.jwks_waiting_max, self.handlers // (2 * max(1, len(self.jwks)))))

    def relay_secrets(self, *, env: Mapping[str, str] | None = None) -> list[str]:
        """The secrets that all nodes share. A node signs relayed requests with the first one and accepts all of them.

        Raises:
            BadConfig: a key's secret cannot be read.
        """
        if self.relay_secret is not None:
            return [self.relay_secret.get_secret_value()]
        secrets = [] if self.secret is None else [self.secret.get_secret_value()]
        variables = os.environ if env is None else env
        return secrets + [source.read_key(variables) for source in self.keys if source.algorithm == "HS256"]

    def check_serving(self) -> None:
        """Return if a node may serve with these settings.

        Raises:
            BadConfig: there is no key for tokens, a key is not valid, or settings contradict each other.
            MissingExtra: a package that an ingress needs is not installed.
        """
        if self.key_set() is None and not self.dev:
            raise BadConfig(
                "no key to verify tokens with; run `export TIDINGS_SECRET=$(openssl rand -base64 32)` first,"
                " or try it out with --dev"
            )
        if self.advertise and not self.relay_secrets():
            raise BadConfig("nodes that relay need a shared secret; set relay_secret to the same value on all of them")
        if self.workers > 1 and self.broker.startswith("memory://"):
            raise BadConfig("workers need Redis: set broker to redis://host:6379/0, or workers to 1")
        self.notifications.check_address()
        for name, source in self.ingress.pubsub_sources().items():
            if not _PLAIN_REDIS.match(source.url or self.broker):
                raise BadConfig(f"ingress.{name} needs a single Redis: set its url to redis://host:6379/0")
        for url in (self.broker, *(source.url for source in self.ingress.pubsub_sources().values())):
            if url and not url.startswith("memory://"):
                check_redis_url(url)
        for queue in self.ingress.queues.values():
            queue.address().check()

    def insecure_options(self) -> list[str]:
        """A description of every unsafe option in use. They are logged at start and shown by /healthz."""
        options = []
        if self.dev:
            options.append("dev: anonymous clients, any namespace, no API key")
        if self.hooks.events and self.hooks.fail_open:
            options.append("hooks: fail_open allows a request if its hook fails")
        if "*" in self.origins:
            options.append("origins: any page may connect")
        if wide := [network for network in self.trusted_proxies if is_wide(proxy_network(network))]:
            options.append(
                f"trusted_proxies: {', '.join(wide)} trusts forwarded headers from any address, so clients choose the"
                " address that the hub sees; name your proxies only"
            )
        return options


def proxy_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network of `trusted_proxies`. The hub reads ::ffff:10.0.0.1, the peer of a socket on `::`, as 10.0.0.1."""
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        return ipaddress.IPv4Network(
            (int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - _MAPPED.prefixlen)
        )
    return network


def is_wide(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """Whether a network is larger than every private one: 10.0.0.0/8 and fc00::/7. It has clients in it."""
    return network.prefixlen < (8 if network.version == 4 else 7)


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address, which only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
