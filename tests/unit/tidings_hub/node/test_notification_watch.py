from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.network.scripted_server import Script, ScriptedServer, answering, closing_after, response, silent
from tidings_hub.config.notifications import Notifications
from tidings_hub.metrics import Metrics
from tidings_hub.node.notification_watch import NotificationWatch
from tidings_hub.services.notification_link import NotificationLink

# What the log shows of it ends within a character.
LONG = b'{"ready":false,"checks":{"database":"' + "€".encode() * 200 + b'"}}'


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(silent) as started:
        yield started


class Slept(Exception):
    """The watch pauses."""


def pause(seconds: float) -> None:
    raise Slept(f"{seconds:g}")


@pytest.mark.parametrize(
    ("script", "state", "pause_s"),
    [
        (answering(response(b'{"ready":true,"checks":{"database":"ok"}}')), "ok", "5"),
        (answering(response(b'{"ready":false,"checks":{"database":"db7 is away"}}', status=503)), "not ready", "1"),
        (answering(response(LONG, status=503)), "not ready", "1"),
        (answering(response(b"<html>")), "not a notification service", "1"),
        (answering(response(b"<html>", status=404)), "not a notification service", "1"),
        (answering(response(b'{"ready":true}', status=404)), "not a notification service", "1"),
        (closing_after(b"HTTP/1.1 200"), "no answer", "1"),
        (silent, "no answer", "1"),
    ],
)
def test_state_of_the_service(server: ScriptedServer, script: Script, state: str, pause_s: str) -> None:
    server.script = script
    metrics = Metrics()
    link = NotificationLink(server.url, "key", Notifications(request_timeout_s=0.3), metrics)
    watch = NotificationWatch(link, metrics, sleep=pause)
    assert watch.state() == "not asked yet"
    with pytest.raises(Slept, match=f"^{pause_s}$"):
        watch.run()
    assert watch.state() == state
    assert metrics.notification_service_up == int(state == "ok")
    link.close()


def test_log_says_when_the_service_becomes_ready(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    not_ready = answering(response(b'{"ready":false,"checks":{}}', status=503))
    server.script = not_ready
    metrics = Metrics()
    link = NotificationLink(server.url, "key", Notifications(), metrics)

    def become_ready(seconds: float) -> None:
        if seconds == 5:
            raise Slept
        assert server.script is not_ready
        server.script = answering(response(b'{"ready":true}'))
        link.close()

    with caplog.at_level("INFO", "tidings.notifications"), pytest.raises(Slept):
        NotificationWatch(link, metrics, sleep=become_ready).run()
    assert f"the notification service at {server.url} is ready" in caplog.messages
    link.close()


def test_node_without_a_service_asks_nothing() -> None:
    watch = NotificationWatch(None, Metrics(), sleep=pause)
    watch.run()
    assert watch.state() == ""
