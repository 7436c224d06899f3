"""Alembic's entry: runs migrations on the connection, and in the transaction, of ``store.schema``."""

from __future__ import annotations

from alembic import context

from mlmp_spawner.store.schema import VERSION_TABLE
from mlmp_spawner.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
