"""A simulated fleet and a centre on paper, both deterministic: the judge of rollouts.

Devices take documents, walk phases, commit, refuse or fall back by what the test
says of a version on a class, go away, are held, come back, and keep what they
took. The centre looks, decides and writes as `fleet.execute` does, without a
store. Nothing here moves by itself: a test moves it, step by step.

What no step may do is asserted where it would be done (`World._write`, `World._watch`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from agent.wire import facts
from agent.wire.phases import Phase
from agent.wire.v1 import (
    Active,
    Deployment,
    DeploymentSettings,
    Desired,
    Hold,
    Problem,
    Quarantined,
    Reported,
    ReportedDeployment,
)
from fleet.inventory import Inventory, Target
from fleet.rollouts.asking import due, overtaken
from fleet.rollouts.check import check
from fleet.rollouts.documents import renewed, without
from fleet.rollouts.errors import PlanError
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.plan import Plan, plan
from fleet.rollouts.policy import CAREFUL, Inconclusive, Policy
from fleet.rollouts.progress import (
    MeasuredEvent,
    Progress,
    Rollout,
    RolloutEvent,
    RolloutWave,
    begin,
    cut_off,
)
from fleet.rollouts.states import (
    BAD,
    ENDED,
    UNDER_WAY,
    RolloutHappening,
    RolloutState,
    TargetState,
    WaveState,
)
from tests.fleet.deciding.paper import FACTS, FLEET, NOW, Paper

LITERT, TFLITE = "litert", "tflite"
ISSUED = "2026-03-01T12:00:00Z"
HOUR = timedelta(hours=1)
_PASSES_LIMIT = 60
_WRITTEN_AT_ONCE = 3


class Conduct(StrEnum):
    """What comes of a version on a class."""

    GOOD = "good"
    REFUSE = "refuse"  # its golden vectors miss: it never serves
    FALL_BACK = "fall back"  # its probation fails
    CRASH = "crash"  # it commits, and dies again and again later
    MUTE = "mute"  # it never comes to an end
    STUMBLE = "stumble"  # its disk is full the first time, and not the next


@dataclass
class Record:
    """What a device knows of one deployment. `proven` serves again if the candidate fails."""

    wanted: Deployment
    phase: Phase = Phase.ACCEPTED
    active: Deployment | None = None
    proven: Deployment | None = None
    before: Deployment | None = None
    reason: str | None = None


@dataclass
class Device:
    """One device: what it acts on, what it serves. `outbox` is what it said and nobody heard."""

    id: str
    runtime: str = LITERT
    architecture: str = FACTS[facts.ARCHITECTURE]
    labels: Mapping[str, str] = field(default_factory=dict)
    online: bool = True
    held: bool = False
    document: Desired | None = None
    records: dict[str, Record] = field(default_factory=dict)
    quarantined: set[str] = field(default_factory=set)
    took: set[str] = field(default_factory=set)
    served: set[str] = field(default_factory=set)
    full: set[str] = field(default_factory=set)
    unheard: bool = False
    cut: bool = False  # it is not within a window in which it may download
    shut: bool = False  # before its maintenance window

    def accept(self, newest: Desired | None) -> None:
        """Take the newest document; no device ever goes back."""
        if newest is None:
            return
        if self.document is not None:
            assert newest.order >= self.document.order
        self.document = newest
        wanted = {each.name: each for each in newest.deployments}
        self.records = {name: record for name, record in self.records.items() if name in wanted}
        for name, deployment in wanted.items():
            old = self.records.get(name)
            if old is None:
                self.records[name] = Record(deployment)
            elif old.wanted != deployment:
                assert deployment.revision > old.wanted.revision
                self.records[name] = Record(deployment, active=old.proven, proven=old.proven)
            self.took.add(deployment.bundle.version)

    def step(self, conduct: Mapping[tuple[str, str], Conduct]) -> bool:
        """Bring each deployment one phase on; say whether any moved."""
        moved = [
            self._step(record, conduct)
            for record in self.records.values()
            if not self._keeps_its_window(record)
        ]
        return any(moved)

    def _keeps_its_window(self, record: Record) -> bool:
        """Tell whether it may not download now; what it has proven needs no download."""
        if record.phase is not Phase.ACCEPTED:
            return False
        has_it = record.proven is not None and record.proven.bundle == record.wanted.bundle
        record.reason = "DOWNLOAD_WINDOW_CLOSED" if self.cut and not has_it else None
        return record.reason is not None

    def _step(  # noqa: C901  # one row a phase
        self, record: Record, conduct: Mapping[tuple[str, str], Conduct]
    ) -> bool:
        before, wanted = record.phase, record.wanted
        version = wanted.bundle.version
        how = conduct_of(conduct, version, self)
        match record.phase:
            case Phase.ACCEPTED if record.proven and wanted == replace(
                record.proven, revision=wanted.revision
            ):
                record.phase, record.active, record.proven = Phase.COMMITTED, wanted, wanted
            case Phase.ACCEPTED if wanted.bundle.digest in self.quarantined:
                record.phase, record.reason = Phase.REFUSED, "QUARANTINED"
            case Phase.ACCEPTED:
                record.phase = Phase.FETCHING if how is not Conduct.MUTE else Phase.ACCEPTED
            case Phase.FETCHING:
                record.phase = Phase.TESTING
            case Phase.TESTING if self.shut and version not in self.served:
                record.reason = "MAINTENANCE_WINDOW_CLOSED"
            case Phase.TESTING if record.reason == "MAINTENANCE_WINDOW_CLOSED":
                record.reason = None
                return True
            case Phase.TESTING if refusal := self._refusal(wanted, how):
                record.phase, record.reason = Phase.REFUSED, refusal
            case Phase.TESTING:
                record.phase, record.active = Phase.PROBATION, wanted
                self.served.add(wanted.bundle.version)
            case Phase.PROBATION if how is Conduct.FALL_BACK:
                record.phase, record.active = Phase.ROLLED_BACK, record.proven
                record.reason = "CRASH_LOOP"
            case Phase.PROBATION:
                record.phase, record.before, record.proven = Phase.COMMITTED, record.proven, wanted
            case Phase.COMMITTED if how is Conduct.CRASH and record.before is not None:
                record.phase, record.active = Phase.ROLLED_BACK, record.before
                record.proven, record.reason = record.before, "CRASH_LOOP"
                self.quarantined.add(wanted.bundle.digest)
        return record.phase is not before

    def _refusal(self, wanted: Deployment, how: Conduct) -> str:
        if how is Conduct.STUMBLE and wanted.bundle.version not in self.full:
            self.full.add(wanted.bundle.version)
            return "DISK_FULL"
        record = self.records[wanted.name]
        if self.unheard and wanted.settings.shadow is not None and record.proven is not None:
            return "SHADOW_INCONCLUSIVE"
        if how is not Conduct.REFUSE:
            return ""
        self.quarantined.add(wanted.bundle.digest)
        return "GOLDEN_MISMATCH"

    def says(self) -> Reported:
        """Compose what it would report now."""
        return Reported(
            fleet=FLEET,
            device=self.id,
            session=1,
            observed=None if self.document is None else self.document.order,
            hold=Hold(reason="being repaired", since=ISSUED) if self.held else None,
            quarantined=tuple(
                Quarantined(digest=digest, reason="GOLDEN_MISMATCH", since=ISSUED)
                for digest in sorted(self.quarantined)[:16]
            ),
            deployments=tuple(
                ReportedDeployment(
                    name=name,
                    revision=record.wanted.revision,
                    digest=record.wanted.bundle.digest,
                    phase=record.phase,
                    active=None
                    if record.active is None
                    else Active(
                        revision=record.active.revision,
                        bundle=record.active.bundle,
                        variant=record.active.bundle.digest,
                        runtime=self.runtime,
                        accelerator="cpu",
                    ),
                    last_error=None if record.reason is None else Problem(reason=record.reason),
                )
                for name, record in sorted(self.records.items())
            ),
        )

    def serves(self, name: str = "digits") -> str | None:
        """Return the version that answers under a name."""
        record = self.records.get(name)
        return None if record is None or record.active is None else record.active.bundle.version


def conduct_of(conduct: Mapping[tuple[str, str], Conduct], version: str, on: Device) -> Conduct:
    """Return what comes of a version on a device: by its own, or by its class."""
    return conduct.get((version, on.id)) or conduct.get((version, on.runtime), Conduct.GOOD)


class World:
    """The fleet, the store as dicts, and the centre's passes."""

    def __init__(self, classes: Iterable[str] = (LITERT,), *, away: Iterable[int] = ()) -> None:
        self.paper = Paper()
        self.now: datetime = NOW
        self.conduct: dict[tuple[str, str], Conduct] = {}  # by version, of a class or a device
        self.devices: dict[str, Device] = {}
        self.desired: dict[str, Desired] = {}
        self.reported: dict[str, Reported] = {}
        self.presence: dict[str, bool] = {}
        self.rollouts: dict[str, Rollout] = {}
        self.plans: dict[str, Plan] = {}
        self.policies: dict[str, Policy] = {}
        self.followed: set[str] = set()
        self.said: list[Reported] = []
        self.writes = 0
        self.asked_at: dict[tuple[str, str], datetime] = {}
        self.asked: dict[str, set[str]] = {}  # by rollout: whom it has asked, ever
        self.left: Counter[str] = Counter()  # by rollout: how often one left on its way
        self.traffic = True  # whether anybody asks a model anything
        self.settings: DeploymentSettings | None = None  # of the rollouts that are planned
        for runtime in classes:
            self.join(runtime)
        for number in away:
            self.goes(number)

    # The fleet.

    def join(self, runtime: str = LITERT, **labels: str) -> Device:
        device = Device(f"d-{len(self.devices) + 1}", runtime, labels=labels)
        self.devices[device.id] = device
        self.presence[device.id] = True
        return device

    def device(self, number: int) -> Device:
        return self.devices[f"d-{number}"]

    def goes(self, number: int) -> None:
        self.leaves(f"d-{number}")
        self.device(number).online = self.presence[f"d-{number}"] = False

    def returns(self, number: int) -> None:
        self.device(number).online = self.presence[f"d-{number}"] = True
        self.tells(self.device(number))

    def leaves(self, device: str) -> None:
        """Note whose way it was on; called where it can't be reached from now on."""
        for name, targets in self.asked.items():
            if device in targets:
                state = self.rollouts[name].by_target()[device].state
                self.left[name] += state in UNDER_WAY or state is TargetState.PLANNED

    def holds(self, number: int, *, held: bool = True) -> None:
        if held:
            self.leaves(f"d-{number}")
        self.device(number).held = held
        self.tells(self.device(number))

    def bad(self, version: str, *runtimes: str, how: Conduct = Conduct.REFUSE) -> None:
        for runtime in runtimes or (LITERT, TFLITE):
            self.conduct[version, runtime] = how

    def conducts(self, version: str, device: str) -> Conduct:
        return conduct_of(self.conduct, version, self.devices[device])

    def tells(self, device: Device) -> None:
        if device.online:
            report = device.says()
            if self.reported.get(device.id) != report:
                self.said.append(report)
            self.reported[device.id] = report

    def moves(self, device: Device, *, told: bool = True) -> bool:
        """Let one device look once, take one step, and (where it can) say so."""
        before = device.document
        device.unheard = not self.traffic
        if device.online and not device.held:
            device.accept(self.desired.get(device.id))
        moved = not device.held and device.step(self.conduct)
        if told:
            self.tells(device)
        return moved or device.document != before

    def works(self, rounds: int = 8) -> None:
        """Let everybody do all there is to do now."""
        for _ in range(rounds):
            for device in self.devices.values():
                self.moves(device)

    # The centre.

    def inventory(self) -> Inventory:
        return Inventory(
            fleet=FLEET,
            targets=tuple(
                Target(
                    device=device.id,
                    name=f"buoy-{device.id}",
                    labels=device.labels,
                    facts={
                        **FACTS,
                        facts.RUNTIME: device.runtime,
                        facts.ARCHITECTURE: device.architecture,
                    },
                    online=self.presence[device.id],
                    desired=self.desired.get(device.id),
                    reported=self.reported.get(device.id),
                )
                for device in self.devices.values()
            ),
        )

    def plan(
        self, version: str, deployment: str = "digits", policy: Policy = CAREFUL, *targets: str
    ) -> Plan:
        changes: dict[str, object] = {"deployment": deployment, "policy": policy.name}
        if self.settings is not None:
            changes["settings"] = self.settings
        if targets:
            changes |= {"selector": None, "targets": targets}
        request = self.paper.request(version, **changes)
        cards = self.paper.cards(request.bundle)
        inventory = self.inventory()
        made = plan(request, policy, inventory, cards, self.now)
        assert check(made, inventory) == ()
        return made

    def start(
        self, version: str, deployment: str = "digits", policy: Policy = CAREFUL, *targets: str
    ) -> str:
        """Start a rollout as the executor does; empty: there was nothing to do."""
        made = self.plan(version, deployment, policy, *targets)
        if not made.steps:
            return ""
        for older in self.opened():
            before = self._as_seen(self.rollouts[older])
            self.rollouts[older] = fold(before, overtaken(before, made), self.now)
        name = f"r-{len(self.rollouts) + 1}"
        word = RolloutEvent(rollout=RolloutHappening.STARTED)
        self.rollouts[name] = fold(begin(made, name), [word], self.now)
        self.plans[name], self.policies[name] = made, policy
        self.followed.add(name)
        return name

    def say(self, name: str, word: RolloutHappening) -> Rollout:
        before = self._as_seen(self.rollouts[name])
        event = RolloutEvent(rollout=word, by="ana", reason="because")
        self.rollouts[name] = fold(before, [event], self.now)
        self.followed.add(name)
        return self.rollouts[name]

    def is_restarted(self) -> None:
        """The centre's process ends, and another begins: it keeps the store and nothing else."""
        self.followed.clear()

    def dies_midway(self, name: str) -> None:
        """The centre ends after one transaction of several, and begins anew.

        What a pass writes and what it keeps are in one: there is no end in between.
        """
        if name in self.opened():
            self._pass(name)
        self.is_restarted()

    def opened(self) -> list[str]:
        return [
            name
            for name, rollout in self.rollouts.items()
            if rollout.state not in ENDED
            or not all(progress.settled for progress in rollout.targets)
        ]

    def advance(self) -> bool:
        """Pass until nothing changes; say whether anything did."""
        moved = False
        for name in self.opened():
            for _ in range(_PASSES_LIMIT):
                if not self._pass(name):
                    break
                moved = True
            else:
                raise AssertionError(f"{name} never comes to rest: {self.rollouts[name]}")
        return moved

    def waits(self, seconds: float) -> None:
        """Let time go by, and the centre look."""
        self.now += timedelta(seconds=seconds)
        self.advance()

    def runs(self, seconds: float = 3600.0, every: float = 20.0) -> None:
        """Let everybody work and the centre look, for a while, unattended."""
        for _ in range(int(seconds / every)):
            self.advance()
            self.works(1)
            self.waits(every)

    def settles(self) -> None:
        """Let the world run until neither work nor time changes anything."""
        for _ in range(40):
            quiet = True
            for _ in range(12):
                moved = [self.moves(device) for device in self.devices.values()]
                quiet = not (self.advance() or any(moved)) and quiet
            before = dict(self.rollouts)
            self.waits(5 * 3600.0)
            if quiet and before == self.rollouts:
                return
        raise AssertionError(f"no rest: {self.rollouts}")

    def _as_seen(self, kept: Rollout) -> Rollout:
        before = kept if kept.id in self.followed else cut_off(kept, self.now)
        events = (*self.measures(before), *seen(before, self.inventory(), self.now))
        after = fold(before, events, self.now)
        self._watch(before, after)
        return after

    def measures(self, _rollout: Rollout) -> tuple[MeasuredEvent, ...]:
        """Return what was measured since; here nothing is (`tests.fleet.deciding.traffic`)."""
        return ()

    def _pass(self, name: str) -> bool:
        before = self.rollouts[name]
        after = self._as_seen(before)
        asked = due(after, self.now)
        self._few_enough(after, asked)
        self._within_budgets(after, asked)
        for progress in asked[:_WRITTEN_AT_ONCE]:
            self._write(after, progress)
        self.rollouts[name] = after
        self.followed.add(name)
        return bool(asked) or after != before

    def _write(self, rollout: Rollout, progress: Progress) -> None:
        """Write a target's next document; no number goes back, and nobody's else is touched."""
        held = self.desired.get(progress.target)
        back = rollout.state is RolloutState.ROLLING_BACK
        try:
            document = self._next(held, progress, back=back)
        except PlanError:
            if not back:  # a return that began in this very look: the next one sees who was first
                raise
            return
        if held is not None:
            assert document.order > held.order
            was = {each.name: each for each in held.deployments}
            for each in document.deployments:
                old = was.pop(each.name, each)
                assert old == each or (
                    each.name == rollout.deployment and each.revision > old.revision
                )
            assert set(was) <= {rollout.deployment}
        if not back:
            assert progress.reachable
            self.asked.setdefault(rollout.id, set()).add(progress.target)
        self.desired[progress.target] = document
        self.asked_at[rollout.id, progress.target] = self.now
        self.writes += 1

    def _next(self, held: Desired | None, progress: Progress, *, back: bool) -> Desired:
        deployment = progress.deployment
        if back and progress.returning is None:
            return without(held, deployment.name, revision=deployment.revision, issued_at=ISSUED)
        return renewed(
            held,
            (progress.returning or deployment) if back else deployment,
            fleet=FLEET,
            target=progress.target,
            epoch=0,
            issued_at=ISSUED,
        )

    def _few_enough(self, rollout: Rollout, asked: Iterable[Progress]) -> None:
        """Of a class that has not proven itself, no more are tried at a time than its canaries."""
        if rollout.canaries is None or rollout.state is RolloutState.ROLLING_BACK:
            return
        asking = {progress.class_name for progress in asked}
        for name in asking:
            members = [each for each in rollout.targets if each.class_name == name]
            committed = sum(each.state is TargetState.COMMITTED for each in members)
            if committed >= min(rollout.canaries, len(members)):
                continue
            trying = sum(self._is_trying(rollout, each) for each in members)
            again = {each.target for each in asked if each.state in BAD}
            bad = sum(each.state in BAD for each in members if each.target not in again)
            new = sum(each.class_name == name for each in asked)
            assert committed + trying + bad + new <= rollout.canaries

    def _is_trying(self, rollout: Rollout, progress: Progress) -> bool:
        """Tell whether one may be trying it: here, or gone a short while after it was asked."""
        if progress.state not in UNDER_WAY:
            return False
        gates = {target: wave.gate for wave in rollout.waves for target in wave.targets}
        gate = gates[progress.target]
        deadline_s = 3600.0 if gate is None else gate.deadline_s
        asked_s = (self.now - self.asked_at[rollout.id, progress.target]).total_seconds()
        return progress.reachable or asked_s < deadline_s

    def _is_moving(self, progress: Progress) -> bool:
        """Tell whether one is on its way; of a wave with no gate, for an hour at the most."""
        late = progress.since is not None and self.now >= progress.since + timedelta(hours=1)
        return progress.state in UNDER_WAY and not late

    def _within_budgets(self, rollout: Rollout, asked: Iterable[Progress]) -> None:
        """Of a group no more are on their way at once than its budget says; returns are at once."""
        new = {each.target for each in asked}
        if not new or rollout.state is RolloutState.ROLLING_BACK:
            return
        for budget in self.policies[rollout.id].budgets:
            groups: dict[str | None, list[Progress]] = {}
            for each in rollout.targets:
                value = self.devices[each.target].labels.get(budget.label)
                groups.setdefault(value, []).append(each)
            for members in groups.values():
                here = [each for each in members if each.reachable]
                moving = {each.target for each in here if self._is_moving(each)}
                mine = new & {each.target for each in members}
                allowed = budget.targets or max(1, len(here) * (budget.percent or 0) // 100)
                assert not mine or len(moving | mine) <= allowed

    def _watch(self, before: Rollout, after: Rollout) -> None:
        """Hold a look to what a gate promises, by counting anew."""
        assert after.state is not before.state or after.cause == before.cause or after.cause
        for old, new in zip(before.waves, after.waves, strict=True):
            if new.state is WaveState.PASSED is not old.state and new.gate is not None:
                self._passed_rightly(after, old, new)
        for first, second in pairwise(after.waves):
            if first.state is WaveState.WAITING:
                assert second.state in (WaveState.WAITING, WaveState.SUPERSEDED)
        if after.state is RolloutState.PAUSED and before.state is RolloutState.RUNNING:
            assert after.cause is not None
        if after.state is RolloutState.ROLLING_BACK is not before.state:
            assert after.cause is not None

    def _passed_rightly(self, rollout: Rollout, old: RolloutWave, wave: RolloutWave) -> None:
        gate = wave.gate
        assert gate is not None
        assert not gate.approval, "only a person's word lets it pass"
        targets = rollout.by_target()
        members = [targets[target] for target in wave.targets]
        good = sum(each.state is TargetState.COMMITTED for each in members)
        bad = sum(each.state in BAD for each in members)
        asked = [each for each in members if each.state is not TargetState.SUPERSEDED]
        enough = (
            good + bad >= (len(asked) if gate.everyone else gate.minimum_sample)
            and good * 100 >= gate.success_percent * (good + bad)
            and bad * 100 <= gate.error_percent * len(members)
        )
        if gate.inconclusive is Inconclusive.SKIP:
            return
        assert enough, (rollout, wave)
        assert not any(each.reachable and not (each.settled or each.failed) for each in members)
        if gate.soak_s:
            assert old.state is WaveState.SOAKING
            assert old.since is not None
            assert self.now >= old.since + timedelta(seconds=gate.soak_s)


def with_gates(policy: Policy, **gate: object) -> Policy:
    """Return a policy with something else in all of its gates."""
    waves = tuple(
        wave if wave.gate is None else replace(wave, gate=replace(wave.gate, **gate))  # type: ignore[arg-type]
        for wave in policy.waves
    )
    return replace(policy, waves=waves)
