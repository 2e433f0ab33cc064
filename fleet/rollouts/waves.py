"""Who is asked with whom: targets into waves, by the sizes of a policy. Pure.

Rules:
- Every target is in exactly one wave; whoever no size reached is in a last one.
- Within a wave reachable targets come first, so that the gate has its sample early.
- The canaries of a class are reachable ones. A class that has none is in no
  canary wave: the plan names it, and it gets its own first target later
  (`fleet.rollouts.asking`).
- Where a policy has canaries and the first wave is a number or a share, they are the
  first in it, a class after the other, as far as it reaches.
- A wave that nobody is left for is dropped: a fleet of one has one wave.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from fleet.rollouts.policy import Count, EachClass, Gate, Matching, Percent, Policy, Size, WaveRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A target, as far as waves care. `attributes` are what selectors read."""

    target: str
    class_name: str
    reachable: bool
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """A batch: the targets that are asked together, and the gate behind them. `title` says who."""

    number: int
    title: str
    targets: tuple[str, ...]
    gate: Gate | None = None


def compose(members: Sequence[Member], policy: Policy) -> tuple[Wave, ...]:
    """Return the waves of these targets under a policy, in order, none empty."""
    left = sorted(members, key=lambda member: (not member.reachable, member.target))
    taken = 0
    waves: list[Wave] = []
    rules = [*policy.waves, WaveRule(size=Percent(percent=100), gate=policy.waves[-1].gate)]
    left = _canaries_first(left, policy)
    for rule in rules:
        chosen = _chosen(rule.size, left, taken=taken, total=len(members))
        if not chosen:
            continue
        here = {member.target for member in chosen}
        left = [member for member in left if member.target not in here]
        taken += len(chosen)
        waves.append(
            Wave(
                number=len(waves) + 1,
                title=_title(rule.size, last=not left),
                targets=tuple(member.target for member in chosen),
                gate=rule.gate,
            )
        )
    return tuple(waves)


def _canaries_first(left: list[Member], policy: Policy) -> list[Member]:
    """Put as many of each class in front as go before the others: one of each, then a second."""
    if policy.canaries is None:
        return left
    seen: Counter[str] = Counter()
    rank: dict[str, int] = {}
    for member in left:
        if member.reachable and seen[member.class_name] < policy.canaries:
            rank[member.target] = seen[member.class_name]
            seen[member.class_name] += 1
    return sorted(left, key=lambda member: rank.get(member.target, policy.canaries or 0))


def _chosen(size: Size, left: Sequence[Member], *, taken: int, total: int) -> Sequence[Member]:
    match size:
        case Count(targets=count):
            return left[:count]
        case Percent(percent=percent):
            reached = -(-total * percent // 100)  # rounded up: a tenth of three is one
            return left[: max(0, reached - taken)]
        case Matching(selector=selector):
            return [member for member in left if selector.matches(member.attributes)]
        case EachClass(per_class=count):
            here = sorted(
                (member for member in left if member.reachable),
                key=lambda member: (member.class_name, member.target),
            )
            by_class = groupby(here, key=lambda member: member.class_name)
            return [member for _, each in by_class for member in list(each)[:count]]


def _title(size: Size, *, last: bool) -> str:
    match size:
        case EachClass(per_class=count):
            return "one of each class" if count == 1 else f"{count} of each class"
        case Matching(selector=selector):
            return str(selector)
        case Percent(percent=percent) if not last:
            return f"to {percent} %"
        case Count(targets=count) if not last:
            return f"{count} targets"
        case _:
            return "the rest"
