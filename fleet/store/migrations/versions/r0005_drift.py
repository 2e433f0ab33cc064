"""The last drift that each device told of each deployment."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the table. What was told before is gone: the next hour tells more."""
    op.create_table(
        "drift",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("deployment", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("ledger", sa.String(length=256), nullable=True),
        sa.Column("told_at", sa.String(length=32), nullable=True),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("judged", sa.JSON(), nullable=False),
        sa.Column("tellings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_drift_device"),
        sa.PrimaryKeyConstraint("device", "deployment", name="pk_drift"),
    )
