"""What backends and users do with inboxes, each in one transaction."""

from __future__ import annotations

from tidings_notifications.inbox.inbox import EventPublisher, Inbox

__all__ = ["EventPublisher", "Inbox"]
