"""The delivery reports of this node: how many connections received a publication, and how many acknowledged it.

Clients acknowledge with the ack id of Socket.IO's EVENT packet. All recipients of a publication on this node share one
ack id, and so one frame. It is random, so a client that did not receive the publication cannot guess it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tidings.wire.cursor import Cursor
from tidings.wire.publication import ACK, REPORT, Publication
from tidings_hub.core.delivery_report import DeliveryReport
from tidings_hub.core.frame import Frame, HubEvent

# Some clients parse an ack id as a signed 32-bit integer (socket.io-client-java). When an app emits with a callback,
# python-socketio numbers its own ack ids from 1 for each client.
ACK_ID_MIN, ACK_ID_MAX = 2**20, 2**31 - 1


class ReportedFrame(Frame):
    """A frame whose recipients are counted. It has an ack id if the publication requests acknowledgements."""

    __slots__ = ("report",)

    def __init__(self, publication: Publication, report: DeliveryReport) -> None:
        super().__init__(publication)
        self.report: DeliveryReport = report
        if report.ack_id:
            self.packet = b"42%d%b" % (report.ack_id, self.packet[2:])


class CursorFrame(Frame):
    """The cursor of the preceding publication, as a frame that follows it.

    A stock client takes its offset from the last argument of an event. In an event with an ack id, that is the
    acknowledgement function. Without this frame, the client would receive the publication again after a resume.
    """

    __slots__ = ()

    def __init__(self, publication: Publication) -> None:
        super().__init__(publication)
        cursor = publication.cursor
        self.packet = HubEvent("tidings:cursor", b'{"cursor":"%b"}' % cursor.encode(), cursor=cursor).packet

    @property
    def sse(self) -> bytes:
        """Empty: in an event stream, the publication's own event has the cursor as its id."""
        return b""


class DeliveryReports:
    """The reports of this node, each kept for `keep_s` seconds.

    There are at most `reports_max` reports, with at most `acks_max` acknowledgements altogether; only the newest report
    may exceed that. Beyond these limits the oldest report is discarded, and `dropped` counts it. `draw` returns a
    random number from `ACK_ID_MIN` to `ACK_ID_MAX`.
    """

    def __init__(
        self, *, keep_s: float, ack_timeout_s: float, reports_max: int, acks_max: int, draw: Callable[[], int]
    ) -> None:
        self.keep_s = keep_s
        self.dropped = 0
        self._ack_timeout_s = ack_timeout_s
        self._reports_max = reports_max
        self._acks_max = acks_max
        self._draw = draw
        # By id and channel, oldest first.
        self._reports: dict[tuple[str, str], DeliveryReport] = {}
        self._channels: dict[str, list[str]] = {}
        self._by_ack_id: dict[int, DeliveryReport] = {}
        self._acks = 0

    def __len__(self) -> int:
        return len(self._reports)

    def open(self, id: str, channel: str, cursor: str, *, now_s: float) -> None:
        """Open the report of a publication of this node, whether or not its channel has subscribers here."""
        self._open(id, channel, cursor, now_s)

    def with_reports(self, frames: Sequence[Frame], *, now_s: float, since_ms: int = 0) -> list[Frame]:
        """`frames`, with a `ReportedFrame` for each frame that requests a report.

        A publication that was published before `since_ms` (its `at_ms`) gets a report only if it has one already.
        """
        prepared: list[Frame] = []
        for frame in frames:
            publication = frame.publication
            if wants_report(publication) and (publication.at_ms >= since_ms or self._known(publication)):
                report = self._arrived(publication, now_s)
                prepared.append(ReportedFrame(publication, report))
                if report.ack_id:
                    prepared.append(CursorFrame(publication))
            else:
                prepared.append(frame)
        return prepared

    def acknowledge(self, ack_id: int, connection_id: str) -> bool:
        """Count an acknowledgement. False if it was not requested, or if this connection has sent it before."""
        report = self._by_ack_id.get(ack_id)
        if report is None or connection_id in report.acked:
            return False
        report.acked.add(connection_id)
        self._acks += 1
        self._discard_excess()
        return True

    def find(self, id: str, channel: str = "") -> Iterator[DeliveryReport]:
        """The reports on this id: in all channels, or in `channel` if it is not empty."""
        for name in self._channels.get(id, ()):
            if channel in {"", name}:
                yield self._reports[id, name]

    def is_settled(self, report: DeliveryReport, *, now_s: float) -> bool:
        """Whether no more acknowledgements are expected: all have arrived, or `ack_timeout_s` is over."""
        is_late = now_s - report.opened_s >= self._ack_timeout_s
        return not report.ack_id or is_late or len(report.acked) >= report.awaited

    def expire(self, *, now_s: float) -> None:
        """Discard the reports that are older than `keep_s`. Call it every second."""
        while self._reports and next(iter(self._reports.values())).opened_s + self.keep_s <= now_s:
            self._drop_oldest()

    def _known(self, publication: Publication) -> bool:
        report = self._reports.get((publication.id, publication.channel))
        return report is not None and report.cursor == _position_of(publication)

    def _arrived(self, publication: Publication, now_s: float) -> DeliveryReport:
        report = self._open(publication.id, publication.channel, _position_of(publication), now_s)
        if not report.arrived and ACK in publication.options:
            ack_id = self._draw()
            while ack_id in self._by_ack_id:
                ack_id = self._draw()
            report.ack_id, self._by_ack_id[ack_id] = ack_id, report
        report.arrived = True
        return report

    def _open(self, id: str, channel: str, cursor: str, now_s: float) -> DeliveryReport:
        report = self._reports.get((id, channel))
        if report is not None and report.cursor == cursor:
            return report
        if report is not None:
            # The idempotency window of the id is over: this is another publication.
            self._drop((id, channel))
        report = self._reports[id, channel] = DeliveryReport(channel, id, cursor, now_s)
        self._channels.setdefault(id, []).append(channel)
        self._discard_excess()
        return report

    def _discard_excess(self) -> None:
        while len(self._reports) > self._reports_max or (self._acks > self._acks_max and len(self._reports) > 1):
            self._drop_oldest()
            self.dropped += 1

    def _drop_oldest(self) -> None:
        self._drop(next(iter(self._reports)))

    def _drop(self, key: tuple[str, str]) -> None:
        report = self._reports.pop(key)
        self._by_ack_id.pop(report.ack_id, None)
        self._acks -= len(report.acked)
        channels = self._channels[report.id]
        channels.remove(report.channel)
        if not channels:
            del self._channels[report.id]


def wants_report(publication: Publication) -> bool:
    """Whether the publication requests a report."""
    return REPORT in publication.options or ACK in publication.options


def count_written(frames: Sequence[Frame], *, recipients: int, awaited: int) -> None:
    """Count in the frames' reports that they were written to `recipients` connections; `awaited` can acknowledge."""
    for frame in frames:
        report = frame.report
        if report is not None:
            report.recipients += recipients
            report.awaited += awaited if report.ack_id else 0


def _position_of(publication: Publication) -> str:
    return str(Cursor(publication.epoch, publication.seq))
