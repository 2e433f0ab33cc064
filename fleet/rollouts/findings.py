"""What a wave's checks find in what was measured: each holds, fails, or has too little. Pure.

A check is looked at for each class of devices by itself: what is slow on one runtime is not
hidden by all the others, and no class is compared with another. It holds where it holds for
every class; it fails with the first; a class that too little was told of leaves it undecided.

A measure of `control` is that of devices that were not asked yet, while this wave was under way.
Where they told too little it is what was told of the same content before this wave. The finding
says which.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from fleet.rollouts.expression import Comparison, Name, value
from fleet.rollouts.measures import MEASURES, NOTHING, Told
from fleet.rollouts.policy import Check

ByClass = Mapping[str, Told]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was told about a wave while it is under way, by class.

    `serving`: of the rollout's bundle, by the wave's targets. `control`: of what served before, by
    those of the rollout that had not moved. `before`: the same, until this wave began. What was
    told by `until` (the centre's clock) is in it, and nothing twice.
    """

    until: str
    serving: ByClass = field(default_factory=dict)
    control: ByClass = field(default_factory=dict)
    before: ByClass = field(default_factory=dict)


class Outcome(StrEnum):
    """What a check says."""

    HOLDS = "success"
    FAILS = "failure"
    UNKNOWN = "inconclusive"


class Against(StrEnum):
    """With what a wave was compared."""

    LIMIT = "the limit alone"
    CONTROL = "those not asked yet"
    BEFORE = "what served before this wave"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check says: `observed` is its left side, `limit` its right one, of `class_name`.

    None: it has no value. `sample` is the smallest that it rests on, and `least` what it wants
    of that.
    """

    check: str
    outcome: Outcome
    class_name: str = ""
    observed: float | None = None
    limit: float | None = None
    sample: int = 0
    least: int = 1
    against: Against = Against.LIMIT


def found(
    checks: Sequence[Check], evidence: Evidence | None, classes: Collection[str]
) -> tuple[Finding, ...]:
    """Return what each check says, of the class it is worst for.

    Args:
        checks: a gate's.
        evidence: what was told; None: nothing was yet.
        classes: those that must have been heard of; others count where they told enough.
    """
    known = evidence or Evidence(until="")
    every = sorted({*classes, *known.serving})
    return tuple(_worst(check, known, every, classes) for check in checks)


def _worst(
    check: Check, evidence: Evidence, every: Sequence[str], classes: Collection[str]
) -> Finding:
    of_each = [_of_class(check, evidence, name) for name in every]
    counted = [
        each
        for each in of_each
        if each.outcome is not Outcome.UNKNOWN or each.class_name in classes
    ]
    nothing = Finding(check=check.check, outcome=Outcome.UNKNOWN, least=check.wants()[0])
    return min(counted, key=lambda each: _RANK[each.outcome], default=nothing)


_RANK = {Outcome.FAILS: 0, Outcome.UNKNOWN: 1, Outcome.HOLDS: 2}


def _of_class(check: Check, evidence: Evidence, name: str) -> Finding:
    read = check.read
    serving = evidence.serving.get(name, NOTHING)
    against, control = _control(check, read, evidence, name)
    sides = {False: serving, True: control}

    def of(named: Name) -> float | None:
        return MEASURES[named.measure].read(sides[named.control])

    samples = [
        (MEASURES[named.measure].sample(sides[named.control]), check.least(named.measure))
        for named in read.names()
    ]
    sample, least = min(samples, key=lambda each: each[0] - each[1])
    left, right = value(read.left, of), value(read.right, of)
    if sample < least or left is None or right is None:
        outcome = Outcome.UNKNOWN
    else:
        outcome = Outcome.HOLDS if read.holds(left, right) else Outcome.FAILS
    return Finding(
        check=check.check,
        outcome=outcome,
        class_name=name,
        observed=left,
        limit=right,
        sample=sample,
        least=least,
        against=against,
    )


def _control(check: Check, read: Comparison, evidence: Evidence, name: str) -> tuple[Against, Told]:
    """Return what a class is compared with: the first that told enough; else the last that is."""
    asked = [named for named in read.names() if named.control]
    if not asked:
        return Against.LIMIT, NOTHING
    choices = _choices(evidence, name)
    for against, told in choices:
        if all(MEASURES[each.measure].sample(told) >= check.least(each.measure) for each in asked):
            return against, told
    return Against.CONTROL, evidence.control.get(name, NOTHING)


def _choices(evidence: Evidence, name: str) -> Iterator[tuple[Against, Told]]:
    yield Against.CONTROL, evidence.control.get(name, NOTHING)
    yield Against.BEFORE, evidence.before.get(name, NOTHING)
