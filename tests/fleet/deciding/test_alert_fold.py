"""What is found becomes alerts: each told once, quiet while it flaps, ended when it is over."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.alerts.alert import (
    ALERT,
    OPEN,
    Ack,
    Alert,
    AlertState,
    News,
    Silence,
    acknowledged,
    silenced_by,
)
from fleet.alerts.cause import Cause, Key, Scope
from fleet.alerts.fold import RETURNS_S, fold
from fleet.alerts.rules import BY_NAME, RULES, Causes
from fleet.clock import written
from tests.fleet.deciding.paper import NOW

CUT = Key("SkerrySiteCut", Scope.SITE, "porto")
CRASH = Key("SkerryCrashLoop", Scope.BUNDLE, "digits 1.5.0")
HOLDS = BY_NAME[CUT.rule].holds_s
CLEARS = BY_NAME[CUT.rule].clears_s


def cause(key: Key = CUT, devices: int = 4) -> Cause:
    return Cause(key=key, since=written(NOW), devices=devices, of=devices, names=("buoy-1",))


class Watch:
    """Folds look after look, in a time of its own."""

    def __init__(self) -> None:
        self.now: datetime = NOW
        self.alerts: tuple[Alert, ...] = ()
        self.news: list[str] = []
        self.position = 0

    def look(
        self,
        *found: Cause,
        after_s: float = 0.0,
        blind: Iterable[str] = (),
        unseen: Iterable[Key] = (),
    ) -> list[str]:
        """Let time pass, look, and return what is told."""
        self.now += timedelta(seconds=after_s)
        looked = Causes(tuple(found), frozenset(blind), frozenset(unseen))
        folded = fold(self.alerts, looked, self.now, position=self.position)
        self.position += len(folded.events)
        self.alerts = folded.alerts
        told = [str(event.news) for event in folded.events]
        self.news += told
        return told

    @property
    def only(self) -> Alert:
        (alert,) = self.alerts
        return alert


def test_an_alert_opens_once_it_has_held_and_ends_once_it_is_gone() -> None:
    """One message at each end, however often somebody looks between."""
    watch = Watch()

    assert [] == watch.look(cause())
    assert [] == watch.look(cause(), after_s=HOLDS - 1)
    assert ["opened"] == watch.look(cause(), after_s=1)
    for _ in range(100):
        assert [] == watch.look(cause(), after_s=60)
    assert [] == watch.look()
    assert [] == watch.look(after_s=CLEARS - 1)
    assert ["cleared"] == watch.look(after_s=1)
    assert AlertState.ENDED is watch.only.state
    assert ["opened", "cleared"] == [str(event.news) for event in watch.only.history]


def test_what_does_not_hold_leaves_no_trace() -> None:
    """A router that restarts is no alert."""
    watch = Watch()
    watch.look(cause())

    assert [] == watch.look(after_s=HOLDS - 1)
    assert () == watch.alerts


def test_flapping_is_quiet() -> None:
    """On and off every 30 s for a day: two messages an hour at most, and fewer as it goes on."""
    watch = Watch()
    for number in range(2 * 60 * 24):
        watch.look(*([cause()] if number % 2 else []), after_s=30)
    # Up long enough to open, and down long enough to end, again and again:
    slow = Watch()
    for _ in range(24 * 10):
        for _ in range(4):
            slow.look(cause(), after_s=30)
        for _ in range(8):
            slow.look(after_s=30)

    assert len(watch.news) <= 1
    assert len(slow.news) <= 48
    assert 1 == len(slow.alerts)


def test_growing_is_told_by_doubling() -> None:
    """From 2 devices to 400, one at a time: eight messages, not 398."""
    watch = Watch()
    watch.look(cause(devices=2))
    watch.look(cause(devices=2), after_s=HOLDS)
    for devices in range(3, 401):
        watch.look(cause(devices=devices), after_s=60)

    assert ["opened", *["grew"] * 7] == watch.news
    assert 400 == watch.only.cause.devices


def test_what_comes_back_is_the_same_alert_for_a_while() -> None:
    """And its acknowledgement is over: whoever was on it thought it was done."""
    watch = Watch()
    watch.look(cause(CRASH))
    name = watch.only.id
    ack = Ack(by="operator", reason="on it", at=written(NOW))
    watch.alerts = (acknowledged(watch.only, ack),)
    watch.look()
    watch.look(after_s=600)

    assert ["reopened"] == watch.look(cause(CRASH), after_s=60)
    assert (name, None, 1) == (watch.only.id, watch.only.ack, watch.only.returned)
    watch.look()
    assert [] == watch.look(after_s=600)  # it must be well for twice as long now
    assert ["cleared"] == watch.look(after_s=600)
    watch.look(cause(CRASH), after_s=RETURNS_S)
    assert 2 == len({alert.id for alert in watch.alerts})


def test_what_could_not_be_judged_stays_as_it_is() -> None:
    """A centre without its broker ends no alert, and opens none."""
    watch = Watch()
    watch.look(cause())
    watch.look(cause(), after_s=HOLDS)

    assert [] == watch.look(after_s=86400, blind=[CUT.rule])
    assert watch.only.state in OPEN


def test_what_nobody_hears_of_is_not_over() -> None:
    """A device that crashed and then fell silent was not mended by that."""
    watch = Watch()
    watch.look(cause(CRASH))

    assert [] == watch.look(after_s=86400, unseen=[CRASH])
    assert watch.only.state in OPEN
    watch.look()
    assert ["cleared"] == watch.look(after_s=600)
    assert [] == watch.look(after_s=60, unseen=[CRASH])


def test_a_part_of_something_larger_is_neither_told_nor_ended() -> None:
    """Some of a site, then all of it, then six sites: no `cleared` while it gets worse."""
    some = Key("SkerryDevicesAway", Scope.SITE, "porto")
    watch = Watch()
    watch.look(cause(some))
    assert ["opened"] == watch.look(cause(some), after_s=300)
    watch.look(cause())
    assert ["opened"] == watch.look(cause(), after_s=3600)
    fleet = cause(Key(CUT.rule, Scope.FLEET), devices=24)
    watch.look(fleet)
    assert ["opened"] == watch.look(fleet, after_s=3600)
    assert 3 == sum(alert.state in OPEN for alert in watch.alerts)
    watch.look()
    assert ["cleared"] * 3 == watch.look(after_s=3600)


def test_positions_rise_with_every_news() -> None:
    """Whoever was told up to one has missed all above it, and nothing below."""
    watch = Watch()
    watch.position = 7
    watch.look(cause(CRASH), cause(Key("SkerryGoldenFailing", Scope.BUNDLE, "digits 1.5.0")))

    assert [8, 9] == sorted(alert.position for alert in watch.alerts)


def test_a_clock_that_goes_backwards_opens_and_ends_nothing() -> None:
    """Time that is lost only delays."""
    watch = Watch()
    watch.look(cause())
    assert [] == watch.look(cause(), after_s=-86400)
    watch.now = NOW
    assert ["opened"] == watch.look(cause(), after_s=HOLDS)
    watch.look()
    assert [] == watch.look(after_s=-86400)


KEYS = st.builds(
    Key,
    st.sampled_from([rule.name for rule in RULES[:6]]),
    st.sampled_from([Scope.SITE, Scope.FLEET]),
    st.sampled_from(["", "porto"]),
)
LOOKS = st.lists(
    st.tuples(
        st.lists(st.tuples(KEYS, st.integers(1, 50)), max_size=4, unique_by=lambda each: each[0]),
        st.sampled_from([0.0, 10.0, 61.0, 301.0, 3601.0, 30000.0]),
        st.booleans(),
    ),
    max_size=25,
)


@given(LOOKS)
def test_looking_again_yields_nothing(
    looks: Sequence[tuple[list[tuple[Key, int]], float, bool]],
) -> None:
    """Folding the same look once more changes nothing and tells nothing; states keep to the table.

    And of each alert, what is told alternates: nothing ends that was not open.
    """
    watch = Watch()
    for found, after_s, blind in looks:
        here = [cause(key, devices) for key, devices in found]
        hidden = [RULES[0].name] if blind else []
        watch.look(*here, after_s=after_s, blind=hidden)
        before = watch.alerts

        assert [] == watch.look(*here, blind=hidden)
        assert before == watch.alerts
        assert {each.key for each in watch.alerts if each.state in OPEN} >= {
            key for key, _ in found if BY_NAME[key.rule].holds_s == 0 and key.rule not in hidden
        }
    for alert in watch.alerts:
        ends = [event.news for event in alert.history if event.news is not News.GREW]
        starts = ends[0::2]
        assert ends[:1] in ([], [News.OPENED])
        assert all(each is not News.CLEARED for each in starts)
        assert all(each is News.CLEARED for each in ends[1::2])


def test_the_table_is_closed() -> None:
    """Every state has a row, and leads to states that have one; only one is the end."""
    assert set(AlertState) == set(ALERT)
    assert [AlertState.DROPPED] == [state for state, row in ALERT.items() if not row]


def silence(**changes: object) -> Silence:
    fields: dict[str, object] = {
        "id": "s",
        "rule": None,
        "site": None,
        "bundle": None,
        "until": written(NOW + timedelta(hours=1)),
        "by": "operator",
        "reason": "digging",
        "created_at": written(NOW),
        **changes,
    }
    return Silence(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "wanted", "holds"),
    [
        (CUT, {"rule": CUT.rule}, True),
        (CUT, {"site": "porto"}, True),
        (CUT, {"site": "lerwick"}, False),
        (CUT, {"site": "porto", "rule": "SkerryDiskFilling"}, False),
        (CUT, {"bundle": "porto"}, False),
        (CRASH, {"bundle": "digits"}, True),
        (CRASH, {"bundle": "digits:1.5.0"}, True),
        (CRASH, {"bundle": "digits:1.5"}, False),
        (CRASH, {"site": "digits 1.5.0"}, False),
        (CUT, {"site": "porto", "until": written(NOW)}, False),
    ],
)
def test_a_silence_holds_for_what_it_names_until_it_ends(
    key: Key, wanted: dict[str, object], *, holds: bool
) -> None:
    """All that is set must match, and it never holds for ever."""
    alert = Alert(id="a", cause=cause(key), turned_at=NOW)

    assert holds == (silenced_by(alert, [silence(**wanted)], written(NOW)) is not None)
