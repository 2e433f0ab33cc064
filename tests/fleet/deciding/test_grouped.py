"""Numbers and drift of many devices add up by whatever is asked, and show where it is slow."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from fleet.health.drift import Drift, Level, judge
from fleet.health.grouped import By, Cell, Summed, group_verdict, grouped
from fleet.health.heard import Heard
from fleet.health.states import HealthReason, State
from fleet.health.sums import Numbers
from models.card import DriftReference
from tests.fleet.deciding.test_health_sums import AT, PAPER, counted, device

REFERENCE = DriftReference(
    subject="input-0-mean", edges=(1.0, 2.0, 3.0), shares=(0.25,) * 4, samples=1000
)
AS_EVER, DARK = (500, 500, 500, 500, 0), (1400, 300, 200, 100, 0)


def at(heard: Heard, site: str | None) -> Heard:
    return replace(heard, target=replace(heard.target, site=site))


def told(heard: Heard, counts: Sequence[int], *, subject: str = "input-0-mean") -> Heard:
    """Return the device with drift that it told of, judged as the store does."""
    found = {subject: list(counts)}
    drift = Drift(
        deployment="digits",
        revision=1,
        digest=PAPER.bundle("1.4.0").digest,
        told_at=AT,
        since=AT,
        counts=found,
        judged=judge([REFERENCE], found),
    )
    return replace(heard, drift=(drift,))


def quantiles(numbers: Numbers) -> list[float]:
    found = [numbers.quantile(share) for share in (0.5, 0.95, 0.99)]
    return [each for each in found if each is not None]


def exact(durations: Sequence[float]) -> list[float]:
    ordered = sorted(durations)
    return [ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.95, 0.99)]


def by(devices: Sequence[Heard], *parts: By) -> Mapping[Cell, Summed]:
    return grouped(counted(devices).cells(), parts)


def test_a_regression_of_a_third_in_one_class_is_seen() -> None:
    """1.3 times the latency of every fourth device: within 5 % of the truth, there and overall."""
    dice = random.Random(5)  # noqa: S311  # made-up latencies
    durations = [[dice.lognormvariate(-4.6, 0.05) for _ in range(400)] for _ in range(40)]
    slower = [
        [1.3 * seconds for seconds in each] if number % 4 == 0 else each
        for number, each in enumerate(durations)
    ]

    def fleet(of: Sequence[Sequence[float]]) -> list[Heard]:
        return [
            device(n, durations=each, runtime=f"tflite-runtime 2.{13 + (n % 4 == 0)}.0")
            for n, each in enumerate(of)
        ]

    (before,) = by(fleet(durations)).values()
    (after,) = by(fleet(slower)).values()
    classes = {
        cell.class_name.split(",")[0]: summed.numbers
        for cell, summed in by(fleet(slower), By.CLASS).items()
    }
    slow, well = classes["tflite-runtime 2.14.0"], classes["tflite-runtime 2.13.0"]

    everything = [seconds for each in slower for seconds in each]
    of_slow = [seconds for each in slower[::4] for seconds in each]
    assert quantiles(after.numbers) == pytest.approx(exact(everything), rel=0.05)
    assert quantiles(slow) == pytest.approx(exact(of_slow), rel=0.05)
    for then, now in zip(quantiles(well), quantiles(slow), strict=True):
        assert 1.17 < now / then < 1.44  # 1.3, and two buckets' accuracy
    tails = zip(quantiles(before.numbers)[1:], quantiles(after.numbers)[1:], strict=True)
    assert all(now / then > 1.15 for then, now in tails)
    assert [400 * 10, 400 * 30] == [slow.requests, well.requests]


def test_a_request_a_second_is_each_device_s_own() -> None:
    """Devices with other periods say other counts, and serve as much."""
    often = device(1, durations=[0.01] * 10)
    seldom = device(2, durations=[0.01] * 60)
    assert often.health is not None
    often = replace(often, health=replace(often.health, period_s=10.0))
    (summed,) = by([often, seldom]).values()

    assert 2.0 == pytest.approx(summed.numbers.per_s)


def test_every_way_to_tell_apart_adds_up_to_the_same() -> None:
    """Whatever is asked, nobody is missing and nobody is counted twice."""
    devices = [
        at(
            told(
                device(n, ("1.4.0", "1.5.0")[n % 2], durations=[0.01] * n, runtime=f"r {n % 3}"),
                AS_EVER,
            ),
            ("porto", "lerwick", None)[n % 3],
        )
        for n in range(1, 13)
    ]
    (whole,) = by(devices).values()
    for parts in ([each] for each in By):
        found = by(devices, *parts)
        assert sum(each.numbers.devices for each in found.values()) == whole.numbers.devices == 12
        assert sum(each.numbers.requests for each in found.values()) == whole.numbers.requests
        assert 6 == sum(sum(each.drifting.values()) for each in found.values())  # of what serves
    assert {"", "lerwick", "porto"} == {cell.site for cell in by(devices, By.SITE)}
    assert 6 == len(by(devices, By.BUNDLE, By.CLASS))
    assert by(devices, *By) == counted(devices).cells()


def test_drift_of_many_is_judged_as_of_one() -> None:
    """Each alone has too few; together they are a drift. Who is away, or told long ago, is not."""
    few = [told(device(n), [count // 100 for count in DARK]) for n in range(1, 31)]
    (summed,) = by(few).values()
    ((bundle, counts),) = summed.counts.items()
    (found,) = judge([REFERENCE], counts)

    assert {Level.TOO_FEW: 30} == dict(summed.drifting)
    assert ("1.4.0", Level.ALARM, 600) == (bundle.version, found.level, found.requests)
    away = [told(device(n, online=False), DARK) for n in range(3)]
    assert {} == by(away)
    stale = [
        replace(each, drift=(replace(each.drift[0], told_at="2026-02-27T12:00:00Z"),))
        for each in few
    ]
    (none,) = by(stale).values()
    assert ({}, {}) == (dict(none.drifting), dict(none.counts))


def test_one_site_s_drift_does_not_hide_in_the_fleet() -> None:
    """The fleet is well, on the whole; the site is not."""
    devices = [at(told(device(n), DARK if n == 1 else AS_EVER), f"s{n}") for n in range(1, 20)]
    sites = {cell.site: summed for cell, summed in by(devices, By.SITE).items()}
    (whole,) = by(devices).values()

    def level(summed: Summed) -> Level:
        ((_, counts),) = summed.counts.items()
        return judge([REFERENCE], counts)[0].level

    assert [Level.ALARM, Level.OK, Level.OK] == [
        level(sites["s1"]),
        level(sites["s2"]),
        level(whole),
    ]
    assert {Level.ALARM: 1, Level.OK: 18} == dict(whole.drifting)


@pytest.mark.parametrize("stranger", [1, 9])
def test_a_stranger_s_bins_spoil_no_sum(stranger: int) -> None:
    """A device that tells of bins the card does not have counts in nobody's, first or last."""
    devices = [told(device(n), AS_EVER) for n in range(2, 5)]
    bad = replace(told(device(stranger), (9, 9)))
    other = told(device(stranger), AS_EVER, subject="input-7-mean")
    (clean,) = by(devices).values()

    for each in (bad, other):
        (found,) = by(sorted([*devices, each], key=lambda one: one.target.name)).values()
        (counts,) = found.counts.values()
        assert clean.counts == {next(iter(found.counts)): counts}
        assert 1 == found.drifting[Level.TOO_FEW]


def test_a_group_has_a_verdict() -> None:
    """By the rules of a device; nothing asked is not good."""
    far = judge([REFERENCE], {"input-0-mean": DARK})
    near = judge([REFERENCE], {"input-0-mean": AS_EVER})
    failing = Numbers(devices=1, requests=100, errors=3)
    drifting = group_verdict(Numbers(), far)

    assert State.UNKNOWN is group_verdict(Numbers(), ()).state
    assert (
        State.UNKNOWN
        is group_verdict(Numbers(), judge([REFERENCE], {"input-0-mean": [1] * 5})).state
    )
    assert State.OK is group_verdict(Numbers(devices=1, requests=1, errors=1), ()).state
    assert State.OK is group_verdict(Numbers(), near).state
    assert HealthReason.ERRORS_HIGH == group_verdict(failing, far).reason
    assert (State.DEGRADED, HealthReason.DRIFTING) == (drifting.state, drifting.reason)
    assert {"subject", "psi", "requests"} == set(drifting.parameters)
