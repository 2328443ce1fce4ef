"""`Subscriptions`: the push subscriptions of all users. Each method is one transaction."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from typing import Final

from tidings.errors import Forbidden
from tidings_notifications.core.push_subscription import NewSubscription, StoredSubscription, hash_of
from tidings_notifications.inbox.transactions import Inboxes, write_locked
from tidings_notifications.store import subscription_rows
from tidings_notifications.store.database import Connection, Database

_KEY_BYTES: Final = 32
SUBSCRIPTIONS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class AddedSubscription:
    """A subscription was stored. `key`: its secret, which only the caller has. `dropped`: others of the user."""

    id: str
    key: str
    dropped: int


class Subscriptions:
    """Threads may share it. `user_max`: of one user; beyond it those unused for longest are deleted.

    All methods raise what `Database.write` or `Database.read` raises: BadConfig, Unavailable, TimedOut.
    """

    def __init__(self, database: Database, *, user_max: int = SUBSCRIPTIONS_MAX) -> None:
        self._database = database
        self._user_max = user_max

    def add(self, user: str, new: NewSubscription, now_ms: int) -> AddedSubscription:
        """Store a subscription. An endpoint belongs to one user: another user of the same browser takes it over."""
        key = secrets.token_urlsafe(_KEY_BYTES)

        def work(connection: Connection, _inboxes: Inboxes) -> AddedSubscription:
            row = subscription_rows.by_endpoint(connection, new.endpoint_hash)
            if row is not None and row.user_id == user:
                subscription_rows.update(connection, row.id, new, hash_of(key), now_ms)
                return AddedSubscription(row.id, key, 0)
            id_ = str(uuid.uuid4())
            subscription_rows.delete_foreign(connection, new.endpoint_hash, except_id=id_)
            stored = StoredSubscription(id_, user, new.endpoint, new.p256dh, new.auth, hash_of(key))
            subscription_rows.insert(connection, stored, new, now_ms)
            dropped = subscription_rows.delete_excess(connection, user, keep=self._user_max, now_ms=now_ms)
            return AddedSubscription(id_, key, dropped)

        return write_locked(self._database, {user}, work, create=True)

    def renew(self, id_: str, key: str, new: NewSubscription, now_ms: int) -> None:
        """Replace a subscription by the one that its browser has now.

        Raises:
            Forbidden: there is none with this id, or it has another key.
        """
        user = self.user_of(id_, key)

        def work(connection: Connection, _inboxes: Inboxes) -> bool:
            row = subscription_rows.by_id(connection, id_)
            if row is None or not row.has_key(key):
                return False
            subscription_rows.delete_foreign(connection, new.endpoint_hash, except_id=id_)
            subscription_rows.update(connection, id_, new, row.key_hash, now_ms)
            return True

        if not write_locked(self._database, {user}, work, create=True):
            raise _forbidden()

    def user_of(self, id_: str, key: str) -> str:
        """The user of a subscription.

        Raises:
            Forbidden: there is none with this id, or it has another key.
        """
        row = self._database.read(lambda connection: subscription_rows.by_id(connection, id_))
        if row is None or not row.has_key(key):
            raise _forbidden()
        return row.user_id

    def remove(self, user: str, endpoint: str) -> int:
        """Delete a subscription of a user. Returns how many there were, 0 or 1."""
        return self._database.write(
            lambda connection: subscription_rows.delete(connection, user=user, endpoint_hash=hash_of(endpoint))
        )

    def of(self, user: str, now_ms: int) -> list[StoredSubscription]:
        """The subscriptions of a user that have not expired, the last used first."""
        return self._database.read(lambda connection: subscription_rows.of_user(connection, user, now_ms))


def _forbidden() -> Forbidden:
    return Forbidden("there is no such push subscription, or its key is another one; subscribe again")
