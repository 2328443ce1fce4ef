"""Reload by SIGHUP: which settings change in a running node. No connection notices it."""

from __future__ import annotations

from typing import Final

from tidings_hub.config.settings import Settings

RELOADABLE: Final = (
    "namespaces",
    "secret",
    "relay_secret",
    "keys",
    "jwks",
    "jwks_wait_s",
    "jwks_waiting_max",
    "audience",
    "issuer",
    "token_leeway_s",
    "api_keys",
)


def apply_reload(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """`old` with the reloadable fields of `new`, and the names of the other changed fields: those need a restart."""
    explicit = new.model_fields_set | old.model_fields_set
    need_restart = [
        name
        for name in Settings.model_fields
        if name not in RELOADABLE
        and getattr(old, name) != getattr(new, name)
        # Without a configured `node_id` each load draws a new one.
        and (name != "node_id" or name in explicit)
    ]
    return old.model_copy(update={name: getattr(new, name) for name in RELOADABLE}), need_restart
