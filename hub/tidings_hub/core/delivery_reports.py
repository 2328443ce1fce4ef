"""What this node knows of publications that asked for a report: whom it wrote them to, and who acknowledged them.

Clients acknowledge with the ack id of Socket.IO's EVENT. It is the same number for all of a publication's
recipients on this node, so that they share one frame, and is drawn at random, so that nobody else can know it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tidings.wire.cursor import Cursor
from tidings.wire.publication import ACK, REPORT, Publication
from tidings_hub.core.delivery_report import DeliveryReport
from tidings_hub.core.frame import Frame, HubEvent

# Some clients read an ack id as a signed number of 32 bits (socket.io-client-java). python-socketio counts its own,
# for an app that emits with a callback, from 1 for each client.
ACK_ID_MIN, ACK_ID_MAX = 2**20, 2**31 - 1


class ReportedFrame(Frame):
    """A frame whose recipients are counted, and asked to acknowledge it if the publication wants that."""

    __slots__ = ("report",)

    def __init__(self, publication: Publication, report: DeliveryReport) -> None:
        super().__init__(publication)
        self.report: DeliveryReport = report
        if report.ack_id:
            self.packet = b"42%d%b" % (report.ack_id, self.packet[2:])


class CursorFrame(Frame):
    """The cursor of the publication before it, once more.

    A stock client takes its offset from an event's last argument, and of one that it is to acknowledge that is a
    function: without this it would get the publication again when it returns with its pid.
    """

    __slots__ = ()

    def __init__(self, publication: Publication) -> None:
        super().__init__(publication)
        cursor = publication.cursor
        self.packet = HubEvent("tidings:cursor", b'{"cursor":"%b"}' % cursor.encode(), cursor=cursor).packet

    @property
    def sse(self) -> bytes:
        """Nothing: the publication's own event has its cursor as id."""
        return b""


class DeliveryReports:
    """The reports of this node, each for `keep_s` seconds.

    At most `reports_max` of them, with `acks_max` acknowledgements in all (the last report may pass that): beyond it
    the oldest goes, and `dropped` counts it. `draw` gives a random number from `ACK_ID_MIN` to `ACK_ID_MAX`.
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
        # By id and channel, in order of their beginning.
        self._reports: dict[tuple[str, str], DeliveryReport] = {}
        self._channels: dict[str, list[str]] = {}
        self._numbers: dict[int, DeliveryReport] = {}
        self._acks = 0

    def __len__(self) -> int:
        return len(self._reports)

    def open(self, id: str, channel: str, cursor: str, *, now_s: float) -> None:
        """This node published it: from now on it is known here, whether or not anybody here listens."""
        self._open(id, channel, cursor, now_s)

    def with_reports(self, frames: Sequence[Frame], *, now_s: float, since_ms: int = 0) -> list[Frame]:
        """The frames, with those that ask for a report prepared for it.

        Of publications before `since_ms` (their `at_ms`) there is none anymore, unless it is known here.
        """
        found: list[Frame] = []
        for frame in frames:
            publication = frame.publication
            if wants_report(publication) and (publication.at_ms >= since_ms or self._known(publication)):
                report = self._arrived(publication, now_s)
                found.append(ReportedFrame(publication, report))
                if report.ack_id:
                    found.append(CursorFrame(publication))
            else:
                found.append(frame)
        return found

    def acknowledge(self, number: int, who: str) -> bool:
        """A connection acknowledges; whether that was asked for and is its first time."""
        report = self._numbers.get(number)
        if report is None or who in report.acked:
            return False
        report.acked.add(who)
        self._acks += 1
        self._bound()
        return True

    def find(self, id: str, channel: str = "") -> Iterator[DeliveryReport]:
        """The reports on this id, of one channel if it is named."""
        for name in self._channels.get(id, ()):
            if channel in {"", name}:
                yield self._reports[id, name]

    def is_settled(self, report: DeliveryReport, *, now_s: float) -> bool:
        """Whether all who can have acknowledged it, or had the time to."""
        late = now_s - report.opened_s >= self._ack_timeout_s
        return not report.ack_id or late or len(report.acked) >= report.awaited

    def expire(self, *, now_s: float) -> None:
        """Forget what has been kept long enough. Call it every second."""
        while self._reports and next(iter(self._reports.values())).opened_s + self.keep_s <= now_s:
            self._drop_oldest()

    def _known(self, publication: Publication) -> bool:
        report = self._reports.get((publication.id, publication.channel))
        return report is not None and report.cursor == _place(publication)

    def _arrived(self, publication: Publication, now_s: float) -> DeliveryReport:
        report = self._open(publication.id, publication.channel, _place(publication), now_s)
        if not report.arrived and ACK in publication.options:
            number = self._draw()
            while number in self._numbers:
                number = self._draw()
            report.ack_id, self._numbers[number] = number, report
        report.arrived = True
        return report

    def _open(self, id: str, channel: str, cursor: str, now_s: float) -> DeliveryReport:
        report = self._reports.get((id, channel))
        if report is not None and report.cursor == cursor:
            return report
        if report is not None:
            # The broker had forgotten the id: this is another publication.
            self._drop((id, channel))
        report = self._reports[id, channel] = DeliveryReport(channel, id, cursor, now_s)
        self._channels.setdefault(id, []).append(channel)
        self._bound()
        return report

    def _bound(self) -> None:
        while len(self._reports) > self._reports_max or (self._acks > self._acks_max and len(self._reports) > 1):
            self._drop_oldest()
            self.dropped += 1

    def _drop_oldest(self) -> None:
        self._drop(next(iter(self._reports)))

    def _drop(self, key: tuple[str, str]) -> None:
        report = self._reports.pop(key)
        self._numbers.pop(report.ack_id, None)
        self._acks -= len(report.acked)
        channels = self._channels[report.id]
        channels.remove(report.channel)
        if not channels:
            del self._channels[report.id]


def wants_report(publication: Publication) -> bool:
    """Whether the publication asks for a report."""
    return REPORT in publication.options or ACK in publication.options


def count_written(frames: Sequence[Frame], *, recipients: int, awaited: int) -> None:
    """These frames were written to so many connections, of which so many can acknowledge."""
    for frame in frames:
        report = frame.report
        if report is not None:
            report.recipients += recipients
            report.awaited += awaited if report.ack_id else 0


def _place(publication: Publication) -> str:
    return str(Cursor(publication.epoch, publication.seq))
