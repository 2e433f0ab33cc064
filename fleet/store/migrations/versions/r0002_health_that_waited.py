"""Health that waited: events know their kind and whether they are late; health, its order."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; what is there already came in time, and says its kind itself."""
    no = sa.false()
    op.add_column(
        "events", sa.Column("kind", sa.String(length=32), nullable=False, server_default="")
    )
    op.add_column("events", sa.Column("late", sa.Boolean(), nullable=False, server_default=no))
    op.add_column("health", sa.Column("ledger", sa.String(length=256), nullable=True))
    op.add_column(
        "health", sa.Column("number", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("health", sa.Column("late", sa.Boolean(), nullable=False, server_default=no))
    names = ("device", "ledger", "number", "document", "kind")
    events = sa.table("events", *(sa.column(name) for name in names))
    connection = op.get_bind()
    for row in connection.execute(sa.select(events)).all():
        this = (
            (events.c.device == row.device)
            & (events.c.ledger == row.ledger)
            & (events.c.number == row.number)
        )
        kind = json.loads(row.document)["kind"]
        connection.execute(sa.update(events).where(this).values(kind=kind))
