"""A fleet on four sites with rollouts in every mood, put into a store: what the pages are shown."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import replace

from agent.wire import facts
from agent.wire.phases import Phase
from fleet import canonical, kept
from fleet.clock import written
from fleet.health.states import Finding, State, Verdict
from fleet.observe import cards
from fleet.roll import Roll
from fleet.rollouts.gate import GateReason
from fleet.rollouts.plan import Plan, plan
from fleet.rollouts.policy import CAREFUL, RolloutRequest
from fleet.rollouts.progress import Cause, Progress, Rollout, RolloutWave, begin
from fleet.rollouts.states import RolloutState, TargetState, WaveState
from fleet.selector import Selector
from fleet.store import audit, bundles, devices
from fleet.store.engine import Store
from fleet.words import Words
from models import card_codec
from models.card import (
    Card,
    Golden,
    Metric,
    Operator,
    Quantization,
    Requirements,
    Tensor,
    Tolerance,
)
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import (
    FACTS,
    FLEET,
    MISMATCH,
    NEW,
    OLD,
    PAPER,
    Villager,
    settle,
)
from tests.page.alarms import REFERENCE, alarm, drift

SEEN = (
    *(Villager(name=f"porto-cam-{n:02}", milliseconds=8.5 + n / 4) for n in range(1, 7)),
    Villager(name="porto-cam-07", wanted=NEW, phase=Phase.REFUSED, error=MISMATCH),
    Villager(name="porto-cam-08", errors=40, labels={"room": "oven", "tier": "1"}),
    Villager(name="porto-cam-with-quite-a-long-name-for-one-device-09"),
    *(Villager(name=f"lerwick-{n}", site="lerwick", serves=NEW, wanted=NEW) for n in (1, 2, 3)),
    Villager(name="lerwick-4", site="lerwick", wanted=NEW, phase=Phase.FETCHING),
    Villager(name="lerwick-5", site="lerwick", leaves=True),
    Villager(name="lerwick-6", site="lerwick", speaks=False),
    *(Villager(name=f"bergen-{n}", site="bergen", serves=NEW, wanted=NEW) for n in (1, 2)),
    Villager(name="bergen-3", site="bergen", wanted=NEW, phase=Phase.PROBATION),
    Villager(name="bergen-4", site="bergen", health={"throttled": True, "temperature_c": 84.0}),
    *(Villager(name=f"vigo-{n}", site="vigo", labels={"tier": "lab"}) for n in (1, 2, 3)),
)
_TFLITE = {**FACTS, facts.RUNTIME: "tflite", facts.RUNTIME_VERSION: "2.14.0"}


def ago(minutes: float) -> dt.datetime:
    return NOW - dt.timedelta(minutes=minutes)


def fill(store: Store) -> None:
    """Put the whole scene into an empty store."""
    settle(store, SEEN)
    with store.write() as connection:
        for number in (4, 12, 16):
            devices.learn(connection, f"d-{number}", _TFLITE)
        for ref, days in ((OLD, 40), (NEW, 1)):
            published = bundles.PublishedBundle(
                digest=ref.digest,
                name=ref.name,
                version=ref.version,
                card=card_codec.render(card(ref.version)),
                published_at=written(ago(days * 1440)),
            )
            bundles.add(connection, published)
    made = planned(store)
    keep(store, made, done(begin(made, "r-38")), 41 * 1440, "")
    keep(store, made, inconclusive(begin(made, "r-39")), 1500, "kiosk cameras")
    keep(store, made, going_back(begin(made, "r-40")), 190, "first try of 1.5.0")
    keep(store, made, moving(begin(made, "r-41")), 38, "night retrain")
    drift(store)
    alarm(store)
    remember(store)


def remember(store: Store) -> None:
    """Let one device have been well, then hot, and for a while nobody looked."""
    for minutes, state, reason in (
        (1300, State.OK, "AS_WANTED"),
        (1290, State.OK, "AS_WANTED"),
        (900, State.UPDATING, "ON_THE_WAY"),
        (895, State.OK, "AS_WANTED"),
        (130, State.DEGRADED, "THROTTLED"),
        (120, State.DEGRADED, "THROTTLED"),
    ):
        finding = Finding(reason=reason, since=written(ago(minutes)), subject="digits 1.4.0")
        Words(store).keep([("d-19", Verdict(state=state, finding=finding))], ago(minutes))


def card(version: str) -> Card:
    """Return a card as `skerry model pack` writes it."""
    plain = PAPER.card(PAPER.bundle(version))
    (variant,) = plain.variants
    accuracy = 0.961 if version == "1.4.0" else 0.968
    measured = tuple(
        Metric(
            name="accuracy",
            value=accuracy - less,
            dataset="digits-test",
            samples=10_000,
            runtime=runtime,
            architecture="x86_64",
        )
        for runtime, less in (("ai-edge-litert 2.3.0", 0.0), ("tflite-runtime 2.14.0", 0.0002))
    )
    operators = (
        Operator(name="CONV_2D", version=5, count=4),
        Operator(name="MAX_POOL_2D", version=3, count=2),
        Operator(name="FULLY_CONNECTED", version=9, count=2),
        Operator(name="SOFTMAX", version=2, count=1),
    )
    (image,), (scores,) = plain.inputs, plain.outputs
    return replace(
        plain,
        description="Handwritten digits from a 28 by 28 picture.",
        inputs=(
            Tensor(
                name=image.name,
                datatype=image.datatype,
                shape=(1, 28, 28, 1),
                quantization=Quantization(scale=0.00392157, zero_point=-128),
            ),
        ),
        outputs=(replace(scores, quantization=Quantization(scale=0.00390625, zero_point=-128)),),
        variants=(
            replace(
                variant,
                size_bytes=1_190_000,
                metrics=measured,
                requirements=Requirements(memory_bytes=38 << 20, operators=operators),
            ),
        ),
        golden=Golden(
            digest=plain.golden.digest,
            size_bytes=14_000,
            vectors=16,
            origin="rows of digits-test",
            tolerances=(Tolerance(largest=2.0, mean=0.12),),
            measured_on=("litert 2.3.0 x86_64", "tflite 2.14.0 x86_64"),
            decision=0,
            classes_seen=10,
        ),
        labels=tuple("0123456789"),
        preprocessing="grey, 28 by 28, 0 to 255",
        drift=(REFERENCE,),
    )


def planned(store: Store) -> Plan:
    """Return a careful plan for everybody, as it was made before any of it."""
    inventory = Roll(store, FLEET).inventory()
    with store.read() as connection:
        known = cards(connection)
    before = replace(
        inventory,
        targets=tuple(
            replace(target, desired=PAPER.desired(target.device, PAPER.deployment(version="1.4.0")))
            if target.desired is not None
            else target
            for target in inventory.targets
        ),
    )
    before = replace(
        before,
        targets=tuple(
            replace(
                each,
                reported=None,
                desired=None if each.desired is None else replace(each.desired, fleet=FLEET),
            )
            for each in before.targets
        ),
    )
    request = RolloutRequest(bundle=NEW, deployment="digits", selector=Selector(), policy="careful")
    return plan(request, CAREFUL.soaking(600.0), before, known, ago(40))


def keep(store: Store, made: Plan, rollout: Rollout, minutes: float, reason: str) -> None:
    """Keep a rollout as one that the executor has nothing to do about."""
    with store.write() as connection:
        kept.add(
            connection,
            rollout,
            plan=json.dumps(canonical.plain(made)),
            created_at=written(ago(minutes)),
            policy=made.policy.name,
            is_open=False,
        )
        audit.add(
            connection,
            audit.Entry(
                at=written(ago(minutes)),
                actor="operator",
                action="rollout.start",
                subject=rollout.id,
                reason=reason,
            ),
        )


def _with(rollout: Rollout, states: Mapping[int, WaveState], **ended: TargetState) -> Rollout:
    """Return a rollout whose waves are so, and whose targets, by wave, are all alike."""
    numbers = {target: wave.number for wave in rollout.waves for target in wave.targets}

    def at(progress: Progress) -> Progress:
        state = ended.get(f"w{numbers[progress.target]}", TargetState.PLANNED)
        return replace(progress, state=state, since=ago(7 + 9 * (3 - numbers[progress.target])))

    return replace(
        rollout,
        waves=tuple(
            replace(wave, state=states[wave.number], since=ago(4 + 10 * (3 - wave.number)))
            for wave in rollout.waves
        ),
        targets=tuple(map(at, rollout.targets)),
    )


def _change(rollout: Rollout, wave: int, *changes: Mapping[str, object]) -> Rollout:
    """Change the first targets of a wave that are here, one after the other."""
    members: RolloutWave = rollout.waves[wave - 1]
    here = [each for each in rollout.targets if each.target in members.targets and each.online]
    new = {each.target: replace(each, **told) for each, told in zip(here, changes, strict=False)}  # type: ignore[arg-type]
    return replace(rollout, targets=tuple(new.get(each.target, each) for each in rollout.targets))


def moving(rollout: Rollout) -> Rollout:
    """Wave 1 passed; in wave 2 some are on their way, and one went back."""
    waves = {1: WaveState.PASSED, 2: WaveState.RUNNING, 3: WaveState.WAITING}
    begun = _with(rollout, waves, w1=TargetState.COMMITTED, w2=TargetState.COMMITTED)
    return _change(
        replace(begun, state=RolloutState.RUNNING),
        2,
        {"state": TargetState.UPDATING, "phase": Phase.FETCHING},
        {"state": TargetState.UPDATING, "phase": Phase.PROBATION},
        {"state": TargetState.ASKED},
    )


def going_back(rollout: Rollout) -> Rollout:
    """The canary failed its golden vectors: everybody who was asked goes back."""
    waves = {1: WaveState.FAILED, 2: WaveState.ABORTED, 3: WaveState.ABORTED}
    begun = _with(rollout, waves, w1=TargetState.RETURNING, w2=TargetState.NOT_ASKED)
    begun = replace(
        begun,
        targets=tuple(
            replace(each, state=TargetState.NOT_ASKED)
            if each.state is TargetState.PLANNED
            else each
            for each in begun.targets
        ),
    )
    (first, *_) = (each for each in begun.targets if each.target in begun.waves[0].targets)
    cause = Cause(
        code=GateReason.CANARY_FAILED,
        parameters={
            "wave": "1",
            "target": first.name,
            "class_name": first.class_name,
            "cause": "GOLDEN_MISMATCH",
        },
    )
    changed = _change(
        begun,
        1,
        {"state": TargetState.RETURNED, "reason": "GOLDEN_MISMATCH", "phase": Phase.REFUSED},
    )
    return replace(changed, state=RolloutState.ROLLING_BACK, cause=cause)


def inconclusive(rollout: Rollout) -> Rollout:
    """Too few came to an end: it waits for a person."""
    waves = {1: WaveState.INCONCLUSIVE, 2: WaveState.WAITING, 3: WaveState.WAITING}
    begun = _with(rollout, waves, w1=TargetState.COMMITTED)
    cause = Cause(code=GateReason.SAMPLE_TOO_SMALL, parameters={"wave": "1", "sample": "2"})
    return replace(begun, state=RolloutState.PAUSED, cause=cause)


def done(rollout: Rollout) -> Rollout:
    """All waves passed."""
    waves = dict.fromkeys((1, 2, 3), WaveState.PASSED)
    states = dict.fromkeys(("w1", "w2", "w3"), TargetState.COMMITTED)
    return replace(_with(rollout, waves, **states), state=RolloutState.DONE)
