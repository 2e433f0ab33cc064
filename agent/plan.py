"""What a device does next, and why. Pure: desired and observed in, steps with reasons out.

Level-triggered: the whole of both sides is read each time, nothing is
remembered here. At most one step a deployment, and no deployment looks at
another's. Rules, first match wins:

1. A deployment that is no longer wanted is retired.
2. A rollback that was begun is finished.
3. What should be serving and isn't is started again, before anything else and
   with no network; what died too often gives way to what was committed before it.
4. Another revision wanted supersedes the one under way, whatever its phase.
5. What is wanted and serves already, committed under another number, is adopted.
6. What serves on another machine than it was measured on (a runtime changed, an
   accelerator came or went) is measured again.
7. What rotted in the store of what serves, or would be returned to, is fetched again.
8. Else the phase says: fetch, stage, test, shadow, activate, then commit or fail probation.
   Content in quarantine is refused before it is fetched, unless it is what serves.

Where a download is needed and none is allowed now, fetching waits until one is; what
should serve and can't start does not wait.
Where what serves may not be changed now, a candidate waits where it is, before it is tested
and before it serves. A comparison that was begun goes on: it needs requests, which a night
may lack. A way back waits for nothing.
While a technician holds the device nothing new is begun: it wants what it has.
Carrying out a plan leads to desired; planning again from there yields nothing.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from agent.state import Observed, Record, Trial
from agent.wire import v1
from agent.wire.limits import TEXT_LIMIT
from agent.wire.phases import Happening, Phase
from agent.wire.reasons import Reason
from agent.wire.sketch import quantile

TRIAL_CRASHES_LIMIT = 2
"""Crashes that end a probation: one may be the machine's (memory), two are the revision's.

Of several workers the machine may end each once.
"""

TRIAL_REQUESTS_LEAST = 20
"""Below this many requests a share of errors says nothing."""

TRIAL_ERRORS_SHARE = 0.05
"""Errors a request above which a probation has failed."""

ATTEMPTS_LIMIT = 3
"""Starts that crash or hang before a candidate is refused: a busy machine is no bad model."""

CONDEMNING = frozenset({Reason.GOLDEN_MISMATCH, Reason.WORKER_CRASHED})
"""What content does by itself, whatever its settings. A deadline and memory can be changed."""


class Action(StrEnum):
    """What a step does."""

    RESTORE = "restore"
    LET_GO = "let-go"
    ROLL_BACK = "roll-back"
    RECOVER = "recover"
    RETIRE = "retire"
    REFUSE = "refuse"
    ACCEPT = "accept"
    WAIT = "wait"
    ADOPT = "adopt"
    FETCH = "fetch"
    STAGE = "stage"
    TEST = "test"
    SHADOW = "shadow"
    ACTIVATE = "activate"
    COMMIT = "commit"
    CHOOSE_AGAIN = "choose-again"
    MEND = "mend"
    FAIL = "fail"


DOWNLOADING = frozenset({Action.FETCH, Action.MEND})
"""Steps that wait for a download window, if they need a download: the store may have it all."""


MAY_DOWNLOAD = frozenset({Phase.ACCEPTED, Phase.FETCHING, Phase.VERIFYING})
"""Phases in which a candidate may need a download."""

REFETCH = frozenset({Reason.NOT_FOUND, Reason.DIGEST_MISMATCH, Reason.BUNDLE_INCOMPLETE})
"""Why something that served can't be started again although a fetch would mend it."""

CHANGING = frozenset({Action.TEST, Action.ACTIVATE})
"""Steps that begin in a maintenance window: they load the machine, or change what serves."""

STARTING = frozenset({Action.RESTORE, Action.CHOOSE_AGAIN})
"""Steps that start what serves, or measure it anew, though no revision moves."""

INTERRUPTIBLE = frozenset(
    {Action.FETCH, Action.STAGE, Action.WAIT, Action.TEST, Action.SHADOW, Action.MEND}
)
"""Steps that a newer document, a hold or trouble with what serves ends at once: they may last, and
have touched nothing."""

RECORDING = frozenset(
    {
        Action.ACCEPT,
        Action.ADOPT,
        Action.COMMIT,
        Action.FAIL,
        Action.LET_GO,
        Action.RECOVER,
        Action.REFUSE,
        Action.WAIT,
    }
)
"""Steps that only write the ledger: when one fails, so would every other."""

_OF_WHAT_SERVES = frozenset(
    {Action.RESTORE, Action.LET_GO, Action.RECOVER, Action.CHOOSE_AGAIN, Action.MEND}
)
"""Steps about what serves, also where that is another revision than the one wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do to one deployment, and why. `shut`: without a download, and why so."""

    deployment: str
    action: Action
    reason: str
    wanted: v1.Deployment | None = None
    shut: v1.Problem | None = None
    bundle: v1.BundleRef | None = None
    problem: v1.Problem | None = None

    def trace_id(self, record: Record | None) -> str | None:
        """Return the trace of the rollout that brought the revision it is about."""
        about = self.wanted or (record.wanted if record else None)
        if record is not None and record.current is not None and self.action in _OF_WHAT_SERVES:
            about = record.current.deployment
        return about.trace_id if about else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps that may be taken now, and the loop time to look again (None: on a change)."""

    steps: tuple[Step, ...] = ()
    wake_s: float | None = None


_BY_PHASE: dict[Phase, tuple[Action, str]] = {
    Phase.ACCEPTED: (Action.FETCH, "wanted and not yet here"),
    Phase.FETCHING: (Action.FETCH, "fetching was begun and not finished"),
    Phase.VERIFYING: (Action.FETCH, "fetched and not yet verified"),
    Phase.STAGING: (Action.STAGE, "verified and no variant chosen"),
    Phase.TESTING: (Action.TEST, "staged and not yet tested"),
    Phase.SHADOWING: (Action.SHADOW, "tested, and to be compared with what serves"),
    Phase.ACTIVATING: (Action.ACTIVATE, "tested and not yet serving"),
}


def plan(desired: v1.Desired | None, observed: Observed, now_s: float) -> Plan:
    """Return what to do next. With no desired document nothing is retired or accepted."""
    wanted = {each.name: each for each in desired.deployments} if desired else {}
    steps: list[Step] = []
    wakes: list[float] = []
    for name in sorted({*wanted, *observed.records}):
        found = _next(name, wanted.get(name), observed, now_s, known=desired is not None)
        if isinstance(found, Step):
            steps.append(found)
        elif found is not None:
            wakes.append(found)
        restore_due = observed.restore_waits.get(name)
        if restore_due is not None and restore_due > now_s:
            wakes.append(restore_due)
    downloading = any(each.action in DOWNLOADING and each.shut is None for each in steps)
    if downloading and observed.line_turns_s is not None:
        wakes.append(observed.line_turns_s)
    return Plan(steps=tuple(steps), wake_s=min(wakes, default=None))


def _next(  # noqa: PLR0911  # a ladder of rules, one return each
    name: str, wanted: v1.Deployment | None, observed: Observed, now_s: float, *, known: bool
) -> Step | float | None:
    """Return the next step, the loop time to look again, or None when there is nothing to do."""
    record = observed.records.get(name)
    if record is None:
        why = "new in the desired document"
        accept = Step(deployment=name, action=Action.ACCEPT, reason=why, wanted=wanted)
        return None if observed.held else accept
    due = observed.waits.get(name, now_s)
    if known and wanted is None and not observed.held:
        why = "no longer in the desired document"
        return Step(deployment=name, action=Action.RETIRE, reason=why) if due <= now_s else due
    if mending := _mend(record, observed, now_s):
        return mending
    if wanted is not None and wanted != record.wanted and not _ends_first(record, wanted, observed):
        why = f"revision {wanted.revision} supersedes {record.wanted.revision}"
        return Step(deployment=name, action=Action.ACCEPT, reason=why, wanted=wanted)
    if record.phase is Phase.ROLLING_BACK:
        return due
    if record.phase is Phase.PROBATION:
        return _probation(record, observed.trials.get(name), now_s)
    if record.phase not in _BY_PHASE:
        return _settled(record, observed, now_s)
    if observed.held:
        return None
    return due if due > now_s else _besides(_onward(record, observed), record, observed, now_s)


def _ends_first(record: Record, wanted: v1.Deployment, observed: Observed) -> bool:
    """Tell whether something newer has to wait: held, or for a trial that was begun in a window.

    What is on trial serves until the next window; nobody would judge it if it were not now.
    """
    trial = record.phase is Phase.PROBATION and observed.closed is not None
    return observed.held or (trial and not replace(record, wanted=wanted).leads_back)


def _besides(
    found: Step | float | None, record: Record, observed: Observed, now_s: float
) -> Step | float | None:
    """Return what there is to do about what serves, while its candidate waits for a window."""
    if not isinstance(found, float):
        return found
    other = _settled(record, observed, now_s)
    if isinstance(other, Step):
        return other
    return found if other is None else min(found, other)


def _mend(record: Record, observed: Observed, now_s: float) -> Step | None:
    """Return what brings back what should serve, or what served before it."""
    name = record.name
    if record.phase is Phase.ROLLING_BACK and observed.waits.get(name, now_s) <= now_s:
        why = "it failed, and the one before it is to serve"
        return Step(deployment=name, action=Action.ROLL_BACK, reason=why)
    if not _missing(record, observed):
        return None
    gone = observed.given_up.get(name)
    if gone and record.current and gone.digest == record.current.digest:
        problem = v1.Problem(reason=gone.reason, message=gone.message[:TEXT_LIMIT])
        why = "its worker died too often"
        return Step(deployment=name, action=Action.LET_GO, reason=why, problem=problem)
    if observed.restore_waits.get(name, now_s) <= now_s:
        return Step(deployment=name, action=Action.RESTORE, reason="it should serve and doesn't")
    return None


def _onward(record: Record, observed: Observed) -> Step | float | None:
    """Return the next step of a candidate; content that failed here before is not fetched again."""
    if record.phase is Phase.ACCEPTED and record.adoptable:
        why = "it serves already, under another number"
        return Step(deployment=record.name, action=Action.ADOPT, reason=why)
    verdict = observed.quarantined.get(record.wanted.bundle.digest)
    serves = record.current is not None and record.current.digest == record.wanted.bundle.digest
    if verdict is not None and record.phase is Phase.ACCEPTED and not serves:
        problem = v1.Problem(
            reason=Reason.QUARANTINED,
            message=verdict.message,
            parameters={"cause": verdict.reason, "since": verdict.since},
        )
        why = f"its content is in quarantine: {verdict.reason}"
        return Step(deployment=record.name, action=Action.REFUSE, reason=why, problem=problem)
    action, why = _BY_PHASE[record.phase]
    step = Step(deployment=record.name, action=action, reason=why)
    if action in DOWNLOADING:
        return _downloaded(step, observed)
    return _in_time(step, record, observed) if action in CHANGING else step


def _in_time(step: Step, record: Record, observed: Observed) -> Step | float | None:
    """Return the step, or say first what it waits for, and that it no longer does."""
    closed = None if record.leads_back else observed.closed
    if closed is not None and record.problem == closed:
        return observed.closed_turns_s
    if closed is not None:
        why = "what serves may not be changed now"
        return Step(deployment=record.name, action=Action.WAIT, reason=why, problem=closed)
    if record.problem is not None and record.problem.reason in _KEPT_BY_THE_CLOCK:
        return Step(deployment=record.name, action=Action.WAIT, reason="it waits no longer")
    return step


_KEPT_BY_THE_CLOCK = frozenset(
    {Reason.MAINTENANCE_WINDOW_CLOSED, Reason.CLOCK_WRONG, Reason.TIME_ZONE_UNKNOWN}
)


def _downloaded(step: Step, observed: Observed) -> Step | float | None:
    """Return the step as it may be taken now; what was seen to need a download waits for one."""
    if observed.shut is None:
        return step
    if observed.lacking.get(step.deployment) == observed.shut:
        return observed.line_turns_s
    return replace(step, shut=observed.shut)


def _settled(record: Record, observed: Observed, now_s: float) -> Step | float | None:
    """Return what may be better of what stays as it is, or when to look again."""
    found = (
        _choice(record, observed, now_s),
        _rot(record, observed, now_s),
        _recovery(record, observed, now_s),
    )
    for each in found:
        if isinstance(each, Step):
            return each
    return min((each for each in found if isinstance(each, float)), default=None)


def _rot(record: Record, observed: Observed, now_s: float) -> Step | float | None:
    """Fetch again what is needed and is no longer whole; what serves of it is in memory."""
    for each in (record.current, record.previous) if not observed.held else ():
        if each is None or each.digest not in observed.rotten:
            continue
        if (due := observed.mend_waits.get(record.name, now_s)) > now_s:
            return due
        why = "a part of it rotted in the store"
        bundle = each.deployment.bundle
        step = Step(deployment=record.name, action=Action.MEND, reason=why, bundle=bundle)
        return _downloaded(step, observed)
    return None


def _choice(record: Record, observed: Observed, now_s: float) -> Step | float | None:
    """Choose again how to serve, where the machine is another than the choice was made on."""
    current = record.current
    if observed.held or record.phase is not Phase.COMMITTED or current is None:
        return None
    if current.hardware == observed.hardware:
        return None
    if (due := observed.waits.get(record.name, now_s)) > now_s:
        return due
    why = f"how it serves was chosen on {current.hardware or 'nothing measured'}"
    return Step(deployment=record.name, action=Action.CHOOSE_AGAIN, reason=why)


def _recovery(record: Record, observed: Observed, now_s: float) -> Step | float | None:
    """Say that what died too often has lived long enough since."""
    due = observed.recoveries.get(record.name)
    if due is None or _missing(record, observed):
        return None
    why = "it lives again"
    return Step(deployment=record.name, action=Action.RECOVER, reason=why) if due <= now_s else due


def _missing(record: Record, observed: Observed) -> bool:
    """Tell whether what should be serving is not what serves."""
    if record.current is None:
        return False
    serving = observed.serving.get(record.name)
    return serving is None or (serving.revision, serving.digest) != (
        record.current.revision,
        record.current.digest,
    )


def _probation(record: Record, trial: Trial | None, now_s: float) -> Step | float | None:
    """Judge a probation by what was seen since it began; without a trial, not at all."""
    probation_s = record.wanted.settings.probation_s
    if trial is None or trial.revision != record.wanted.revision:
        return None
    failed, parameters = "", {}
    limit = TRIAL_CRASHES_LIMIT + (record.current.workers - 1 if record.current else 0)
    if trial.crashes >= limit:
        failed = f"{trial.crashes} crashes in probation"
        parameters = {"cause": Reason.WORKER_CRASHED.value}
    elif trial.crashes + trial.mishaps >= limit:
        failed = f"its worker died {trial.crashes + trial.mishaps} times in probation"
    elif trial.requests >= TRIAL_REQUESTS_LEAST and (
        trial.errors > TRIAL_ERRORS_SHARE * trial.requests
    ):
        failed = f"{trial.errors} of {trial.requests} requests failed in probation"
    elif slow := _slow(record.wanted.settings.latency_budget_s, trial):
        failed = slow
    if failed:
        problem = v1.Problem(reason=Reason.PROBATION_FAILED, message=failed, parameters=parameters)
        return Step(deployment=record.name, action=Action.FAIL, reason=failed, problem=problem)
    if now_s >= trial.since_s + probation_s:
        why = f"served {probation_s:g} s without complaint"
        return Step(deployment=record.name, action=Action.COMMIT, reason=why)
    return trial.since_s + probation_s


def _slow(budget_s: float | None, trial: Trial) -> str:
    """Say by how much live answers took longer than they may, at the median; "" if they did not."""
    if budget_s is None or trial.latency.count < TRIAL_REQUESTS_LEAST:
        return ""
    half_s = quantile(trial.latency, 0.5)
    if half_s is None or half_s <= budget_s:
        return ""
    answers = f"half of {trial.latency.count} answers in probation"
    return f"{answers} took longer than {1000 * half_s:.3g} ms; {1000 * budget_s:g} ms are allowed"


_PASSING = frozenset(
    {
        Reason.REGISTRY_UNREACHABLE, Reason.REGISTRY_REFUSED, Reason.NOT_FOUND, Reason.DISK_FULL,
        Reason.OUT_OF_MEMORY, Reason.TIMED_OUT, Reason.DIGEST_MISMATCH, Reason.INTERNAL,
        Reason.INTERRUPTED, Reason.HELD_BY_OWNER, Reason.DOWNLOAD_WINDOW_CLOSED,
        Reason.CLOCK_WRONG, Reason.TIME_ZONE_UNKNOWN,
    }
)  # fmt: skip
_MAY_PASS = frozenset(
    {
        Reason.WORKER_CRASHED, Reason.WORKER_STUCK, Reason.SIZE_MISMATCH,
        Reason.ACCELERATOR_MISSING,
    }
)  # fmt: skip


def condemned(problem: v1.Problem) -> str | None:
    """Return the reason for which a problem's content goes into quarantine; None: it doesn't.

    A probation that failed by the share of errors is of the revision: its settings may be why.
    """
    cause = problem.parameters.get("cause", problem.reason)
    return cause if cause in CONDEMNING and problem.reason != Reason.QUARANTINED else None


def outcome(reason: str, attempts: int) -> Happening:
    """Say whether a failed step is put off or the candidate's end; `attempts` counts this one too.

    What the world did passes, and is tried again for ever; what may be either
    is tried a few times; the rest is the candidate's own fault.
    """
    if reason in _PASSING or (reason in _MAY_PASS and attempts < ATTEMPTS_LIMIT):
        return Happening.DEFERRED
    return Happening.FAILED
