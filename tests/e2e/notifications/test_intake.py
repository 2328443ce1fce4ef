"""What the service does with entries of the stream that it cannot store."""

from __future__ import annotations

import json
import time

from support.notification_scene import NotificationScene
from support.waiting import wait_until


def test_malformed_entries_are_dead_lettered_with_their_reason_and_others_are_stored(
    on_sqlite: NotificationScene,
) -> None:
    scene = on_sqlite
    scene.service.terminate()
    good = {"category": "order_shipped", "user": "7", "title": "T", "id": "good", "at_ms": 1}
    bad = {
        b"{": "bad_data",
        json.dumps(good | {"title": ""}).encode(): "bad_request",
        json.dumps(good | {"user": "a b"}).encode(): "bad_channel",
        json.dumps(good | {"url": "javascript:alert(1)"}).encode(): "bad_request",
        json.dumps(good | {"category": "unheard_of"}).encode(): "unknown_category",
        json.dumps(good | {"body": "x" * 3_000}).encode(): "too_large",
        b"\xff": "bad_data",
    }
    with scene.redis.client() as client:
        for body in bad:
            client.xadd(scene.keys.notifications, {"n": body})
        client.xadd(scene.keys.notifications, {"other": "field"})
        client.xadd(scene.keys.notifications, {"n": json.dumps(good)})
        scene.service.start()
        scene.wait_idle()
        scene.check_stored(["good"])
        letters = [fields for _, fields in client.xrange(scene.keys.notifications_dead)]
    assert [(letter[b"n"], letter[b"code"].decode()) for letter in letters] == [*bad.items(), (b"", "bad_request")]
    assert all(letter[b"reason"] for letter in letters)
    assert scene.service.metric("tidings_notifications_dead_total") == len(letters)
    assert "notification dead-lettered" in scene.service.log.read_text()


def test_rules_of_emitters_follow_the_settings(on_sqlite: NotificationScene) -> None:
    scene = on_sqlite
    with scene.redis.client() as client:
        assert client.hgetall(scene.keys.categories) == {
            b"mention": b"1",
            b"order_shipped": b"1",
            b"security": b"1",
            b":stream_max": b"100000",
        }
        scene.service.terminate()
        text = scene.hub.config.read_text().replace("[notifications.categories.mention]\n", "")
        scene.hub.config.write_text(text)
        scene.service.start()
        assert set(client.hkeys(scene.keys.categories)) == {b"order_shipped", b"security", b":stream_max"}
        # The key may be deleted by hand.
        client.delete(scene.keys.categories)
        wait_until(lambda: client.exists(scene.keys.categories), why="the service writes it again")


def test_lost_consumer_group_is_created_again(on_sqlite: NotificationScene) -> None:
    scene = on_sqlite
    scene.notify("7", "a")
    scene.wait_idle()
    with scene.redis.client() as client:
        client.xgroup_destroy(scene.keys.notifications, "inbox")
    scene.notify("7", "b")
    scene.wait_idle()
    scene.check_stored(["a", "b"])


def test_burst_is_stored_in_batches(on_sqlite: NotificationScene) -> None:
    scene = on_sqlite
    scene.service.terminate()
    for first in (0, 1_000):
        with scene.emitter.batch() as batch:
            for number in range(first, first + 1_000):
                batch.notify("mention", user=str(number % 50), title="T", id=f"i{number}")
    started_s = time.monotonic()
    scene.service.start()
    scene.wait_idle()
    assert time.monotonic() - started_s < 40
    scene.check_stored([f"i{number}" for number in range(2_000)])
    assert scene.service.metric("tidings_notifications_store_s_count") < 100
