"""Sending one hook over HTTP: signed, to a checked address, with a time limit. No redirects, no proxies."""

from __future__ import annotations

import ssl
import threading
from collections import deque
from typing import Final
from urllib.parse import urlsplit

from tidings.errors import TidingsError
from tidings.hooks import HEADER, sign
from tidings.http_client.connection import HttpAddress, HttpConnection
from tidings.http_client.deadline import Deadline
from tidings.http_client.public_address import is_public
from tidings.http_client.response import AmbiguousResponse
from tidings_hub import runtime
from tidings_hub.config.hooks import Hooks

# Shorter than the keep-alive of usual servers, so that a hook seldom uses a connection that is about to close.
_IDLE_MAX_S: Final = 4.0
_OK: Final = (200, 204)


class HookFailed(Exception):
    """The backend did not respond. `outcome` is `timeout` or `failed`; the text states what happened."""

    def __init__(self, message: str, outcome: str = "failed") -> None:
        super().__init__(message)
        self.outcome = outcome


class HookClient:
    """Sends hooks over at most `connections` connections. Those whose answer repeats the signature are reused.

    Raises:
        BadConfig: no secret is configured to sign them.
    """

    def __init__(self, hooks: Hooks, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(hooks.url)
        secure = parts.scheme == "https"
        self._address = HttpAddress(
            parts.hostname or "",
            parts.port or (443 if secure else 80),
            (tls or ssl.create_default_context()) if secure else None,
            None if hooks.allow_private else is_public,
        )
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._hooks = hooks
        self._secret = hooks.signing_secret()
        self._free = threading.Semaphore(hooks.connections)
        self._idle: deque[HttpConnection] = deque()

    def send(self, body: bytes) -> bytes:
        """Send a hook and return the body of the response, whose status is 200 or 204.

        Raises:
            HookFailed: no response in time, or another status.
        """
        timeout_s = self._hooks.timeout_s
        deadline = Deadline.after(timeout_s)
        if not self._free.acquire(timeout=timeout_s):
            raise HookFailed(f"{self._hooks.connections} hooks are in progress (connections)", "timeout")
        try:
            # `deadline` does not limit the DNS lookup; `call_with_timeout` does.
            status, response = runtime.call_with_timeout(max(0.001, deadline.left_s()), self._exchange, body, deadline)
        except runtime.CallTimeout:
            raise HookFailed(f"no response within {timeout_s:g} s", "timeout") from None
        except (OSError, TidingsError) as error:
            late = deadline.left_s() <= 0
            raise HookFailed(f"{type(error).__name__}: {error}", "timeout" if late else "failed") from error
        finally:
            self._free.release()
        if status not in _OK:
            raise HookFailed(f"status {status}; respond to a hook with 200")
        return bytes(response)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _exchange(self, body: bytes, deadline: Deadline) -> tuple[int, bytes]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "tidings",
            HEADER: sign(self._secret, body, at_s=runtime.unix_s()),
        }
        while True:
            idle = self._pop_idle()
            link = idle or HttpConnection(self._address)
            try:
                answer = link.exchange(
                    *(self._target, body, headers),
                    deadline=deadline,
                    response_max_bytes=self._hooks.answer_max_bytes,
                    echo_header=HEADER,
                )
            except TimeoutError:
                raise
            except OSError as error:
                # The backend may have closed the idle connection, or sent on it what belongs to an earlier hook: try
                # once more on a new one.
                if idle is None or (link.response_started and not isinstance(error, AmbiguousResponse)):
                    raise
            else:
                if link.is_open:
                    link.idle_since_s = runtime.now_s()
                    self._idle.append(link)
                return answer

    def _pop_idle(self) -> HttpConnection | None:
        """An idle connection. One on which anything arrived is closed: it would be the answer to the next hook."""
        while self._idle:
            link = self._idle.pop()
            if runtime.now_s() - link.idle_since_s < _IDLE_MAX_S and link.is_reusable():
                return link
            link.close()
        return None
