"""Publishes again what Redis refused because it lost the rule of a namespace that this node has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidings.errors import HubError, UnknownNamespace
from tidings.publishers.base import OutgoingPublication, Publisher, PublishResult
from tidings_hub.brokers.health.namespace_rules import NamespaceRules


class RuleRestoringPublisher:
    """Publishes with `publisher`. `rules_of`: the rules of a channel's bucket.

    Without it, a good message of a queue would be dead-lettered until the rule is written back.
    """

    def __init__(self, publisher: Publisher, rules_of: Callable[[str], NamespaceRules]) -> None:
        self._publisher = publisher
        self._rules_of = rules_of

    def publish(self, items: Sequence[OutgoingPublication], *, timeout_s: float) -> list[PublishResult]:
        """See `Publisher.publish`. Items whose rule cannot be written back get the HubError."""
        answers = self._publisher.publish(items, timeout_s=timeout_s)
        refused = [
            index
            for index, (item, answer) in enumerate(zip(items, answers, strict=True))
            if isinstance(answer, UnknownNamespace) and self._rules_of(item.channel).has_rule_of(item.channel)
        ]
        if not refused:
            return answers
        try:
            for rules in {self._rules_of(items[index].channel) for index in refused}:
                rules.restore(timeout_s=timeout_s)
            again = self._publisher.publish([items[index] for index in refused], timeout_s=timeout_s)
        except HubError as error:
            again = [error] * len(refused)
        for index, answer in zip(refused, again, strict=True):
            answers[index] = answer
        return answers
