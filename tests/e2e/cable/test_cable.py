"""A short cut of the cable: what `make cable` does for ten minutes, for some seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cable.client import Failed, Harm, Span, unexplained
from tests.e2e.cable.cut import Cut, World, cut, world
from tests.e2e.wares import Model


@pytest.fixture
def made(tmp_path: Path, old: Model) -> Iterator[World]:
    with world(tmp_path, old) as running:
        yield running


@pytest.mark.real("mosquitto")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_happened_behind_a_cut_cable_is_known_once_and_in_order(made: World) -> None:
    """Agent and worker die alone; broker and agent die again while it is told."""
    report = cut(made, Cut(seconds=4.0, agent_kills=1), print)
    print(report)  # noqa: T201  # what was shown

    assert {} == report.complaints
    assert {"boot", "hold", "worker"} <= report.kinds.keys()
    assert (2, 0) == (report.agent_kills, report.verdict.folded)
    assert report.verdict.whole >= report.transitions
    assert report.answered > 0


def test_a_request_that_failed_without_a_death_is_seen() -> None:
    """One death of a worker explains one request, and only what it is known to do."""
    died = "the worker of belt died over this request (killed by SIGKILL) and is being replaced"
    harm = Harm(workers=[Span(10.0, 10.1)], agents=[Span(20.0, 22.0)])
    under = Failed(Span(9.9, 10.05), 500, died)
    again = Failed(Span(10.05, 10.2), 500, died)
    dead = Failed(Span(21.9, 22.1), None, "ConnectionRefusedError")
    busy = Failed(Span(9.9, 10.05), 503, "busy")
    late = Failed(Span(22.1, 22.2), None, "ConnectionRefusedError")

    assert [] == unexplained([under, dead], harm)
    assert [again] == unexplained([under, again], harm)
    assert [busy, late] == unexplained([busy, late, dead], harm)
