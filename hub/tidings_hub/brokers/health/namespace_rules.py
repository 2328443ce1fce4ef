"""The rules of the namespaces in Redis, from which emitters and nodes read how much history a channel keeps.

A publish to a namespace without a rule is refused with `unknown_namespace`. Rules that this node has and Redis lacks
are written back: Redis evicted them, an operator deleted them, or a node with an older configuration wrote its own.
Rules that this node does not have stay, since they may belong to a newer configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tidings.redis_client.keys import POINTER_TTL_FIELD, RedisKeys
from tidings.redis_client.scripts import pack
from tidings.wire.channels import namespace_of
from tidings_hub.brokers.base import BrokerLimits, HistoryRule
from tidings_hub.brokers.health.canary import CANARY_NAMESPACE, CANARY_RULE
from tidings_hub.brokers.lookup_script import check_rules_reply, pack_rules, rules_script
from tidings_hub.brokers.redis_commands import RedisCommands
from tidings_hub.log import log_rate_limited

logger = logging.getLogger("tidings.broker")


class NamespaceRules:
    """The rules of this node's configuration, and those of the canary."""

    def __init__(self, keys: RedisKeys, commands: RedisCommands, limits: BrokerLimits) -> None:
        self._keys = keys
        self._commands = commands
        self._limits = limits
        self._rules: dict[bytes, bytes] = {}
        # Whether Redis has had these rules.
        self._is_written = False

    def remember(self, rules: Mapping[str, HistoryRule]) -> None:
        """Use these rules from now on."""
        self._rules = {name.encode(): b"%d %d" % (rule.history, rule.history_ttl_s) for name, rule in rules.items()}
        self._rules[CANARY_NAMESPACE] = CANARY_RULE
        self._is_written = False

    def has_rule_of(self, channel: str) -> bool:
        """Whether these rules allow publications in a channel."""
        return namespace_of(channel).encode() in self._rules or b"*" in self._rules

    def write(self, *, timeout_s: float | None = None) -> None:
        """Replace the rules in Redis by these. `timeout_s`: for this call, if not that of all commands.

        Raises:
            Unavailable, TimedOut: Redis did not store them.
        """
        rules = self._rules
        if rules:
            packed = pack_rules(self._keys, rules, self._limits)
            check_rules_reply(self._commands.run(packed, 1, (rules_script(),), timeout_s=timeout_s)[0])
            # Redis may execute two writes in any order: the later rules are written again.
            self._is_written = rules is self._rules

    def restore(self, *, timeout_s: float | None = None) -> None:
        """Write the rules that Redis lacks: all of them if they were never written. `timeout_s`: for each call.

        Raises:
            Unavailable, TimedOut: as `write`.
        """
        if not self._rules:
            return
        if not self._is_written:
            self.write(timeout_s=timeout_s)
            return
        stored = self._commands.run(pack(b"HKEYS", self._keys.rules), timeout_s=timeout_s)[0]
        if isinstance(stored, Exception) or not stored:
            # Without any rule, the key is missing.
            self.write(timeout_s=timeout_s)
            return
        # Emitters extend the life of pointers by the field beside the rules.
        fields = {**self._rules, POINTER_TTL_FIELD: b"%d" % self._limits.pointer_ttl_s}
        missing = [(name, rule) for name, rule in fields.items() if name not in stored]
        if not missing:
            return
        log_rate_limited(
            logger,
            logging.WARNING,
            "rules missing",
            "Redis had no rule for the namespace %s: an operator deleted it, or a node has another configuration; it"
            " is written again",
            missing[0][0].decode(),
        )
        packed = b"".join(pack(b"HSETNX", self._keys.rules, name, rule) for name, rule in missing)
        self._commands.run_checked(packed, len(missing), timeout_s=timeout_s)
