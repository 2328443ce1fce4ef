"""Connections to Redis for packed commands. Every call has a deadline.

redis-py connects (TLS, login, Sentinel) and parses replies. A connection whose call failed or was cancelled is closed:
a late reply would be taken for that of another call.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from tidings.redis_client.scripts import Script, pack_load
from tidings.redis_client.url import RedisAddress, redis_module

# A pool with this many idle connections closes the next one after its call.
IDLE_MAX = 16
CONNECT_TIMEOUT_S = 2.0


class ConnectionLost(Exception):
    """There are no replies. `sent`: Redis may have run the commands. `final`: a retry cannot succeed."""

    def __init__(self, message: str, *, sent: bool, final: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.final = final


class RedisConnection:
    """One connection, for one call at a time. `moved`: its node no longer serves the bucket's slot."""

    def __init__(self, address: RedisAddress, *, timeout_s: float) -> None:
        redis = redis_module()
        try:
            self._connection: Any = address.connect(timeout_s=timeout_s)
        except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError) as error:
            raise ConnectionLost(f"{address} refused the login ({error})", sent=False, final=True) from error
        except (redis.RedisError, OSError) as error:
            raise ConnectionLost(f"{address} cannot be reached ({reason_of(error)})", sent=False) from error
        self._address = address
        self._scripts: set[bytes] = set()
        self.moved = False

    def call(self, packed: bytes, count: int, scripts: Sequence[Script], *, deadline_s: float) -> list[Any]:
        """The `count` replies to packed commands; an error reply is a `redis.ResponseError` in its place.

        `scripts` are loaded in the same round trip, unless this connection has loaded them already. `deadline_s` is a
        time of `time.monotonic`.

        Raises:
            LineDown: the connection broke, or the deadline passed.
        """
        redis = redis_module()
        new_scripts = [script for script in scripts if script.sha not in self._scripts]
        try:
            self._set_timeout(deadline_s)
            self._connection.send_packed_command([*map(pack_load, new_scripts), packed], check_health=False)
            replies = [self._read(redis.ResponseError, deadline_s) for _ in range(len(new_scripts) + count)]
        except (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError) as error:
            # Redis asks for a login only now, if the URL has none. It executed nothing.
            self.close()
            raise ConnectionLost(f"{self._address} refused the login ({error})", sent=False, final=True) from error
        except (redis.RedisError, OSError) as error:
            self.close()
            raise ConnectionLost(f"{self._address} did not answer ({reason_of(error)})", sent=True) from error
        except BaseException:
            self.close()
            raise
        self._scripts.update(script.sha for script in new_scripts)
        call_replies = replies[len(new_scripts) :]
        for error_reply in [reply for reply in call_replies if isinstance(reply, redis.ResponseError)]:
            if isinstance(error_reply, redis.exceptions.NoScriptError):
                self._scripts.clear()
            elif is_moved(error_reply):
                self.moved = True
        return call_replies

    def _read(self, error_reply: type[Exception], deadline_s: float) -> Any:
        self._set_timeout(deadline_s)
        try:
            return self._connection.read_response(disable_decoding=True)
        except error_reply as error:
            return error

    def _set_timeout(self, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        # redis-py has no public method that sets the timeout of one read.
        socket = self._connection._sock  # noqa: SLF001
        if left_s <= 0 or socket is None:
            raise TimeoutError("no time left")
        socket.settimeout(left_s)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._connection.disconnect()


class RedisPool:
    """Connections to one Redis, shared by threads or greenlets. It has no lock that a fork could copy while held."""

    def __init__(self, address: RedisAddress) -> None:
        self.address = address
        self._idle: deque[RedisConnection] = deque()
        self._pid = os.getpid()

    def call(self, packed: bytes, count: int, scripts: Sequence[Script], *, deadline_s: float) -> list[Any]:
        """As `RedisConnection.call`, on an idle connection or a new one."""
        connection = self._acquire(deadline_s)
        replies = connection.call(packed, count, scripts, deadline_s=deadline_s)
        if connection.moved:
            # The idle connections lead to the same node. A new one looks up the slot's master again.
            connection.close()
            self.close()
        elif len(self._idle) < IDLE_MAX and self._pid == os.getpid():
            self._idle.append(connection)
        else:
            connection.close()
        return replies

    def _acquire(self, deadline_s: float) -> RedisConnection:
        if self._pid != os.getpid():
            # Forked: the parent still uses the connections that this process has copies of.
            self._idle = deque()
            self._pid = os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise ConnectionLost(f"{self.address}: no time left to connect", sent=False) from None
            return RedisConnection(self.address, timeout_s=min(left_s, CONNECT_TIMEOUT_S))

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


def has_lost_script(replies: Sequence[object]) -> bool:
    """Whether Redis has lost a script. Then it ran none of the commands that call the script."""
    return any(type(reply).__name__ == "NoScriptError" for reply in replies)


def is_moved(error: object) -> bool:
    """Whether an error reply means that another node of the cluster serves the slot."""
    return type(error).__name__ in {"MovedError", "ClusterDownError"}


def error_text(error: Exception) -> str:
    """The text of an error reply, at most 200 characters. redis-py removes the first word of some errors."""
    prefix = {"MovedError": "MOVED ", "AskError": "ASK "}.get(type(error).__name__, "")
    return f"{prefix}{error}"[:200]


def reason_of(error: Exception) -> str:
    """The text of an exception, at most 200 characters. redis-py's messages hold no password."""
    text = str(error) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
