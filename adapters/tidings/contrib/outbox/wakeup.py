"""How a relay waits: until somebody wrote to the outbox (PostgreSQL says so), until it must stop, or for a while."""

from __future__ import annotations

import selectors
import socket
from typing import TYPE_CHECKING, Any

from tidings.contrib.outbox.table import sqlalchemy_module

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class WakeUp:
    """Waits for notifications where database and driver can tell them: PostgreSQL by psycopg.

    `channel` is PostgreSQL's word for their name. A PgBouncer that pools transactions swallows them.
    """

    def __init__(self, engine: Engine, channel: str) -> None:
        self._engine = engine
        self._channel = channel
        self._listening: Connection | None = None
        self._inner, self._outer = socket.socketpair()
        self._inner.settimeout(0)
        self._outer.settimeout(0)
        self.can_listen = (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")

    def listen(self) -> None:
        """Listen from now on, if that is possible. Look at the table after this: what came before is not told.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be reached.
        """
        if not self.can_listen or self._listening is not None:
            return
        sa = sqlalchemy_module()
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            # Out of the pool: nobody else may get a connection that listens.
            connection.detach()
            name = self._engine.dialect.identifier_preparer.quote_identifier(self._channel)
            connection.execute(sa.text(f"LISTEN {name}"))
        except BaseException:
            connection.close()
            raise
        self._listening = connection

    def wait(self, timeout_s: float, *, heed: bool = True) -> None:
        """Returns after `timeout_s` seconds, or before: when there is news (only if `heed`), or after `wake`.

        Raises:
            psycopg.Error: the database has ended the connection.
        """
        driver: Any = self._driver() if heed else None
        with selectors.DefaultSelector() as selector:
            selector.register(self._inner, selectors.EVENT_READ)
            if driver is not None:
                selector.register(driver.fileno(), selectors.EVENT_READ)
            ready = {key.fd for key, _ in selector.select(timeout_s)}
        if self._inner.fileno() in ready:
            self._inner.recv(4096)
        if driver is not None and driver.fileno() in ready:
            # Their number says nothing: one look finds everything.
            list(driver.notifies(timeout=0))

    def wake(self) -> None:
        """End the current wait, or the next one. From any thread or signal handler."""
        try:
            self._outer.send(b"!")
        except BlockingIOError:
            # So many wakes wait already.
            return

    def stop_listening(self) -> None:
        """Give up the connection that listens."""
        if self._listening is not None:
            self._listening.invalidate()
            self._listening.close()
            self._listening = None

    def close(self) -> None:
        """Give up everything."""
        self.stop_listening()
        self._inner.close()
        self._outer.close()

    def _driver(self) -> Any:
        return None if self._listening is None else self._listening.connection.dbapi_connection
