"""Whether a device is all right, for who stands before it: findings, the worst first. Pure.

Rules:
- The words, their order and their limits are the centre's (`fleet.health.states`; a test
  compares): nobody should be told at the device that it is well, and at the centre that it is not.
- What only the device knows comes beside them: a process that is just being started or was given
  up, and a document that was refused. Whether the centre is in reach says nothing about health.
- There is always a finding: when nothing is wrong, that.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.page.seen import Seen
from agent.standing import named, standing
from agent.state import Record
from agent.wire.phases import SERVING, Phase
from agent.wire.reasons import Reason
from agent.wire.sentences import COMPARED, PHASES, WIRE, Sentence, bracketed, filled
from agent.wire.vitals import disk_nearly_full, fails_often
from agent.wire.words import size


class State(StrEnum):
    """How a device is, in one word; the worst first."""

    FAILING = "failing"
    DEGRADED = "degraded"
    UPDATING = "updating"
    WAITING = "waiting"
    OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is so: the word for it, what it means and the next step, about what.

    `code` is the reason code where there is one, `message` what was said beside it.
    """

    state: State
    sentence: Sentence
    since: str | None = None
    deployment: str | None = None
    subject: str = ""
    code: str = ""
    message: str = ""


HERE: Mapping[str, Sentence] = {
    Reason.HELD_BY_OWNER: Sentence(
        "Somebody holds this device as it is: nothing new is begun.",
        "When the reason is gone, release it: skerry-agent release.",
    ),
    Reason.ACCELERATOR_FALLBACK: Sentence(
        "It runs, on a slower path than it was built for.",
        "Check the accelerator and its driver: skerry-agent doctor.",
    ),
    Reason.INCUMBENT_KEPT: Sentence("The revision before keeps serving.", "Nothing."),
}
"""What is said otherwise to who can act here and now."""

_REFUSED = Sentence("It does not serve here.", "Read the log: skerry-agent logs.")
_GIVEN_UP = Sentence(
    "Its process died so often that it is not started again for now.",
    "Nothing: it is tried again by itself. If it lasts, read the log: skerry-agent logs.",
)
_THROTTLED = Sentence(
    "This machine slows itself down, for heat or for power.",
    "Cool it, or check its power supply.",
)
_ERRORS = Sentence(
    "Of its last {requests} requests, {errors} failed.", "Read the log: skerry-agent logs."
)
_DISK = Sentence(
    "The disk is nearly full: {free} are free.",
    "Free some room; an update may not fit any more.",
)
_STARTING = Sentence(
    "Its process is being started.", "Nothing: wait. Before it serves, it is loaded and tried."
)
_ON_THE_WAY = Sentence("It is on its way: {phase}.", "Nothing: wait.")
_NOT_BEGUN = Sentence("It is wanted, and not begun yet.", "Nothing: wait.")
_NOTHING_WANTED = Sentence(
    "Nothing is wanted of this device yet.", "Ask who runs the fleet to bring a model to it."
)
_AS_WANTED = Sentence("It serves all that is wanted of it.", "Nothing.")


def findings(seen: Seen) -> tuple[Finding, ...]:
    """Return all that is to say of a device, the worst first."""
    return tuple(finding for rule in _RULES for finding in rule(seen)) or (_well(seen),)


def sentence(code: str, parameters: Mapping[str, str], *, beside: bool = True) -> Sentence:
    """Return what a reason code means to who stands here, with or without what it says beside."""
    known = HERE.get(code) or WIRE.get(code)
    if known is None:  # from outside: a text to show, not one to format
        said = bracketed(code, parameters if beside else {})
        return Sentence(said, "This agent does not know it: upgrade it.")
    return filled(known, parameters, beside=beside)


def _refused(seen: Seen) -> Iterator[Finding]:
    for record in seen.records.values():
        if record.phase in {Phase.REFUSED, Phase.ROLLING_BACK, Phase.ROLLED_BACK}:
            yield _of_record(State.FAILING, record, _REFUSED)


def _ailing(seen: Seen) -> Iterator[Finding]:
    for told in seen.reported.deployments:
        if told.phase not in SERVING:
            continue
        problem = told.last_error
        why = [(each.reason, each.since) for each in told.conditions if each.type == "ailing"]
        if problem is not None and not why:
            why = [(problem.reason, seen.records[told.name].since)]
        for reason, since in why:
            yield Finding(
                state=State.FAILING,
                sentence=sentence(reason, problem.parameters if problem else {}),
                since=since,
                deployment=told.name,
                subject=_serves(seen, told.name),
                code=reason,
                message=problem.message if problem else "",
            )


def _given_up(seen: Seen) -> Iterator[Finding]:
    ailing = {finding.deployment for finding in _ailing(seen)}
    for name, gone in seen.given_up.items():
        if name not in ailing:
            yield Finding(
                state=State.FAILING,
                sentence=_GIVEN_UP,
                deployment=name,
                subject=_serves(seen, name),
                code=gone.reason,
                message=gone.message,
            )


def _fallback(seen: Seen) -> Iterator[Finding]:
    slower = {Reason.ACCELERATOR_FALLBACK, Reason.ACCELERATOR_MISSING}
    for told in seen.reported.deployments:
        for condition in told.conditions:
            if condition.reason in slower:
                yield Finding(
                    state=State.DEGRADED,
                    sentence=sentence(condition.reason, {}),
                    since=condition.since,
                    deployment=told.name,
                    subject=_serves(seen, told.name),
                    code=condition.reason,
                    message=condition.parameters.get("why", ""),
                )


def _throttled(seen: Seen) -> Iterator[Finding]:
    if seen.health is not None and seen.health.throttled:
        yield Finding(state=State.DEGRADED, sentence=_THROTTLED, since=seen.health.at)


def _errors_high(seen: Seen) -> Iterator[Finding]:
    for each in seen.health.deployments if seen.health else ():
        if fails_often(each):
            counts = {"errors": str(each.errors), "requests": str(each.requests)}
            yield Finding(
                state=State.DEGRADED,
                sentence=filled(_ERRORS, counts),
                since=seen.health.at if seen.health else None,
                deployment=each.name,
                subject=_serves(seen, each.name),
            )


def _disk(seen: Seen) -> Iterator[Finding]:
    if seen.health is not None and disk_nearly_full(seen.health):
        free = {"free": size(seen.health.disk_free_bytes or 0)}
        yield Finding(state=State.DEGRADED, sentence=filled(_DISK, free), since=seen.health.at)


def _document(seen: Seen) -> Iterator[Finding]:
    problem = seen.reported.last_error
    if problem is not None:
        of_ours = problem.reason in {Reason.LEDGER_UNWRITABLE, Reason.LEDGER_CORRUPT}
        yield Finding(
            state=State.DEGRADED,
            sentence=sentence(problem.reason, {}),
            subject="" if of_ours else "the last document that came",
            code=problem.reason,
            message=problem.message,
        )


def _starting(seen: Seen) -> Iterator[Finding]:
    for name, record in seen.records.items():
        if record.current and name not in seen.answering and name not in seen.given_up:
            yield Finding(
                state=State.UPDATING,
                sentence=_STARTING,
                deployment=name,
                subject=_serves(seen, name),
            )


def _on_the_way(seen: Seen) -> Iterator[Finding]:
    for record in seen.records.values():
        if record.phase not in _RESTING:
            words = filled(_ON_THE_WAY, {"phase": PHASES[record.phase]})
            if record.phase is Phase.SHADOWING:
                words = filled(COMPARED, _so_far(seen, record))
            yield Finding(
                state=State.UPDATING,
                sentence=words,
                since=record.since,
                deployment=record.name,
                subject=named(record.wanted.bundle),
            )


def _so_far(seen: Seen, record: Record) -> Mapping[str, str]:
    told = standing(record, seen=seen.compared.get(record.name)).so_far
    return {"so far": told} if told else {}


def _held(seen: Seen) -> Iterator[Finding]:
    hold = seen.reported.hold
    if hold is not None:
        yield Finding(
            state=State.WAITING,
            sentence=sentence(Reason.HELD_BY_OWNER, {}),
            since=hold.since,
            code=Reason.HELD_BY_OWNER,
            message=hold.reason,
        )


def _put_off(seen: Seen) -> Iterator[Finding]:
    for record in seen.records.values():
        if record.phase is Phase.ACCEPTED:
            yield _of_record(State.WAITING, record, _NOT_BEGUN)


def _well(seen: Seen) -> Finding:
    if not seen.records:
        return Finding(state=State.OK, sentence=_NOTHING_WANTED)
    return Finding(state=State.OK, sentence=_AS_WANTED)


_RESTING = frozenset(
    {
        Phase.ACCEPTED,
        Phase.COMMITTED,
        Phase.REFUSED,
        Phase.RETIRED,
        Phase.ROLLED_BACK,
        Phase.ROLLING_BACK,
    }
)

_RULES: tuple[Callable[[Seen], Iterator[Finding]], ...] = (
    _refused,
    _ailing,
    _given_up,
    _fallback,
    _throttled,
    _errors_high,
    _disk,
    _document,
    _starting,
    _on_the_way,
    _held,
    _put_off,
)


def _of_record(state: State, record: Record, otherwise: Sentence) -> Finding:
    problem = record.problem
    return Finding(
        state=state,
        sentence=sentence(problem.reason, problem.parameters) if problem else otherwise,
        since=record.since,
        deployment=record.name,
        subject=named(record.wanted.bundle),
        code=problem.reason if problem else "",
        message=problem.message if problem else "",
    )


def _serves(seen: Seen, name: str) -> str:
    record = seen.records.get(name)
    return named(record.current.deployment.bundle) if record and record.current else name
