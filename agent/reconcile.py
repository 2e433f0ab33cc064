"""The loop of a device: look, plan, take the steps, look again. Each deployment on its own.

One step a deployment at a time, different deployments at once. A step records
where it stands before it acts and what came of it after; the record is only
replaced as it was read, so a step that a newer desired document overtook ends
without a trace. Whatever fails is put off or ends its candidate
(`agent.plan.outcome`); it never stops the loop and never touches what serves.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import structlog
from structlog.contextvars import bound_contextvars

from agent.downloads import Downloads, unheard
from agent.errors import StepError
from agent.ledger import Ledger
from agent.ledger_file import LedgerDamagedError, LedgerError
from agent.maintenance import Maintenance
from agent.meter import Meter
from agent.patience import Patience
from agent.plan import (
    ATTEMPTS_LIMIT,
    DOWNLOADING,
    INTERRUPTIBLE,
    MAY_DOWNLOAD,
    RECORDING,
    REFETCH,
    STARTING,
    Action,
    Step,
    condemned,
    outcome,
    plan,
)
from agent.ports import Floor, Supply
from agent.register import MAY_DEFER, OvertakenError, Register
from agent.state import GivenUp, Installed, Observed, Record, rot_note, text
from agent.tryout import Tryout
from agent.wire import v1
from agent.wire.phases import Happening, Phase
from agent.wire.reasons import Reason

_TRIAL_LOOK_S = 1.0
"""How often a probation is looked at while it lasts."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Under:
    """A step under way."""

    step: Step
    task: asyncio.Task[None]
    rate_bytes_per_s: int | None

    def end(self) -> None:
        """End it early, once: what it does to end in order is not to be ended."""
        if not self.task.cancelling():
            self.task.cancel()


class Reconciler:
    """Brings a device to what is desired of it.

    `desired` is asked each time; `clock` says the time for people; `changed` is
    called whenever there is something new to report.
    """

    def __init__(
        self,
        ledger: Ledger,
        supply: Supply,
        floor: Floor,
        meter: Meter,
        *,
        desired: Callable[[], v1.Desired | None],
        clock: Callable[[], str],
        changed: Callable[[], None],
    ) -> None:
        self._ledger, self._supply, self._floor, self._meter = ledger, supply, floor, meter
        self._desired, self._clock, self._changed = desired, clock, changed
        self._woken = asyncio.Event()
        self._under: dict[str, _Under] = {}
        self._register = Register(ledger, clock, changed)
        self._patience = Patience()
        self._tryout = Tryout(supply, floor)
        self._parted: dict[str, GivenUp] = {}
        self._rotten: set[str] = set()
        self._downloads = Downloads(supply, self._patience, desired=desired, clock=clock)
        self._maintenance = Maintenance(self._patience, desired=desired, clock=clock)
        self._pause_until_s = 0.0

    def wake(self) -> None:
        """Look again soon. Carries nothing: the next pass reads all of both sides."""
        self._woken.set()

    def under_way(self) -> list[Step]:
        """Return the steps that are taken now, but for those of the start."""
        return [each.step for each in self._under.values()]

    def hurry(self) -> None:
        """Try again what waits for the network, a little spread: it may be back."""
        now = asyncio.get_running_loop().time()
        self._downloads.forget_all()
        for name, record in self._ledger.records.items():
            unreached = record.problem and record.problem.reason == Reason.REGISTRY_UNREACHABLE
            if unreached or record.digests() & self._rotten:
                self._patience.hurry(name, now)
        self.wake()

    async def rotten(self, bundles: Mapping[str, Collection[str]]) -> None:
        """Hear which bundles are no longer whole in the store, and which parts of them.

        What nothing needs goes with the cleaning of the store.

        Raises:
            LedgerError: it can't be told now.
        """
        for name, record in self._ledger.records.items():
            for bundle in sorted(record.digests() & bundles.keys()):
                await _log.awarning("rotten", deployment=name, bundle=bundle)
                await self._register.tell(rot_note(bundle, record, bundles[bundle]))
        self._rotten = set(bundles)
        await self._collect()
        self.wake()

    async def boot(self) -> None:
        """Start everything that should serve, with no network and before anything else."""
        steps = [
            Step(deployment=name, action=_first(record), reason="the agent started")
            for name, record in self._ledger.records.items()
            if record.current is not None
        ]
        try:
            await self._register.forgive(self._floor.runtime)
        except LedgerError as error:
            await _log.awarning("not forgiven", message=text(error))  # it is, at the next start
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(self._take(step), name=f"boot {step.deployment}")

    async def run(self) -> None:
        """Reconcile until cancelled."""
        loop = asyncio.get_running_loop()
        # A loop's timer may fire a clock's tick early: what was slept to has come.
        slept_to_s = 0.0
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(max(0.0, self._pause_until_s - loop.time()))
                self._woken.clear()
                now_s = max(loop.time(), slept_to_s)
                observed = self._observe()
                found = plan(self._desired(), observed, now_s)
                if observed.held:
                    self._interrupt()
                self._stop_downloads(shut=observed.shut is not None)
                for step in found.steps:
                    self._begin(group, step)
                wake_s = found.wake_s
                if self._meter.trials:
                    wake_s = min(wake_s or loop.time() + _TRIAL_LOOK_S, loop.time() + _TRIAL_LOOK_S)
                try:
                    async with asyncio.timeout_at(wake_s):
                        await self._woken.wait()
                except TimeoutError:
                    slept_to_s = wake_s or slept_to_s

    def _observe(self) -> Observed:
        phases = {each.phase for each in self._ledger.records.values()}
        needed = bool(self._rotten or phases & MAY_DOWNLOAD)
        shut, turns_s = self._downloads.look() if needed else (None, None)
        closed, closed_turns_s = self._maintenance.look(self._ledger.records)
        return Observed(
            records=self._ledger.records,
            serving=self._floor.serving(),
            trials=self._meter.trials,
            waits=dict(self._patience.waits),
            restore_waits=dict(self._patience.restore_waits),
            mend_waits=dict(self._patience.mend_waits),
            recoveries=dict(self._patience.recoveries),
            given_up={
                name: gone
                for name, gone in self._floor.given_up().items()
                if self._parted.get(name) is not gone
            },
            quarantined=self._ledger.quarantined,
            rotten=frozenset(self._rotten),
            shut=shut,
            line_turns_s=turns_s,
            lacking=self._downloads.lacking,
            closed=closed,
            closed_turns_s=closed_turns_s,
            held=self._ledger.owner_hold is not None or bool(self._ledger.forgetful),
            hardware=self._floor.hardware,
        )

    def _stop_downloads(self, *, shut: bool) -> None:
        """End what is being downloaded when it may no longer be, or not as fast: it is resumed."""
        for name, under in self._under.items():
            record = self._ledger.records.get(name)
            verifying = record is not None and record.phase is Phase.VERIFYING
            if under.step.action not in DOWNLOADING or under.step.shut or verifying:
                continue
            if shut or under.rate_bytes_per_s != self._downloads.rate_bytes_per_s:
                under.end()

    def _interrupt(self) -> None:
        for under in self._under.values():
            if under.step.action in INTERRUPTIBLE:
                under.end()

    def _begin(self, group: asyncio.TaskGroup, step: Step) -> None:
        under = self._under.get(step.deployment)
        if under is not None:
            if self._gives_way(under.step, step):
                under.end()
            return
        task = group.create_task(self._take(step), name=f"{step.action} {step.deployment}")
        self._under[step.deployment] = _Under(step, task, self._downloads.rate_bytes_per_s)
        task.add_done_callback(lambda _: self._ended(step.deployment))
        if step.action in STARTING:
            self._changed()

    def _gives_way(self, under: Step, step: Step) -> bool:
        """Tell whether what is under way ends for another step.

        What fails to start again is tried every few minutes for ever: beside it, what begins
        anew each time it is ended would never come to its end.
        """
        if under.action not in INTERRUPTIBLE or step.action in INTERRUPTIBLE:
            return False
        again = step.action is Action.RESTORE and step.deployment in self._patience.restore_waits
        served = step.deployment in self._floor.serving()
        stays = under.action is Action.TEST or (under.action is Action.SHADOW and served)
        return not (again and stays)

    def _ended(self, name: str) -> None:
        self._under.pop(name, None)
        self.wake()

    async def _take(self, step: Step) -> None:
        """Take one step, whatever comes of it."""
        record = self._ledger.records.get(step.deployment)
        trace_id = step.trace_id(record)
        with bound_contextvars(**({} if trace_id is None else {"trace_id": trace_id})):
            await self._try(step, record)

    async def _try(self, step: Step, record: Record | None) -> None:
        name = step.deployment
        await _log.ainfo("step", deployment=name, action=step.action, why=step.reason)
        try:
            if step.action is Action.ACCEPT:
                await self._accept(record, step)
            elif record is not None:
                await _STEPS[step.action](self, record, step)
        except OvertakenError:
            await _log.ainfo("overtaken", deployment=name, action=step.action)
        except LedgerDamagedError:
            raise  # the agent starts again, and moves it aside
        except (StepError, LedgerError, OSError) as error:
            await self._failed(step, str(getattr(error, "reason", Reason.INTERNAL)), error)
        except Exception as error:  # noqa: BLE001  # see below
            # A defect of ours must not stop the other deployments; it is told, and tried again.
            await _log.aexception("a defect in a step", deployment=name, action=step.action)
            await self._failed(step, Reason.INTERNAL, error)

    # The steps

    async def _accept(self, old: Record | None, step: Step) -> None:
        assert step.wanted is not None  # noqa: S101  # for the type checker: the plan puts it there
        await self._register.accept(old, step.wanted)
        self._meter.end_trial(step.deployment)
        self._patience.moved_on(step.deployment)
        self._downloads.forget(step.deployment)

    async def _adopt(self, record: Record, _step: Step) -> None:
        await self._register.put(record, record.adopted(self._clock()))
        self._floor.renumber(record.wanted)

    async def _fetch(self, record: Record, step: Step) -> None:
        if record.phase is Phase.ACCEPTED:
            record = await self._register.put(record, record.moved(Happening.BEGUN, self._clock()))

        async def progress(happening: Happening) -> None:
            nonlocal record
            if record.phase is Phase.FETCHING:
                record = await self._register.put(record, record.moved(happening, self._clock()))

        await self._downloads.fetch(record.wanted.bundle, step.shut, progress, served=False)
        if record.phase is Phase.FETCHING:
            record = await self._register.put(
                record, record.moved(Happening.FETCHED, self._clock())
            )
        await self._register.put(record, record.moved(Happening.VERIFIED, self._clock()))

    async def _stage(self, record: Record, _step: Step) -> None:
        likeliest, *_ = await self._supply.stage(record.wanted)
        await self._register.put(record, record.staged(likeliest, self._clock()))

    async def _wait(self, record: Record, step: Step) -> None:
        await self._register.put(record, replace(record, problem=step.problem))

    async def _test(self, record: Record, _step: Step) -> None:
        chosen = await self._measure(record.wanted)
        asked = record.wanted.settings.shadow is not None
        spared = self._spared_shadow(record)
        if asked and spared:
            chosen = replace(chosen, why=f"{chosen.why}; not compared: {spared}")
        next_ = record.shadowed if asked and not spared else record.tested
        await self._register.put(record, next_(chosen, self._clock()))

    def _spared_shadow(self, record: Record) -> str:
        """Say why it need not be compared before it serves; "" where there is no reason."""
        known = {each.digest for each in (record.current, record.previous) if each}
        if record.wanted.bundle.digest in known:
            return "it has served here before"  # the way back is not judged by what it replaces
        return "" if record.name in self._floor.serving() else "nothing serves"

    async def _shadow(self, record: Record, _step: Step) -> None:
        candidate, asked = _candidate(record), record.wanted.settings.shadow
        if asked is not None and record.name in self._floor.serving():
            if candidate.stateful:
                why = "it remembers: its answers are of all requests before, not of some"
                numbers = {"compared": "0", "wanted": str(asked.requests)}
                raise StepError(Reason.SHADOW_INCONCLUSIVE, why, numbers)
            compared = await self._floor.shadow(candidate, asked)
            candidate = replace(candidate, compared=compared)
        await self._register.put(record, record.agreed(candidate, self._clock()))

    async def _measure(self, wanted: v1.Deployment) -> Installed:
        """Try every way a bundle can serve here, and return the one to take."""
        desired = self._desired()
        names = {each.name for each in desired.deployments} if desired else set()
        return await self._tryout.best(
            wanted,
            deployments=len(names | set(self._ledger.records)),
            last_try=self._patience.attempts(wanted.name) + 1 >= ATTEMPTS_LIMIT,
        )

    async def _choose_again(self, record: Record, _step: Step) -> None:
        """Measure what is committed again, and let it serve the way that is best now."""
        current = record.current
        assert current is not None  # noqa: S101  # for the type checker: the plan looked
        chosen = await self._measure(current.deployment)
        if not _same_way(chosen, current) or record.name not in self._floor.serving():
            await self._floor.activate(chosen)
        self._patience.moved_on(record.name)
        await self._register.chosen_again(record, chosen)

    async def _activate(self, record: Record, step: Step) -> None:
        await self._floor.activate(_candidate(record))
        self._meter.begin_trial(
            record.name, record.wanted.revision, asyncio.get_running_loop().time()
        )
        self._patience.replaced(record.name)
        serving = await self._register.put(record, record.activated(self._clock()))
        if record.wanted.settings.probation_s == 0:
            await self._commit(serving, step)

    async def _commit(self, record: Record, _step: Step) -> None:
        self._meter.end_trial(record.name)
        await self._register.clear(record, record.committed(self._clock()))
        await self._collect()

    async def _fail(self, record: Record, step: Step) -> None:
        self._meter.end_trial(record.name)
        await self._let_go(record, _problem(step))

    async def _part(self, record: Record, step: Step) -> None:
        """Part with what died too often; where nothing was before it, start it again later."""
        gone = self._floor.given_up().get(record.name)
        self._meter.end_trial(record.name)
        await self._let_go(record, _problem(step))
        if gone is not None:
            self._parted[record.name] = gone
        if record.previous is None:
            self._patience.relapsed(record.name, asyncio.get_running_loop().time())

    async def _recover(self, record: Record, _step: Step) -> None:
        well = replace(record, problem=None) if record.phase is Phase.COMMITTED else record
        await self._register.clear(record, well)
        self._patience.recovered(record.name)

    async def _refuse(self, record: Record, step: Step) -> None:
        await self._register.put(
            record, record.moved(Happening.FAILED, self._clock(), _problem(step))
        )

    async def _roll_back(self, record: Record, _step: Step) -> None:
        back = record.previous
        if back is None:
            await self._floor.close(record.name)
        else:
            try:
                await self._start_again(back)
            except StepError as error:
                back = await self._start_on_cpu(back, error)
        self._patience.replaced(record.name)
        restored = replace(record, previous=back).restored(self._clock())
        await self._register.put(record, restored)

    async def _retire(self, record: Record, _step: Step) -> None:
        self._meter.end_trial(record.name)
        await self._floor.close(record.name)
        self._patience.replaced(record.name)
        self._parted.pop(record.name, None)
        await self._register.drop(record)
        await self._collect()

    async def _restore(self, record: Record, _step: Step) -> None:
        """Start what should serve; where that is impossible, what was committed before it."""
        assert record.current is not None  # noqa: S101  # for the type checker: the plan looked
        try:
            await self._start_again(record.current)
        except StepError as error:
            try:
                way = await self._start_on_cpu(record.current, error)
            except StepError:
                serving = self._floor.serving().get(record.name)
                if record.previous is not None and serving is None:
                    await self._start_again(record.previous)
                raise
            await self._register.chosen_again(record, way)
            return
        now = asyncio.get_running_loop().time()
        ailing = record.phase is Phase.COMMITTED and record.problem is not None
        self._patience.restored(record.name, now, ailing=ailing)
        if record.phase is Phase.PROBATION:
            self._meter.begin_trial(record.name, record.current.revision, now)
        self._changed()

    async def _start_on_cpu(self, current: Installed, error: StepError) -> Installed:
        """Start what an accelerator no longer serves on the CPU; all ways are measured soon.

        Raises:
            StepError: `error`, where there is no such way, or it fails as well.
        """
        if current.accelerator == "cpu":
            raise error
        try:
            ways = await self._supply.stage(current.deployment)
            way = next(each for each in ways if each.accelerator == "cpu")
            await self._floor.activate(way)
        except (StepError, StopIteration):
            raise error from None
        why = text(f"{current.accelerator}: {error.reason}: {error}")
        return replace(way, hardware="", fallback=why)

    async def _start_again(self, installed: Installed) -> None:
        try:
            await self._floor.activate(installed)
        except StepError as error:
            if error.reason not in REFETCH:
                raise
            await self._downloads.fetch_urgently(installed.deployment.bundle)
            self._rotten.discard(installed.digest)
            await self._floor.activate(installed)

    async def _mend(self, record: Record, step: Step) -> None:
        assert step.bundle is not None  # noqa: S101  # for the type checker: the plan puts it there
        await self._downloads.fetch(step.bundle, step.shut, unheard, served=True)
        self._rotten.discard(step.bundle.digest)
        self._patience.mended(record.name)
        await self._register.tell(rot_note(step.bundle.digest, record))

    # What came of them

    async def _failed(self, step: Step, reason: str, error: Exception) -> None:
        """Put the step off, or end its candidate."""
        now = asyncio.get_running_loop().time()
        restoring = step.action is Action.RESTORE
        put_off = {
            Action.RESTORE: self._patience.restore_failed,
            Action.MEND: self._patience.mend_failed,
            Action.CHOOSE_AGAIN: self._patience.choice_failed,
        }.get(step.action, self._patience.failed)
        if step.shut is not None and reason == step.shut.reason:
            self._downloads.lacks(step.deployment, step.shut)
            attempts, wait_s = 0, 0.0  # nothing failed: it waits for the line
        else:
            attempts, wait_s = put_off(step.deployment, now)
        if step.action in RECORDING:
            self._pause_until_s = now + wait_s
        happening = outcome(reason, attempts)
        await _log.awarning(
            "step failed",
            deployment=step.deployment,
            action=step.action,
            reason=reason,
            message=text(error),
            outcome=happening,
            retry_s=round(wait_s, 1),
        )
        record = self._ledger.records.get(step.deployment)
        if record is None:
            return
        problem = v1.Problem(
            reason=reason, message=text(error), parameters=getattr(error, "parameters", {})
        )
        try:
            if restoring:
                await self._restore_failed(record, problem, happening)
            elif record.phase in MAY_DEFER:
                await self._settle(record, problem, happening)
        except LedgerError as late:
            # The ledger can't be written: memory and file still agree, and the wait is set.
            await _log.awarning("not recorded", deployment=record.name, message=text(late))

    async def _settle(self, record: Record, problem: v1.Problem, happening: Happening) -> None:
        verdict = None
        if happening is Happening.FAILED:
            self._patience.moved_on(record.name)
            verdict = self._register.verdict(
                record.wanted.bundle.digest, problem, self._floor.runtime
            )
        if record.phase is Phase.ACCEPTED and happening is Happening.DEFERRED:
            new = replace(record, problem=problem)  # it is where it would be put back to
        else:
            new = record.moved(happening, self._clock(), problem)
        await self._register.put(record, replace(new, candidate=None), verdict)

    async def _restore_failed(
        self, record: Record, problem: v1.Problem, happening: Happening
    ) -> None:
        last = record.phase is Phase.PROBATION or condemned(problem) is not None
        if happening is Happening.FAILED and last:
            self._meter.end_trial(record.name)
            await self._let_go(record, problem)
        elif record.problem is None or record.problem.reason != problem.reason:
            await self._register.put(record, replace(record, problem=problem))

    async def _let_go(self, record: Record, problem: v1.Problem) -> None:
        """Part with what serves, and with its content where that is why."""
        assert record.current is not None  # noqa: S101  # for the type checker: it serves, or should
        new = record.let_go(problem, self._clock())
        verdict = self._register.verdict(record.current.digest, problem, self._floor.runtime)
        if new != record or verdict is not None:
            await self._register.put(record, new, verdict)

    async def _collect(self) -> None:
        """Free the store of all that neither serves, is wanted, nor would be returned to."""
        desired = self._desired()
        keep = {each.bundle.digest for each in desired.deployments} if desired else set()
        try:
            await self._supply.collect(
                keep.union(*(each.digests() for each in self._ledger.records.values()))
            )
        except StepError as error:
            await _log.awarning("the store was not cleaned", message=text(error))


def _first(record: Record) -> Action:
    """Return what brings a deployment back when the agent starts."""
    back = record.phase is Phase.ROLLING_BACK and record.previous is not None
    return Action.ROLL_BACK if back else Action.RESTORE


def _problem(step: Step) -> v1.Problem:
    return step.problem or v1.Problem(reason=Reason.INTERNAL, message=text(step.reason))


def _same_way(one: Installed, other: Installed) -> bool:
    return (one.variant, one.accelerator, one.threads, one.workers) == (
        other.variant,
        other.accelerator,
        other.threads,
        other.workers,
    )


def _candidate(record: Record) -> Installed:
    if record.candidate is None:
        raise StepError(Reason.INTERRUPTED, "nothing was staged")
    return record.candidate


_STEPS = {
    Action.ADOPT: Reconciler._adopt,  # noqa: SLF001  # the table of this class's own steps
    Action.FETCH: Reconciler._fetch,  # noqa: SLF001  # as above
    Action.STAGE: Reconciler._stage,  # noqa: SLF001  # as above
    Action.WAIT: Reconciler._wait,  # noqa: SLF001  # as above
    Action.TEST: Reconciler._test,  # noqa: SLF001  # as above
    Action.SHADOW: Reconciler._shadow,  # noqa: SLF001  # as above
    Action.ACTIVATE: Reconciler._activate,  # noqa: SLF001  # as above
    Action.CHOOSE_AGAIN: Reconciler._choose_again,  # noqa: SLF001  # as above
    Action.COMMIT: Reconciler._commit,  # noqa: SLF001  # as above
    Action.MEND: Reconciler._mend,  # noqa: SLF001  # as above
    Action.FAIL: Reconciler._fail,  # noqa: SLF001  # as above
    Action.LET_GO: Reconciler._part,  # noqa: SLF001  # as above
    Action.RECOVER: Reconciler._recover,  # noqa: SLF001  # as above
    Action.REFUSE: Reconciler._refuse,  # noqa: SLF001  # as above
    Action.ROLL_BACK: Reconciler._roll_back,  # noqa: SLF001  # as above
    Action.RETIRE: Reconciler._retire,  # noqa: SLF001  # as above
    Action.RESTORE: Reconciler._restore,  # noqa: SLF001  # as above
}
