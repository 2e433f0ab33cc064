"""Rollouts are in the order in which they were started: a second may hold several."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the number; those of one second get one each, in no particular order."""
    op.add_column(
        "rollouts", sa.Column("number", sa.BigInteger(), nullable=False, server_default="0")
    )
    rollouts = sa.table("rollouts", *(sa.column(name) for name in ("id", "number", "created_at")))
    connection = op.get_bind()
    order = sa.select(rollouts.c.id).order_by(rollouts.c.created_at, rollouts.c.id)
    for number, rollout in enumerate(connection.execute(order).scalars().all(), 1):
        this = rollouts.c.id == rollout
        connection.execute(sa.update(rollouts).where(this).values(number=number))
