from __future__ import annotations

import pytest

from tidings.errors import BadConfig, Forbidden, UnknownNamespace
from tidings.tokens import Claims
from tidings_hub.core.access import Access, Origins, PresenceTo, Publish, Rule, Subscribe, normal_origin

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
        # Too long for the cache.
        (f"http://{'a' * 200}.example", f"{'a' * 200}.example", False),
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


APPS = [
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "app://bundle.local",
    "app://-",
    "capacitor-electron://-",
    "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
    "moz-extension://0f9b1f0a-9c5e-4d3f-8f3c-2a1b0c9d8e7f",
    "safari-web-extension://9E1B5A0C-13C2-4F2A-A9A8-6C0E7C7B9F10",
    "vscode-webview://1h2j3k4l5m6n7o8p",
]


@pytest.mark.parametrize("origin", APPS)
def test_application_with_its_own_scheme_can_be_allowed(origin: str) -> None:
    for allowed in ([origin], ["*"]):
        assert Origins(allowed).allows(origin, HOST, False)
    for others in ([], ["https://localhost"], ["electron://localhost", f"{origin}x"], [f"{origin}:80"]):
        assert not Origins(others).allows(origin, "localhost", False)


@pytest.mark.parametrize("origin", ["file://", "data:", "capacitor:localhost", "1app://x", "app:///", "capacitor://"])
def test_page_without_a_host_is_not_allowed(origin: str) -> None:
    assert not Origins(["*"]).allows(origin, HOST, False)


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
