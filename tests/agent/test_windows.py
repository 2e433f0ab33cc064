"""Windows by the clock on a wall, over midnight, over the weeks, and when it is set."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.windows import downloads, is_open, maintenance, next_turn
from agent.wire import v1
from agent.wire.reasons import Reason

BERLIN = ZoneInfo("Europe/Berlin")
ISSUED = "2026-01-02T03:04:05Z"
DAYS = tuple(v1.Weekday)
EVERY_DAY = DAYS


def window(start: str, end: str, *days: str) -> v1.Window:
    return v1.Window(days=tuple(v1.Weekday(day) for day in days) or EVERY_DAY, start=start, end=end)


def settings(*windows: v1.Window, zone: str = "Europe/Berlin") -> v1.DeviceSettings:
    return v1.DeviceSettings(download_windows=windows, time_zone=zone)


def turns(now: str, *windows: v1.Window, count: int = 4) -> list[tuple[str, bool]]:
    """Return the next turns as the clock in Berlin shows them, and whether they open."""
    moment, found = datetime.fromisoformat(now), []
    for _ in range(count):
        moment = next_turn(windows, BERLIN, moment)
        there = moment.astimezone(BERLIN)
        found.append((f"{there:%a %H:%M%z}", is_open(windows, there.replace(tzinfo=None))))
    return found


def test_no_window_is_always() -> None:
    """A clock isn't asked then, however wrong it is."""
    assert None is downloads(v1.DeviceSettings(), ISSUED, "1970-01-01T00:00:00Z").shut


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_starts() -> None:
    """Friday night goes on into Saturday; Sunday night is not Monday's."""
    nights = window("22:00", "05:00", "mon", "tue", "wed", "thu", "fri")
    assert [
        ("Fri 22:00+0100", True),
        ("Sat 05:00+0100", False),
        ("Mon 22:00+0100", True),
        ("Tue 05:00+0100", False),
    ] == turns("2026-11-27T12:00:00Z", nights)  # a Friday


def test_windows_that_touch_are_one() -> None:
    """The whole weekend, and what is within another, have no turn in between."""
    weekend = window("00:00", "24:00", "sat", "sun")
    assert [("Sat 00:00+0100", True), ("Mon 00:00+0100", False)] == turns(
        "2026-11-27T12:00:00Z", weekend, window("03:00", "04:00", "sun"), count=2
    )


def test_the_hour_that_is_left_out() -> None:
    """On 29 March 2026, 02:00 is 03:00: a window begins when the clock first shows its time."""
    eve = "2026-03-28T23:30:00Z"  # 00:30 in Berlin, on the Sunday
    assert [("Sun 03:00+0200", True), ("Sun 03:30+0200", False)] == turns(
        eve, window("02:30", "03:30"), count=2
    )
    assert [("Sun 01:00+0100", True), ("Sun 03:00+0200", False)] == turns(
        eve, window("01:00", "02:30"), count=2
    )
    # All of it is left out: there is none on that Sunday.
    assert [("Mon 02:10+0200", True)] == turns(eve, window("02:10", "02:50"), count=1)
    assert [("Sun 02:10+0200", True)] == turns(eve, window("02:10", "02:50", "sun"), count=1)


def test_the_hour_that_comes_twice() -> None:
    """On 25 October 2026, 03:00 is 02:00 again: a window in that hour is open twice."""
    eve = "2026-10-24T22:30:00Z"
    assert [
        ("Sun 02:15+0200", True),
        ("Sun 02:45+0200", False),
        ("Sun 02:15+0100", True),
        ("Sun 02:45+0100", False),
    ] == turns(eve, window("02:15", "02:45", "sun"))
    assert [
        ("Sun 01:00+0200", True),
        ("Sun 02:30+0200", False),
        ("Sun 02:00+0100", True),  # the clock is set back into it
        ("Sun 02:30+0100", False),
    ] == turns(eve, window("01:00", "02:30", "sun"))
    assert [("Sun 01:30+0200", True), ("Sun 03:30+0100", False)] == turns(
        eve, window("01:30", "03:30", "sun"), count=2
    )


_TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))


@given(
    windows=st.lists(
        st.builds(
            lambda days, times: window(*times, *sorted(days)),
            st.sets(st.sampled_from(DAYS), min_size=1),
            st.lists(_TIMES, min_size=2, max_size=2, unique=True),
        ),
        min_size=1,
        max_size=3,
    ),
    zone=st.sampled_from(
        ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]
    ),
    now=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis wants them so
)
def test_nothing_turns_before_the_next_turn(
    windows: list[v1.Window], zone: str, now: datetime
) -> None:
    """Looked at minute by minute until then, nothing changes; then it does, whatever the zone."""
    there = ZoneInfo(zone)

    def opened(moment: datetime) -> bool:
        return is_open(windows, moment.astimezone(there).replace(tzinfo=None))

    before, turn = opened(now), next_turn(windows, there, now)
    assert turn > now
    minute, steps = now, 0
    while minute < turn and steps < 1500:  # a day of them
        assert opened(minute) is before
        minute, steps = minute + timedelta(minutes=1), steps + 1
    if turn < now + timedelta(days=15):
        assert opened(turn) is not before
        assert opened(turn - timedelta(seconds=1)) is before


def test_what_is_shut_says_when_it_opens() -> None:
    """In UTC for machines, by the clock there for people; looked at again before long."""
    nights = settings(window("22:00", "05:00"))
    closed = downloads(nights, ISSUED, "2026-11-27T20:58:00Z")
    assert closed.shut is not None
    assert Reason.DOWNLOAD_WINDOW_CLOSED == closed.shut.reason
    assert {"opens": "2026-11-27T21:00:00Z"} == closed.shut.parameters
    assert "Fri 22:00 (Europe/Berlin)" in closed.shut.message
    assert 120.0 == closed.look_again_s
    assert 300.0 == downloads(nights, ISSUED, "2026-11-27T12:00:00Z").look_again_s
    opened = downloads(nights, ISSUED, "2026-11-27T21:00:00Z")
    assert (None, 300.0) == (opened.shut, opened.look_again_s)
    assert 1.0 == downloads(nights, ISSUED, "2026-11-28T03:59:59Z").look_again_s


def test_each_kind_of_window_is_about_its_own() -> None:
    """Downloads are allowed while what serves may not be changed, and the other way round."""
    kept = v1.DeviceSettings(
        download_windows=(window("08:00", "12:00"),),
        maintenance_windows=(window("22:00", "05:00"),),
    )
    morning, night = "2026-11-27T09:00:00Z", "2026-11-27T23:00:00Z"
    assert None is downloads(kept, ISSUED, morning).shut
    assert None is maintenance(kept, ISSUED, night).shut
    closed = maintenance(kept, ISSUED, morning).shut
    assert closed is not None
    assert Reason.MAINTENANCE_WINDOW_CLOSED == closed.reason
    assert {"opens": "2026-11-27T22:00:00Z"} == closed.parameters
    assert "what serves may be changed from Fri 22:00 (UTC) on" == closed.message


@pytest.mark.parametrize(
    ("zone", "now", "reason", "parameters"),
    [
        ("UTC", "1970-01-01T22:30:00Z", "CLOCK_WRONG", {"issued_at": ISSUED}),
        ("UTC", "2026-01-02T03:04:04Z", "CLOCK_WRONG", {"issued_at": ISSUED}),
        (
            "Europe/Atlantis",
            "2026-11-27T22:30:00Z",
            "TIME_ZONE_UNKNOWN",
            {"zone": "Europe/Atlantis"},
        ),
        ("Europe", "2026-11-27T22:30:00Z", "TIME_ZONE_UNKNOWN", {"zone": "Europe"}),
    ],
)
def test_a_window_that_cannot_be_kept_is_shut(
    zone: str, now: str, reason: str, parameters: dict[str, str]
) -> None:
    """By night and with a window, and yet: what can't be known is not guessed."""
    found = downloads(settings(window("22:00", "05:00"), zone=zone), ISSUED, now)
    assert found.shut is not None
    assert (reason, parameters) == (found.shut.reason, found.shut.parameters)
    assert 60.0 == found.look_again_s


@pytest.mark.parametrize(
    ("days", "start", "end"),
    [
        ((), "22:00", "05:00"),
        (("mon", "mon"), "22:00", "05:00"),
        (("mon",), "22:00", "22:00"),
        (("mon",), "24:00", "05:00"),
        (("mon",), "22:60", "05:00"),
        (("mon",), "22:00", "24:01"),
        (("mon",), "9:00", "10:00"),
    ],
)
def test_a_window_that_is_none_is_refused(days: tuple[str, ...], start: str, end: str) -> None:
    """A device must not guess what somebody meant."""
    with pytest.raises(ValueError, match=r"window|time of day|twice|day"):
        v1.Window(days=tuple(v1.Weekday(day) for day in days), start=start, end=end)


@pytest.mark.parametrize("zone", ["", "../../etc/passwd", "/etc/localtime", "a" * 65, "Berlin\n"])
def test_a_zone_is_a_name_and_no_path(zone: str) -> None:
    """It becomes a file's name on the device."""
    with pytest.raises(ValueError, match="not a time zone"):
        v1.DeviceSettings(time_zone=zone)
