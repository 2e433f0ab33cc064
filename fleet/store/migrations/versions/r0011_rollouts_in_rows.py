"""A rollout is a small head, and a row for each of its targets; its plan lies apart."""

import json
from collections import Counter
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_SETTLED = frozenset(
    {
        "committed",
        "rolled-back",
        "refused",
        "returned",
        "not-returned",
        "not-asked",
        "superseded",
    }
)
_BAD = ("rolled-back", "refused", "timed-out")
_AWAITED = ("asked", "updating", "planned", "returning")
_OF_CONTENT = ("class_name", "deployment", "replaces")
_OF_COLUMNS = ("target", "state")
_UNSAID: tuple[object, ...] = (None, "", {})


def upgrade() -> None:
    """Add the tables and columns, take each rollout apart, and drop what it was."""
    _add_tables()
    for column in (
        sa.Column("policy", sa.String(length=64), nullable=False, server_default=""),
        sa.Column("settings_given", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("revision", sa.String(length=32), nullable=False, server_default=""),
        sa.Column("head", sa.Text(), nullable=False, server_default=""),
    ):
        op.add_column("rollouts", column)
    connection = op.get_bind()
    columns = ("id", "plan", "progress", "policy", "settings_given", "revision", "head")
    rollouts = sa.table("rollouts", *(sa.column(name) for name in columns))
    for rollout in connection.execute(sa.select(rollouts.c.id)).scalars().all():
        this = rollouts.c.id == rollout
        kept = connection.execute(sa.select(rollouts.c.plan, rollouts.c.progress).where(this)).one()
        progress, plan = json.loads(kept.progress), json.loads(kept.plan)
        head = _taken_apart(connection, rollout, progress)
        told = {
            "policy": plan.get("policy", {}).get("name", ""),
            "settings_given": plan.get("request", {}).get("settings") is not None,
            "revision": "0011",
            "head": json.dumps(head),
        }
        connection.execute(sa.update(rollouts).where(this).values(**told))
        _insert(connection, "rollout_plans", [{"rollout": rollout, "document": kept.plan}])
    op.drop_column("rollouts", "plan")
    op.drop_column("rollouts", "progress")


def _add_tables() -> None:
    _of_rollout("rollout_plans", sa.Column("document", sa.Text(), nullable=False))
    _of_rollout(
        "rollout_targets",
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("content", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.UniqueConstraint("rollout", "target", name="uq_rollout_targets_rollout"),
        key="position",
    )
    _of_rollout(
        "rollout_contents",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        key="number",
    )


def _of_rollout(name: str, *parts: sa.schema.SchemaItem, key: str | None = None) -> None:
    op.create_table(
        name,
        sa.Column("rollout", sa.String(length=64), nullable=False),
        *parts,
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name=f"fk_{name}_rollout"),
        sa.PrimaryKeyConstraint("rollout", *([key] if key else []), name=f"pk_{name}"),
    )


def _taken_apart(
    connection: sa.Connection, rollout: str, progress: dict[str, Any]
) -> dict[str, Any]:
    """Write a rollout's targets into rows; return its head."""
    places = {
        target: (wave["number"], place)
        for wave in progress["waves"]
        for place, target in enumerate(wave["targets"])
    }
    contents: dict[str, int] = {}
    rows = []
    for position, each in enumerate(progress["targets"]):
        # Only what is there: an older release wrote less about it.
        content = json.dumps({name: each[name] for name in _OF_CONTENT if name in each})
        rest = {
            name: told
            for name, told in each.items()
            if name not in (*_OF_CONTENT, *_OF_COLUMNS) and told not in _UNSAID
        }
        wave, place = places.get(each["target"], (0, 0))
        rows.append(
            {
                "rollout": rollout,
                "position": position,
                "target": each["target"],
                "wave": wave,
                "place": place,
                "state": each["state"],
                "content": contents.setdefault(content, len(contents)),
                "document": json.dumps(rest),
            }
        )
    written = [
        {"rollout": rollout, "number": number, "document": document}
        for document, number in contents.items()
    ]
    _insert(connection, "rollout_contents", written)
    _insert(connection, "rollout_targets", rows)
    return _head(progress)


def _head(progress: dict[str, Any]) -> dict[str, Any]:
    targets = progress.pop("targets")
    of_wave = {each["number"]: [0, 0] for each in progress["waves"]}
    numbers = {target: each["number"] for each in progress["waves"] for target in each["targets"]}
    for each in targets:
        good, failed = each["state"] == "committed", each["state"] in _BAD
        ends = of_wave.get(numbers.get(each["target"], 0), [0, 0])
        ends[0] += good
        ends[1] += failed and not each.get("again_at")
    here = [each.get("online", True) and not each.get("held") for each in targets]
    awaited = [each["state"] in _AWAITED for each in targets]
    before = Counter(
        (each["replaces"]["bundle"]["name"], each["replaces"]["bundle"]["version"])
        for each in targets
        if each.get("replaces")
    )
    times = {each.get("since") for each in (*targets, *progress["waves"])} - {None}
    return {
        **progress,
        "waves": [{**wave, "targets": []} for wave in progress["waves"]],
        "counts": dict(Counter(each["state"] for each in targets)),
        "set_aside": sum(
            not at and (each["state"] not in _SETTLED or bool(each.get("again_at")))
            for at, each in zip(here, targets, strict=True)
        ),
        "awaited": sum(awaited),
        "awaited_here": sum(map(all, zip(awaited, here, strict=True))),
        "moved": max(times, default=None),
        "replaces": [(*had, number) for had, number in before.most_common()],
        "ends": list(of_wave.values()),
    }


def _insert(connection: sa.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        into = sa.table(table, *(sa.column(name) for name in rows[0]))
        connection.execute(sa.insert(into), rows)
