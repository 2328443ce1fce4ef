"""SIGINT and SIGTERM for programs of the tests that start others."""

from __future__ import annotations

import signal


def raise_on_stop_signals() -> None:
    """Make SIGINT and SIGTERM raise KeyboardInterrupt, so that a program stops its child processes before it ends.

    Without this, SIGTERM ends Python immediately, and a shell's background jobs ignore SIGINT.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
