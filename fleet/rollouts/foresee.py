"""What is known of a rollout beforehand: how bad it can get, its cost, what stops it. Pure.

*Exposure* is how many targets can have the new bundle active before a gate can stop it:
all of its wave and of those before, whether away or not. A gate *can stop* a rollout if
some ending of its targets makes it fail, or wait for a person: one that has too few
targets to decide, and is then skipped, protects nobody.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

from agent.wire.v1 import Deployment, Order
from fleet.rollouts.policy import Gate, Inconclusive, Policy
from fleet.rollouts.waves import Wave


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One target gets one deployment. `replaces` is what it goes back to if it has to.

    `order` is what the document would have if it were written now. `variant` is
    the file that fits; `class_name` is what such targets have in common. `hold` is
    why its owner holds the target; None: nobody does.
    `fetch_bytes` is what the target must fetch that it doesn't already want. `groups` are
    its values of the labels that the policy's budgets are about; empty, where it has none.
    """

    target: str
    name: str
    deployment: Deployment
    order: Order
    variant: str
    class_name: str
    fetch_bytes: int
    online: bool
    hold: str | None = None
    site: str | None = None
    replaces: Deployment | None = None
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def reachable(self) -> bool:
        """It can be asked now."""
        return self.online and self.hold is None


class ObstacleReason(StrEnum):
    """What will keep a rollout from running through unattended."""

    SAMPLE_OUT_OF_REACH = "SAMPLE_OUT_OF_REACH"
    SAMPLE_AWAY = "SAMPLE_AWAY"
    WAVE_AWAY = "WAVE_AWAY"
    CLASS_AWAY = "CLASS_AWAY"
    CLASS_LATER = "CLASS_LATER"
    APPROVAL_WANTED = "APPROVAL_WANTED"
    SHADOW_NEEDS_TRAFFIC = "SHADOW_NEEDS_TRAFFIC"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    KEEPS_WINDOWS = "KEEPS_WINDOWS"
    CHECK_NEEDS_TRAFFIC = "CHECK_NEEDS_TRAFFIC"
    CHECK_NEEDS_INCUMBENT = "CHECK_NEEDS_INCUMBENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Something that is known beforehand to stop, skip or delay a wave; None: no one wave."""

    reason: ObstacleReason
    wave: int | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCost:
    """What goes over a site's line: how many targets fetch there, and how much. None: no site."""

    site: str | None
    targets: int
    fetch_bytes: int


def exposure(waves: Sequence[Wave]) -> tuple[int, ...]:
    """Return, for each wave, how many can serve the bundle before the next gate can stop it."""
    found: list[int] = []
    reached = sum(len(wave.targets) for wave in waves)
    stopped = reached  # behind the last gate nothing stops it
    for wave in reversed(waves):
        stopped = reached if can_stop(wave) else stopped
        found.append(stopped)
        reached -= len(wave.targets)
    return tuple(reversed(found))


def blast_radius(waves: Sequence[Wave]) -> int:
    """Count who can serve it before the first gate can stop it."""
    return next(iter(exposure(waves)), 0)


def can_stop(wave: Wave) -> bool:
    """Tell whether some ending of a wave's targets makes its gate fail, or wait for a person."""
    gate = wave.gate
    if gate is None:
        return False
    waits = gate.inconclusive is not Inconclusive.SKIP
    if gate.approval or gate.everyone or gate.checks:
        return True
    if _sample(gate, wave) > len(wave.targets):
        return waits
    fails = gate.error_percent < 100  # noqa: PLR2004  # a share
    return fails or (waits and gate.success_percent > 0)


def by_site(steps: Sequence[Step]) -> tuple[SiteCost, ...]:
    """Return what is fetched at each site, most first."""
    targets: Counter[str | None] = Counter()
    fetched: Counter[str | None] = Counter()
    for step in steps:
        targets[step.site] += step.fetch_bytes > 0
        fetched[step.site] += step.fetch_bytes
    found = [
        SiteCost(site=site, targets=targets[site], fetch_bytes=size)
        for site, size in fetched.items()
        if size
    ]
    return tuple(sorted(found, key=lambda cost: (-cost.fetch_bytes, cost.site or "")))


def obstacles(steps: Sequence[Step], waves: Sequence[Wave], policy: Policy) -> Iterator[Obstacle]:
    """Tell all that is known to stop, skip or delay the rollout."""
    here = {step.target for step in steps if step.reachable}
    by_target = {step.target: step for step in steps}
    for wave in waves:
        if wave.gate is None:
            continue
        yield from _too_few(wave, wave.gate, len(here.intersection(wave.targets)))
        if wave.gate.approval:
            yield Obstacle(reason=ObstacleReason.APPROVAL_WANTED, wave=wave.number)
        yield from _checks(wave, wave.gate, [by_target[target] for target in wave.targets])
        yield from _by_settings(wave, wave.gate, [by_target[target] for target in wave.targets])
    yield from _classes(steps, waves, policy, here)


def _too_few(wave: Wave, gate: Gate, here: int) -> Iterator[Obstacle]:
    sample = _sample(gate, wave)
    told = {
        "targets": str(len(wave.targets)),
        "sample": str(sample),
        "then": _THEN[gate.inconclusive],
    }
    if len(wave.targets) < sample:
        yield Obstacle(reason=ObstacleReason.SAMPLE_OUT_OF_REACH, wave=wave.number, parameters=told)
    elif not here:
        yield Obstacle(reason=ObstacleReason.WAVE_AWAY, wave=wave.number, parameters=told)
    elif here < sample:
        yield Obstacle(
            reason=ObstacleReason.SAMPLE_AWAY,
            wave=wave.number,
            parameters={**told, "here": str(here)},
        )


def before_windows(waves: Sequence[Wave], windowed: frozenset[str]) -> Iterator[Obstacle]:
    """Tell of the waves that can't be decided without targets that have windows of their own."""
    for wave in waves:
        keeping = len(windowed.intersection(wave.targets))
        free = len(wave.targets) - keeping
        if wave.gate is None or not free < _sample(wave.gate, wave) <= len(wave.targets):
            continue
        told = {"targets": str(len(wave.targets)), "keeping": str(keeping)}
        yield Obstacle(reason=ObstacleReason.KEEPS_WINDOWS, wave=wave.number, parameters=told)


_THEN = {
    Inconclusive.PAUSE: "pause",
    Inconclusive.SKIP: "skip",
    Inconclusive.APPROVE: "wait for approval",
}


def _sample(gate: Gate, wave: Wave) -> int:
    return len(wave.targets) if gate.everyone else gate.minimum_sample


def _by_settings(wave: Wave, gate: Gate, steps: Sequence[Step]) -> Iterator[Obstacle]:
    """Tell of settings that a wave's gate depends on: live requests, and a long trial."""
    trial_s = max(step.deployment.settings.probation_s for step in steps)
    compared = [
        (step, shadow)
        for step in steps
        if step.replaces is not None and (shadow := step.deployment.settings.shadow) is not None
    ]
    if compared:
        shadow = max((each for _, each in compared), key=lambda each: each.requests / each.share)
        yield Obstacle(
            reason=ObstacleReason.SHADOW_NEEDS_TRAFFIC,
            wave=wave.number,
            parameters={
                "targets": str(len(compared)),
                "requests": str(ceil(shadow.requests / shadow.share)),
                "limit_s": f"{min(shadow.limit_s, max(0.0, gate.deadline_s - trial_s)):g}",
            },
        )
    if trial_s >= gate.deadline_s:
        yield Obstacle(
            reason=ObstacleReason.DEADLINE_TOO_SHORT,
            wave=wave.number,
            parameters={"deadline_s": f"{gate.deadline_s:g}", "needs_s": f"{trial_s:g}"},
        )


def _checks(wave: Wave, gate: Gate, steps: Sequence[Step]) -> Iterator[Obstacle]:
    """Tell of checks that can't be decided, and of what they need to be."""
    first = [step for step in steps if step.replaces is None]
    for check in gate.checks:
        told = {"check": check.check, "then": _THEN[gate.inconclusive]}
        if first and any(name.control for name in check.read.names()):
            yield Obstacle(
                reason=ObstacleReason.CHECK_NEEDS_INCUMBENT,
                wave=wave.number,
                parameters={**told, "targets": str(len(first))},
            )
            continue
        least, counts = check.wants()
        yield Obstacle(
            reason=ObstacleReason.CHECK_NEEDS_TRAFFIC,
            wave=wave.number,
            parameters={
                **told,
                "least": str(least),
                "counts": counts,
                "limit_s": f"{max(gate.soak_s, gate.deadline_s):g}",
            },
        )


def _classes(
    steps: Sequence[Step], waves: Sequence[Wave], policy: Policy, here: set[str]
) -> Iterator[Obstacle]:
    """Tell of the classes of which nobody is among the canaries."""
    if policy.canaries is None or not waves:
        return
    sizes = Counter(step.class_name for step in steps)
    reachable = {step.class_name for step in steps if step.target in here}
    first = set(waves[0].targets) & here
    began = {step.class_name for step in steps if step.target in first}
    for name, count in sorted(sizes.items()):
        told = {"class_name": name, "targets": str(count)}
        if name not in reachable:
            yield Obstacle(reason=ObstacleReason.CLASS_AWAY, parameters=told)
        elif name not in began:
            yield Obstacle(reason=ObstacleReason.CLASS_LATER, parameters=told)
