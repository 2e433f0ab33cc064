"""What a bad day is judged by: each trouble seen, with one alert of its own, and no other."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.e2e.bad_day import TROUBLES, Sighting, complaints, table

FIRST = TROUBLES[0]
SEEN = Sighting(
    device_s=181.0, alert_s=242.0, well_s=3.0, over_s=125.0,
    device_says="it has lost its connection", alert_says="Cut off",
)  # fmt: skip
ONE_EACH = [{"rule": trouble.rule} for trouble in TROUBLES]


def seen(change: Callable[[Sighting], Sighting] = lambda each: each) -> dict[str, Sighting]:
    found = {trouble.name: replace(SEEN) for trouble in TROUBLES}
    return {**found, FIRST.name: change(found[FIRST.name])}


def test_a_day_on_which_all_was_seen_is_a_good_one() -> None:
    """Nothing is complained of, and its table has a row and the words of each trouble."""
    assert [] == complaints(seen(), ONE_EACH, waited_s=720)
    drawn = list(table(seen(), {trouble.rule: 1 for trouble in TROUBLES}, wait_s=720))
    assert 1 + len(TROUBLES) + 1 + 2 * len(TROUBLES) == len(drawn)
    assert ["242", "s", "245", "s", "1"] == drawn[1].split()[5:10]


@pytest.mark.parametrize(
    "change",
    [
        lambda each: replace(each, device_s=None),
        lambda each: replace(each, alert_s=None),
        lambda each: replace(each, well_s=None),
        lambda each: replace(each, over_s=None),
    ],
)
def test_what_was_not_seen_is_complained_of(change: Callable[[Sighting], Sighting]) -> None:
    """By the trouble's name, once."""
    (complaint,) = complaints(seen(change), ONE_EACH, waited_s=720)
    assert complaint.startswith(f"{FIRST.name}: ")


def test_an_alert_that_nobody_waited_for_may_be_there() -> None:
    """It must be gone for as long as its rule has it; drift's for an hour."""
    assert [] == complaints(seen(lambda each: replace(each, over_s=None)), ONE_EACH, waited_s=100)


def test_one_alert_a_cause_is_neither_two_nor_another() -> None:
    """The same rule twice, none that is still there, and a rule that no trouble is of."""
    twice = complaints(seen(), [*ONE_EACH, {"rule": FIRST.rule}], waited_s=720)
    none = complaints(seen(), ONE_EACH[1:], waited_s=720)
    other = complaints(seen(), [*ONE_EACH, {"rule": "SkerryDevicesFailing"}], waited_s=720)

    assert [f"{FIRST.name}: 2 alerts of {FIRST.rule}"] == twice
    assert [f"{FIRST.name}: 0 alerts of {FIRST.rule}"] == none
    assert ["an alert about something else: SkerryDevicesFailing"] == other
