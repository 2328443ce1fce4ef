"""What came of one try to deliver a notification: a push to one subscription, or a webhook."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """The other side has accepted it."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The subscription does not exist any more. It can be deleted."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again later. `after_ms`: the time that the other side asks for; None: it does not ask for one."""

    after_ms: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The other side will never accept it. `reason` has its words."""

    reason: str


Outcome = Sent | Gone | Retry | Failed
