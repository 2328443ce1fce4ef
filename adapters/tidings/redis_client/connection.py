"""Connections to Redis for commands: bytes out, replies in, always with a deadline.

redis-py makes them (TLS, login, Sentinel) and parses what comes back. A line that failed in any way,
a cancelled call included, is never used again: a late reply must not answer another question.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from tidings.redis_client.scripts import Script, pack_load
from tidings.redis_client.url import RedisAddress, redis_module

# Above this many idle connections the next one is closed instead of kept.
IDLE_MAX = 16
CONNECT_TIMEOUT_S = 2.0


class ConnectionLost(Exception):
    """No replies. `sent`: the request may have been carried out; `final`: trying again will not help."""

    def __init__(self, message: str, *, sent: bool, final: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.final = final


class RedisConnection:
    """One connection; one call at a time. `strayed`: it leads to a node that is no longer the right one."""

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

        `scripts` are loaded in the same round trip, if this connection has not done so yet. `deadline_s`
        is a time of `time.monotonic`.

        Raises:
            LineDown: the connection broke, or the deadline passed.
        """
        redis = redis_module()
        fresh = [one for one in scripts if one.sha not in self._scripts]
        try:
            self._limit(deadline_s)
            self._connection.send_packed_command([*map(pack_load, fresh), packed], check_health=False)
            replies = [self._read(redis.ResponseError, deadline_s) for _ in range(len(fresh) + count)]
        except (redis.RedisError, OSError) as error:
            self.close()
            raise ConnectionLost(f"{self._address} did not answer ({reason_of(error)})", sent=True) from error
        except BaseException:
            self.close()
            raise
        self._scripts.update(one.sha for one in fresh)
        found = replies[len(fresh) :]
        for refusal in [reply for reply in found if isinstance(reply, redis.ResponseError)]:
            if isinstance(refusal, redis.exceptions.NoScriptError):
                self._scripts.clear()
            elif is_moved(refusal):
                self.moved = True
        return found

    def _read(self, error_reply: type[Exception], deadline_s: float) -> Any:
        self._limit(deadline_s)
        try:
            return self._connection.read_response(disable_decoding=True)
        except error_reply as error:
            return error

    def _limit(self, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        # redis-py has no public way to give each read its own time.
        socket = self._connection._sock  # noqa: SLF001
        if left_s <= 0 or socket is None:
            raise TimeoutError("no time left")
        socket.settimeout(left_s)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._connection.disconnect()


class RedisPool:
    """Connections to one Redis, for any number of threads or greenlets. Holds no lock, so a fork cannot catch it."""

    def __init__(self, address: RedisAddress) -> None:
        self.address = address
        self._idle: deque[RedisConnection] = deque()
        self._pid = os.getpid()

    def call(self, packed: bytes, count: int, scripts: Sequence[Script], *, deadline_s: float) -> list[Any]:
        """As `Line.call`, on an idle connection or a new one."""
        line = self._acquire(deadline_s)
        replies = line.call(packed, count, scripts, deadline_s=deadline_s)
        if line.moved:
            # The idle ones lead there, too; new ones ask the cluster for the way.
            line.close()
            self.close()
        elif len(self._idle) < IDLE_MAX and self._pid == os.getpid():
            self._idle.append(line)
        else:
            line.close()
        return replies

    def _acquire(self, deadline_s: float) -> RedisConnection:
        if self._pid != os.getpid():
            # The parent goes on using its connections; ours are copies of them.
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
    """Whether Redis has forgotten a script: then none of the commands that call it was carried out."""
    return any(type(reply).__name__ == "NoScriptError" for reply in replies)


def is_moved(error: object) -> bool:
    """Whether an error reply says that this node of a cluster is not (or no longer) the one to ask."""
    return type(error).__name__ in {"MovedError", "ClusterDownError"}


def error_text(error: Exception) -> str:
    """What an error reply says, in at most 200 characters. redis-py takes the first word of some away."""
    moved = {"MovedError": "MOVED ", "AskError": "ASK "}.get(type(error).__name__, "")
    return f"{moved}{error}"[:200]


def reason_of(error: Exception) -> str:
    """What an exception says, in at most 200 characters. redis-py's messages hold no password."""
    text = str(error) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
