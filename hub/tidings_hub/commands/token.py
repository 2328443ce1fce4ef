"""`tidings token`: issues a token for a user, signed with the configured secret or a key file."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tidings.errors import BadConfig, BadData
from tidings.tokens import issue
from tidings_hub.commands.target import load_settings

if TYPE_CHECKING:
    from tidings_hub.config.settings import Settings

_NO_KEY = (
    "no secret to sign with; set TIDINGS_SECRET to the hub's, name a file with --key-file,"
    " or make one: export TIDINGS_SECRET=$(openssl rand -base64 32)"
)

LOGIN_ADVICE = "the hub needs a token; set TIDINGS_SECRET to the hub's, or pass --token (TIDINGS_TOKEN)"


def run(arguments: argparse.Namespace, env: Mapping[str, str] | None = None) -> int:
    """Issue one token and print it."""
    env = os.environ if env is None else env
    settings = load_settings(arguments, env)
    if not arguments.expires_in_s > 0:
        raise BadData("--expires-in-s is a number of seconds above 0: this token would be expired at once")
    if arguments.key_file:
        key, kid = _read_key_file(arguments), arguments.kid
    elif arguments.algorithm != "HS256":
        raise BadConfig(f"{arguments.algorithm} needs a private key: --key-file PEM")
    else:
        key, kid = find_secret(settings, env, kid=arguments.kid)
    print(
        issue(
            arguments.sub,
            key=key,
            kid=kid,
            algorithm=arguments.algorithm,
            channels=arguments.channels,
            expires_in_s=arguments.expires_in_s,
            info=_parse_info(arguments.info),
            audience=(settings.audience if settings else None) or None,
            issuer=(settings.issuer if settings else None) or None,
        )
    )
    return 0


def find_secret(settings: Settings | None, env: Mapping[str, str], *, kid: str | None = None) -> tuple[str, str | None]:
    """The configured HS256 secret with the given `kid`, or the first one, and its `kid`.

    Raises:
        BadConfig: no such secret is configured.
    """
    if settings is None:
        if env.get("TIDINGS_SECRET") and kid is None:
            return env["TIDINGS_SECRET"], None
        raise BadConfig(_NO_KEY)
    if settings.secret is not None and kid is None:
        return settings.secret.get_secret_value(), None
    for source in settings.keys:
        if source.algorithm == "HS256" and kid in (None, source.kid):
            return source.read_key(env), source.kid or None
    if kid is not None:
        raise BadConfig(
            f"no secret with the kid {kid!r} among the configured `keys`; name one of them, or use --key-file"
        )
    raise BadConfig(_NO_KEY)


def issue_for_channels(
    channels: Sequence[str], *, sub: str, settings: Settings | None, env: Mapping[str, str]
) -> str | None:
    """A short-lived token for one of our own commands, or None if there is no secret to sign with."""
    try:
        key, kid = find_secret(settings, env)
    except BadConfig:
        return None
    return issue(
        sub,
        key=key,
        kid=kid,
        channels=channels,
        audience=(settings.audience if settings else None) or None,
        issuer=(settings.issuer if settings else None) or None,
    )


def _read_key_file(arguments: argparse.Namespace) -> str:
    try:
        return str(arguments.key_file.read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadConfig(f"cannot read {arguments.key_file}: {reason}") from error


def _parse_info(text: str | None) -> object:
    try:
        return json.loads(text) if text is not None else None
    except ValueError as error:
        raise BadData(f"--info is not JSON: {error}") from error
