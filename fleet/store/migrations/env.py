"""What Alembic runs around the steps: our connection, inside the caller's transaction."""

from alembic import context

from fleet.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can't alter a table in place
)
context.run_migrations()
