from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.tokens import GOOD, NOW, SECRET, assert_rejected, b64, pair, signed
from support.waiting import wait_until
from tidings.errors import BadConfig, TidingsError, Unauthorized, Unavailable
from tidings.tokens import KeySet, issue
from tidings.tokens.jwks import REFETCH_S, Jwks, JwksState
from tidings.tokens.jwks_document import KEYS_MAX
from tidings.tokens.jwks_fetch import JWKS_MAX_BYTES
from tidings.tokens.jws import encode_segment
from tidings.tokens.signing_keys import Key


def jwk(algorithm: str, **more: object) -> dict[str, Any]:
    public = serialization.load_pem_public_key(pair(algorithm)[1].encode())
    entry: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(public, as_dict=True)
    return entry | more


def document(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


class Issuer:
    """An issuer whose document can be changed. `released` holds back its responses while it is clear."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.error: BaseException = OSError("no route")
        self.requests = 0
        self.released = threading.Event()
        self.released.set()

    def __call__(self) -> bytes:
        self.requests += 1
        assert self.released.wait(30)
        if not self.body:
            raise self.error
        return self.body


class Clock:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.s = 5_000.0

    def __call__(self) -> float:
        return self.s


def by(issuer: str, kid: str | None = "k1", algorithm: str = "RS256", **more: Any) -> str:
    # Older than the keys, unless a test says when it was issued.
    more.setdefault("now_s", NOW - 3_000)
    return issue("ann", key=pair(algorithm)[0], algorithm=algorithm, kid=kid, issuer=issuer, **more)


URL = "https://id.example/jwks"
SOON_S = 5.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer(document(jwk("RS256", kid="k1")))
    yield issuer
    issuer.released.set()


def opened(issuer: Issuer, clock: Clock, **more: Any) -> Jwks:
    return Jwks("me", url=URL, fetch=issuer, now_s=clock, **more)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_keys_from_a_jwks(algorithm: str) -> None:
    issuer = Issuer(document(jwk(algorithm, kid="k1")))
    keys = KeySet(jwks=[Jwks("https://id.example", url=URL, fetch=issuer)])
    token = by("https://id.example", algorithm=algorithm)
    assert keys.verify_fresh(token, now_s=NOW).sub == "ann"
    assert issuer.requests == 1


def test_first_token_starts_the_fetch_and_does_not_wait(issuer: Issuer, clock: Clock) -> None:
    """In an event loop: `verify` never waits, and the thread that it starts gets the keys for the next token."""
    issuer.released.clear()
    keys = KeySet(jwks=[opened(issuer, clock)])
    with pytest.raises(Unavailable, match="not available"):
        keys.verify(by("me"), now_s=NOW)
    issuer.released.set()
    assert keys.refresh(SOON_S) == []
    assert keys.verify(by("me"), now_s=NOW).sub == "ann"
    assert issuer.requests == 1


def test_jwks_is_cached_and_fetched_again_in_time(issuer: Issuer, clock: Clock) -> None:
    keys = KeySet(jwks=[opened(issuer, clock, cache_s=600)])
    assert keys.refresh(SOON_S) == []
    for second in range(0, 600, 50):
        clock.s = 5_000 + second
        keys.refresh(SOON_S)
    assert issuer.requests == 1
    clock.s = 5_600
    keys.refresh(SOON_S)
    assert issuer.requests == 2


def test_removed_key_is_rejected_after_cache_s(issuer: Issuer, clock: Clock) -> None:
    """Tokens alone make the refresh happen: a program needs no task of its own."""
    keys = KeySet(jwks=[opened(issuer, clock, cache_s=60)])
    keys.refresh(SOON_S)
    issuer.body = document(jwk("RS256", kid="k2"))
    clock.s += 59
    assert keys.verify(by("me"), now_s=NOW).sub == "ann"
    clock.s += 1
    issuer.released.clear()
    assert keys.verify(by("me"), now_s=NOW).sub == "ann"
    issuer.released.set()
    assert keys.refresh(SOON_S) == []
    assert_rejected(by("me"), keys)
    assert keys.verify(by("me", kid="k2"), now_s=NOW).sub == "ann"


def test_an_unknown_kid_fetches_once_in_thirty_seconds(issuer: Issuer, clock: Clock) -> None:
    """The key may have been published after the last fetch, so its token is refused only until the next one."""
    keys = KeySet(jwks=[opened(issuer, clock)])
    keys.refresh(SOON_S)
    issuer.body = document(jwk("RS256", kid="k2"))
    for number in range(1, 300):
        clock.s = 5_000 + number / 10
        with pytest.raises(Unavailable):
            keys.verify_fresh(by("me", kid="k2"), now_s=NOW)
    assert issuer.requests == 1
    clock.s = 5_000 + REFETCH_S
    assert keys.verify_fresh(by("me", kid="k2"), now_s=NOW).sub == "ann"
    assert issuer.requests == 2


def test_unknown_kid_is_rejected_for_good_once_the_keys_were_fetched_for_it(issuer: Issuer, clock: Clock) -> None:
    keys = KeySet(jwks=[opened(issuer, clock)])
    keys.refresh(SOON_S)
    clock.s += 1
    invented = [by("me", kid=f"x{number}") for number in range(200)]
    for token in [by("me", kid="k9"), *invented]:
        with pytest.raises(Unavailable):
            keys.verify(token, now_s=NOW)
    clock.s = 5_000 + REFETCH_S
    issuer.released.clear()
    with pytest.raises(Unavailable):
        # Its time was dropped for those of invented kids, of which only some are kept.
        keys.verify(by("me", kid="k9"), now_s=NOW)
    issuer.released.set()
    assert keys.refresh(SOON_S) == []
    clock.s += REFETCH_S - 1
    for _ in range(3):
        assert_rejected(by("me", kid="k9"), keys)
    assert issuer.requests == 2


def test_name_of_a_future_key_that_was_guessed_does_not_reject_its_tokens(issuer: Issuer, clock: Clock) -> None:
    """A rejection is final for a client, so a token that is newer than the keys waits for the next fetch."""
    keys = KeySet(jwks=[opened(issuer, clock)])
    fetch_for(by("me", kid="k2"), keys, clock)
    issuer.body = document(jwk("RS256", kid="k1"), jwk("RS256", kid="k2"))
    rotated_s = REFETCH_S + 5
    token = by("me", kid="k2", now_s=NOW + rotated_s)
    for later_s in (rotated_s, rotated_s + 12, 2 * REFETCH_S - 1):
        clock.s = 5_000 + later_s
        with pytest.raises(Unavailable):
            keys.verify(token, now_s=NOW + later_s)
    clock.s = 5_000 + 2 * REFETCH_S
    assert keys.verify_fresh(token, now_s=NOW + 2 * REFETCH_S).sub == "ann"


@pytest.mark.parametrize("kid", [None, "k1"])
def test_new_key_without_a_name_of_its_own_rejects_no_token_for_good(clock: Clock, kid: str | None) -> None:
    """The issuer replaces a key by another one with the same `kid`, or without any."""
    name = {} if kid is None else {"kid": kid}
    issuer = Issuer(document(jwk("RS256", **name)))
    keys = KeySet(jwks=[opened(issuer, clock)])
    assert keys.refresh(SOON_S) == []
    clock.s += 10
    new = rsa.generate_private_key(65537, 2048)
    issuer.body = document(jwt.get_algorithm_by_name("RS256").to_jwk(new.public_key(), as_dict=True) | name)
    claims = {"sub": "ann", "iss": "me", "exp": NOW + 600, "iat": NOW + 30}
    token = jwt.encode(claims, new, algorithm="RS256", headers=name)
    clock.s += REFETCH_S - 11
    with pytest.raises(Unavailable):
        keys.verify(token, now_s=NOW + 29)
    assert issuer.requests == 1
    clock.s += 1
    assert keys.refresh(SOON_S) == []
    assert keys.verify(token, now_s=NOW + 30).sub == "ann"
    # A forgery is refused for good once the keys are newer than it.
    forged = jwt.encode(claims, pair("RS256")[0], algorithm="RS256", headers=name)
    clock.s += REFETCH_S
    with pytest.raises(Unavailable):
        keys.verify(forged, now_s=NOW + 30)
    assert keys.refresh(SOON_S) == []
    assert_rejected(forged, keys, NOW + 60)


def test_token_without_a_time_is_rejected_once_its_key_was_fetched_for(issuer: Issuer, clock: Clock) -> None:
    keys = KeySet(jwks=[opened(issuer, clock)])
    token = jwt.encode({**GOOD, "iss": "me"}, pair("RS256")[0], algorithm="RS256", headers={"kid": "k2"})
    fetch_for(token, keys, clock)
    assert_rejected(token, keys)


def fetch_for(token: str, keys: KeySet, clock: Clock) -> None:
    """Fetch the keys, present a token whose key is not among them, and fetch them again."""
    assert keys.refresh(SOON_S) == []
    clock.s += 1
    with pytest.raises(Unavailable):
        keys.verify(token, now_s=NOW)
    clock.s += REFETCH_S - 1
    assert keys.refresh(SOON_S) == []


def test_known_key_never_waits_for_a_fetch(issuer: Issuer, clock: Clock) -> None:
    """The issuer stands still, and tokens with unknown kids wait for it. Good tokens are verified meanwhile."""
    keys = KeySet(jwks=[opened(issuer, clock)], wait_s=30, waiting_max=4)
    keys.refresh(SOON_S)
    clock.s += REFETCH_S
    issuer.released.clear()
    errors: list[Exception] = []

    def sign_in() -> None:
        try:
            keys.verify_fresh(by("me", kid="k9"), now_s=NOW)
        except TidingsError as error:
            errors.append(error)

    threads = [threading.Thread(target=sign_in) for _ in range(12)]
    for thread in threads:
        thread.start()
    # Only `waiting_max` of them wait. The others are refused at once.
    wait_until(lambda: len(errors) == 8)
    assert {type(error) for error in errors} == {Unavailable}
    assert keys.pop_waits_refused() == 8
    token = by("me")
    for _ in range(100):
        assert keys.verify_fresh(token, now_s=NOW).sub == "ann"
    issuer.released.set()
    for thread in threads:
        thread.join(SOON_S)
    # The four that waited know now that the key does not exist.
    assert [type(error) for error in errors[8:]] == [Unauthorized] * 4
    assert issuer.requests == 2


def test_waits_for_one_issuer_leave_room_for_the_others(issuer: Issuer, clock: Clock) -> None:
    """One issuer stands still, and as many tokens as may wait for it do. A token of the other one waits as usual."""
    other = Issuer(document(jwk("RS256", kid="k1")))
    keys = KeySet(
        jwks=[opened(issuer, clock), Jwks("you", url=URL, fetch=other, now_s=clock)], wait_s=30, waiting_max=2
    )
    issuer.released.clear()
    other.released.clear()
    outcomes: list[object] = []

    def sign_in(token: str) -> None:
        try:
            outcomes.append(keys.verify_fresh(token, now_s=NOW).sub)
        except TidingsError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=sign_in, args=(by("me", kid="k9"),)) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(outcomes) == 3)
    threads.append(threading.Thread(target=sign_in, args=(by("you"),)))
    threads[-1].start()
    wait_until(lambda: other.requests == 1)
    other.released.set()
    threads[-1].join(SOON_S)
    assert outcomes == [Unavailable] * 3 + ["ann"]
    assert keys.pop_waits_refused() == 3
    issuer.released.set()
    for thread in threads:
        thread.join(SOON_S)
    assert outcomes[4:] == [Unauthorized] * 2


def test_wait_for_a_fetch_is_bounded(issuer: Issuer, clock: Clock) -> None:
    issuer.released.clear()
    keys = KeySet(jwks=[opened(issuer, clock)], wait_s=0.1)
    with pytest.raises(Unavailable):
        keys.verify_fresh(by("me"), now_s=NOW)


@pytest.mark.parametrize("claims", [{"expires_in_s": -60}, {"expires_in_s": None}])
def test_token_that_is_invalid_anyway_does_not_wait(issuer: Issuer, clock: Clock, claims: Any) -> None:
    issuer.released.clear()
    keys = KeySet(jwks=[opened(issuer, clock)], wait_s=30)
    with pytest.raises(Unauthorized) as raised:
        keys.verify_fresh(by("me", **claims), now_s=NOW)
    assert type(raised.value) is Unauthorized


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route"), ValueError("Invalid response"), HTTPException("garbled chunk"), RuntimeError("bug"),
        AssertionError(), KeyboardInterrupt(), RecursionError(),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_no_error_of_a_fetch_ends_the_refreshes(issuer: Issuer, clock: Clock, error: BaseException) -> None:
    keys = KeySet(jwks=[opened(issuer, clock, cache_s=60)])
    keys.refresh(SOON_S)
    good, issuer.body, issuer.error = issuer.body, b"", error
    clock.s += 60
    assert [type(failure) for failure in keys.refresh(SOON_S)] == [Unavailable]
    assert [type(failure) for failure in keys.pop_failures()] == [Unavailable]
    assert keys.verify(by("me"), now_s=NOW).sub == "ann"
    issuer.body = good.replace(b'"k1"', b'"k2"')
    clock.s += REFETCH_S
    assert keys.refresh(SOON_S) == []
    assert_rejected(by("me"), keys)


def test_fetch_that_hangs_is_replaced_and_its_late_result_ignored(issuer: Issuer, clock: Clock) -> None:
    """No deadline ends a name look-up."""
    issuer.released.clear()
    jwks = opened(issuer, clock)
    keys = KeySet(jwks=[jwks])
    keys.start_refresh()
    wait_until(lambda: issuer.requests == 1)
    clock.s += 59
    keys.start_refresh()
    assert issuer.requests == 1
    clock.s += 1
    keys.start_refresh()
    wait_until(lambda: issuer.requests == 2)
    issuer.released.set()
    assert keys.refresh(SOON_S) == []
    assert keys.verify(by("me"), now_s=NOW).sub == "ann"


def test_keys_are_stale_after_stale_max_s(issuer: Issuer, clock: Clock) -> None:
    keys = KeySet(jwks=[opened(issuer, clock, cache_s=60, stale_max_s=120)])
    assert keys.jwks_states() == {"me": JwksState.EMPTY}
    keys.refresh(SOON_S)
    assert keys.jwks_states() == {"me": JwksState.FRESH}
    issuer.body = b""
    clock.s += 119
    keys.refresh(SOON_S)
    assert keys.verify(by("me"), now_s=NOW).sub == "ann"
    assert keys.jwks_states() == {"me": JwksState.LATE}
    assert keys.jwks_ages_s() == [119]
    clock.s += 2
    assert keys.jwks_states() == {"me": JwksState.STALE}
    with pytest.raises(Unavailable):
        keys.verify_fresh(by("me"), now_s=NOW)
    issuer.body = document(jwk("RS256", kid="k1"))
    clock.s += REFETCH_S
    assert keys.verify_fresh(by("me"), now_s=NOW).sub == "ann"


def test_stale_max_s_is_not_less_than_cache_s() -> None:
    with pytest.raises(BadConfig, match="stale_max_s"):
        Jwks("me", url=URL, cache_s=600, stale_max_s=599)


def test_forked_process_fetches_for_itself(issuer: Issuer, clock: Clock) -> None:
    """The thread of a fetch does not exist in a forked process, and neither does the owner of a lock."""
    issuer.released.clear()
    jwks = opened(issuer, clock)
    jwks.start_refresh()
    wait_until(lambda: issuer.requests == 1)
    clock.s += REFETCH_S
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        issuer.released = threading.Event()
        issuer.released.set()
        try:
            refresh = jwks.start_refresh()
            assert refresh is not None
            refresh.wait(SOON_S)
            os.write(writing, b"%d" % len(jwks.keys))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as result:
        assert result.read() == b"1"
    os.waitpid(child, 0)


def test_reloaded_settings_keep_what_was_fetched(issuer: Issuer, clock: Clock) -> None:
    keys = KeySet(jwks=[opened(issuer, clock)])
    keys.refresh(SOON_S)
    reloaded = KeySet(jwks=[opened(issuer, clock), Jwks("other", url=URL, fetch=issuer, now_s=clock)])
    reloaded.adopt(keys)
    assert reloaded.verify(by("me"), now_s=NOW).sub == "ann"
    assert reloaded.jwks_states() == {"me": JwksState.FRESH, "other": JwksState.EMPTY}
    moved = KeySet(jwks=[Jwks("me", url="https://id.example/new", fetch=issuer, now_s=clock)])
    moved.adopt(keys)
    assert moved.jwks_states() == {"me": JwksState.EMPTY}


def test_keys_stay_if_the_issuer_does_not_respond(issuer: Issuer, clock: Clock) -> None:
    keys = KeySet(jwks=[opened(issuer, clock, cache_s=60)])
    keys.refresh(SOON_S)
    for broken in (
        b"",
        b"<html>",
        b"{}",
        b'{"keys":7}',
        b'{"keys":{}}',
        b'{"keys":[]}',
        b'{"keys":[{"kty":"oct","k":"AAAA"}]}',
        b"[" * 9999,
        b'{"keys":' + b"9" * 9999 + b"}",
        b"\xff\xfe",
        b"null",
    ):
        issuer.body = broken
        clock.s += 60
        assert [type(error) for error in keys.refresh(SOON_S)] == [Unavailable]
    assert keys.verify(by("me"), now_s=NOW).sub == "ann"


@pytest.mark.parametrize(
    "bad",
    [
        None, 7, [], "key", {}, {"kty": "RSA", "n": 7, "e": {}}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": ["P-256"], "x": "AA", "y": "AA"}, {"kty": "OKP", "crv": "X25519", "x": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}, {"kty": {}},
        {"kty": "RSA", "n": "\ud800", "e": ""},
    ],
    ids=repr,
)  # fmt: skip
def test_one_bad_entry_does_not_discard_the_others(issuer: Issuer, clock: Clock, bad: Any) -> None:
    issuer.body = document(bad, jwk("RS256", kid="k1"), bad)
    keys = KeySet(jwks=[opened(issuer, clock)])
    assert keys.refresh(SOON_S) == []
    assert keys.verify(by("me"), now_s=NOW).sub == "ann"


def test_entries_beyond_the_limit_are_ignored(issuer: Issuer, clock: Clock) -> None:
    issuer.body = document(*[jwk("EdDSA", kid=f"other{number}") for number in range(KEYS_MAX - 1)],
                           {}, jwk("RS256", kid="k1"), jwk("ES256", kid="k1"))  # fmt: skip
    keys = KeySet(jwks=[opened(issuer, clock)])
    keys.refresh(SOON_S)
    assert keys.verify(by("me"), now_s=NOW).sub == "ann"
    assert_rejected(by("me", algorithm="ES256"), keys)


@pytest.mark.parametrize(("bits", "exponent"), [(3072, (1 << 3000) + 1), (2048, (1 << 33) + 1), (16_384, 65_537)])
def test_key_that_makes_verifying_slow_is_rejected(bits: int, exponent: int) -> None:
    modulus = (1 << bits) - 1
    with pytest.raises(BadConfig, match="slow"):
        Key.from_jwk({"kty": "RSA", "n": b64_number(modulus), "e": b64_number(exponent)})


def b64_number(number: int) -> str:
    return encode_segment(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def test_fetch_that_runs_during_a_reload_is_repeated(issuer: Issuer, clock: Clock) -> None:
    issuer.released.clear()
    before, after = opened(issuer, clock), opened(issuer, clock)
    running = before.start_refresh()
    assert running is not None
    after.adopt(before)
    assert after.is_due()
    issuer.released.set()
    running.wait(SOON_S)
    after = opened(issuer, clock)
    after.adopt(before)
    assert not after.is_due()


def test_keys_with_the_same_kid_all_verify(issuer: Issuer, clock: Clock) -> None:
    issuer.body = document(jwk("EdDSA", kid="k1"), jwk("ES256", kid="k1"), jwk("RS256", kid="k1"))
    keys = KeySet(jwks=[opened(issuer, clock)])
    keys.refresh(SOON_S)
    for algorithm in ("RS256", "ES256", "EdDSA"):
        assert keys.verify(by("me", algorithm=algorithm), now_s=NOW).sub == "ann"


def test_keys_of_one_issuer_do_not_verify_tokens_of_another() -> None:
    """Two issuers with the same kid, and a key of the hub: each verifies only its own tokens."""
    first, second = Issuer(document(jwk("RS256", kid="k1"))), Issuer(document(jwk("ES256", kid="k1")))
    keys = KeySet(
        [Key("HS256", SECRET)], jwks=[Jwks("first", url=URL, fetch=first), Jwks("second", url=URL, fetch=second)]
    )
    keys.refresh(SOON_S)
    assert keys.verify(by("first"), now_s=NOW).issuer == "first"
    assert keys.verify(by("second", algorithm="ES256"), now_s=NOW).issuer == "second"
    for token in (by("second"), by("first", algorithm="ES256"), signed({**GOOD, "iss": "first"})):
        # Such a key of this issuer may be new.
        with pytest.raises(Unavailable):
            keys.verify(token, now_s=NOW)
    assert_rejected(by("third"), keys)
    assert keys.verify(signed({**GOOD, "iss": "me"}), now_s=NOW).sub == "ann"


def test_issuer_that_stands_still_does_not_delay_another(clock: Clock) -> None:
    still, other = Issuer(b""), Issuer(document(jwk("RS256", kid="k1")))
    still.released.clear()
    keys = KeySet(
        jwks=[Jwks("still", url=URL, fetch=still, now_s=clock), Jwks("other", url=URL, fetch=other, now_s=clock)],
        wait_s=30,
    )
    keys.start_refresh()
    assert keys.verify_fresh(by("other"), now_s=NOW).sub == "ann"
    still.released.set()


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": b64(SECRET.encode()), "kid": "k1"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "k1"},
        {"kty": "RSA", "kid": "k1"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": ["RSA"]},
        {},
    ],
)
def test_invalid_jwks_entries_are_ignored(entry: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        Key.from_jwk(entry)


def test_jwks_entries_for_other_uses_are_ignored() -> None:
    for other in ({"use": "enc"}, {"alg": "RS512"}, {"alg": "HS256"}):
        with pytest.raises(BadConfig):
            Key.from_jwk(jwk("RS256", **other))
    with pytest.raises(BadConfig):
        Key.from_jwk(jwk_of("RSA1024"))


def jwk_of(kind: str) -> dict[str, Any]:
    public = serialization.load_pem_public_key(pair(kind)[1].encode())
    entry: dict[str, Any] = jwt.get_algorithm_by_name("RS256").to_jwk(public, as_dict=True)
    return entry


@pytest.mark.parametrize("other", [{"kid": 7}, {"kid": None, "key_ops": ["encrypt"]}, {"key_ops": "verify"}])
def test_entries_that_would_fit_every_token_by_mistake_are_ignored(other: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        Key.from_jwk(jwk("RS256", **other))
    assert Key.from_jwk(jwk("RS256", key_ops=["verify"])).kid is None


def test_keys_from_a_jwks_file(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(document(jwk("EdDSA", kid="k1")))
    keys = KeySet(jwks=[Jwks("me", file=str(file))])
    assert keys.verify_fresh(by("me", algorithm="EdDSA"), now_s=NOW).sub == "ann"
    missing = KeySet(jwks=[Jwks("me", file=str(tmp_path / "none"))])
    assert [type(error) for error in missing.refresh(SOON_S)] == [Unavailable]
    file.write_bytes(b" " * (JWKS_MAX_BYTES + 1))
    assert [type(error) for error in KeySet(jwks=[Jwks("me", file=str(file))]).refresh(SOON_S)] == [Unavailable]


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/jwks",
        "http://127.0.0.1.evil.example/",
        "file:///etc/passwd",
        "ftp://id.example/",
        "https://",
        "https://user:pass@id.example/",
        "https://127.0.0.1@evil.example/",
        "javascript:alert(1)",
        "https://[::1",
        "//id.example",
        "https://id.example/a b",
        "https://id.example/\u00e9",
        "https://id.example:99999/",
        "https://id.example/#x",
        "http://127.0.0.1.nip.io/",
    ],
)
def test_url_that_is_not_https_is_rejected(url: str) -> None:
    with pytest.raises(BadConfig):
        Jwks("me", url=url)


def test_jwks_needs_exactly_one_of_url_and_file() -> None:
    for wrong in ({}, {"url": URL, "file": "x"}):
        with pytest.raises(BadConfig):
            Jwks("me", **wrong)
    with pytest.raises(BadConfig):
        Jwks("", url=URL)
