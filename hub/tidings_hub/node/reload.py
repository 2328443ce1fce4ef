"""Reload by SIGHUP: which settings change in a running node, and in which order. No connection notices it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from tidings.errors import TidingsError
from tidings_hub.brokers.base import Broker
from tidings_hub.config.settings import Settings
from tidings_hub.core.relay_stamp import stamp_key
from tidings_hub.engine.server import EngineServer
from tidings_hub.metrics import Metrics
from tidings_hub.node.key_refresh import KeyRefresh
from tidings_hub.services.hub import Hub

logger = logging.getLogger("tidings")

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


class ReloadableNode(Protocol):
    """The parts of a node that use the reloadable settings."""

    settings: Settings
    metrics: Metrics
    hub: Hub
    broker: Broker
    engine: EngineServer
    key_refresh: KeyRefresh


class Reloads:
    """Reloads the settings of a node. `load` reads them, and never waits.

    A reload waits for key sets of issuers. One that begins meanwhile does not wait for it, and replaces it: otherwise
    keys that the newer settings do not have would be valid again.
    """

    def __init__(self, node: ReloadableNode, load: Callable[[], Settings]) -> None:
        self._node = node
        self._load = load
        # How many times valid settings were loaded.
        self._loaded = 0

    def run(self) -> None:
        """Load the settings and apply their rules and keys. If the settings are invalid, nothing changes."""
        metrics = self._node.metrics
        try:
            self._reload()
        except TidingsError as error:
            metrics.reload_errors += 1
            logger.error("the settings were not reloaded: %s", error)  # noqa: TRY400 - the message is enough
        except Exception:
            metrics.reload_errors += 1
            logger.exception("unexpected error while the settings were reloaded; some may be in use")

    def _reload(self) -> None:
        new = self._load()
        new.check_serving()
        keys, secrets = new.key_set(), new.relay_secrets()
        self._loaded += 1
        number = self._loaded
        self._node.key_refresh.prepare(keys)
        if number != self._loaded:
            logger.info("settings were loaded again while the key sets were fetched; only the newer ones are used")
            return
        node = self._node
        settings, need_restart = apply_reload(node.settings, new)
        node.settings, node.key_refresh.keys = settings, keys
        node.hub.apply_settings(settings, keys)
        if node.engine.relay is not None and secrets:
            node.engine.relay.keys = [stamp_key(secret) for secret in secrets]
        node.metrics.reloads += 1
        logger.info(
            "rules and keys were reloaded%s",
            f"; these need a restart: {', '.join(need_restart)}" if need_restart else "",
        )
        try:
            node.broker.write_rules(settings.broker_rules())
        except TidingsError as error:
            logger.warning("the broker does not have the new rules yet, and gets them later: %s", error)
