"""Decides: values and times in, values out. No I/O, no clock, no thread (docs/architecture.md#why-core)."""
