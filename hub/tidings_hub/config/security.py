"""Settings of security: origins, keys and issuers of tokens, API keys, and the rules of namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import SecretStr, model_validator

from tidings.errors import BadConfig
from tidings.tokens.jwks import Jwks
from tidings.tokens.signing_keys import SECRET_MIN_BYTES, Key
from tidings_hub.config.fields import Model, check_secret, setting
from tidings_hub.core.access import PresenceTo, Publish, Rule, Subscribe

API_KEY_MIN_BYTES = 16


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


class SecuritySettings(Model):
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
