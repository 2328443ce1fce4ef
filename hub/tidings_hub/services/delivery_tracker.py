"""Counting the deliveries of publications that request a report, and the acknowledgements of clients."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Sequence

from tidings.wire.publication import NO_OPTIONS
from tidings_hub.config.settings import Settings
from tidings_hub.core.delivery_reports import ACK_ID_MAX, ACK_ID_MIN, DeliveryReports, count_written
from tidings_hub.core.frame import Frame
from tidings_hub.metrics import Metrics
from tidings_hub.services.client_connection import Connection


class DeliveryTracker:
    """Keeps this node's delivery reports (`reports`) and their metrics up to date."""

    def __init__(self, settings: Settings, metrics: Metrics, *, wall_s: Callable[[], float]) -> None:
        self._metrics = metrics
        self._wall_s = wall_s
        self.reports = DeliveryReports(
            keep_s=settings.report_keep_s,
            ack_timeout_s=settings.ack_timeout_s,
            reports_max=settings.reports_max,
            acks_max=settings.acks_max,
            draw=lambda: ACK_ID_MIN + secrets.randbelow(ACK_ID_MAX - ACK_ID_MIN),
        )

    def catchup_frames(self, frames: list[Frame]) -> list[Frame]:
        """Prepare the frames of a catch-up for reports. A publication older than `report_keep_s` gets none."""
        if all(frame.publication.options == NO_OPTIONS for frame in frames):
            return frames
        since_ms = int((self._wall_s() - self.reports.keep_s) * 1000)
        return self.reports.with_reports(frames, now_s=time.monotonic(), since_ms=since_ms)

    def count_written(self, connections: Collection[Connection], frames: Sequence[Frame]) -> None:
        """Count that the frames were written to these connections. Frames without a report are ignored."""
        reports = [frame.report for frame in frames if frame.report is not None]
        if not reports:
            return
        open_connections = [connection for connection in connections if not connection.closed]
        # A client of an event stream cannot acknowledge anything.
        awaited = sum(1 for connection in open_connections if connection.transport != "sse")
        count_written(frames, recipients=len(open_connections), awaited=awaited)
        # A `CursorFrame`, which follows a publication, is no delivery.
        self._metrics.deliveries -= len(connections) * sum(1 for report in reports if report.ack_id)

    def acknowledge(self, session_id: str, number: int) -> bool:
        """Count a client's acknowledgement. False if the hub did not request it, or counted it before."""
        is_counted = self.reports.acknowledge(number, session_id)
        self._metrics.acks += is_counted
        return is_counted

    def tick(self) -> None:
        """Discard reports older than `report_keep_s`. Call it every second."""
        self.reports.expire(now_s=time.monotonic())
        self._metrics.reports, self._metrics.reports_dropped = len(self.reports), self.reports.dropped
