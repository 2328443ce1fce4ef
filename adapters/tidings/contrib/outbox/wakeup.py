"""How a relay waits: for a commit to the outbox (PostgreSQL notifies), for `stop`, or for a timeout."""

from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING, Any

from tidings.contrib.outbox.table import sqlalchemy_module

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class WakeUp:
    """Waits for notifications, where database and driver support them: PostgreSQL with psycopg.

    `channel`: the name of the PostgreSQL notification channel. A PgBouncer in transaction mode loses notifications.
    """

    def __init__(self, engine: Engine, channel: str) -> None:
        self._engine = engine
        self._channel = channel
        self._listening: Connection | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.settimeout(0)
        self._wake_writer.settimeout(0)
        self.can_listen = (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")

    def listen(self) -> None:
        """Start listening, if that is supported. Read the table afterwards: there is no notification for earlier rows.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be reached.
        """
        if not self.can_listen or self._listening is not None:
            return
        sa = sqlalchemy_module()
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            # Detached from the pool, so that a listening connection is not reused.
            connection.detach()
            name = self._engine.dialect.identifier_preparer.quote_identifier(self._channel)
            connection.execute(sa.text(f"LISTEN {name}"))
        except BaseException:
            connection.close()
            raise
        self._listening = connection

    def wait(self, timeout_s: float, *, notifications: bool = True) -> bool:
        """Wait for `timeout_s` seconds, a notification (only if `notifications`), or `wake`.

        Returns whether there was a notification.

        Raises:
            psycopg.Error: the database has closed the connection.
        """
        driver: Any = self._driver() if notifications else None
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_reader, selectors.EVENT_READ)
            if driver is not None:
                selector.register(driver.fileno(), selectors.EVENT_READ)
            ready = {key.fd for key, _ in selector.select(timeout_s)}
        if self._wake_reader.fileno() in ready:
            self._wake_reader.recv(4096)
        if driver is not None and driver.fileno() in ready:
            # Their number does not matter: one read of the table finds all rows.
            list(driver.notifies(timeout=0))
            return True
        return False

    def wake(self) -> None:
        """End the current wait, or the next one. From any thread or signal handler."""
        try:
            self._wake_writer.send(b"!")
        except BlockingIOError:
            # The buffer is full of earlier wakes.
            return

    def stop_listening(self) -> None:
        """Close the listening connection."""
        if self._listening is not None:
            driver = None if self._listening.invalidated else self._driver()
            self._listening.invalidate()
            self._listening.close()
            self._listening = None
            if driver is not None:
                # It was detached from the pool, so SQLAlchemy leaves it open.
                driver.close()

    def close(self) -> None:
        """Close everything."""
        self.stop_listening()
        self._wake_reader.close()
        self._wake_writer.close()

    def _driver(self) -> Any:
        return None if self._listening is None else self._listening.connection.dbapi_connection
