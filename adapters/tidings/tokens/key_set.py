"""Verifying tokens in a hub (PROTOCOL.md section 9).

The key determines the algorithm, never the token. Needs the extra `[jwt]`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

from tidings.errors import BadChannel, Expired, TidingsError, Unauthorized, Unavailable
from tidings.number_checks import check_count, check_seconds
from tidings.tokens.jwks import Jwks, JwksRefresh, JwksState
from tidings.tokens.jws import TOKEN_MAX_BYTES, bad_claim, decode_segment, malformed, not_signed, parse_token, too_long
from tidings.tokens.signing_keys import SECRET_MIN_BYTES, Key
from tidings.wire.channels import PATTERN_MAX, check_patterns, user_channel
from tidings.wire.claims import Claims

# How long a token with an unknown kid waits for the keys of its issuer, and how many wait for those at the same time.
WAIT_S = 2.0
WAITING_MAX = 16


# The `kid` and the algorithm of a token: what selects its key.
_KeyName = tuple[str | None, str]
_WRONG_SIGNATURE = "its signature is wrong"
_BAD_SUB = "sub cannot be part of a channel; use 1 to 135 letters, digits and the signs _ . : @ | = + ~ ! $ -"
# A number of seconds from here on is a date after the year 33658, so more likely one in milliseconds.
_TIME_MAX_S = 1e12


class _UnknownKey(Exception):
    """No key fits the token's `kid` and algorithm, or its signature. Then the arguments are the reason."""


class _Waits:
    """The waits for the keys of one issuer: at most `waiting_max` at a time."""

    def __init__(self, waiting_max: int) -> None:
        self._room = threading.Semaphore(waiting_max)

    def wait(self, refresh: JwksRefresh, wait_s: float) -> bool:
        """Wait until the fetch has ended, at most `wait_s` seconds. False: there is no room."""
        if not self._room.acquire(blocking=False):
            return False
        try:
            refresh.done.wait(wait_s)
        finally:
            self._room.release()
        return True


class KeySet:
    """All keys of a hub, and the claims that a token must have.

    `leeway_s` is the tolerated difference between clocks. Tokens of the issuer of a `Jwks` are verified only
    with its keys, and its keys verify nothing else. `wait_s` and `waiting_max` bound the waits of `verify_fresh`, for
    each issuer.
    """

    def __init__(
        self,
        keys: Sequence[Key] = (),
        *,
        audience: str = "",
        issuer: str = "",
        leeway_s: float = 10.0,
        require_exp: bool = True,
        jwks: Sequence[Jwks] = (),
        wait_s: float = WAIT_S,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        check_seconds(leeway_s, "leeway_s", is_zero_valid=True)
        check_seconds(wait_s, "wait_s", is_zero_valid=True)
        check_count(waiting_max, "waiting_max", least=0)
        self._keys = list(keys)
        self._audience = audience
        self._issuer = issuer
        self._leeway_s = leeway_s
        self._require_exp = require_exp
        self._jwks = {source.issuer: source for source in jwks}
        self._wait_s = wait_s
        self._waits = {source.issuer: _Waits(waiting_max) for source in jwks}
        self._waits_refused = 0
        self._timing_key = Key("HS256", secrets.token_bytes(SECRET_MIN_BYTES))

    def verify(self, token: object, *, now_s: float) -> Claims:
        """The claims of the token, if it is valid at `now_s` (unix seconds).

        Never waits. If the keys of its issuer are due, or miss the token's `kid`, a thread starts to fetch them.

        Raises:
            Expired: it was valid until its `exp`.
            Unauthorized: it is not valid for another reason. The error's note has the reason, for a log. Its message
                names a claim only if the signature is valid.
            Unavailable: the current keys of its issuer are not known. Try again later.
        """
        return self._verify(token, now_s, wait_s=0.0)

    def verify_fresh(self, token: object, *, now_s: float) -> Claims:
        """As `verify`, but if the token's `kid` is unknown, it waits for the fetch: its issuer may have rotated keys.

        At most `waiting_max` callers wait for one issuer, each at most `wait_s` seconds; others get `Unavailable` at
        once. Tokens with a known `kid` never wait. Call it in a thread or greenlet, in asyncio with
        `asyncio.to_thread`.

        Raises:
            Expired, Unauthorized, Unavailable: as `verify`.
        """
        return self._verify(token, now_s, wait_s=self._wait_s)

    def start_refresh(self) -> None:
        """Start to fetch every JWKS that is due, each in a thread of its own. Never waits."""
        for source in self._jwks.values():
            source.start_refresh()

    def refresh(self, timeout_s: float) -> list[TidingsError]:
        """Fetch every JWKS that is due, and wait for all of them, at most `timeout_s` seconds. Returns the errors."""
        refreshes = [source.start_refresh() for source in self._jwks.values()]
        end_s, errors = time.monotonic() + timeout_s, []
        for refresh in filter(None, refreshes):
            try:
                refresh.wait(max(0.0, end_s - time.monotonic()))
            except TidingsError as error:
                errors.append(error)
        return errors

    def pop_failures(self) -> list[TidingsError]:
        """The errors of fetches since the last call."""
        return [error for source in self._jwks.values() for error in source.pop_failures()]

    def pop_waits_refused(self) -> int:
        """How many tokens were refused because of `waiting_max` since the last call."""
        count, self._waits_refused = self._waits_refused, 0
        return count

    def jwks_states(self) -> dict[str, JwksState]:
        """What the keys of each issuer are worth."""
        return {issuer: source.state for issuer, source in self._jwks.items()}

    def jwks_ages_s(self) -> list[float]:
        """Seconds since the last successful fetch of each issuer that had one."""
        return [source.age_s for source in self._jwks.values() if source.age_s is not None]

    @property
    def fetch_timeout_s(self) -> float:
        """The longest time that a fetch takes; 0 without a JWKS."""
        return max((source.timeout_s for source in self._jwks.values()), default=0.0)

    def adopt(self, previous: KeySet | None) -> None:
        """Take the fetched keys of `previous` for the sources that both have: a reload of settings forgets no key."""
        for issuer, source in self._jwks.items():
            known = None if previous is None else previous._jwks.get(issuer)  # noqa: SLF001 - the same class
            if known is not None:
                source.adopt(known)

    def _verify(self, token: object, now_s: float, *, wait_s: float) -> Claims:
        if not isinstance(token, str):
            raise malformed("it is not a text")
        if len(token) > TOKEN_MAX_BYTES:
            raise too_long()
        header, claims = parse_token(token)
        # The issuer only selects among the configured ones. It is trusted once the signature matches its keys.
        source = self._jwks.get(str(claims.get("iss")))
        if source is not None:
            source.start_refresh()
        try:
            self._check_signature(token, header, self._keys if source is None else source.keys)
        except _UnknownKey as unknown:
            name, is_known = _key_name(header), bool(unknown.args)
            reason = unknown.args or _no_key(name, source, claims.get("iss"))
            if source is None or not self._would_be_valid(claims, source, now_s):
                raise not_signed(*reason) from None
            issued_s = _number(claims, "iat")
            issued_ago_s = None if issued_s is None else now_s - issued_s - self._leeway_s
            # A new key may have the name of an old one, or none.
            if is_known and not source.is_older_than(issued_ago_s):
                raise not_signed(*reason) from None
            self._wait_for_keys(source, name, 0.0 if is_known else wait_s, issued_ago_s=issued_ago_s)
            try:
                self._check_signature(token, header, source.keys)
            except _UnknownKey:
                if source.was_fetched_for(name, issued_ago_s=issued_ago_s):
                    raise not_signed(*reason) from None
                raise Unavailable("the keys of this token's issuer are not available; try again later") from None
        exp, iat = self._check_times(claims, now_s)
        self._check_names(claims, issuer=source.issuer if source else self._issuer)
        return _to_claims(claims, exp, iat)

    def _would_be_valid(self, claims: dict[str, Any], source: Jwks, now_s: float) -> bool:
        try:
            self._check_times(claims, now_s)
            self._check_names(claims, issuer=source.issuer)
        except Unauthorized:
            return False
        return True

    def _wait_for_keys(self, source: Jwks, name: _KeyName, wait_s: float, *, issued_ago_s: float | None) -> None:
        """Wait for a fetch that may bring the key of this token. Returns at once if there is none."""
        if source.was_fetched_for(name, issued_ago_s=issued_ago_s):
            return
        source.on_unknown_key(name)
        refresh = source.start_refresh()
        if refresh is not None and wait_s > 0 and not self._waits[source.issuer].wait(refresh, wait_s):
            self._waits_refused += 1

    def _check_signature(self, token: str, header: dict[str, Any], keys: Sequence[Key]) -> None:
        kid = header.get("kid")
        candidates = [key for key in keys if key.algorithm == header["alg"] and (kid is None or key.kid in (None, kid))]
        signing_input, _, encoded = token.rpartition(".")
        signature = decode_segment(encoded)
        # Without a candidate another key is tried, so that an unknown kid takes as long as a bad signature.
        matches = [key.verify(signing_input.encode(), signature) for key in candidates or [self._timing_key]]
        if not candidates:
            raise _UnknownKey
        if not any(matches):
            raise _UnknownKey("its signature does not match the key %r", kid) if kid else _UnknownKey(_WRONG_SIGNATURE)

    def _check_times(self, claims: dict[str, Any], now_s: float) -> tuple[float | None, float | None]:
        """Return `exp` and `iat`."""
        exp, nbf, iat = _number(claims, "exp"), _number(claims, "nbf"), _number(claims, "iat")
        latest_s = now_s + self._leeway_s
        if exp is None and self._require_exp:
            raise bad_claim("exp is missing; issue tokens that expire")
        for name, value_s in (("nbf", nbf), ("iat", iat)):
            if value_s is not None and value_s > latest_s:
                text = f"{name} is in the future; set the clock of its issuer, or of the hub"
                raise bad_claim(text, f"{name} is {value_s - now_s:.0f} s in the future")
        if exp is not None and exp <= now_s - self._leeway_s:
            expired = Expired()
            expired.add_note(f"it expired {now_s - exp:.0f} s ago")
            raise expired
        return exp, iat

    def _check_names(self, claims: dict[str, Any], *, issuer: str) -> None:
        audience = claims.get("aud")
        audiences = [audience] if isinstance(audience, str) else audience
        if self._audience and not (isinstance(audiences, list) and self._audience in audiences):
            raise bad_claim("aud does not name this hub; issue it with the hub's audience")
        if issuer and claims.get("iss") != issuer:
            raise bad_claim("iss is not the issuer that this hub accepts")


def _key_name(header: dict[str, Any]) -> _KeyName:
    return header.get("kid"), header["alg"]


def _no_key(name: _KeyName, source: Jwks | None, issuer: object) -> list[str]:
    """The reason, and the values in it. Without a `source` it names the `issuer`, which may be the wrong one."""
    kid, algorithm = name
    reason = "this hub has no key for %s" if source is None else "the issuer %s has no key for %s"
    values = [algorithm] if source is None else [source.issuer, algorithm]
    if kid:
        reason += " with the kid %r"
        values.append(kid[:100])
    if source is None and isinstance(issuer, str):
        reason += ", and no jwks for the issuer %r"
        values.append(issuer[:200])
    return [reason, *values]


def _number(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise bad_claim(f"{name} is not a number of seconds")
    if value >= _TIME_MAX_S:
        raise bad_claim(f"{name} is too large; it is in seconds since 1970, not in milliseconds")
    return float(value)


def _to_claims(claims: dict[str, Any], exp: float | None, iat: float | None) -> Claims:
    sub, jti, issuer = claims.get("sub"), claims.get("jti"), claims.get("iss")
    if not isinstance(sub, str):
        raise bad_claim("sub is missing" if sub is None else "sub is not a string; write a number in quotes")
    if not isinstance(issuer, str | None):
        raise bad_claim("iss is not a string")
    if not isinstance(jti, str | None) or len(jti or "") > PATTERN_MAX:
        raise bad_claim(f"jti is not a string of at most {PATTERN_MAX} characters")
    try:
        user_channel(sub)
    except BadChannel:
        raise bad_claim(_BAD_SUB) from None
    try:
        patterns = check_patterns(claims.get("channels", []))
    except BadChannel:
        raise bad_claim("channels is not a list of channels or patterns such as orders:*") from None
    return Claims(
        sub=sub,
        expires_at_s=exp,
        issued_at_s=iat,
        jti=jti,
        channels=patterns,
        info=claims.get("info"),
        issuer=issuer,
    )
