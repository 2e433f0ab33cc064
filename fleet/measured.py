"""What devices told lately, as evidence for the wave that is judged. Pure.

Only a rollout that has checks is looked at, and only the wave that is under way. A health document
counts once, by when it came: what it says of the rollout's own revision on one of the wave's
targets is for it; what it says of other content under the same name, on a target that has not
moved, is what it is compared with.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from agent.wire import v1
from fleet.clock import written
from fleet.health.drift import Counts, Distance, added, furthest
from fleet.health.heard import Heard
from fleet.rollouts.findings import ByClass, Evidence
from fleet.rollouts.measures import Told, together
from fleet.rollouts.progress import MeasuredEvent, Progress, Rollout, RolloutWave
from fleet.rollouts.states import UNDECIDED_WAVES, UNDER_WAY, RolloutState, TargetState

_GOES_ON = frozenset({RolloutState.RUNNING, RolloutState.PAUSED})
_NOT_MOVED = frozenset({TargetState.PLANNED, *UNDER_WAY})

Judging = Callable[[str, Counts], Sequence[Distance]]
"""How far counts are from the reference of a bundle, by its digest."""


def is_measured(rollout: Rollout) -> bool:
    """Tell whether a rollout is to be looked at: one of its waves is judged by checks now."""
    return rollout.state in _GOES_ON and _wave(rollout) is not None


def measured(
    rollout: Rollout, heard: Mapping[str, Heard], now: datetime, judging: Judging
) -> tuple[MeasuredEvent, ...]:
    """Return the evidence about the wave under way, where more was told since the last look."""
    wave = _wave(rollout) if rollout.state in _GOES_ON else None
    if wave is None:
        return ()
    if wave.evidence is None:
        before = _before(rollout, wave, heard)
        return (_event(wave, Evidence(until=written(now), before=before)),)
    since, mine = wave.evidence.until, set(wave.targets)
    serving: dict[str, list[Told]] = defaultdict(list)
    control: dict[str, list[Told]] = defaultdict(list)
    seconds = written(now)  # documents are dated by the second: one is read when it is over
    latest = [
        (progress, device.health, device.health_at)
        for progress, device in _heard(rollout.targets, heard)
        if device.health is not None
        and device.health_at is not None
        and since < device.health_at < seconds
    ]
    if not latest:
        return ()
    for progress, health, _ in latest:
        for told in _of(progress, health):
            if _is_new(progress, told) and progress.target in mine:
                serving[progress.class_name].append(_counted(told, health))
            elif _is_other(progress, told):
                control[progress.class_name].append(_counted(told, health))
    for name, drift in _drifts(rollout, mine, heard, judging):
        serving[name].append(drift)
    evidence = Evidence(
        until=max(health_at for _, _, health_at in latest),
        serving=_with(wave.evidence.serving, serving),
        control=_with(wave.evidence.control, control),
        before=wave.evidence.before,
    )
    return (_event(wave, evidence),)


def _wave(rollout: Rollout) -> RolloutWave | None:
    return next(
        (
            wave
            for wave in rollout.waves
            if wave.state in UNDECIDED_WAVES and wave.gate is not None and wave.gate.checks
        ),
        None,
    )


def _event(wave: RolloutWave, evidence: Evidence) -> MeasuredEvent:
    return MeasuredEvent(wave=wave.number, evidence=evidence)


def _before(rollout: Rollout, wave: RolloutWave, heard: Mapping[str, Heard]) -> ByClass:
    """Return what was told of what served before: in the waves before, or last of all."""
    earlier = [each.evidence for each in rollout.waves[: wave.number - 1] if each.evidence]
    if earlier:
        return _with(earlier[-1].before, {name: [t] for name, t in earlier[-1].control.items()})
    found: dict[str, list[Told]] = defaultdict(list)
    for progress, device in _heard(rollout.targets, heard):
        if device.health is not None:
            found[progress.class_name] += [
                _counted(told, device.health)
                for told in _of(progress, device.health)
                if _is_other(progress, told)
            ]
    return _with({}, found)


def _heard(
    targets: Iterable[Progress], heard: Mapping[str, Heard]
) -> Iterator[tuple[Progress, Heard]]:
    for progress in targets:
        device = heard.get(progress.target)
        if device is not None:
            yield progress, device


def _of(progress: Progress, health: v1.Health) -> Iterator[v1.DeploymentHealth]:
    return (each for each in health.deployments if each.name == progress.deployment.name)


def _is_new(progress: Progress, told: v1.DeploymentHealth) -> bool:
    wanted = progress.deployment
    return (told.revision, told.digest) == (wanted.revision, wanted.bundle.digest)


def _is_other(progress: Progress, told: v1.DeploymentHealth) -> bool:
    """Tell whether this is of what a target served before, and it has not moved since."""
    return progress.state in _NOT_MOVED and told.digest != progress.deployment.bundle.digest


def _counted(told: v1.DeploymentHealth, health: v1.Health) -> Told:
    used, whole = health.memory_used_bytes, health.memory_total_bytes
    return Told(
        documents=1,
        period_s=health.period_s,
        requests=told.requests,
        errors=told.errors,
        restarts=told.restarts,
        latency=told.latency,
        memory=used / whole if used is not None and whole else None,
    )


def _drifts(
    rollout: Rollout, mine: set[str], heard: Mapping[str, Heard], judging: Judging
) -> Iterator[tuple[str, Told]]:
    """Return, by class, how far the wave's targets are from the card's reference together."""
    counts: dict[str, list[Counts]] = defaultdict(list)
    for progress, device in _heard(rollout.targets, heard):
        if progress.target in mine and device.drift:
            for report, drift in device.drifting():
                wanted = progress.deployment
                same = (drift.revision, drift.digest) == (wanted.revision, wanted.bundle.digest)
                if report.name == wanted.name and same:
                    counts[progress.class_name].append(drift.counts)
    for name, told in counts.items():
        digest = rollout.targets[0].deployment.bundle.digest
        far = furthest(judging(digest, added(told)))
        if far is not None:
            yield name, Told(drift=far.psi, drifted=far.requests)


def _with(known: ByClass, more: Mapping[str, Sequence[Told]]) -> ByClass:
    """Return what was told by class, with more of it."""
    return {
        name: together((*([known[name]] if name in known else []), *more.get(name, ())))
        for name in sorted({*known, *more})
    }
