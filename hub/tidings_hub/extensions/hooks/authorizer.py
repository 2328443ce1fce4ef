"""A backend behind HTTP as a `Authorizer`: asked in JSON, believed only in the documented form."""

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

logger = logging.getLogger("tidings.hooks")

# Of `disconnect`: so many at once, so that those who connect find connections left.
_TELLING: Final = 4
_RETRY_CAP_S: Final = 10.0
T = TypeVar("T")


class HookAuthorizer:
    """Asks the backend of `[hooks]`. What it does not answer is refused, or allowed with `fail_open`."""

    def __init__(self, hooks: Hooks, client: HookClient, metrics: Metrics, *, node_id: str) -> None:
        self._hooks = hooks
        self._client = client
        self._metrics = metrics
        self._node_id = node_id
        self._telling = runtime.Pool(_TELLING, hooks.queue)
        self.handles = frozenset[str](hooks.events)

    def connect(self, session: Session[Any]) -> Sequence[str]:
        """See `Authorizer.connect`."""
        return self._ask("connect", session, {"remote": session.connection.remote}, read_connect, [])

    def subscribe(self, session: Session[Any], channels: Sequence[str]) -> Mapping[str, TidingsError]:
        """See `Authorizer.subscribe`; one hook for all channels of a request."""
        if not channels:
            return {}
        try:
            return self._ask(
                "subscribe", session, {"channels": list(channels)}, lambda said: read_subscribe(said, channels), {}
            )
        except TidingsError as error:
            return dict.fromkeys(channels, error)

    def publish(self, session: Session[Any], channel: str, event: str, data: object) -> None:
        """See `Authorizer.publish`."""
        self._ask("publish", session, {"channel": channel, "event": event, "data": data}, read_publish, None)

    def disconnect(self, session: Session[Any], reason: str) -> None:
        """See `Authorizer.disconnect`."""
        body = self._body("disconnect", session, {"reason": reason})
        if not self._telling.submit(self._tell, body):
            self._metrics.hooks_dropped += 1

    def pending(self) -> int:
        """See `Authorizer.pending`."""
        return self._telling.running + len(self._telling)

    def _ask(
        self, hook: str, session: Session[Any], more: Mapping[str, object], read: Callable[[bytes], T], allowed: T
    ) -> T:
        try:
            answer = read(self._sent(self._body(hook, session, more)))
        except TidingsError:
            self._metrics.count(self._metrics.hooks, "refused")
            raise
        except (HookFailed, BadHookResponse) as error:
            self._failed(hook, error)
            if self._hooks.fail_open:
                return allowed
            raise Unavailable("whoever decides on this did not answer; try again later") from None
        self._metrics.count(self._metrics.hooks, "allowed")
        return answer

    def _sent(self, body: bytes) -> bytes:
        began_s = runtime.now_s()
        try:
            return self._client.send(body)
        finally:
            self._metrics.hook_s.observe(runtime.now_s() - began_s)

    def _tell(self, body: bytes) -> None:
        """Send what only informs, again if need be: its `id` stays, so that the backend can tell."""
        for attempt in range(self._hooks.retries + 1):
            try:
                self._sent(body)
            except HookFailed as error:
                self._failed("disconnect", error)
                if attempt < self._hooks.retries:
                    runtime.sleep(delay_s(attempt, cap_s=_RETRY_CAP_S))
            else:
                self._metrics.count(self._metrics.hooks, "told")
                return
        self._metrics.hooks_dropped += 1

    def _failed(self, hook: str, error: HookFailed | BadHookResponse) -> None:
        how = error.how if isinstance(error, HookFailed) else "bad_answer"
        self._metrics.count(self._metrics.hooks, how)
        log_rate_limited(logger, logging.ERROR, f"hook {hook} {how}", "the hook %s was not answered: %s", hook, error)

    def _body(self, hook: str, session: Session[Any], more: Mapping[str, object]) -> bytes:
        claims, at_ms = session.claims, int(runtime.unix_s() * 1000)
        asked = {
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
            **more,
        }
        return json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
