"""A fleet's numbers: counted or merged, never averaged; offline devices count as nothing good."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sketch import Sketch
from agent.wire.phases import Phase
from agent.wire.v1 import (
    Active,
    DeploymentHealth,
    Health,
    LatencySketch,
    Order,
    Reported,
    ReportedDeployment,
)
from fleet.health.grouped import by_served
from fleet.health.headcount import Headcount
from fleet.health.heard import Heard
from fleet.health.states import State
from fleet.health.sums import Numbers, of_device, total
from tests.fleet.deciding.paper import FLEET, NOW, Paper

PAPER = Paper()
AT = "2026-03-01T11:59:50Z"
COUNTS = st.lists(
    st.builds(
        lambda requests, errors, durations: (requests, errors, durations),
        st.integers(0, 1000),
        st.integers(0, 1000),
        st.lists(st.floats(1e-4, 5.0), max_size=40),
    ),
    max_size=8,
)


def sketch(durations: Sequence[float]) -> LatencySketch:
    made = Sketch()
    for seconds in durations:
        made.add(seconds)
    return made.to_wire()


def device(
    number: int,
    version: str = "1.4.0",
    *,
    durations: Sequence[float] = (),
    runtime: str = "ai-edge-litert 2.3.0",
    online: bool = True,
) -> Heard:
    bundle = PAPER.bundle(version)
    serves = Active(
        revision=1,
        bundle=bundle,
        variant="sha256:" + "5" * 64,
        runtime=runtime,
        accelerator="cpu",
    )
    told = ReportedDeployment(
        name="digits", revision=1, digest=bundle.digest, phase=Phase.COMMITTED, active=serves
    )
    name = f"d-{number}"
    return Heard(
        target=PAPER.target(
            number,
            online=online,
            last_seen=AT,
            desired=PAPER.desired(name, PAPER.deployment(version=version)),
            reported=Reported(
                fleet=FLEET,
                device=name,
                session=1,
                observed=Order(epoch=0, generation=1),
                deployments=(told,),
            ),
        ),
        joined_at="2026-02-01T00:00:00Z",
        reported_at=AT,
        health=Health(
            fleet=FLEET,
            device=name,
            session=1,
            at=AT,
            period_s=60.0,
            deployments=(
                DeploymentHealth(
                    name="digits",
                    revision=1,
                    digest=bundle.digest,
                    requests=len(durations),
                    errors=0,
                    latency=sketch(durations),
                ),
            ),
        ),
        health_at=AT,
    )


def p95(numbers: Numbers) -> float:
    found = numbers.quantile(0.95)
    assert found is not None
    return found


def counted(devices: Sequence[Heard]) -> Headcount:
    headcount = Headcount()
    headcount.take(devices, NOW)
    return headcount


@given(COUNTS)
def test_the_sum_is_the_same_as_one_device_with_all_of_it(
    parts: list[tuple[int, int, list[float]]],
) -> None:
    """Counts add up, sketches merge to the sketch of all durations, in any order."""
    numbers = [
        Numbers(devices=1, requests=requests, errors=errors, latency=sketch(durations))
        for requests, errors, durations in parts
    ]
    summed = total(numbers)

    assert summed == total(reversed(numbers))
    assert len(parts) == summed.devices
    assert sum(requests for requests, _, _ in parts) == summed.requests
    assert sum(errors for _, errors, _ in parts) == summed.errors
    assert sketch([each for _, _, durations in parts for each in durations]) == summed.latency


def test_a_regression_of_half_on_some_devices_is_seen() -> None:
    """1.5 times the latency on one class stands out, and moves the fleet's slow end."""
    dice = random.Random(4)  # noqa: S311  # made-up latencies
    durations = [[dice.lognormvariate(-4.6, 0.1) for _ in range(500)] for _ in range(20)]
    before = counted([device(n, durations=each) for n, each in enumerate(durations)])
    slower = [[1.5 * seconds for seconds in each] for each in durations[:4]] + durations[4:]
    after = counted(
        [
            device(n, durations=each, runtime=f"tflite-runtime {'2.14.0' if n < 4 else '2.13.0'}")
            for n, each in enumerate(slower)
        ]
    )
    (well,) = by_served(before.cells()).values()
    slow = {
        served.class_name.split(",")[0]: numbers
        for served, numbers in by_served(after.cells()).items()
    }
    then, now = p95(well), p95(slow["tflite-runtime 2.14.0"])
    others, whole = p95(slow["tflite-runtime 2.13.0"]), p95(total(slow.values()))

    assert pytest.approx(1.5, rel=0.11) == now / then
    assert pytest.approx(1.0, rel=0.11) == others / then
    assert whole > 1.2 * then
    mean = (4 * now + 16 * others) / 20
    assert abs(mean - whole) > 0.1 * then  # what averaging quantiles would have said


def test_what_is_away_counts_for_nothing_good() -> None:
    """It may serve, its numbers are old, and it is in nobody's sums; nor is what came late."""
    devices = [
        device(1, durations=[0.01] * 10),
        device(2, durations=[0.01] * 10, online=False),
        device(3, "1.5.0", durations=[0.02] * 5),
    ]
    told = counted(devices)
    first, second = told.spread()

    assert {State.OK: 2, State.OFFLINE: 1} == {s: n for s, n in told.by_state().items() if n}
    assert set(State) == set(told.by_state())
    assert ("1.4.0", 1, 1, 3) == (
        first.bundle.version,
        first.serving,
        first.offline,
        first.devices,
    )
    assert ("1.5.0", 1, 0) == (second.bundle.version, second.serving, second.offline)
    assert [10, 5] == [numbers.requests for numbers in by_served(told.cells()).values()]
    late = [replace(each, health_late=True) for each in devices]
    assert {} == by_served(counted(late).cells())


def test_a_bundle_nobody_reports_is_named_as_far_as_it_is_known() -> None:
    """Numbers of a digest that neither the report nor the store speaks of stay apart."""
    known = device(1, durations=[0.01])
    assert known.health is not None
    (part,) = known.health.deployments
    other = replace(part, digest="sha256:" + "9" * 64)
    strange = replace(known, health=replace(known.health, deployments=(other,)))
    (served,) = by_served(counted([strange]).cells())

    assert ("digits", "", "not told") == (served.bundle, served.version, served.class_name)


def test_a_device_without_health_has_no_numbers() -> None:
    """Not measured is not zero."""
    silent = replace(device(1), health=None, health_at=None)
    numbers = of_device(device(1, durations=[0.01, 0.02]))

    assert of_device(silent) is None
    assert numbers is not None
    assert (1, 2) == (numbers.devices, numbers.requests)
    assert {} == by_served(counted([silent]).cells())
