"""Passes on the commands of this node's database, and ignores those of another database on the same Redis.

A command names the epoch of its database (PROTOCOL.md section 7). Only the reader calls this.
"""

from __future__ import annotations

import logging
import time

from tidings_hub.brokers.base import BrokerLimits
from tidings_hub.brokers.repair import Repairs
from tidings_hub.log import log_rate_limited
from tidings_hub.metrics import Metrics

logger = logging.getLogger("tidings.broker")


class CommandGate:
    """Decides for each command whether the sink executes it."""

    def __init__(self, repairs: Repairs, limits: BrokerLimits, metrics: Metrics) -> None:
        self._repairs = repairs
        self._epochs = repairs.epochs
        self._deliver = repairs.sink.on_control
        self._limits = limits
        self._metrics = metrics

    def process(self, command: dict[str, object]) -> bool:
        """Execute the command, or ignore it. False: a new epoch began; resynchronise, then call this again.

        Raises:
            Unavailable: the command names an unknown epoch, and the broker did not answer.
        """
        epoch = command.get("epoch")
        if epoch is None:
            self._process_unnamed(command)
            return True
        now_s = time.monotonic()
        if isinstance(epoch, str) and not self._epochs.is_own(epoch, now_s=now_s):
            if not self._epochs.is_foreign(epoch, now_s=now_s):
                if self._repairs.read_epoch() != self._repairs.positions.epoch:
                    return False
                self._epochs.rule_out(epoch, now_s=now_s)
            self._ignore(command, "it is of another database of this Redis; give each hub its own prefix")
        elif isinstance(epoch, str):
            self._deliver(command)
        else:
            self._ignore(command, "its epoch is no text")
        return True

    def _process_unnamed(self, command: dict[str, object]) -> None:
        self._metrics.control_without_epoch += 1
        if not self._limits.commands_without_epoch:
            self._ignore(command, "it names no epoch, and commands_without_epoch is off; upgrade its sender")
            return
        log_rate_limited(
            *(logger, logging.WARNING, "control without epoch"),
            *("a command (%s) names no epoch; upgrade its sender, a later version ignores it", command["do"]),
        )
        # Whether a revocation is of this database is known: its sender has stored it.
        self._deliver({**command, "do": "read_revocations"} if command["do"] == "revoke" else command)

    def _ignore(self, command: dict[str, object], cause: str) -> None:
        self._metrics.control_foreign += 1
        log_rate_limited(logger, logging.WARNING, "foreign control", "ignored a command (%s): %s", command["do"], cause)
