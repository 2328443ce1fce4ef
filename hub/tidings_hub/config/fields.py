"""What the settings are made of: how a field is declared, and the entries of its lists and tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from tidings.errors import BadConfig
from tidings.publishers.queue.address import QueueAddress
from tidings.tokens.jwks import Jwks
from tidings.tokens.signing_keys import SECRET_MIN_BYTES, Key
from tidings_hub.core.access import PresenceTo, Publish, Rule, Subscribe

T = TypeVar("T")

# What stands in documentation where a secret belongs, or a single sign repeated.
_PLACEHOLDER = re.compile(
    r"change.?(me|this|it)|place.?holder|your.{0,12}(key|secret|token)|example|sample|dummy|insecure|password|\A(.)\3*\Z",
    re.IGNORECASE,
)


def setting(
    default: T,
    about: str,
    *,
    policy: str = "",
    metric: str = "",
    ge: float | None = None,
    le: float | None = None,
    shown: bool = True,
) -> T:
    """A field: what it is, its bounds, what happens to who passes it, and which metric counts that.

    `shown` False keeps a value that may hold a password out of `repr`.
    """
    extra: dict[str, Any] = {"policy": policy, "metric": metric}
    made: Any = Field(default=default, description=about, ge=ge, le=le, json_schema_extra=extra, repr=shown)
    return made  # type: ignore[no-any-return]


class Model(BaseModel):
    """What all parts of the settings have in common: frozen, nothing unknown, no value shown in an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True, str_strip_whitespace=True
    )


class Namespace(Model):
    """The rules of one namespace, `[namespaces.<name>]` in tidings.toml."""

    subscribe: Subscribe = setting(
        Subscribe.TOKEN,
        "Who may subscribe: `token` (the token names the channel), `user` (the name is the user), `public`",
    )
    publish: Publish = setting(Publish.BACKEND, "Who may publish: `backend` or `subscribers`")
    history: int = setting(100, "Publications kept per channel; 0 keeps none", ge=0, le=10_000)
    history_ttl_s: int = setting(300, "Seconds until an unused channel's history goes", ge=1, le=31_536_000)
    presence: bool = setting(default=False, about="Whether it is known who is in a channel")
    presence_to: PresenceTo = setting(
        PresenceTo.SUBSCRIBERS, "Who may see who is there: `subscribers` of the channel, or only the `backend`"
    )

    def rule(self) -> Rule:
        """The same as `core` knows it."""
        return Rule(self.subscribe, self.publish, self.history, self.history_ttl_s, self.presence, self.presence_to)


class KeySource(Model):
    """One key that tokens are checked with; exactly one of secret… and public_key… is given."""

    kid: str = setting("", "The `kid` of tokens made with this key; empty is for tokens without one")
    algorithm: Literal["HS256", "RS256", "ES256", "EdDSA"] = setting(
        "HS256", "The only algorithm this key is used with"
    )
    secret: SecretStr | None = setting(None, f"HS256: the secret, at least {SECRET_MIN_BYTES} bytes")
    secret_env: str = setting("", "HS256: the environment variable that holds the secret")
    secret_file: str = setting("", "HS256: the file that holds the secret")
    public_key: str = setting("", "The others: the public key, PEM")
    public_key_file: str = setting("", "The others: the file that holds the public key, PEM")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        secret = [name for name in ("secret", "secret_env", "secret_file") if getattr(self, name)]
        public = [name for name in ("public_key", "public_key_file") if getattr(self, name)]
        wanted, other = (secret, public) if self.algorithm == "HS256" else (public, secret)
        if len(wanted) != 1 or other:
            kind = (
                "secret, secret_env and secret_file" if self.algorithm == "HS256" else "public_key and public_key_file"
            )
            raise ValueError(f"a key for {self.algorithm} needs exactly one of {kind}, and nothing else")
        if self.secret is not None:
            check_secret(self.secret, min_bytes=SECRET_MIN_BYTES)
        return self

    def text(self, env: Mapping[str, str]) -> str:
        """The secret, or the public key in PEM, from where the entry says.

        Raises:
            BadConfig: there is nothing there.
        """
        if self.secret is not None:
            return self.secret.get_secret_value()
        if self.public_key:
            return self.public_key
        if self.secret_env:
            if not env.get(self.secret_env):
                raise BadConfig(f"the variable {self.secret_env}, which a key names, is not set")
            return env[self.secret_env]
        path = Path(self.secret_file or self.public_key_file)
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig(f"cannot read the key file {path}: {type(error).__name__}") from error

    def key(self, env: Mapping[str, str]) -> Key:
        """The key itself.

        Raises:
            BadConfig: there is none, or it is no good one.
        """
        text = self.text(env)
        try:
            if self.algorithm == "HS256":
                check_secret(SecretStr(text), min_bytes=SECRET_MIN_BYTES)
            return Key(self.algorithm, text, kid=self.kid)
        except (BadConfig, ValueError) as error:
            raise BadConfig(f"the key {self.kid or 'without a kid'}: {error}") from None


class JwksSource(Model):
    """Where one issuer publishes its keys."""

    issuer: str = setting("", "Tokens with exactly this `iss` are checked with these keys, and no others are")
    url: str = setting("", "https address of the JWKS (http only on loopback)")
    file: str = setting("", "File with the JWKS, instead of an address")
    cache_s: float = setting(600.0, "Seconds between two fetches", ge=30, le=86_400)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if not self.issuer or bool(self.url) == bool(self.file):
            raise ValueError("a jwks entry needs an issuer and either url or file")
        return self

    def open(self) -> Jwks:
        """The source itself; nothing is fetched yet.

        Raises:
            BadConfig: an address that is not https.
        """
        return Jwks(self.issuer, url=self.url, file=self.file, cache_s=self.cache_s)


class QueueSource(Model):
    """A durable queue that nodes take publications from, `[ingress.<name>]` in tidings.toml; needs `tidings[kombu]`."""

    url: str = setting(
        "",
        "Where it is, as the Emitter's URL says: amqp://user:password@host:5672/vhost, amqps://, kombu+redis:// and"
        " other transports of kombu as kombu+<transport>://",
        shown=False,
    )
    queue: str = setting("", "Its name; default: the URL's `?queue=`, or else `tidings`")
    dead_queue: str = setting(
        "", "Where what can never be published goes, with the reason; default: the queue's name and `.dead`"
    )
    declare: bool = setting(
        default=True, about="Make both queues if they are missing; otherwise they must exist, with any properties"
    )
    ordered: bool = setting(
        default=True,
        about="Whether one node at a time takes messages, the next one when it goes, so that publications keep the"
        " queue's order (RabbitMQ); false shares the work between all nodes, without an order between them",
    )
    quorum: bool = setting(default=False, about="Make them quorum queues, which RabbitMQ keeps on several of its nodes")
    queue_max: int = setting(
        1_000_000,
        "Messages that a queue of RabbitMQ holds; 0 is no limit",
        ge=0,
        le=1_000_000_000,
        policy="refuse: the emitter raises `unavailable`",
    )
    dead_max: int = setting(
        100_000,
        "Messages that a dead-letter queue of RabbitMQ holds",
        ge=1,
        le=1_000_000_000,
        policy="drop the oldest",
        metric="ingress_dead",
    )
    prefetch: int = setting(
        100,
        "Messages that a node has taken and not acknowledged yet",
        ge=1,
        le=10_000,
        policy="take no more until the broker has taken these",
        metric="ingress_held",
    )
    idempotency_s: int = setting(
        3600, "Seconds that the broker knows the id of a publication that came from this queue", ge=60, le=604_800
    )
    heartbeat_s: float = setting(
        20.0, "Seconds between AMQP's heartbeats; a silent side counts as gone after two", ge=2, le=600
    )
    redelivery_s: float = setting(
        60.0,
        "Seconds after which a message that a node took and did not acknowledge is given out again, where the transport"
        " goes by time (Redis; RabbitMQ notices at once)",
        ge=10,
        le=3600,
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if not self.url:
            raise ValueError("an ingress needs a url, such as amqp://user:password@host:5672/vhost")
        try:
            address = self.address()
            QueueAddress.check_name(self.dead_letters(address.queue))
        except BadConfig as error:
            raise ValueError(str(error)) from error
        if self.dead_letters(address.queue) == address.queue:
            raise ValueError("queue and dead_queue are the same")
        return self

    def address(self) -> QueueAddress:
        """Where the queue is.

        Raises:
            BadConfig: the URL is none.
        """
        return QueueAddress.parse(self.url, queue=self.queue or None)

    def dead_letters(self, queue: str) -> str:
        """The name of the dead-letter queue."""
        return self.dead_queue or f"{queue}.dead"


def check_secret(secret: SecretStr, *, min_bytes: int) -> None:
    """Returns if `secret` can be one.

    Raises:
        ValueError: too short, or what documentation puts where a secret belongs.
    """
    text = secret.get_secret_value()
    if len(text.encode()) < min_bytes:
        raise ValueError(
            f"a secret of fewer than {min_bytes} bytes; `openssl rand -base64 {min_bytes}` makes a good one"
        )
    if is_placeholder(text):
        raise ValueError(f"a placeholder, not a secret; `openssl rand -base64 {min_bytes}` makes a good one")


def is_placeholder(text: str) -> bool:
    """Whether this is what documentation puts where a secret belongs."""
    return _PLACEHOLDER.search(text) is not None
