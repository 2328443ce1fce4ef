"""The subscriptions that a backend has requested for a user and that wait, for example for a client that connects."""

from __future__ import annotations


class Grant:
    """One of them."""

    __slots__ = ("_is_withdrawn", "channel", "user")

    def __init__(self, user: str, channel: str) -> None:
        self.user = user
        self.channel = channel
        self._is_withdrawn = False

    def is_withdrawn(self) -> bool:
        """Whether the backend has unsubscribed the user since."""
        return self._is_withdrawn

    def withdraw(self) -> None:
        """Let it have no effect."""
        self._is_withdrawn = True


class PendingGrants:
    """Those of one node, so that an unsubscription also ends what began before it."""

    def __init__(self) -> None:
        self._waiting: set[Grant] = set()

    def begin(self, user: str, channel: str) -> Grant:
        """A subscription has arrived. Call `end` when it was carried out."""
        grant = Grant(user, channel)
        self._waiting.add(grant)
        return grant

    def end(self, grant: Grant) -> None:
        """It waits no longer."""
        self._waiting.discard(grant)

    def withdraw(self, user: str, channel: str) -> None:
        """The user is to be unsubscribed from the channel."""
        for grant in self._waiting:
            if (grant.user, grant.channel) == (user, channel):
                grant.withdraw()
