"""What a simulation says comes of a rollout is what comes of it on real agents' state machines.

The real ones are whole: their reconciler, register and ledger. Only what a model does, how
long a download takes and the time are the test's.
"""

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import StepError
from agent.ports import Terms
from agent.state import GivenUp, Installed, Measured
from agent.wire import v1
from agent.wire.phases import Happening, Phase
from agent.wire.reasons import Reason
from fleet.inventory import Inventory, Target
from fleet.rollouts.asking import due
from fleet.rollouts.documents import renewed
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.plan import Plan
from fleet.rollouts.policy import ALL_AT_ONCE, CAREFUL
from fleet.rollouts.progress import Rollout, RolloutEvent, begin
from fleet.rollouts.states import ENDED, RolloutHappening, RolloutState
from fleet.simulate.many import invent, simulate
from fleet.simulate.twin import FailsIn, Lot, Twin
from fleet.simulate.walk import Walker
from tests.agent.inline import Inline
from tests.agent.looped import AT, Device, World

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEVICES = 200
LOOK_S = 5.0
DAY_S = 86400.0
NAME = "model"

SCENES = {
    "bad at a tenth, found out while it serves": (
        ALL_AT_ONCE,
        Twin(bad_share=0.1, fails_in=FailsIn.SERVING),
    ),
    "bad on one class": (
        CAREFUL,
        Twin(bad_classes=frozenset({"tflite 2.0.0, aarch64, cpu, int8"})),
    ),
    "bad at a fifth": (CAREFUL, Twin(bad_share=0.2, fails_in=FailsIn.TESTING)),
}


@dataclass
class Machine(World):
    """What a device's model does, as its lot says."""

    lot: Lot = field(default_factory=lambda: Lot(fetch_s=1.0, test_s=1.0))
    bad: str = ""
    wake: list[Device] = field(default_factory=list)

    async def fetch(self, bundle: v1.BundleRef, terms: Terms, progress) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001  # as its base has it
        del terms
        await asyncio.sleep(self.lot.fetch_s if bundle.digest == self.bad else 0.01)
        await progress(Happening.FETCHED)

    async def test(self, candidate: Installed) -> Measured:
        mine = candidate.digest == self.bad
        await asyncio.sleep(self.lot.test_s if mine else 0.01)
        if mine and self.lot.fails_in is FailsIn.TESTING:
            raise StepError(Reason.GOLDEN_MISMATCH, "it answers otherwise")
        return await super().test(candidate)

    async def activate(self, installed: Installed) -> None:
        await super().activate(installed)
        if installed.digest == self.bad and self.lot.fails_in is FailsIn.SERVING:
            loop = asyncio.get_running_loop()
            loop.call_later(self.lot.fails_after_s, self._dies, installed)

    def _dies(self, installed: Installed) -> None:
        seat = self.seats.get(NAME)
        if seat is None or seat.digest != installed.digest:
            return  # something else serves by now
        del self.seats[NAME]
        self.dead[NAME] = GivenUp(
            revision=seat.revision,
            digest=seat.digest,
            reason=Reason.WORKER_CRASHED,
            message="it died too often",
        )
        self.wake[0].reconciler.wake()


class Fleet:
    """Real devices, and a centre on paper that looks at all of them every five seconds."""

    def __init__(self, made: Plan, lots: dict[str, Lot], folder: Path) -> None:
        self.devices: dict[str, Device] = {}
        self.documents: dict[str, v1.Desired] = {}
        for step in made.steps:
            machine = Machine(lot=lots[step.target], bad=made.request.bundle.digest)
            device = Device(folder / f"{step.target}.db", machine)
            machine.wake.append(device)
            self.devices[step.target] = device
            assert step.replaces is not None
            self._writes(step.target, step.replaces)

    async def serves_the_old(self) -> None:
        for device in self.devices.values():
            device.reconciler.wake()
            await device.reaches(NAME, Phase.COMMITTED, 1)

    def _writes(self, target: str, deployment: v1.Deployment) -> None:
        document = renewed(
            self.documents.get(target), deployment, fleet="f", target=target, epoch=0, issued_at=AT
        )
        self.documents[target] = self.devices[target].desired = document

    def _inventory(self) -> Inventory:
        return Inventory(fleet="f", targets=tuple(map(self._target, self.devices)))

    def _target(self, name: str) -> Target:
        device = self.devices[name]
        record = device.ledger.records[NAME]
        told = v1.ReportedDeployment(
            name=NAME,
            revision=record.wanted.revision,
            digest=record.wanted.bundle.digest,
            phase=record.phase,
            last_error=record.problem,
        )
        document = self.documents[name]
        report = v1.Reported(
            fleet="f", device=name, session=1, observed=document.order, deployments=(told,)
        )
        return Target(device=name, name=name, online=True, desired=document, reported=report)

    async def rolls_out(self, rollout: Rollout, limit_s: float = DAY_S) -> Rollout:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while loop.time() - began_s < limit_s:
            now = NOW + timedelta(seconds=loop.time() - began_s)
            asked = True
            while asked:
                rollout = fold(rollout, seen(rollout, self._inventory(), now), now)
                asked = bool(waiting := due(rollout, now))
                for progress in waiting:
                    back = rollout.state is RolloutState.ROLLING_BACK
                    deployment = progress.returning if back else progress.deployment
                    assert deployment is not None
                    self._writes(progress.target, deployment)
                    self.devices[progress.target].reconciler.wake()
            if rollout.state in ENDED:
                await asyncio.sleep(1)
                return rollout
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"no end: {rollout.state}")

    def paths(self) -> dict[str, list[str | None]]:
        """Return the phases that each device told of the rollout's revision."""
        return {
            name: [phase for phase, revision, _ in device.told() if revision == 3 and phase]
            for name, device in self.devices.items()
        }


def walked(lot: Lot, before: v1.Deployment, wanted: v1.Deployment) -> list[str]:
    """Return the phases of a simulated device that nobody interrupts."""
    walker = Walker(lot=lot, digest=wanted.bundle.digest, wanted=before, proven=before)
    walker.serving = before
    walker.takes(v1.Order(epoch=0, generation=2), wanted)
    phases = [str(walker.phase)]
    while (upcoming := walker.next()) is not None:
        walker.happens(upcoming.happening, upcoming.reason)
        phases.append(str(walker.phase))
    return phases


@pytest.mark.looptime
@pytest.mark.parametrize("scene", SCENES)
async def test_it_ends_as_with_real_agents(scene: str, tmp_path: Path) -> None:
    """The same end by the same gate, and as many devices in each phase; each on the same way."""
    asyncio.get_running_loop().set_default_executor(Inline())
    policy, twin = SCENES[scene]
    made = invent(DEVICES, 4, policy, twin, NOW)
    word = RolloutEvent(rollout=RolloutHappening.STARTED)
    begun = fold(begin(made, "r-1"), [word], NOW)
    draw = random.Random(7).random  # noqa: S311  # no secret
    lots = {each.target: twin.lot(each.class_name, draw) for each in begun.targets}
    (simulated,) = simulate(made, twin, seeds=[7], limit_s=DAY_S, now=NOW)

    fleet = Fleet(made, lots, tmp_path)
    async with AsyncExitStack() as stack:
        for device in fleet.devices.values():
            await stack.enter_async_context(device.running())
        await fleet.serves_the_old()
        rollout = await fleet.rolls_out(begun)
        await asyncio.sleep(600)  # who fails late has failed
        paths = fleet.paths()
    for device in fleet.devices.values():
        device.ledger.close()

    assert str(simulated.decided.ending) == str(rollout.state)
    cause = rollout.cause
    assert simulated.decided.reason == (None if cause is None else cause.code)
    counted = Counter(str(each.state) for each in rollout.targets)
    assert simulated.states == dict(counted)
    if policy is ALL_AT_ONCE:  # nobody is called back on the way
        assert paths == {
            step.target: walked(lots[step.target], step.replaces, step.deployment)
            for step in made.steps
            if step.replaces is not None
        }
