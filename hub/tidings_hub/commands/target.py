"""Finds the hub or the broker that a command connects to, and the API key."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidings.errors import BadConfig
from tidings.publishers import kind_of

if TYPE_CHECKING:
    from tidings_hub.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Target:
    """`url`: the broker or the hub to publish to. `hub_url`: the hub over HTTP. `settings`: None without `[server]`."""

    url: str
    hub_url: str
    api_key: str | None
    prefix: str
    settings: Settings | None


def find_target(arguments: argparse.Namespace, env: Mapping[str, str] | None = None) -> Target:
    """The target in `--url`, `TIDINGS_URL` or the settings, in this order.

    From the settings it is the broker, or the hub if the broker is memory://.

    Raises:
        BadConfig: a setting is wrong, or the URL is none that an emitter supports.
    """
    env = os.environ if env is None else env
    settings = load_settings(arguments, env)
    explicit_url = arguments.url or env.get("TIDINGS_URL") or ""
    hub_url = explicit_url if explicit_url.startswith(("http://", "https://")) else _hub_url(settings)
    broker = settings.broker if settings else "memory://"
    url = explicit_url or (hub_url if broker == "memory://" else broker)
    api_key = env.get("TIDINGS_API_KEY") or (
        settings.api_keys[0].get_secret_value() if settings and settings.api_keys else None
    )
    is_http = kind_of(url) == "http"
    if url.startswith("memory://"):
        raise BadConfig("memory:// works only inside one process; give the hub's address, --url http://host:8000")
    return Target(
        url=url,
        hub_url=hub_url.rstrip("/"),
        api_key=api_key if is_http else None,
        prefix=settings.prefix if settings else "tidings:",
        settings=settings,
    )


def load_settings(arguments: argparse.Namespace, env: Mapping[str, str]) -> Settings | None:
    """The settings in force, or None if pydantic is not installed and there is no `--config`.

    Raises:
        BadConfig: a setting is wrong.
        ModuleNotFoundError: there is a `--config`, but not the extra `[server]` that reads it.
    """
    try:
        from tidings_hub.config.load import load
    except ModuleNotFoundError as error:
        if arguments.config or error.name != "pydantic":
            raise
        return None
    return load(file=arguments.config, env=env).settings


def _hub_url(settings: Settings | None) -> str:
    if settings is None:
        return "http://127.0.0.1:8000"
    from tidings_hub.config.network import local_url

    return local_url(settings.host, settings.port)
