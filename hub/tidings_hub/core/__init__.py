"""Decisions: functions of values and times, without I/O, clocks and threads (docs/architecture.md#why-core)."""
