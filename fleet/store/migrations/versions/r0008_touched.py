"""Which part of which device was written last."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the table. Who begins reads everything: nothing of before is missed."""
    op.create_table(
        "touched",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "part", name="pk_touched"),
    )
    op.create_index("ix_touched_number", "touched", ["number"])
