"""A backend behind HTTP as an `Authorizer`. Responses count only in their documented form."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from tidings.backoff import delay_s
from tidings.errors import TidingsError, Unavailable
from tidings.wire.ids import new_id
from tidings_hub import runtime
from tidings_hub.config.hooks import Hooks
from tidings_hub.core.sessions import Session
from tidings_hub.extensions.hooks.client import HookClient, HookFailed
from tidings_hub.extensions.hooks.responses import BadHookResponse, read_connect, read_publish, read_subscribe
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics
from tidings_hub.supervised_task import WorkerErrors

logger = logging.getLogger("tidings.hooks")

# `disconnect` hooks that run together: few enough to leave connections for the other hooks.
_DISCONNECTS: Final = 4
_RETRY_CAP_S: Final = 10.0
T = TypeVar("T")


class HookAuthorizer:
    """Consults the backend of `[hooks]`. Without its response a request is refused, or allowed with `fail_open`."""

    def __init__(self, hooks: Hooks, client: HookClient, metrics: Metrics, *, node_id: str) -> None:
        self._hooks = hooks
        self._client = client
        self._metrics = metrics
        self._node_id = node_id
        self._disconnects = runtime.Pool(_DISCONNECTS, hooks.queue, on_error=WorkerErrors("hooks", metrics))
        self.handles = frozenset[str](hooks.events)

    def connect(self, session: Session[Any]) -> Sequence[str]:
        """See `Authorizer.connect`."""
        return self._consult("connect", session, {"remote": session.connection.remote}, read_connect, [])

    def subscribe(self, session: Session[Any], channels: Sequence[str]) -> Mapping[str, TidingsError]:
        """See `Authorizer.subscribe`; one hook for all channels of a request."""
        if not channels:
            return {}
        try:
            return self._consult(
                "subscribe",
                session,
                {"channels": list(channels)},
                lambda response: read_subscribe(response, channels),
                {},
            )
        except TidingsError as error:
            return dict.fromkeys(channels, error)

    def publish(self, session: Session[Any], channel: str, event: str, data: object) -> None:
        """See `Authorizer.publish`."""
        self._consult("publish", session, {"channel": channel, "event": event, "data": data}, read_publish, None)

    def disconnect(self, session: Session[Any], reason: str) -> None:
        """See `Authorizer.disconnect`."""
        body = self._body("disconnect", session, {"reason": reason})
        if not self._disconnects.submit(self._send_with_retries, body):
            self._metrics.hooks_dropped += 1

    def pending(self) -> int:
        """See `Authorizer.pending`."""
        return self._disconnects.running + len(self._disconnects)

    def _consult(
        self, hook: str, session: Session[Any], extra: Mapping[str, object], read: Callable[[bytes], T], allowed: T
    ) -> T:
        try:
            decision = read(self._send(self._body(hook, session, extra)))
        except TidingsError:
            self._metrics.count(self._metrics.hooks, "refused")
            raise
        except (HookFailed, BadHookResponse) as error:
            self._log_failure(hook, error)
            if self._hooks.fail_open:
                return allowed
            raise Unavailable("the backend that decides on this did not respond; try again later") from None
        self._metrics.count(self._metrics.hooks, "allowed")
        return decision

    def _send(self, body: bytes) -> bytes:
        began_s = runtime.now_s()
        try:
            return self._client.send(body)
        finally:
            self._metrics.hook_s.observe(runtime.now_s() - began_s)

    def _send_with_retries(self, body: bytes) -> None:
        """Send a hook that needs no decision. Retries have the same `id`, so the backend can ignore repetitions."""
        for attempt in range(self._hooks.retries + 1):
            try:
                self._send(body)
            except HookFailed as error:
                self._log_failure("disconnect", error)
                if attempt < self._hooks.retries:
                    runtime.sleep(delay_s(attempt, cap_s=_RETRY_CAP_S))
            else:
                self._metrics.count(self._metrics.hooks, "told")
                return
        self._metrics.hooks_dropped += 1

    def _log_failure(self, hook: str, error: HookFailed | BadHookResponse) -> None:
        outcome = error.outcome if isinstance(error, HookFailed) else "bad_answer"
        self._metrics.count(self._metrics.hooks, outcome)
        log_rate_limited(
            logger, logging.ERROR, f"hook {hook} {outcome}", "no valid response to the hook %s: %s", hook, error
        )

    def _body(self, hook: str, session: Session[Any], extra: Mapping[str, object]) -> bytes:
        claims, at_ms = session.claims, int(runtime.unix_s() * 1000)
        fields = {
            "hook": hook,
            "id": new_id(at_ms),
            "at_ms": at_ms,
            "node": self._node_id,
            "user": session.user,
            "connection": session.id,
            "claims": {
                "channels": claims.channels,
                "info": claims.info,
                "iss": claims.issuer,
                "jti": claims.jti,
                "exp": claims.expires_at_s,
            },
            **extra,
        }
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
