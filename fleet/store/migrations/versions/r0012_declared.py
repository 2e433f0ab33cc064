"""Policies are kept under a name, and a rollout says what it wants of whom, as a digest."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the table, and the column; what rollouts of before wanted is not known by it."""
    op.create_table(
        "policies",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("written_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_policies"),
    )
    column = sa.Column("wish", sa.String(length=80), nullable=False, server_default="")
    op.add_column("rollouts", column)
    op.create_index("ix_rollouts_wish", "rollouts", ["wish"])
