"""The sender against a push service over TLS, which checks tokens and decrypts as browsers do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.network.certificates import Authority
from support.network.push_service import Answer, Browser, PushService
from support.network.scripted_server import ScriptedServer
from support.waiting import wait_until
from tidings_hub.config.web_push import WebPush
from tidings_notifications.core.delivery import Failed, Gone, Outcome, Retry, Sent
from tidings_notifications.metrics import ServiceMetrics
from tidings_notifications.web_push.client import PushMessage
from tidings_notifications.web_push.encryption import MessageKeys
from tidings_notifications.web_push.sender import Job, PushSender
from tidings_notifications.web_push.vapid import VapidKey


class Outcomes:
    """What came of the messages of a test, by name."""

    def __init__(self, sender: PushSender) -> None:
        self.sender = sender
        self.by_name: dict[str, Outcome] = {}

    def submit(self, browsers: dict[str, Browser], **more: Any) -> None:
        self.sender.submit(
            [
                Job(message_for(browser, **more), lambda outcome, name=name: self.by_name.setdefault(name, outcome))
                for name, browser in browsers.items()
            ]
        )

    def wait(self, count: int, *, within_s: float = 30.0) -> dict[str, Outcome]:
        wait_until(lambda: len(self.by_name) >= count, within_s=within_s, why=lambda: f"only {self.by_name}")
        return self.by_name


def message_for(browser: Browser, payload: bytes = b'{"id":"1"}', **more: Any) -> PushMessage:
    return PushMessage(
        browser.endpoint, MessageKeys(browser.p256dh, browser.auth), payload, more.pop("ttl_s", 60), **more
    )


def options(*services: PushService, **more: Any) -> WebPush:
    fields: dict[str, Any] = {
        "vapid_key_file": "unused",
        "contact": "mailto:ops@shop.example",
        "hosts": tuple(service.host for service in services) or ("push.example",),
        "allow_private": True,
    }
    return WebPush(**(fields | more))


@contextmanager
def sending(options: WebPush, key: VapidKey) -> Iterator[Outcomes]:
    sender = PushSender(options, key, ServiceMetrics())
    thread = threading.Thread(target=sender.run)
    thread.start()
    try:
        yield Outcomes(sender)
    finally:
        sender.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_message_arrives_decrypted_with_its_headers(push_service: PushService, vapid_key: VapidKey) -> None:
    browser = push_service.subscribe()
    with sending(options(push_service), vapid_key) as outcomes:
        outcomes.submit({"a": browser}, payload=b'{"title":"Shipped"}', urgency="high", topic="T" * 32)
        assert outcomes.wait(1) == {"a": Sent()}
    (push,) = push_service.received
    assert push.message == {"title": "Shipped"}
    assert (push.headers["TTL"], push.headers["Urgency"], push.headers["Topic"]) == ("60", "high", "T" * 32)
    assert push.claims["sub"] == "mailto:ops@shop.example"


def test_each_response_has_its_outcome(push_service: PushService, vapid_key: VapidKey) -> None:
    answers = {
        "/send/created": Answer(201),
        "/send/gone": Answer(410),
        "/send/unknown": Answer(404, b"push subscription has unsubscribed"),
        "/send/busy": Answer(429, b"slow down", {"Retry-After": "17"}),
        "/send/broken": Answer(503, b"oops"),
        "/send/moved": Answer(307, b"", {"Location": f"{push_service.origin}/send/created"}),
        "/send/refused": Answer(400, b'{"reason":"BadTopic"}'),
        "/send/endless": Answer(201, b"x" * 5_000_000),
    }
    push_service.answer = answers.__getitem__
    browsers = {path.rpartition("/")[2]: push_service.subscribe(path.rpartition("/")[2]) for path in answers}
    with sending(options(push_service), vapid_key) as outcomes:
        outcomes.submit(browsers)
        assert outcomes.wait(len(answers)) == {
            "created": Sent(),
            "gone": Gone(),
            "unknown": Gone(),
            "busy": Retry(17_000, "429 slow down"),
            "broken": Retry(None, "503 oops"),
            "moved": Failed("307"),
            "refused": Failed('400 {"reason":"BadTopic"}'),
            "endless": Sent(),
        }
    # What is gone is requested again, on a new connection.
    assert len(push_service.received) == len(answers) + 2


def test_answer_without_a_push_is_not_that_of_the_next_push(push_service: PushService, vapid_key: VapidKey) -> None:
    with sending(options(push_service), vapid_key) as outcomes:
        for number in range(3):
            if number:
                push_service.send_unasked(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
            outcomes.submit({f"{number}": push_service.subscribe()})
            outcomes.wait(number + 1)
        assert outcomes.by_name == dict.fromkeys(("0", "1", "2"), Sent())


def test_answer_that_arrives_after_the_next_push_deletes_no_subscription(
    push_service: PushService, vapid_key: VapidKey
) -> None:
    is_over = push_service.event()
    with sending(options(push_service), vapid_key) as outcomes:
        outcomes.submit({"0": push_service.subscribe()})
        outcomes.wait(1)
        answers = iter([Answer(until=is_over), Answer()])
        push_service.answer = lambda _path: next(answers)
        outcomes.submit({"1": push_service.subscribe()})
        wait_until(lambda: len(push_service.received) == 2, why="the second push has arrived")
        push_service.send_unasked(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        outcomes.wait(2)
        push_service.release(is_over)
    assert outcomes.by_name == {"0": Sent(), "1": Sent()}


@pytest.mark.parametrize(("status", "outcome"), [(b"201 Created", Sent()), (b"400 Bad", Failed("400 abc"))])
def test_body_that_does_not_end_changes_no_outcome(
    push_service: PushService, vapid_key: VapidKey, status: bytes, outcome: Outcome
) -> None:
    """The push service has accepted the push: if it was sent again, the user would see it twice."""
    is_over = push_service.event()
    push_service.answer = lambda _path: Answer(until=is_over)
    with sending(options(push_service, timeout_s=1), vapid_key) as outcomes:
        outcomes.submit({"0": push_service.subscribe()})
        wait_until(lambda: push_service.received, why="the push has arrived")
        push_service.send_unasked(b"HTTP/1.1 %b\r\nContent-Length: 50\r\n\r\nabc" % status)
        outcomes.wait(1)
        push_service.release(is_over)
    assert outcomes.by_name == {"0": outcome}


def test_tokens_are_signed_once_for_each_push_service(push_service: PushService, vapid_key: VapidKey) -> None:
    browsers = {str(number): push_service.subscribe() for number in range(30)}
    with sending(options(push_service), vapid_key) as outcomes:
        outcomes.submit(browsers)
        outcomes.wait(30)
    assert len({push.headers["Authorization"] for push in push_service.received}) == 1


def test_a_push_service_that_hangs_delays_no_other(
    push_service: PushService, authority: Authority, vapid_key: VapidKey
) -> None:
    with PushService(authority, name="hanging") as hanging:
        never = hanging.event()
        hanging.answer = lambda _path: Answer(until=never)
        slow = {f"slow {number}": hanging.subscribe() for number in range(200)}
        quick = {f"quick {number}": push_service.subscribe() for number in range(200)}
        rules = options(push_service, hanging, connections=20, connections_per_host=16, timeout_s=60)
        with sending(rules, vapid_key) as outcomes:
            outcomes.submit(slow)
            wait_until(lambda: hanging.in_flight >= 10, within_s=20)
            outcomes.submit(quick)
            # No push of the hanging service ends before its time limit of 60 s.
            assert outcomes.wait(200) == dict.fromkeys(quick, Sent())
            assert hanging.most_in_flight <= 16
            outcomes.sender.stop()
            # What waits is given back; what is in flight may end.
            outcomes.wait(400 - hanging.in_flight)
            hanging.release(never)
            outcomes.wait(400)
    retried = [outcome for outcome in outcomes.by_name.values() if isinstance(outcome, Retry)]
    assert len(retried) == 200 - hanging.most_in_flight


def test_a_push_service_that_never_responds_is_tried_later(push_service: PushService, vapid_key: VapidKey) -> None:
    never = push_service.event()
    push_service.answer = lambda _path: Answer(until=never)
    with sending(options(push_service, timeout_s=0.5, connections_per_host=8), vapid_key) as outcomes:
        outcomes.submit({str(number): push_service.subscribe() for number in range(100)})
        outcomes.wait(100)
        push_service.release(never)
    assert set(outcomes.by_name.values()) <= {
        Retry(None, "no response within 0.5 s"),
        Retry(None, "its push service does not respond"),
    }
    assert push_service.most_in_flight <= 8


def test_garbage_instead_of_http_and_a_closed_port_are_tried_later(
    push_service: PushService, vapid_key: VapidKey
) -> None:
    with ScriptedServer(lambda peer: peer.send(b"\x00garbage\r\n\r\n")) as server:
        browsers = {
            "garbage": Browser(f"https://127.0.0.1:{server.port}/1"),
            "closed": Browser("https://127.0.0.1:1/1"),
        }
        hosts = (f"127.0.0.1:{server.port}", "127.0.0.1:1")
        with sending(options(hosts=hosts), vapid_key) as outcomes:
            outcomes.submit(browsers)
            assert all(isinstance(outcome, Retry) for outcome in outcomes.wait(2).values())


def test_certificate_of_another_authority_is_refused(
    push_service: PushService, vapid_key: VapidKey, tmp_path: Any
) -> None:
    with PushService(Authority.make(tmp_path / "other"), name="foreign") as foreign:
        with sending(options(foreign), vapid_key) as outcomes:
            outcomes.submit({"a": foreign.subscribe()})
            (outcome,) = outcomes.wait(1).values()
        assert foreign.received == []
    assert isinstance(outcome, Retry)
    assert "certificate" in outcome.reason.lower()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_private_addresses_receive_nothing(push_service: PushService, vapid_key: VapidKey, host: str) -> None:
    endpoint = push_service.origin.replace("127.0.0.1", host) + "/send/1"
    hosts = (endpoint.removeprefix("https://").partition("/")[0],)
    with sending(options(hosts=hosts, allow_private=False), vapid_key) as outcomes:
        outcomes.submit({"a": Browser(endpoint)})
        (outcome,) = outcomes.wait(1).values()
    assert isinstance(outcome, Failed)
    assert "public" in outcome.reason
    assert push_service.received == []


def test_subscription_of_a_host_that_the_settings_no_longer_name_fails(
    push_service: PushService, vapid_key: VapidKey
) -> None:
    with sending(options(hosts=("push.example",)), vapid_key) as outcomes:
        outcomes.submit({"a": push_service.subscribe()})
        (outcome,) = outcomes.wait(1).values()
    assert isinstance(outcome, Failed)
    assert push_service.received == []


def test_when_every_push_is_refused_one_line_names_clock_and_key(
    push_service: PushService, vapid_key: VapidKey, caplog: pytest.LogCaptureFixture
) -> None:
    push_service.answer = lambda _path: Answer(403, b'{"reason":"BadJwtToken"}')
    with sending(options(push_service), vapid_key) as outcomes:
        outcomes.submit({str(number): push_service.subscribe() for number in range(20)})
        assert set(outcomes.wait(20).values()) == {Failed('403 {"reason":"BadJwtToken"}')}
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 1
    assert "clock" in lines[0]
    assert "vapid_key_file" in lines[0]


def test_refusals_of_single_subscriptions_are_not_logged(
    push_service: PushService, vapid_key: VapidKey, caplog: pytest.LogCaptureFixture
) -> None:
    push_service.answer = lambda path: Answer(403 if path.endswith("bad") else 201)
    with sending(options(push_service, connections_per_host=1), vapid_key) as outcomes:
        for number in range(6):
            outcomes.submit({f"{number}": push_service.subscribe(f"{number}bad")})
            outcomes.submit({f"{number} good": push_service.subscribe(f"{number}good")})
        outcomes.wait(12)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
