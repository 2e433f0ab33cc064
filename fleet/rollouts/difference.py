"""What changed between two plans, for a person who wanted to start the first one. Pure.

`start --if-plan DIGEST` compares digests; where they differ, this says how: first
what was asked for, then target by target who joined, who left, who is decided
otherwise.
"""

from dataclasses import dataclass, fields

from fleet.canonical import canonical
from fleet.rollouts.foresee import Step
from fleet.rollouts.plan import Exclusion, Plan
from fleet.rollouts.policy import RolloutRequest

_TEXT_LIMIT = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that is not as it was. `subject` is a target's id, or a part of the request."""

    subject: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.subject}: was {self.before}, is {self.after}"


def difference(before: Plan, after: Plan) -> tuple[Change, ...]:
    """Return what is otherwise in `after`: nothing exactly when the digests are equal."""
    if before.digest == after.digest:
        return ()
    pairs: list[tuple[str, object, object]] = [
        (part.name, getattr(before.request, part.name), getattr(after.request, part.name))
        for part in fields(RolloutRequest)
        if part.compare
    ]
    pairs += [("fleet", before.fleet, after.fleet), ("rules", before.policy, after.policy)]
    changes = [
        Change(subject=name, before=_written(was), after=_written(now))
        for name, was, now in pairs
        if was != now
    ]
    old, new = _decisions(before), _decisions(after)
    for target in sorted(old.keys() | new.keys()):
        was, now = old.get(target), new.get(target)
        known = now or was
        if was != now and known is not None:
            changes.append(Change(subject=known.name, before=_said(was), after=_said(now)))
    return tuple(changes)


def _decisions(plan: Plan) -> dict[str, Step | Exclusion]:
    steps: dict[str, Step | Exclusion] = {step.target: step for step in plan.steps}
    return steps | {excluded.target: excluded for excluded in plan.excluded}


def _said(decision: Step | Exclusion | None) -> str:
    if decision is None:
        return "not asked for"
    if isinstance(decision, Exclusion):
        return f"left out ({decision.reason})"
    where = "online" if decision.online else "offline"
    where = where if decision.hold is None else "held"
    return (
        f"{where}, to get revision {decision.deployment.revision} "
        f"as {decision.order.epoch}.{decision.order.generation}, {decision.class_name}"
    )


def _written(value: object) -> str:
    text = canonical(value).decode()
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"
