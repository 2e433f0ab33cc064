"""How each device was, in state words, over time; when somebody looked; when ledgers began."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the tables. What devices were before, nobody noted."""
    begun_at = sa.Column("begun_at", sa.String(length=32), nullable=False, server_default="")
    op.add_column("acked", begun_at)
    _of_device("words_now", sa.Column("number", sa.Integer(), nullable=False), *_word())
    _of_device(
        "words_past",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        *_word(),
        sa.Column("until", sa.String(length=32), nullable=False),
        key="number",
    )
    _of_device(
        "words_summed",
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("spans", sa.Integer(), nullable=False),
        sa.Column("lasted_s", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=False),
        key="state",
    )
    op.create_table(
        "watches",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_watches"),
    )


def _word() -> list[sa.Column[object]]:
    return [
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=256), nullable=False),
        sa.Column("subject", sa.String(length=256), nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
    ]


def _of_device(name: str, *columns: sa.Column[object], key: str | None = None) -> None:
    op.create_table(
        name,
        sa.Column("device", sa.String(length=64), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=f"fk_{name}_device"),
        sa.PrimaryKeyConstraint("device", *([key] if key else []), name=f"pk_{name}"),
    )
