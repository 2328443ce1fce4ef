from __future__ import annotations

import pytest

from support.recording_hub import Clock
from tidings.errors import TooFast
from tidings_hub.services.hub import Hub
from tidings_hub.services.permissions import check_publish_rate

KIBIBYTES_60 = 61_440


def with_rate(hub: Hub, *, per_minute: int, burst: int) -> None:
    hub.settings = hub.settings.model_copy(
        update={"publish_bytes_per_minute": per_minute, "publish_burst_bytes": burst}
    )


class TestPublishRate:
    def test_publications_beyond_the_rate_are_refused(
        self, hub: Hub, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        with_rate(hub, per_minute=60_000, burst=131_072)
        for _ in range(2):
            check_publish_rate(hub, "u", "chat:1", KIBIBYTES_60)
        for _ in range(2):
            with pytest.raises(TooFast, match="publish_bytes_per_minute"):
                check_publish_rate(hub, "u", "chat:1", KIBIBYTES_60)
        assert hub.metrics.publish_bytes_refused == 2
        lines = [record.getMessage() for record in caplog.records if "publish_bytes" in record.getMessage()]
        assert lines == [
            (
                "user u publishes faster than publish_bytes_per_minute = 60000 and publish_burst_bytes = 131072 allow;"
                " a publication of 61440 bytes in chat:1 is refused with too_fast"
            )
        ]
        check_publish_rate(hub, "another", "chat:1", KIBIBYTES_60)
        clock.now_s += 62
        check_publish_rate(hub, "u", "chat:1", KIBIBYTES_60)

    def test_small_publications_count_with_what_is_stored_beside_them(self, hub: Hub) -> None:
        with_rate(hub, per_minute=60, burst=4096)
        for _ in range(37):
            check_publish_rate(hub, "u", "chat:1", 0)
        with pytest.raises(TooFast):
            check_publish_rate(hub, "u", "chat:1", 0)

    def test_no_limit(self, hub: Hub) -> None:
        with_rate(hub, per_minute=0, burst=4096)
        for _ in range(100):
            check_publish_rate(hub, "u", "chat:1", KIBIBYTES_60)

    def test_user_at_the_inbound_rate_with_ordinary_data_is_not_refused(self, hub: Hub, clock: Clock) -> None:
        for _ in range(10_000):
            clock.now_s += 1 / hub.settings.inbound_rate_per_s
            check_publish_rate(hub, "u", "chat:1", 500)
