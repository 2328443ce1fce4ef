"""One call of a handler: its time limit, and what becomes of its errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from tidings.errors import Internal, TidingsError, TimedOut
from tidings_hub import runtime
from tidings_hub.log import RateLimit
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.app")


class HandlerRunner:
    """Calls handlers. A call that fails is logged with its traceback, at most once a minute for each handler."""

    def __init__(self, metrics: Metrics, *, timeout_s: float) -> None:
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._limit = RateLimit()

    def call(self, name: str, handler: Callable[..., Any], *arguments: object) -> Any:
        """The handler's result.

        Raises:
            TidingsError: what it raised on purpose. TimedOut: it took too long. Internal: it failed.
        """
        began_s = time.monotonic()
        try:
            return runtime.within(self._timeout_s, handler, *arguments)
        except TidingsError:
            raise
        except runtime.TooLate:
            self._metrics.count(self._metrics.app_timeouts, name)
            self._tell(name, f"took more than {self._timeout_s:g} s (app_timeout_s)")
            raise TimedOut(f"the handler of {name} took too long") from None
        # A handler that calls sys.exit must not end the node.
        except (Exception, SystemExit):  # noqa: BLE001 - whatever it was, it is this call's alone
            self.record_failure(name)
            raise Internal from None
        finally:
            self._metrics.app_call_s.observe(time.monotonic() - began_s)

    def record_failure(self, name: str) -> None:
        """Count and log the exception that is being handled as a mistake of this handler."""
        self._metrics.count(self._metrics.app_errors, name)
        self._tell(name, "failed", trace=True)

    def _tell(self, name: str, what: str, *, trace: bool = False) -> None:
        held = self._limit.passes(f"{name} {what}", now_s=time.monotonic())
        if held is not None:
            extra = {"suppressed": held} if held else None
            logger.error("the handler of %s %s", name, what, exc_info=trace, extra=extra)
