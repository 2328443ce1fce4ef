from __future__ import annotations

import pytest

from tidings.errors import BadRequest
from tidings_hub.config.web_push import WebPush
from tidings_notifications.web_push.endpoints import EndpointRules, origin_of

RULES = EndpointRules([*WebPush().hosts, "push.shop.example:8443", "10.0.0.7"])


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("https://fcm.googleapis.com/fcm/send/abc:def", "https://fcm.googleapis.com"),
        ("https://FCM.googleapis.com:443/wp/x", "https://fcm.googleapis.com"),
        ("https://updates.push.services.mozilla.com/wpush/v2/x", "https://updates.push.services.mozilla.com"),
        ("https://wns2-am3p.notify.windows.com/w/?token=BQ%3d", "https://wns2-am3p.notify.windows.com"),
        ("https://push.shop.example:8443/x", "https://push.shop.example:8443"),
    ],
)
def test_endpoints_of_the_push_services_are_accepted(endpoint: str, origin: str) -> None:
    assert RULES.check(endpoint) == endpoint
    assert origin_of(endpoint) == origin


@pytest.mark.parametrize(
    "endpoint",
    [
        *(None, 7, "", "https://", "fcm.googleapis.com", "https://fcm.googleapis.com:port/", "https://[::1/"),
        *("http://fcm.googleapis.com/x", "ftp://fcm.googleapis.com/x", "//fcm.googleapis.com/x"),
        *("https://evil.example/x", "https://fcm.googleapis.com.evil.example/x", "https://xfcm.googleapis.com/"),
        *("https://push.services.mozilla.com/x", "https://evilpush.services.mozilla.com/x"),
        *("https://user@fcm.googleapis.com/x", "https://fcm.googleapis.com@evil.example/x"),
        *(
            "https://evil.example\\@fcm.googleapis.com/",
            "https://fcm.googleapis.com/x#y",
            "https://fcm.googleapis.com/ x",
        ),
        *("https://fcm.googleapis.com/\r\nHost: x", "https://fcm.googleapis.com:8443/x", "https://push.shop.example/x"),
        *("https://127.0.0.1/x", "https://[::1]/x", "https://10.0.0.7/x", "https://fcm.googleapis.com./x"),
        *("https://fcm.googleapis.com/ä", "https://fcm.googleapis.com/" + "x" * 2048),
    ],
)
def test_other_endpoints_are_rejected(endpoint: object) -> None:
    with pytest.raises(BadRequest):
        RULES.check(endpoint)


def test_private_addresses_are_accepted_if_the_settings_allow_them() -> None:
    assert EndpointRules(["10.0.0.7"], allow_private=True).check("https://10.0.0.7/up") == "https://10.0.0.7/up"
