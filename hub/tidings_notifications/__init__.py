"""Notifications: each user's inbox in an SQL database, for a process without eventlet (docs/architecture.md)."""
