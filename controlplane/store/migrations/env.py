"""Alembic's entry: runs the migrations on the connection that ``archive.migrate`` hands in. It opens nothing itself."""

from alembic import context

from controlplane.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
