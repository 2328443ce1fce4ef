"""The public keys of one issuer, read from a file or an https URL (RFC 7517) and cached.

A thread of its own fetches them, so that no token waits for a network. Keys are stored by issuer as well as by `kid`
(GHSA-g6vg-wj8f-48cj).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from enum import Enum
from pathlib import Path

from tidings.errors import BadConfig, TidingsError, Unavailable
from tidings.number_checks import TIME_MAX_S, check_seconds
from tidings.tokens.jwks_document import read_keys
from tidings.tokens.jwks_fetch import JWKS_MAX_BYTES, JwksFetch
from tidings.tokens.signing_keys import Key

logger = logging.getLogger("tidings.tokens")

FETCH_TIMEOUT_S = 5.0
# At most one fetch in this time, however many tokens have an unknown kid.
REFETCH_S = 30.0
# A fetch that takes longer has passed its deadline and hangs in a name look-up, which no deadline ends.
_STUCK_S = 60.0
# Bounds the memory that tokens with invented keys take.
_NAMED_MAX = 64


class JwksState(Enum):
    """What the keys of an issuer are worth."""

    FRESH = "fresh"
    # The last fetches failed. The keys are valid until `stale_max_s`.
    LATE = "late"
    # The keys are too old to be used: the issuer may have removed one of them.
    STALE = "stale"
    # No fetch has succeeded yet.
    EMPTY = "empty"


class JwksRefresh:
    """One fetch, which a thread runs. `error` is set before `done`."""

    def __init__(self, issuer: str, now_s: float) -> None:
        self.started_s = now_s
        self.pid = os.getpid()
        self.done = threading.Event()
        self.error: TidingsError | None = None
        self._issuer = issuer

    def wait(self, timeout_s: float) -> None:
        """Wait until the fetch has ended, but no longer than `timeout_s` seconds.

        Raises:
            Unavailable: it failed, or did not end in time. The known keys stay.
        """
        if not self.done.wait(timeout_s):
            raise Unavailable(f"the JWKS of {self._issuer} is being fetched; try again later")
        if self.error is not None:
            raise self.error


class Jwks:
    """The keys of the issuer `issuer`, from `url` or `file`; empty until the first refresh.

    `cache_s`: seconds between two fetches. After a failed fetch the known keys stay valid, and the next attempt follows
    after `REFETCH_S` seconds. After `stale_max_s` seconds without a successful fetch no key is valid. `timeout_s`: the
    limit of one fetch. `proxy`: see `JwksFetch`. `fetch` replaces the fetch; `now_s` is a monotonic clock.

    Raises:
        BadConfig: neither or both of `url` and `file`, a URL that is not https, or a `stale_max_s` below `cache_s`.
    """

    def __init__(  # noqa: PLR0913 - each is one setting, by name
        self,
        issuer: str,
        *,
        url: str = "",
        file: str = "",
        cache_s: float = 600.0,
        stale_max_s: float = 86_400.0,
        timeout_s: float = FETCH_TIMEOUT_S,
        proxy: str = "",
        fetch: Callable[[], bytes] | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if not issuer or bool(url) == bool(file):
            raise BadConfig("a JWKS needs an issuer and either url or file")
        for name, value_s in (("cache_s", cache_s), ("stale_max_s", stale_max_s), ("timeout_s", timeout_s)):
            check_seconds(value_s, f"{name} of a JWKS", most_s=TIME_MAX_S)
        if stale_max_s < cache_s:
            raise BadConfig("stale_max_s of a JWKS is less than its cache_s: its keys would end before the next fetch")
        over_http = JwksFetch(url, timeout_s=timeout_s, proxy=proxy) if url else None
        self.issuer = issuer
        self.timeout_s = timeout_s
        self._source = url or file
        self._fetch = fetch or over_http or (lambda: _read_file(file))
        self._cache_s = cache_s
        self._stale_max_s = stale_max_s
        self._now_s = now_s
        self._keys: list[Key] = []
        self._fetched_s: float | None = None
        self._attempted_s: float | None = None
        # When the fetch of these keys started.
        self._requested_s: float | None = None
        self._has_unknown_key = False
        # Keys that tokens named and that were not known: when each was first named.
        self._named_s: dict[Hashable, float] = {}
        # Held for a few steps, never during I/O.
        self._lock = threading.Lock()
        self._refresh: JwksRefresh | None = None
        self._failures: list[TidingsError] = []

    @property
    def keys(self) -> list[Key]:
        """The keys that are valid now: none once they are stale."""
        return [] if self.state is JwksState.STALE else self._keys

    @property
    def age_s(self) -> float | None:
        """Seconds since the keys were fetched; None: never."""
        return None if self._fetched_s is None else self._now_s() - self._fetched_s

    @property
    def state(self) -> JwksState:
        """What the keys are worth now."""
        age_s = self.age_s
        if age_s is None:
            return JwksState.EMPTY
        if age_s > self._stale_max_s:
            return JwksState.STALE
        # A refresh that is due is not late yet.
        return JwksState.FRESH if age_s <= self._cache_s + REFETCH_S + self.timeout_s else JwksState.LATE

    def was_fetched_for(self, name: Hashable, *, issued_ago_s: float | None) -> bool:
        """Whether the keys were fetched after a token named this key, and recently: then it does not exist.

        A key may be new although the last fetch was a moment ago. `issued_ago_s`: when the token at hand was issued, at
        the latest; None: it does not say. If that was after the request for the keys, its key may be newer than they,
        although another token named it before: anyone can guess the name of a future key.
        """
        age_s, named_s = self.age_s, self._named_s.get(name)
        if age_s is None or named_s is None or self._requested_s is None:
            return False
        return age_s < REFETCH_S and named_s <= self._requested_s and not self.is_older_than(issued_ago_s)

    def is_older_than(self, issued_ago_s: float | None) -> bool:
        """Whether a token was issued after the request for the keys, so that its key may be newer. None: unknown."""
        if issued_ago_s is None or self._requested_s is None:
            return False
        return issued_ago_s < self._now_s() - self._requested_s

    def on_unknown_key(self, name: Hashable) -> None:
        """A token names a key that is not known. Makes the next refresh due earlier."""
        self._has_unknown_key = True
        if name not in self._named_s and len(self._named_s) >= _NAMED_MAX:
            # Without its time a token is refused for now, not for good.
            del self._named_s[next(iter(self._named_s))]
        self._named_s.setdefault(name, self._now_s())

    def pop_failures(self) -> list[TidingsError]:
        """The errors of fetches since the last call."""
        failures, self._failures = self._failures, []
        return failures

    def adopt(self, previous: Jwks) -> None:
        """Take the keys of `previous`, which is the same source with other settings."""
        if (self.issuer, self._source) == (previous.issuer, previous._source):
            self._keys, self._fetched_s = previous._keys, previous._fetched_s
            self._requested_s, self._named_s = previous._requested_s, dict(previous._named_s)
            # The result of a fetch that is running goes to `previous`, so it is repeated.
            self._attempted_s = previous._attempted_s if previous._refresh is None else None

    def is_due(self) -> bool:
        """Whether a refresh would fetch."""
        now_s = self._now_s()
        if self._attempted_s is None:
            return True
        if now_s - self._attempted_s < REFETCH_S:
            return False
        return self._has_unknown_key or self._fetched_s is None or now_s - self._fetched_s >= self._cache_s

    def start_refresh(self) -> JwksRefresh | None:
        """The fetch that is running, started now if one is due; None: none is running or due. Never waits."""
        refresh = self._refresh
        if refresh is not None and refresh.pid != os.getpid():
            # Forked: the thread of this fetch, and perhaps the owner of the lock, exist in the parent only.
            self._lock, self._refresh, refresh = threading.Lock(), None, None
        if refresh is None and not self.is_due():
            return None
        with self._lock:
            refresh, now_s = self._refresh, self._now_s()
            if refresh is not None and now_s - refresh.started_s < _STUCK_S:
                return refresh
            if not self.is_due():
                return None
            refresh = self._refresh = JwksRefresh(self.issuer, now_s)
            self._attempted_s, self._has_unknown_key = now_s, False
        try:
            threading.Thread(target=self._run, args=(refresh,), name="tidings-jwks", daemon=True).start()
        except RuntimeError as error:
            # The process can start no thread.
            self._end(refresh, Unavailable(f"no keys from the JWKS of {self.issuer}: {error}"), cause=error)
        return refresh

    def _run(self, refresh: JwksRefresh) -> None:
        """Fetch once. Whatever happens, the refresh ends, so that the next one can start."""
        error: BaseException | None = None
        failure: TidingsError | None = None
        try:
            keys = read_keys(self._fetch(), self.issuer)
            # A fetch that was stuck may end after a newer one.
            if self._refresh is refresh:
                self._keys, self._fetched_s, self._requested_s = keys, self._now_s(), refresh.started_s
        except TidingsError as caught:
            failure = caught
        except (OSError, ValueError) as caught:
            error, text = caught, str(caught)
            failure = Unavailable(f"no keys from the JWKS of {self.issuer}: {type(caught).__name__}: {text}"[:300])
        except BaseException as caught:
            error = caught
            failure = Unavailable(f"no keys from the JWKS of {self.issuer}: {type(caught).__name__}")
            logger.exception("unexpected error in the fetch of a JWKS")
            if not isinstance(caught, Exception):
                raise
        finally:
            self._end(refresh, failure, cause=error)

    def _end(self, refresh: JwksRefresh, failure: TidingsError | None, *, cause: BaseException | None) -> None:
        if failure is not None:
            failure.__cause__ = cause
            # Bounded in case the program never reads them.
            self._failures = [*self._failures[-9:], failure]
        refresh.error = failure
        if self._refresh is refresh:
            self._refresh = None
        refresh.done.set()


def _read_file(file: str) -> bytes:
    with Path(file).open("rb") as opened:
        body = opened.read(JWKS_MAX_BYTES + 1)
    if len(body) > JWKS_MAX_BYTES:
        raise ValueError(f"a file of more than {JWKS_MAX_BYTES} bytes")
    return body
