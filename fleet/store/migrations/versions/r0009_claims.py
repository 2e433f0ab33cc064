"""Who is telling a receiver of an alert now, and until when nobody else may."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("told", sa.Column("holder", sa.String(length=64), nullable=True))
    op.add_column("told", sa.Column("until", sa.String(length=32), nullable=True))
