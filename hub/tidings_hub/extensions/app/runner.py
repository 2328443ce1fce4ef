"""Running one handler: its time limit, and the treatment of its errors."""

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
    """Calls handlers. Failures are logged with a traceback, at most once a minute for each handler."""

    def __init__(self, metrics: Metrics, *, timeout_s: float) -> None:
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._limit = RateLimit()

    def call(self, name: str, handler: Callable[..., Any], *arguments: object) -> Any:
        """Call the handler and return its result.

        Raises:
            TidingsError: the error that the handler raised on purpose.
            TimedOut: it took too long.
            Internal: it raised another exception.
        """
        began_s = time.monotonic()
        try:
            return runtime.call_with_timeout(self._timeout_s, handler, *arguments)
        except TidingsError:
            raise
        except runtime.CallTimeout:
            self._metrics.count(self._metrics.app_timeouts, name)
            self._log(name, f"took more than {self._timeout_s:g} s (app_timeout_s)")
            raise TimedOut(f"the handler of {name} took too long") from None
        # A handler that calls sys.exit must not end the node.
        except (Exception, SystemExit):  # noqa: BLE001 - the error of a user's code ends this call only
            self.record_failure(name)
            raise Internal from None
        finally:
            self._metrics.app_call_s.observe(time.monotonic() - began_s)

    def record_failure(self, name: str) -> None:
        """Count and log the current exception as a failure of this handler."""
        self._metrics.count(self._metrics.app_errors, name)
        self._log(name, "failed", trace=True)

    def record_wrong_result(self, name: str, result: object, expected: str) -> None:
        """Count and log that this handler returned something else than it should."""
        self._metrics.count(self._metrics.app_errors, name)
        self._log(name, f"returned a value of type {type(result).__name__}; return {expected}")

    def _log(self, name: str, event: str, *, trace: bool = False) -> None:
        suppressed = self._limit.passes(f"{name} {event}", now_s=time.monotonic())
        if suppressed is not None:
            extra = {"suppressed": suppressed} if suppressed else None
            logger.error("the handler of %s %s", name, event, exc_info=trace, extra=extra)
