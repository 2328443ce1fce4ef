"""Run by Alembic: migrates the connection that `store/schema.py` opened, in its transaction."""

from __future__ import annotations

from alembic import context

from tidings_notifications.store.schema import VERSION_TABLE
from tidings_notifications.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
