"""The counters of one publication whose backend requested a delivery report, as one node keeps them."""

from __future__ import annotations


class DeliveryReport:
    """How many connections of this node received one publication, and which of them acknowledged it.

    `ack_id`: the number with which clients acknowledge it; 0 if no acknowledgement was requested.
    `recipients`: connections that the publication was written to. `awaited`: those of them that can acknowledge.
    `acked`: ids of the connections that did.
    `arrived`: False while this node has published it and has not yet received it back from the broker.
    `opened_s`: when the report began (monotonic clock).
    """

    __slots__ = ("ack_id", "acked", "arrived", "awaited", "channel", "cursor", "id", "opened_s", "recipients")

    def __init__(self, channel: str, id: str, cursor: str, opened_s: float) -> None:
        self.channel = channel
        self.id = id
        self.cursor = cursor
        self.opened_s = opened_s
        self.arrived = False
        self.ack_id = 0
        self.recipients = 0
        self.awaited = 0
        self.acked: set[str] = set()
