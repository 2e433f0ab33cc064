"""A month of health in slots, when devices were away, and transitions within a bound."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the tables, and say of each device how many transitions it has already."""
    _of_device(
        "health_days",
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("step_s", sa.Integer(), nullable=False),
        sa.Column("slots", sa.LargeBinary(), nullable=False),
        key="day",
    )
    _of_device(
        "health_open",
        sa.Column("begin", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.LargeBinary(), nullable=False),
        sa.Column("seen", sa.LargeBinary(), nullable=False),
    )
    _of_device(
        "away",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("since", sa.String(length=32), nullable=False),
        sa.Column("until", sa.String(length=32), nullable=True),
        sa.Column("spans", sa.Integer(), nullable=False),
        sa.Column("away_s", sa.BigInteger(), nullable=False),
        key="number",
    )
    _of_device(
        "events_kept",
        sa.Column("transitions", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
    )
    _of_device(
        "events_summed",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.String(length=32), nullable=False),
        sa.Column("last_at", sa.String(length=32), nullable=False),
        key="kind",
    )
    op.execute(
        "INSERT INTO events_kept (device, transitions, size)"
        " SELECT device, count(*), sum(length(document)) FROM events"
        " WHERE kind <> 'health' GROUP BY device"
    )
    op.execute(
        "INSERT INTO away (device, number, since, spans, away_s)"
        " SELECT device, 1, since, 1, 0 FROM presence WHERE NOT online"
    )


def _of_device(name: str, *columns: sa.Column[object], key: str | None = None) -> None:
    op.create_table(
        name,
        sa.Column("device", sa.String(length=64), nullable=False),
        *columns,
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name=f"fk_{name}_device"),
        sa.PrimaryKeyConstraint("device", *([key] if key else []), name=f"pk_{name}"),
    )
