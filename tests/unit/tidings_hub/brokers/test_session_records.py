"""Session records in the memory of one process."""

from __future__ import annotations

from tidings_hub.brokers.session_records import MemorySessionRecords
from tidings_hub.core.session_records import ClaimedSession, RecordOperation, SessionRecord, WriteResult


def test_expired_records_are_removed() -> None:
    now_s = 0.0
    records = MemorySessionRecords(now_s=lambda: now_s)
    for number in range(100):
        records.write([SessionRecord(RecordOperation.CREATE, f"k{number}", "one", 10, "u", b"x")])
    now_s = 5.0
    records.write([SessionRecord(RecordOperation.TOUCH, "k1", "one", 10)])
    now_s = 11.0
    assert records.write(
        [
            SessionRecord(RecordOperation.UPDATE, "k2", "one", 10),
            SessionRecord(RecordOperation.UPDATE, "k1", "one", 10, "u", b"y"),
        ]
    ) == [
        WriteResult.MISSING,
        WriteResult.OK,
    ]
    assert records.claim("k1", "u") == ClaimedSession("one", "u", b"y")
    now_s = 30.0
    records.write([])
    assert (len(records._records), len(records._expiries)) == (0, 0)
