"""The transactional outbox: publications are rows written in the application's transaction; a relay publishes them.

    with Session.begin() as session:
        session.add(order)
        Outbox(session).push_model(order)

`tidings outbox postgresql://… --to redis://…` is the relay. docs/outbox.md describes the guarantees.
"""

from __future__ import annotations

from tidings.contrib.outbox.relay import Relay
from tidings.contrib.outbox.status import status_lines
from tidings.contrib.outbox.table import outbox_table
from tidings.contrib.outbox.writing import Outbox

__all__ = ["Outbox", "Relay", "outbox_table", "status_lines"]
