"""What SIGHUP changes in a running node: rules and keys, and nothing that a connection would notice."""

from __future__ import annotations

from typing import Final

from tidings_hub.config.settings import Settings

RELOADABLE: Final = (
    "namespaces",
    "secret",
    "relay_secret",
    "keys",
    "jwks",
    "audience",
    "issuer",
    "token_leeway_s",
    "api_keys",
)


def apply_reload(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """The running settings with the new rules and keys; and the names of those that differ but need a restart."""
    given = new.model_fields_set | old.model_fields_set
    waiting = [
        name
        for name in Settings.model_fields
        if name not in RELOADABLE and getattr(old, name) != getattr(new, name) and (name != "node_id" or name in given)
    ]
    return old.model_copy(update={name: getattr(new, name) for name in RELOADABLE}), waiting
