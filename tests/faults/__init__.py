"""Fault injection with real processes, continuous load and recorded histories. `make faults` runs it."""
