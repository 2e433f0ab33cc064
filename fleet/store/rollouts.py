"""Rollouts: a head each, a row for each of its targets, and the plan it was started from.

What is looked at all the time is small (the head), what moves is written alone (a row),
and what is large and rests (the plan, what targets get) is read when somebody asks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    BindParameter,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    exists,
    func,
    insert,
    select,
    update,
)

from fleet.store.errors import NotFoundError
from fleet.store.tables import rollout_contents, rollout_plans, rollout_targets, rollouts


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRollout:
    """One rollout as it is kept, without its targets. `is_open`: a later look may still change it.

    `revision` is another one whenever anything of the rollout has moved.
    """

    id: str
    plan_digest: str
    head: str
    state: str
    is_open: bool
    created_at: str
    revision: str
    policy: str
    settings_given: bool


def add(connection: Connection, rollout: KeptRollout, plan: str, wish: str) -> None:
    """Keep a new rollout, as the newest; its targets follow. `wish`: what it wants of whom."""
    last = select(func.coalesce(func.max(rollouts.c.number), 0)).scalar_subquery()
    kept = {name: getattr(rollout, name) for name in _FIELDS}
    connection.execute(insert(rollouts).values(**kept, wish=wish, number=last + 1))
    connection.execute(insert(rollout_plans).values(rollout=rollout.id, document=plan))


def add_targets(
    connection: Connection, rollout: str, rows: Sequence[Mapping[str, str | int]]
) -> None:
    """Keep targets of a rollout: each row has every column but the rollout's."""
    if rows:
        connection.execute(insert(rollout_targets), [{"rollout": rollout, **row} for row in rows])


def move(
    connection: Connection, rollout: str, *, state: str, head: str, is_open: bool, revision: str
) -> None:
    """Note how far a rollout is now."""
    connection.execute(
        update(rollouts)
        .where(rollouts.c.id == rollout)
        .values(state=state, head=head, is_open=is_open, revision=revision)
    )


def move_targets(
    connection: Connection, rollout: str, rows: Sequence[Mapping[str, str | int]]
) -> None:
    """Note how far targets are now: each row is the `at` of one, and what it has otherwise."""
    if not rows:
        return
    one = and_(rollout_targets.c.rollout == rollout, rollout_targets.c.position == bindparam("at"))
    moved: Sequence[BindParameter[str]] = [
        bindparam(name) for name in ("state", "content", "document")
    ]
    values = {each.key: each for each in moved}
    connection.execute(update(rollout_targets).where(one).values(**values), rows)


def numbered(connection: Connection, rollout: str, documents: Collection[str]) -> Mapping[str, int]:
    """Return the number of each thing that targets get; what is new is kept with the next ones."""
    held = {document: number for number, document in contents(connection, rollout).items()}
    new = [each for each in dict.fromkeys(documents) if each not in held]
    rows = [
        {"rollout": rollout, "number": number, "document": document}
        for number, document in enumerate(new, start=len(held))
    ]
    if rows:
        connection.execute(insert(rollout_contents), rows)
    return held | {document: number for number, document in enumerate(new, start=len(held))}


def opened(connection: Connection) -> Sequence[str]:
    """Return the ids of rollouts that a later look may still change, the oldest first."""
    query = select(rollouts.c.id).where(rollouts.c.is_open).order_by(rollouts.c.number)
    return list(connection.execute(query).scalars())


def named(connection: Connection, rollout: str) -> KeptRollout:
    """Return a rollout.

    Raises:
        NotFoundError: there is none with this id.
    """
    row = connection.execute(_heads().where(rollouts.c.id == rollout)).one_or_none()
    if row is None:
        raise NotFoundError("rollout", rollout)
    return _rollout(row)


def wishing(connection: Connection, wish: str) -> KeptRollout | None:
    """Return the newest rollout that was started with this wish; None: there was none."""
    query = _heads().where(rollouts.c.wish == wish).order_by(rollouts.c.number.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _rollout(row)


def every(
    connection: Connection, *, after: str | None = None, limit: int | None = None
) -> Sequence[KeptRollout]:
    """Return rollouts, the newest first: those after this one, and so many; by default all."""
    query = _heads().order_by(rollouts.c.number.desc()).limit(limit)
    if after is not None:
        last = select(rollouts.c.number).where(rollouts.c.id == after).scalar_subquery()
        query = query.where(rollouts.c.number < last)
    return [_rollout(row) for row in connection.execute(query)]


def later(connection: Connection, rollout: str) -> Sequence[KeptRollout]:
    """Return the rollouts that were started after this one, the newest first."""
    own = select(rollouts.c.number).where(rollouts.c.id == rollout).scalar_subquery()
    query = _heads().where(rollouts.c.number > own).order_by(rollouts.c.number.desc())
    return [_rollout(row) for row in connection.execute(query)]


def open_with(connection: Connection, device: str, *, limit: int) -> Sequence[KeptRollout]:
    """Return the newest open rollouts that have a device as a target or left it out.

    Whom a plan left out only the plan says, and it is long: of the newest `limit` it is asked.
    """
    target, plan = rollout_targets.c, rollout_plans.c
    newest = select(rollouts.c.id).where(rollouts.c.is_open)
    newest = newest.order_by(rollouts.c.number.desc()).limit(limit)
    has = exists().where(target.rollout == rollouts.c.id, target.target == device)
    knows = exists().where(
        plan.rollout == rollouts.c.id, plan.document.contains(f'"{device}"', autoescape=True)
    )
    query = (
        _heads()
        .where(rollouts.c.is_open, has | (rollouts.c.id.in_(newest) & knows))
        .order_by(rollouts.c.number.desc())
        .limit(limit)
    )
    return [_rollout(row) for row in connection.execute(query)]


def recent(connection: Connection, limit: int, also: Collection[str] = ()) -> Sequence[KeptRollout]:
    """Return the newest rollouts, all that are open, and these: the newest first."""
    newest = select(rollouts.c.id).order_by(rollouts.c.number.desc()).limit(limit)
    query = (
        _heads()
        .where(rollouts.c.is_open | rollouts.c.id.in_(newest) | rollouts.c.id.in_(also))
        .order_by(rollouts.c.number.desc())
    )
    return [_rollout(row) for row in connection.execute(query)]


def plan_of(connection: Connection, rollout: str) -> str:
    """Return the plan that a rollout was started from: a step for each of its targets."""
    query = select(rollout_plans.c.document).where(rollout_plans.c.rollout == rollout)
    return str(connection.execute(query).scalar_one())


def targets(connection: Connection, rollout: str) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the targets of a rollout in the order of its plan."""
    each = rollout_targets.c
    query = (
        select(each.target, each.wave, each.place, each.state, each.content, each.document)
        .where(each.rollout == rollout)
        .order_by(each.position)
    )
    return connection.execute(query).all()


def contents(connection: Connection, rollout: str) -> Mapping[int, str]:
    """Return what targets of a rollout get and had before, by number."""
    query = select(rollout_contents.c.number, rollout_contents.c.document)
    found = connection.execute(query.where(rollout_contents.c.rollout == rollout))
    return {row.number: row.document for row in found}


def shared(
    connection: Connection, older: str, newer: str, but: Collection[str], of: str | None = None
) -> Mapping[str, int]:
    """Return who of an older rollout is in a newer one, in none of these states: what each gets.

    Where `of` is one target, no other is looked for.
    """
    ours, theirs = rollout_targets.alias(), rollout_targets.alias()
    query = (
        select(theirs.c.target, theirs.c.content)
        .join(ours, and_(ours.c.rollout == older, ours.c.target == theirs.c.target))
        .where(theirs.c.rollout == newer, theirs.c.state.not_in(but))
    )
    if of is not None:
        query = query.where(theirs.c.target == of)
    return {row.target: row.content for row in connection.execute(query)}


_FIELDS = tuple(each.name for each in fields(KeptRollout))


def _heads() -> Select[*tuple[object, ...]]:
    return select(*(rollouts.c[name] for name in _FIELDS))


def _rollout(row: Row[*tuple[object, ...]]) -> KeptRollout:
    return KeptRollout(
        id=row.id,
        plan_digest=row.plan_digest,
        head=row.head,
        state=row.state,
        is_open=row.is_open,
        created_at=row.created_at,
        revision=row.revision,
        policy=row.policy,
        settings_given=row.settings_given,
    )
