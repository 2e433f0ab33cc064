"""A rollout's trace: taken up, carried by all that is asked, told in order, and made into spans."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from agent.wire import v1
from agent.wire.phases import Phase
from fleet.rollouts.fold import fold
from fleet.rollouts.look import seen
from fleet.rollouts.moves import moves
from fleet.rollouts.progress import Rollout, RolloutEvent, begin
from fleet.rollouts.spans import Span, ended, phases
from fleet.rollouts.states import RolloutHappening
from fleet.rollouts.trace import Trace, of_header
from tests.fleet.deciding.paper import NOW, Paper

ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACE = Trace(id=ID, parent=PARENT)
STARTED = RolloutEvent(rollout=RolloutHappening.STARTED)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"00-{ID}-{PARENT}-01", TRACE),
        (f" 00-{ID}-{PARENT}-00 ", TRACE),
        (f"cc-{ID}-{PARENT}-01-what-comes-later", TRACE),
        (f"00-{ID}-{PARENT}-01-more", None),
        (f"ff-{ID}-{PARENT}-01", None),
        (f"00-{'0' * 32}-{PARENT}-01", None),
        (f"00-{ID}-{'0' * 16}-01", None),
        (f"00-{ID.upper()}-{PARENT}-01", None),
        (f"00-{ID}-{PARENT}", None),
        (f"00-{ID}-{PARENT}-01\n00-{ID}-{PARENT}-01", None),
        ("", None),
    ],
)
def test_a_header_names_a_trace_or_none(header: str, found: Trace | None) -> None:
    """As W3C Trace Context says; later versions are read as far as they are known."""
    assert found == of_header(header)


def test_no_plan_knows_of_traces(paper: Paper) -> None:
    """Whose trace brought what is replaced makes no other plan, and no other deployment."""
    before = paper.deployment(version="0.9.0")
    mine = replace(before, trace_id=ID)
    plans = [
        paper.plan(paper.inventory(paper.target(desired=paper.desired("d-1", each))))
        for each in (before, mine)
    ]

    assert mine == before
    assert plans[0].digest == plans[1].digest


def run(paper: Paper, *said: Phase) -> list[Rollout]:
    """Return a rollout to one device, at its start and after each thing that was said of it."""
    inventory = paper.inventory(paper.target())
    planned = paper.plan(inventory)
    at = [fold(begin(planned, "r-1", TRACE), [STARTED], NOW)]
    (asked,) = at[0].targets
    inventory = paper.written(inventory, {asked.target: asked.deployment})
    at.append(fold(at[-1], seen(at[-1], inventory, after(1)), after(1)))
    for seconds, phase in enumerate(said, start=2):
        inventory = paper.says(inventory, "d-1", phase)
        at.append(fold(at[-1], seen(at[-1], inventory, after(seconds)), after(seconds)))
    return at


def test_every_move_is_told_once_with_the_trace(paper: Paper) -> None:
    """The beginning first, the end last; a look at which nothing moved tells nothing."""
    steps = run(paper, Phase.FETCHING, Phase.FETCHING, Phase.COMMITTED)
    told = list(moves(None, steps[0]))
    for before, now in pairwise(steps):
        told += moves(before, now)

    assert {ID} == {move.fields["trace_id"] for move in told}
    assert [
        ("rollout", "running"),
        ("target", "asked"),
        ("target", "updating"),
        ("wave", "passed"),
        ("target", "committed"),
        ("rollout", "done"),
    ] == [(move.what, str(move.fields["state"])) for move in told]


def spans_of(steps: list[Rollout]) -> dict[str, Span]:
    pairs = zip(steps[:-1], steps[1:], range(1, len(steps)), strict=True)
    found = [span for before, now, at in pairs for span in ended(before, now, after(at))]
    assert len(found) == len({span.id for span in found})
    return {span.name: span for span in found}


def test_what_ended_is_a_span_below_what_it_is_part_of(paper: Paper) -> None:
    """From when it was asked to when it was heard; the caller's span is above all."""
    spans = spans_of(run(paper, Phase.FETCHING, Phase.COMMITTED))

    assert {"rollout", "wave 1", "device"} == set(spans)
    assert PARENT == spans["rollout"].parent
    assert spans["rollout"].id == spans["wave 1"].parent
    assert spans["wave 1"].id == spans["device"].parent
    assert (after(1), after(3)) == (spans["device"].begin, spans["device"].end)
    assert (NOW, after(3)) == (spans["rollout"].begin, spans["rollout"].end)
    assert {""} == {span.failed for span in spans.values()}


def test_what_failed_says_why(paper: Paper) -> None:
    """A device that refused, and the rollout that failed with it."""
    spans = spans_of(run(paper, Phase.REFUSED))

    assert "refused" == spans["device"].failed
    assert spans["wave 1"].failed
    assert spans["rollout"].failed


def test_a_rollout_without_a_trace_has_no_spans(paper: Paper) -> None:
    """It was begun by a centre that knew of none, and goes on all the same."""
    steps = [replace(step, trace=None) for step in run(paper, Phase.COMMITTED)]

    assert {} == spans_of(steps)
    assert all("trace_id" not in move.fields for move in moves(steps[-2], steps[-1]))


def event(number: int, phase: Phase, **more: str) -> tuple[v1.Event, datetime]:
    """Return an event that arrived when its number says, told by a clock of 1970."""
    told = v1.Event(
        fleet="harbour",
        device="d-1",
        ledger="l-1",
        number=number,
        kind=v1.EventKind.PHASE,
        at="1970-01-01T00:00:00Z",
        deployment="digits",
        revision=1,
        phase=phase,
        trace_id=ID,
        reason=more.get("reason"),
    )
    return told, after(number)


def test_phases_last_from_arrival_to_arrival_below_their_device(paper: Paper) -> None:
    """The centre's times; the device's own is an attribute; the last one is a moment."""
    device = spans_of(run(paper, Phase.COMMITTED))["device"]
    told = [event(1, Phase.ACCEPTED), event(2, Phase.FETCHING), event(5, Phase.COMMITTED)]
    found = list(phases(told))

    assert ["accepted", "fetching", "committed"] == [span.name for span in found]
    assert {device.id} == {span.parent for span in found}
    assert [(1, 2), (2, 5), (5, 5)] == [
        ((span.begin - NOW).seconds, (span.end - NOW).seconds) for span in found
    ]
    assert "1970-01-01T00:00:00Z" == found[0].attributes["skerry.device.at"]
    assert found == list(phases(told)), "sent twice, they are the same spans"


def test_a_revision_that_fails_late_has_each_phase_once() -> None:
    """What led to the commit was told then; what led back is told when it has."""
    late = [event(3, Phase.ROLLING_BACK), event(4, Phase.ROLLED_BACK, reason="GOLDEN_MISMATCH")]
    told = [event(1, Phase.ACCEPTED), event(2, Phase.COMMITTED), *late]
    found = list(phases(told))

    assert ["rolling-back", "rolled-back"] == [span.name for span in found]
    assert ["rolling-back", "GOLDEN_MISMATCH"] == [span.failed for span in found]
