"""For tests of your own code: a fake hub that records publications, and a real hub in a process (docs/testing.md).

from tidings.testing import FakeHub

hub = FakeHub()
ship(order, emitter=hub)
hub.assert_pushed("orders:42", "shipped", {"order": 42})
"""

from __future__ import annotations

from tidings.testing.fake import FakeHub
from tidings.testing.process import HubProcess
from tidings.testing.recorder import Pushed, RecordedNotification

__all__ = ["FakeHub", "HubProcess", "Pushed", "RecordedNotification"]
