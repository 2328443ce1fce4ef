"""Decisions about inboxes: values and times in, values out. No I/O, clock, randomness or threads."""
