from __future__ import annotations

import pytest

from tidings.errors import BadConfig, Forbidden, UnknownNamespace
from tidings.tokens import Claims
from tidings_hub.core.access import (
    Access,
    Origins,
    PresenceTo,
    Publish,
    Revocations,
    Rule,
    Subscribe,
    normal_origin,
    token_key,
    user_key,
)

RULES = {
    "user": Rule(subscribe=Subscribe.USER),
    "orders": Rule(),
    "news": Rule(subscribe=Subscribe.PUBLIC, history=0),
    "chat": Rule(publish=Publish.SUBSCRIBERS, presence=True),
}
ACCESS = Access(RULES)


def bearer(*channels: str, sub: str = "ann") -> Claims:
    return Claims(sub=sub, jti="t1", channels=channels)


@pytest.mark.parametrize(
    ("claims", "channel"),
    [
        (bearer(), "user:ann"),
        (bearer(), "news:today"),
        (bearer("orders:42"), "orders:42"),
        (bearer("orders:*"), "orders:42"),
        (bearer("x:1", "orders:4*"), "orders:42"),
        (bearer("*"), "orders:42"),
        (bearer(sub="auth0|5f"), "user:auth0|5f"),
        (bearer(sub="urn:a"), "user:urn:a"),
    ],
)
def test_subscribe_is_allowed(claims: Claims, channel: str) -> None:
    ACCESS.check_subscribe(claims, channel)


@pytest.mark.parametrize(
    ("claims", "channel"),
    [
        (bearer(), "user:bob"),
        (bearer(), "user:ann2"),
        (bearer(), "user:ann:private"),
        (bearer(), "user:Ann"),
        (bearer("*", "user:*", "user:bob"), "user:bob"),
        (bearer(), "orders:42"),
        (bearer("orders:4"), "orders:42"),
        (bearer("order:*", "orders", "orders-x:*"), "orders:42"),
        (bearer("Orders:*"), "orders:42"),
    ],
)
def test_subscribe_is_forbidden(claims: Claims, channel: str) -> None:
    with pytest.raises(Forbidden):
        ACCESS.check_subscribe(claims, channel)


@pytest.mark.parametrize("channel", ["other:1", "order:1", "canary:n1", "tidings:x", "__proto__:x"])
def test_unknown_namespace_is_rejected(channel: str) -> None:
    with pytest.raises(UnknownNamespace):
        ACCESS.check_subscribe(bearer("*"), channel)


def test_default_rule_applies_to_other_namespaces_except_the_brokers() -> None:
    access = Access(RULES, default=Rule(subscribe=Subscribe.PUBLIC, publish=Publish.SUBSCRIBERS))
    access.check_publish(bearer(), "other:1")
    with pytest.raises(UnknownNamespace):
        access.check_subscribe(bearer("*"), "canary:n1")
    with pytest.raises(Forbidden):
        access.check_subscribe(bearer("*"), "user:bob")


def test_publish_rules() -> None:
    ACCESS.check_publish(bearer("chat:*"), "chat:1")
    for claims, channel in ((bearer("orders:*"), "orders:42"), (bearer(), "chat:1"), (bearer(), "user:ann")):
        with pytest.raises(Forbidden):
            ACCESS.check_publish(claims, channel)


def test_history_and_presence_rules() -> None:
    ACCESS.check_read_history(bearer("orders:*"), "orders:42")
    ACCESS.check_presence_visible("chat:1")
    for claims, channel in ((bearer(), "orders:42"), (bearer(), "news:today")):
        with pytest.raises(Forbidden):
            ACCESS.check_read_history(claims, channel)
    with pytest.raises(Forbidden):
        ACCESS.check_presence_visible("orders:42")
    hidden = Access({"chat": Rule(presence=True, presence_to=PresenceTo.BACKEND)})
    hidden.check_presence_enabled("chat:1")
    with pytest.raises(Forbidden, match="only backends"):
        hidden.check_presence_visible("chat:1")
    has_presence = [hidden.has_presence(channel) for channel in ("chat:1", "orders:1", "tidings:presence:chat:1")]
    assert has_presence == [True, False, False]


HOST = "shop.example"


@pytest.mark.parametrize(
    ("origin", "host", "secure"),
    [
        (None, HOST, True),
        ("https://shop.example", HOST, True),
        ("https://SHOP.example", "Shop.Example", True),
        ("https://shop.example:443", HOST, True),
        ("https://shop.example", "shop.example:443", True),
        ("http://shop.example", "shop.example:80", False),
        ("http://localhost:8000", "localhost:8000", False),
        ("http://[::1]:8000", "[::1]:8000", False),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", False),
    ],
)
def test_same_origin_is_allowed(origin: str | None, host: str, secure: bool) -> None:
    assert Origins().allows(origin, host, secure)


FOREIGN = [
    "null",
    "",
    "https://evil.example",
    "https://shop.example.evil.example",
    "https://evil-shop.example",
    "https://shop.exampl",
    "https://shop.example:8443",
    "http://shop.example",
    "https://shop.example@evil.example",
    "https://shop.example/",
    "https://shop.example/path",
    "https://shop.example?x",
    "https://shop.example#x",
    "https://shop.example.",
    "https://shop.example\n",
    "https://shop.example https://evil.example",
    "//shop.example",
    "shop.example",
    "file://",
    "ftp://shop.example",
    "https://*",
    "https://shop。example",
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("allowed", [(), ("https://shop.example",)])
def test_another_origin_is_rejected(origin: str, allowed: tuple[str, ...]) -> None:
    assert not Origins(allowed).allows(origin, HOST, True)


@pytest.mark.parametrize("host", ["", "evil.example", "shop.example, evil.example", "a@shop.example", "shop.example/x"])
def test_same_origin_needs_a_valid_host(host: str) -> None:
    assert not Origins().allows("https://shop.example", host, True)


def test_origins_are_matched_in_full_and_replace_the_same_origin() -> None:
    origins = Origins(["https://App.example", "http://localhost:3000"])
    assert origins.allows("https://app.example:443", HOST, True)
    assert origins.allows("http://localhost:3000", HOST, True)
    assert not origins.allows("http://localhost:3001", HOST, True)
    assert not origins.allows("https://shop.example", HOST, True)


def test_star_allows_only_valid_origins() -> None:
    origins = Origins(["*"])
    assert origins.any
    assert origins.allows("https://evil.example", HOST, True)
    assert not origins.allows("null", HOST, True)
    assert not origins.allows("garbage", HOST, True)


@pytest.mark.parametrize(
    "entry", ["", "null", "shop.example", "https://shop.example/", "https://*.example", "https://a b"]
)
def test_invalid_origin_in_the_list_is_rejected(entry: str) -> None:
    with pytest.raises(BadConfig, match="origin"):
        Origins(["https://good.example", entry])


def test_normalized_origin_has_its_port() -> None:
    assert normal_origin("HTTPS://A.example") == "https://a.example:443"
    assert normal_origin("http://[::1]") == "http://[::1]:80"


def test_revocation_applies_until_its_end() -> None:
    revocations = Revocations({user_key("ann"): 100.0, token_key("t9"): 50.0})
    assert revocations.is_revoked(bearer(), now_s=99.9)
    assert not revocations.is_revoked(bearer(), now_s=100.0)
    assert not revocations.is_revoked(bearer(sub="bob"), now_s=10.0)
    assert revocations.is_revoked(Claims(sub="bob", jti="t9"), now_s=49.0)
    assert not revocations.is_revoked(Claims(sub="bob", jti=None), now_s=49.0)


def test_revocations_of_users_and_tokens_are_separate() -> None:
    assert not Revocations({token_key("ann"): 100.0}).is_revoked(bearer(sub="ann"), now_s=1.0)
    assert not Revocations({user_key("t1"): 100.0}).is_revoked(bearer(sub="ann"), now_s=1.0)


def test_later_end_of_a_revocation_counts() -> None:
    revocations = Revocations()
    revocations.add(user_key("ann"), 100.0)
    revocations.add(user_key("ann"), 50.0)
    assert revocations.is_revoked(bearer(), now_s=75.0)
    revocations.add(user_key("ann"), 200.0)
    assert revocations.is_revoked(bearer(), now_s=150.0)


def test_expired_revocations_are_removed() -> None:
    revocations = Revocations({"user:a": 10.0, "user:b": 20.0})
    assert revocations.forget_past(now_s=10.0) == ["user:a"]
    assert len(revocations) == 1
    assert not Revocations().is_revoked(bearer(), now_s=0.0)
