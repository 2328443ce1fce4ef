"""Keeps the key sets of issuers fresh (`jwks`), so that this node rejects keys that an issuer has removed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tidings.tokens import KeySet
from tidings.tokens.jwks import JwksState
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.keys")

# Seconds between two checks for key sets that are due (`cache_s`).
_CHECK_S: Final = 5.0


class KeyRefresh:
    """Fetches key sets when they are due, and reports on them. A fetch runs in its own thread, which a check starts."""

    def __init__(self, keys: KeySet | None, metrics: Metrics, *, sleep: Callable[[float], None]) -> None:
        self.keys = keys
        self._metrics = metrics
        self._sleep = sleep
        self._states: dict[str, JwksState] = {}

    def prepare(self, keys: KeySet | None) -> None:
        """Fetch what is new in the keys of reloaded settings, before they replace `keys`. Waits for the issuers."""
        if keys is not None:
            keys.adopt(self.keys)
            keys.refresh(keys.fetch_timeout_s)

    def fetch_first(self) -> None:
        """Fetch all key sets, so that the first clients need not wait. Returns after `timeout_s` of the sources."""
        if self.keys is not None:
            self.keys.refresh(self.keys.fetch_timeout_s)
            self._report(self.keys)

    def run(self) -> None:
        """Check at every interval. Runs in its own greenlet."""
        while True:
            if self.keys is not None:
                self.keys.start_refresh()
                self._report(self.keys)
            self._sleep(_CHECK_S)

    def states(self) -> dict[str, str]:
        """What the keys of each issuer are worth, for `/readyz`."""
        return {} if self.keys is None else {issuer: state.value for issuer, state in self.keys.jwks_states().items()}

    def _report(self, keys: KeySet) -> None:
        metrics = self._metrics
        for error in keys.pop_failures():
            metrics.jwks_errors += 1
            logger.warning("%s", error)
        states = keys.jwks_states()
        metrics.jwks_waits_refused += keys.pop_waits_refused()
        metrics.jwks_age_s = round(max(keys.jwks_ages_s(), default=0.0))
        metrics.jwks_stale = sum(state in {JwksState.STALE, JwksState.EMPTY} for state in states.values())
        for issuer, state in states.items():
            if state is JwksState.STALE and self._states.get(issuer) is not JwksState.STALE:
                logger.error(
                    "the keys of %s are older than stale_max_s: its tokens are rejected until a fetch succeeds", issuer
                )
        self._states = states
