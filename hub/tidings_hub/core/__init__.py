"""Decides: values and times in, values out. No I/O, no clock, no thread (DESIGN section 2)."""
