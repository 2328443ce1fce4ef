"""The delivery report of one publication on this node."""

from __future__ import annotations


class DeliveryReport:
    """Counters of one publication on this node. `number`: its ack id; 0: no client acknowledges it.

    `recipients`: connections that it was written to. `awaited` of them can acknowledge, `acked` have done so.
    `arrived` is False while this node has published it and not yet received it from the broker.
    """

    __slots__ = ("acked", "arrived", "awaited", "begun_s", "channel", "cursor", "id", "number", "recipients")

    def __init__(self, channel: str, id: str, cursor: str, begun_s: float) -> None:
        self.channel = channel
        self.id = id
        self.cursor = cursor
        self.begun_s = begun_s
        self.arrived = False
        self.number = 0
        self.recipients = 0
        self.awaited = 0
        self.acked: set[str] = set()
