"""Download windows as people write them, and what of them no device can have."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import v1
from agent.wire.limits import WINDOWS_LIMIT
from fleet.inventory import Target
from fleet.rollouts.errors import PlanError
from fleet.settings import SettingsChange, parse_windows, resettled, written_windows

AT = "2026-11-24T09:00:00Z"
DAYS = tuple(v1.Weekday)
MON, TUE, WED, THU, FRI, SAT, SUN = DAYS


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("daily 22:00-05:00", DAYS),
        ("mon-sun 22:00-05:00", DAYS),
        ("mon-fri  22:00-05:00", (MON, TUE, WED, THU, FRI)),
        ("fri-mon 22:00-05:00", (MON, FRI, SAT, SUN)),
        ("sat,sun 22:00-05:00", (SAT, SUN)),
        ("wed,mon-tue,wed 22:00-05:00", (MON, TUE, WED)),
        ("sun 22:00-05:00", (SUN,)),
    ],
)
def test_days_are_written_as_people_do(text: str, days: tuple[v1.Weekday, ...]) -> None:
    """Lists, spans, spans over the weekend, or all of them."""
    assert (v1.Window(days=days, start="22:00", end="05:00"),) == parse_windows(text)


def test_none_is_always() -> None:
    """And several are parted by semicolons."""
    assert () == parse_windows(" none ")
    assert ["01:00", "03:00"] == [
        each.start for each in parse_windows("mon 01:00-02:00;tue 03:00-04:00")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "always",
        "22:00-05:00",
        "mon 22:00",
        "mon 22-05",
        "Mon 22:00-05:00",
        "mon- 22:00-25:00",
        "monday 22:00-05:00",
        ",mon 22:00-05:00",
        "mon 22:00-05:00;",
        "mon 22:00-05:00, tue 22:00-05:00",
        "mon 22:00-22:00",
    ],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=r".+"):
        parse_windows(text)


def test_a_day_that_is_none_is_named_with_those_there_are() -> None:
    """Other languages shorten them in other ways."""
    with pytest.raises(ValueError, match="'mo' is no day; there are mon, tue, "):
        parse_windows("mo-fr 22:00-05:00")


@given(
    st.lists(
        st.builds(
            lambda days: v1.Window(
                days=tuple(day for day in DAYS if day in days), start="22:00", end="05:00"
            ),
            st.sets(st.sampled_from(DAYS), min_size=1),
        ),
        min_size=1,
        max_size=WINDOWS_LIMIT,
    )
)
def test_what_is_written_is_read_as_the_same(windows: list[v1.Window]) -> None:
    """Whatever the days."""
    assert tuple(windows) == parse_windows(written_windows(windows))


def test_settings_that_do_not_fit_beside_all_that_a_device_serves_are_refused() -> None:
    """Its document would not travel: said before it is written."""
    many = v1.DeploymentSettings(values={f"threshold-{index}": 0.25 for index in range(4)})
    deployments = tuple(
        v1.Deployment(
            name=f"{number:02}-reader-of-belts",
            bundle=v1.BundleRef(digest="sha256:" + "a" * 64, name="belts", version="10.20.30"),
            revision=999,
            settings=many,
        )
        for number in range(16)
    )
    held = v1.Desired(
        fleet="north",
        target="d-1",
        order=v1.Order(epoch=0, generation=1),
        issued_at=AT,
        deployments=deployments,
    )
    target = Target(device="d-1", name="one", desired=held, reported=None)
    windows = parse_windows("; ".join(["daily 22:00-05:00"] * WINDOWS_LIMIT))
    change = SettingsChange(download_windows=windows)

    few = replace(target, desired=replace(held, deployments=deployments[:1]))
    settled = resettled(few, change, fleet="north", epoch=0, issued_at=AT)
    assert windows == settled.settings.download_windows
    with pytest.raises(PlanError) as caught:
        resettled(target, change, fleet="north", epoch=0, issued_at=AT)
    assert "TOO_LARGE" == caught.value.reason
