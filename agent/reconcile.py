"""The loop of a device: look, plan, take the steps, look again. Each deployment on its own.

One step a deployment at a time, different deployments at once. A step records
where it stands before it acts and what came of it after; the record is only
replaced as it was read, so a step that a newer desired document overtook ends
without a trace. Whatever fails is put off or ends its candidate
(`agent.plan.outcome`); it never stops the loop and never touches what serves.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from agent.backoff import full_jitter_s
from agent.errors import StepError
from agent.ledger import Ledger
from agent.ledger_file import LedgerDamagedError, LedgerError
from agent.meter import Meter
from agent.plan import Action, Step, outcome, plan
from agent.ports import Floor, Supply
from agent.state import Installed, Note, Observed, Record, accepted, phase_note, text
from agent.wire import v1
from agent.wire.phases import Happening, Phase
from agent.wire.reasons import Reason

_RETRY_BASE_S = 2.0
_RETRY_CAP_S = 300.0
_TRIAL_LOOK_S = 1.0
"""How often a probation is looked at while it lasts."""

_INTERRUPTIBLE = frozenset({Action.FETCH, Action.STAGE, Action.TEST})
"""Steps that a newer desired document ends at once: they may last, and have touched nothing."""

_RECORDING = frozenset({Action.ACCEPT, Action.COMMIT, Action.FAIL})
"""Steps that only write the ledger: when one fails, so would every other."""

_REFETCH = frozenset({Reason.NOT_FOUND, Reason.DIGEST_MISMATCH, Reason.BUNDLE_INCOMPLETE})
"""Why something that served can't be started again although a fetch would mend it."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Under:
    """A step under way."""

    step: Step
    task: asyncio.Task[None]


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
        self._waits: dict[str, float] = {}
        self._restore_waits: dict[str, float] = {}
        self._attempts: dict[str, int] = {}
        self._pause_until_s = 0.0

    def wake(self) -> None:
        """Look again soon. Carries nothing: the next pass reads all of both sides."""
        self._woken.set()

    def hurry(self) -> None:
        """Try again what waits for the network, a little spread: it may be back."""
        now = asyncio.get_running_loop().time()
        for name, record in self._ledger.records.items():
            if record.problem and record.problem.reason == Reason.REGISTRY_UNREACHABLE:
                soon = now + full_jitter_s(1, random.random(), base_s=_RETRY_BASE_S)  # noqa: S311  # not a secret
                self._waits[name] = min(self._waits.get(name, now), soon)
        self.wake()

    async def boot(self) -> None:
        """Start everything that should serve, with no network and before anything else."""
        steps = [
            Step(deployment=name, action=Action.RESTORE, reason="the agent started")
            for name, record in self._ledger.records.items()
            if record.current is not None
        ]
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
                found = plan(self._desired(), self._observe(), now_s)
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
        return Observed(
            records=self._ledger.records,
            serving=self._floor.serving(),
            trials=self._meter.trials,
            waits=dict(self._waits),
            restore_waits=dict(self._restore_waits),
        )

    def _begin(self, group: asyncio.TaskGroup, step: Step) -> None:
        under = self._under.get(step.deployment)
        if under is not None:
            if under.step.action in _INTERRUPTIBLE and step.action in {
                Action.ACCEPT,
                Action.RETIRE,
            }:
                under.task.cancel()
            return
        task = group.create_task(self._take(step), name=f"{step.action} {step.deployment}")
        self._under[step.deployment] = _Under(step, task)
        task.add_done_callback(lambda _: self._ended(step.deployment))

    def _ended(self, name: str) -> None:
        self._under.pop(name, None)
        self.wake()

    async def _take(self, step: Step) -> None:
        """Take one step, whatever comes of it."""
        name = step.deployment
        record = self._ledger.records.get(name)
        await _log.ainfo("step", deployment=name, action=step.action, why=step.reason)
        try:
            if step.action is Action.ACCEPT:
                await self._accept(record, step)
            elif record is not None:
                await _STEPS[step.action](self, record, step)
        except _OvertakenError:
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
        at = self._clock()
        if old is None:
            await self._put(None, accepted(step.wanted, at))
        else:
            new = old.superseded(step.wanted, at)
            dropped = () if old.settled else (_dropped(old, Reason.SUPERSEDED),)
            await self._write(old.name, old, new, *dropped, phase_note(new))
            self._meter.end_trial(old.name)
        self._forget_waits(step.deployment)

    async def _fetch(self, record: Record, _step: Step) -> None:
        if record.phase is Phase.ACCEPTED:
            record = await self._put(record, record.moved(Happening.BEGUN, self._clock()))

        async def progress(happening: Happening) -> None:
            nonlocal record
            if record.phase is Phase.FETCHING:
                record = await self._put(record, record.moved(happening, self._clock()))

        await self._supply.fetch(record.wanted.bundle, progress)
        if record.phase is Phase.FETCHING:
            record = await self._put(record, record.moved(Happening.FETCHED, self._clock()))
        await self._put(record, record.moved(Happening.VERIFIED, self._clock()))

    async def _stage(self, record: Record, _step: Step) -> None:
        candidate = await self._supply.stage(record.wanted)
        await self._put(record, record.staged(candidate, self._clock()))

    async def _test(self, record: Record, _step: Step) -> None:
        await self._floor.test(_candidate(record))
        await self._put(record, record.moved(Happening.TESTED, self._clock()))

    async def _activate(self, record: Record, step: Step) -> None:
        await self._floor.activate(_candidate(record))
        self._meter.begin_trial(
            record.name, record.wanted.revision, asyncio.get_running_loop().time()
        )
        self._forget_waits(record.name)
        serving = await self._put(record, record.activated(self._clock()))
        if record.wanted.settings.probation_s == 0:
            await self._commit(serving, step)

    async def _commit(self, record: Record, _step: Step) -> None:
        self._meter.end_trial(record.name)
        await self._put(record, record.committed(self._clock()))
        await self._collect()

    async def _fail(self, record: Record, step: Step) -> None:
        self._meter.end_trial(record.name)
        problem = v1.Problem(reason=Reason.PROBATION_FAILED, message=text(step.reason))
        await self._put(record, record.moved(Happening.FAILED, self._clock(), problem))

    async def _roll_back(self, record: Record, _step: Step) -> None:
        if record.previous is None:
            await self._floor.close(record.name)
        else:
            await self._floor.activate(record.previous)
        self._forget_waits(record.name)
        await self._put(record, record.restored(self._clock()))

    async def _retire(self, record: Record, _step: Step) -> None:
        self._meter.end_trial(record.name)
        await self._floor.close(record.name)
        self._forget_waits(record.name)
        note = _dropped(record, Reason.REMOVED)
        await self._write(record.name, record, None, note)
        await self._collect()

    async def _restore(self, record: Record, _step: Step) -> None:
        """Start what should serve; where that is impossible, what was committed before it."""
        assert record.current is not None  # noqa: S101  # for the type checker: the plan looked
        try:
            await self._start_again(record.current)
        except StepError:
            serving = self._floor.serving().get(record.name)
            if record.previous is not None and serving is None:
                await self._start_again(record.previous)
            raise
        self._restore_waits.pop(record.name, None)
        self._attempts.pop(_restoring(record.name), None)
        if record.phase is Phase.PROBATION:
            self._meter.begin_trial(
                record.name, record.current.revision, asyncio.get_running_loop().time()
            )
        self._changed()

    async def _start_again(self, installed: Installed) -> None:
        try:
            await self._floor.activate(installed)
        except StepError as error:
            if error.reason not in _REFETCH:
                raise

            async def unheard(_: Happening) -> None:
                return

            await self._supply.fetch(installed.deployment.bundle, unheard)
            await self._floor.activate(installed)

    # What came of them

    async def _failed(self, step: Step, reason: str, error: Exception) -> None:
        """Put the step off, or end its candidate."""
        restoring = step.action is Action.RESTORE
        key = _restoring(step.deployment) if restoring else step.deployment
        attempt = self._attempts.get(key, 0)
        self._attempts[key] = attempt + 1
        now = asyncio.get_running_loop().time()
        wait_s = full_jitter_s(attempt, random.random(), base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)  # noqa: S311  # not a secret
        (self._restore_waits if restoring else self._waits)[step.deployment] = now + wait_s
        if step.action in _RECORDING:
            self._pause_until_s = now + wait_s
        happening = outcome(reason, attempt + 1)
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
            elif record.phase in _MAY_DEFER:
                await self._settle(record, problem, happening)
        except LedgerError as late:
            # The ledger can't be written: memory and file still agree, and the wait is set.
            await _log.awarning("not recorded", deployment=record.name, message=text(late))

    async def _settle(self, record: Record, problem: v1.Problem, happening: Happening) -> None:
        if happening is Happening.FAILED:
            self._forget_waits(record.name)
        if record.phase is Phase.ACCEPTED and happening is Happening.DEFERRED:
            new = replace(record, problem=problem)  # it is where it would be put back to
        else:
            new = record.moved(happening, self._clock(), problem)
        await self._put(record, replace(new, candidate=None))

    async def _restore_failed(
        self, record: Record, problem: v1.Problem, happening: Happening
    ) -> None:
        if record.phase is Phase.PROBATION and happening is Happening.FAILED:
            self._meter.end_trial(record.name)
            await self._put(record, record.moved(Happening.FAILED, self._clock(), problem))
        elif record.problem is None or record.problem.reason != problem.reason:
            await self._write(record.name, record, replace(record, problem=problem))

    async def _put(self, old: Record | None, new: Record) -> Record:
        """Replace a record, and tell of it when it is news."""
        await self._write(new.name, old, new, *((phase_note(new),) if _is_news(old, new) else ()))
        return new

    async def _write(self, name: str, old: Record | None, new: Record | None, *notes: Note) -> None:
        at = self._clock()
        written = await asyncio.to_thread(self._ledger.put, name, old, new, notes, at=at)
        if not written:
            raise _OvertakenError(Reason.SUPERSEDED, "a newer revision is wanted")
        self._changed()

    async def _collect(self) -> None:
        records = self._ledger.records.values()
        try:
            await self._supply.collect(frozenset().union(*(each.digests() for each in records)))
        except StepError as error:
            await _log.awarning("the store was not cleaned", message=text(error))

    def _forget_waits(self, name: str) -> None:
        self._waits.pop(name, None)
        self._attempts.pop(name, None)


class _OvertakenError(StepError):
    """The record is no longer the one the step began with."""


def _restoring(name: str) -> str:
    return f"restore {name}"


def _candidate(record: Record) -> Installed:
    if record.candidate is None:
        raise StepError(Reason.INTERRUPTED, "nothing was staged")
    return record.candidate


def _is_news(old: Record | None, new: Record) -> bool:
    """A retry of the same trouble is none: who is offline would fill the outbox with it."""
    if old is None:
        return True
    if new.problem is None or new.phase not in _MAY_DEFER:
        return old.phase is not new.phase
    return old.problem is None or old.problem.reason != new.problem.reason


def _dropped(record: Record, reason: Reason) -> Note:
    return Note(
        kind=v1.EventKind.PHASE,
        deployment=record.name,
        revision=record.wanted.revision,
        digest=record.wanted.bundle.digest,
        phase=Phase.RETIRED,
        reason=reason,
    )


_MAY_DEFER = frozenset(
    {
        Phase.ACCEPTED,
        Phase.FETCHING,
        Phase.VERIFYING,
        Phase.STAGING,
        Phase.TESTING,
        Phase.ACTIVATING,
    }
)

_STEPS = {
    Action.FETCH: Reconciler._fetch,  # noqa: SLF001  # the table of this class's own steps
    Action.STAGE: Reconciler._stage,  # noqa: SLF001  # as above
    Action.TEST: Reconciler._test,  # noqa: SLF001  # as above
    Action.ACTIVATE: Reconciler._activate,  # noqa: SLF001  # as above
    Action.COMMIT: Reconciler._commit,  # noqa: SLF001  # as above
    Action.FAIL: Reconciler._fail,  # noqa: SLF001  # as above
    Action.ROLL_BACK: Reconciler._roll_back,  # noqa: SLF001  # as above
    Action.RETIRE: Reconciler._retire,  # noqa: SLF001  # as above
    Action.RESTORE: Reconciler._restore,  # noqa: SLF001  # as above
}
