"""Settings of HTTP hooks, the table `[hooks]`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import SecretStr, model_validator

from tidings.errors import BadConfig
from tidings.http_client.hosts import check_quoted_host
from tidings.tokens.signing_keys import SECRET_MIN_BYTES
from tidings_hub.config.fields import SettingsModel, check_secret, setting


class Hooks(SettingsModel):
    """A backend that authorizes requests over HTTP, `[hooks]` in tidings.toml. Without `events` no hook is sent."""

    url: str = setting("", "https URL that receives the hooks (http only with `allow_private`)", shown=False)
    events: tuple[Literal["connect", "subscribe", "publish", "disconnect"], ...] = setting(
        (), "Hooks to send: `connect`, `subscribe`, `publish`, `disconnect`"
    )
    secret: SecretStr | None = setting(None, f"What hooks are signed with, at least {SECRET_MIN_BYTES} bytes")
    secret_env: str = setting("", "The environment variable that holds the secret, instead of `secret`")
    timeout_s: float = setting(
        3.0, "Seconds for one hook, from start to end", ge=0.05, le=60, policy="as `fail_open` says", metric="hooks"
    )
    fail_open: bool = setting(
        default=False, about="Allow a request if its hook fails, instead of rejecting it with `unavailable` (unsafe)"
    )
    retries: int = setting(
        3,
        "Retries of a `disconnect` hook; the others are not retried",
        ge=0,
        le=20,
        policy="drop it",
        metric="hooks",
    )
    queue: int = setting(
        1000, "`disconnect` hooks that wait", ge=1, le=1_000_000, policy="drop it", metric="hooks_dropped"
    )
    connections: int = setting(
        16,
        "Hooks sent at a time; others wait within their time limit",
        ge=1,
        le=10_000,
        policy="as `fail_open` says",
        metric="hooks",
    )
    answer_max_bytes: int = setting(
        65_536, "Bytes of a response", ge=64, le=16_777_216, policy="as `fail_open` says", metric="hooks"
    )
    allow_private: bool = setting(
        default=False, about="Whether hooks may go to loopback, private and other non-public addresses"
    )

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if not self.events:
            return self
        try:
            parts = urlsplit(self.url)
            check_quoted_host(parts.hostname)
            is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_valid = False
        if not is_valid or parts.username is not None or parts.fragment or not self.url.isascii():
            raise ValueError("url must be an address like https://shop.example/tidings, without a user or a fragment")
        if parts.scheme == "http" and not self.allow_private:
            raise ValueError("url must be https: hooks contain data of users; or set allow_private")
        if bool(self.secret) == bool(self.secret_env):
            raise ValueError("hooks are signed; give one of secret and secret_env")
        if self.secret is not None:
            check_secret(self.secret, min_bytes=SECRET_MIN_BYTES)
        return self

    def signing_secret(self, env: Mapping[str, str] | None = None) -> str:
        """The secret that signs hooks.

        Raises:
            BadConfig: the variable is not set, or its secret is not good enough.
        """
        text = self.secret.get_secret_value() if self.secret else (env or os.environ).get(self.secret_env, "")
        try:
            check_secret(SecretStr(text), min_bytes=SECRET_MIN_BYTES)
        except ValueError as error:
            raise BadConfig(f"hooks: {self.secret_env or 'secret'}: {error}") from None
        return text
