"""Settings of security: origins, keys and issuers of tokens, API keys, and the rules of namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import SecretStr, model_validator

from tidings.errors import BadConfig
from tidings.tokens.jwks import Jwks
from tidings.tokens.signing_keys import SECRET_MIN_BYTES, Key
from tidings_hub.config.fields import SettingsModel, check_secret, setting
from tidings_hub.core.access import PresenceTo, Publish, Rule, Subscribe

API_KEY_MIN_BYTES = 16


class Namespace(SettingsModel):
    """The rules of one namespace, `[namespaces.<name>]` in tidings.toml."""

    subscribe: Subscribe = setting(
        Subscribe.TOKEN,
        "Clients that may subscribe: `token` (the token names the channel), `user` (the name is the user), `public`",
    )
    publish: Publish = setting(Publish.BACKEND, "Programs that may publish: `backend` or `subscribers`")
    history: int = setting(100, "Publications kept per channel; 0: none", ge=0, le=10_000)
    history_ttl_s: int = setting(300, "Seconds until the history of an unused channel expires", ge=1, le=31_536_000)
    presence: bool = setting(default=False, about="Whether the hub tracks the members of a channel")
    presence_to: PresenceTo = setting(
        PresenceTo.SUBSCRIBERS, "Programs that may see the members: `subscribers` of the channel, or only the `backend`"
    )

    def rule(self) -> Rule:
        """The rules as an object of `core`."""
        return Rule(self.subscribe, self.publish, self.history, self.history_ttl_s, self.presence, self.presence_to)


class KeySource(SettingsModel):
    """One key that verifies tokens. Give exactly one of the secret… or public_key… entries."""

    kid: str = setting("", "The `kid` of tokens signed with this key; empty: tokens without one")
    algorithm: Literal["HS256", "RS256", "ES256", "EdDSA"] = setting(
        "HS256", "The only algorithm this key is used with"
    )
    secret: SecretStr | None = setting(None, f"HS256: the secret, at least {SECRET_MIN_BYTES} bytes")
    secret_env: str = setting("", "HS256: the environment variable that holds the secret")
    secret_file: str = setting("", "HS256: the file that holds the secret")
    public_key: str = setting("", "Other algorithms: the public key, PEM")
    public_key_file: str = setting("", "Other algorithms: the file that holds the public key, PEM")

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        secret = [name for name in ("secret", "secret_env", "secret_file") if getattr(self, name)]
        public = [name for name in ("public_key", "public_key_file") if getattr(self, name)]
        allowed, forbidden = (secret, public) if self.algorithm == "HS256" else (public, secret)
        if len(allowed) != 1 or forbidden:
            names = (
                "secret, secret_env and secret_file" if self.algorithm == "HS256" else "public_key and public_key_file"
            )
            raise ValueError(f"a key for {self.algorithm} needs exactly one of {names}, and nothing else")
        if self.secret is not None:
            check_secret(self.secret, min_bytes=SECRET_MIN_BYTES)
        return self

    def read_key(self, env: Mapping[str, str]) -> str:
        """The secret or the PEM text of the public key, from the entry, the environment or a file.

        Raises:
            BadConfig: the variable or the file is missing.
        """
        if self.secret is not None:
            return self.secret.get_secret_value()
        if self.public_key:
            return self.public_key
        if self.secret_env:
            if not env.get(self.secret_env):
                raise BadConfig(f"the variable {self.secret_env} (secret_env of a key) is not set")
            return env[self.secret_env]
        path = Path(self.secret_file or self.public_key_file)
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig(f"cannot read the key file {path}: {type(error).__name__}") from error

    def load_key(self, env: Mapping[str, str]) -> Key:
        """The key, ready to verify tokens.

        Raises:
            BadConfig: the key is missing or not good enough.
        """
        text = self.read_key(env)
        try:
            if self.algorithm == "HS256":
                check_secret(SecretStr(text), min_bytes=SECRET_MIN_BYTES)
            return Key(self.algorithm, text, kid=self.kid)
        except (BadConfig, ValueError) as error:
            raise BadConfig(f"the key {self.kid or 'without a kid'}: {error}") from None


class JwksSource(SettingsModel):
    """The key set of one issuer."""

    issuer: str = setting("", "The `iss` of tokens that are verified with these keys, and only with these")
    url: str = setting("", "https URL of the JWKS (http only on loopback)")
    file: str = setting("", "File with the JWKS, instead of a URL")
    cache_s: float = setting(600.0, "Seconds between two fetches", ge=30, le=86_400)
    stale_max_s: float = setting(
        86_400.0,
        "Seconds for which keys stay valid after the last successful fetch, at least `cache_s`",
        ge=30,
        le=2_592_000,
        policy="reject tokens of the issuer with `unavailable`",
        metric="jwks_stale",
    )
    timeout_s: float = setting(
        5.0,
        "Seconds for one fetch, from connect to the last byte",
        ge=0.1,
        le=60,
        policy="keep the known keys, try again after 30 seconds",
        metric="jwks_errors",
    )
    proxy: str = setting(
        "",
        "`http://host:port` of a proxy for the fetch; `environment`: HTTPS_PROXY and NO_PROXY; empty: none",
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if not self.issuer or bool(self.url) == bool(self.file):
            raise ValueError("a jwks entry needs an issuer and either url or file")
        if self.stale_max_s < self.cache_s:
            raise ValueError("stale_max_s of a jwks entry is less than its cache_s")
        return self

    def open(self) -> Jwks:
        """The key set of the issuer. Nothing is fetched yet.

        Raises:
            BadConfig: an address that is not https, or a malformed proxy.
        """
        return Jwks(
            self.issuer,
            url=self.url,
            file=self.file,
            cache_s=self.cache_s,
            stale_max_s=self.stale_max_s,
            timeout_s=self.timeout_s,
            proxy=self.proxy,
        )


class SecuritySettings(SettingsModel):
    """Clients that may connect, and keys that verify tokens and API requests."""

    origins: tuple[str, ...] = setting(
        (),
        "Origins of pages that may connect, also of applications (`capacitor://localhost`). Empty: the hub's own"
        " origin; `*`: any page (unsafe). Files and sandboxed pages (`null`, `file://`) never may: serve them over"
        " HTTP",
        policy="reject with `bad_origin`",
        metric="bad_origins",
    )
    trusted_proxies: tuple[str, ...] = setting(
        (), "Networks whose X-Forwarded-For, -Proto and -Host headers, or Forwarded header, the hub trusts"
    )
    secret: SecretStr | None = setting(
        None, f"The short way to one HS256 key: a secret of at least {SECRET_MIN_BYTES} bytes that backends sign with"
    )
    relay_secret: SecretStr | None = setting(
        None,
        "Secret with which nodes authenticate to each other; default: `secret`, or the first HS256 secret of `keys`",
    )
    keys: tuple[KeySource, ...] = setting((), "Keys that verify tokens; several at a time for rotation")
    jwks: tuple[JwksSource, ...] = setting((), "Issuers whose keys are read from a JWKS")
    jwks_wait_s: float = setting(
        2.0,
        "Seconds that a token with an unknown `kid` waits for its issuer's keys",
        ge=0,
        le=30,
        policy="reject with `unavailable`",
        metric="auth_failures",
    )
    jwks_waiting_max: int = setting(
        16,
        "Tokens of one issuer that wait for its keys at the same time; those of all issuers: half of `handlers`",
        ge=1,
        le=10_000,
        policy="reject with `unavailable` at once; tokens with a known `kid` never wait",
        metric="jwks_waits_refused",
    )
    audience: str = setting("", "The `aud` that tokens must have; empty: not checked")
    issuer: str = setting("", "The `iss` that tokens signed with `keys` must have; empty: not checked")
    token_leeway_s: float = setting(
        10.0, "Clock difference allowed in `exp`, `nbf` and `iat`; connections end this long after `exp`", ge=0, le=300
    )
    auth_failures_per_minute: int = setting(
        60,
        "Invalid tokens from one address per minute that get a response",
        ge=1,
        le=1_000_000,
        policy="reject with `too_fast`; valid tokens are not affected",
        metric="auth_throttled",
    )
    expiry_warning_s: float = setting(
        30.0, "Seconds before a token expires at which its client receives `tidings:expiring`", ge=0, le=3600
    )
    revocations_file: str = setting(
        "",
        "File that keeps revocations when the broker loses its memory; all nodes of one machine may share it."
        " Empty: none",
        policy="refuse to start if it is unusable; later log, keep the revocations in memory and retry",
        metric="revocations_file_errors",
    )
    revocations_file_max: int = setting(
        100_000,
        "Revocations in that file that have not ended",
        ge=1,
        le=10_000_000,
        policy="keep more of them in memory and in the broker only",
        metric="revocations_unsaved",
    )
    api_keys: tuple[SecretStr, ...] = setting(
        (),
        f"Keys of backends for the HTTP API, each at least {API_KEY_MIN_BYTES} bytes; several for rotation",
        policy="reject with `unauthorized`",
        metric="api_unauthorized",
    )
    namespaces: dict[str, Namespace] = setting(
        {}, "The namespaces and their rules; `user` always exists, with a day of history"
    )
