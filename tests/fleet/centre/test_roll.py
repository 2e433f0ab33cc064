"""What is kept of a fleet in memory is what reading and counting it anew would give."""

import datetime as dt
import random
import threading

import pytest

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet.health.headcount import Headcount
from fleet.known import known_among
from fleet.roll import Roll, RollUnreadError
from fleet.store import devices, presence, touched
from fleet.store.engine import Store
from tests.fleet.centre.outlook import Outlook
from tests.fleet.centre.test_lookout import FEELINGS, LERWICK, drifted, publish_reference
from tests.fleet.screens.village import FLEET


@pytest.fixture
def outlook(store: Store) -> Outlook:
    made = Outlook(store)
    made.settle(lerwick=8, porto=6)
    return made


def counted(headcount: Headcount) -> list[object]:
    """Return all that a headcount says."""
    return [
        list(headcount.judged()),
        headcount.by_state(),
        headcount.by_site(),
        headcount.offline_since(),
        list(headcount.spread()),
        headcount.cells(),
        {trouble: sorted(of, key=str) for trouble, of in headcount.alike().items()},
    ]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_counted_between_looks_is_what_counting_anew_gives(
    outlook: Outlook, seed: int
) -> None:
    """Devices come, go, report, feel, drift, fall silent and join, in any order."""
    publish_reference(outlook.store)
    chance = random.Random(seed)  # noqa: S311  # not a secret
    roll, kept = Roll(outlook.store, FLEET), Headcount()
    for turn in range(60):
        device = chance.choice(list(outlook.sessions))
        for _ in range(chance.randrange(4)):
            match chance.randrange(7):
                case 0:
                    outlook.go(device)
                case 1:
                    outlook.come(device)
                case 2:
                    outlook.feel(device, **chance.choice(FEELINGS))
                case 3:
                    outlook.refuse(device, reason=chance.choice([None, Reason.GOLDEN_MISMATCH]))
                case 4:
                    bins = tuple(chance.randrange(2000) for _ in range(5))
                    sketch = (v1.DriftSketch(subject="input-0-mean", counts=bins),)
                    outlook.commit(drifted(outlook, device, sketch, told=turn))
                case 5:
                    outlook.join(f"new-{seed}-{turn}-{chance.randrange(1000)}")
                case _:
                    outlook.feel(*outlook.sessions)
        kept.take((each.heard for each in roll.call()), outlook.now)
        anew = Headcount()
        with outlook.store.read() as connection:
            every = known_among(connection, devices.every(connection))
        anew.take((each.heard for each in every), outlook.now)
        assert list(every) == list(roll.call())
        assert counted(anew) == counted(kept)
        outlook.wait(chance.choice([0, 0, 1, 60, 400, 90_000]))


def test_nobody_is_read_again_of_whom_nothing_was_written(outlook: Outlook) -> None:
    """The very same values: that is how everybody else knows what has changed."""
    roll = Roll(outlook.store, FLEET)
    before = roll.call()
    assert roll.call() is before
    assert roll.inventory() is roll.inventory()
    outlook.feel(LERWICK[0])
    after = roll.call()

    changed = [new for old, new in zip(before, after, strict=True) if old is not new]
    assert [LERWICK[0]] == [each.device.id for each in changed]
    assert changed[0].told is before[after.index(changed[0])].told  # its report was not read again


def test_who_asks_while_the_fleet_is_read_first_is_told_how_far_it_is(
    outlook: Outlook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not left waiting: a large fleet takes a minute to read, and a page has less patience."""
    roll = Roll(outlook.store, FLEET)
    reading, going_on = threading.Event(), threading.Event()

    def slow(*_: object) -> list[object]:
        reading.set()
        going_on.wait(30)
        return []

    with monkeypatch.context() as patched:
        patched.setattr("fleet.roll.known_among", slow)
        first = threading.Thread(target=roll.call)
        first.start()
        assert reading.wait(30)
        for ask in (roll.call, roll.inventory):
            with pytest.raises(RollUnreadError, match="0 of 14 devices"):
                ask(patience_s=0.01)
        going_on.set()
        first.join()
    assert () == roll.call(patience_s=0.01)  # it was read: of nothing, as it was told


def test_what_was_not_committed_was_never_there(outlook: Outlook) -> None:
    """Neither while the writer is at it, nor after it failed, nor by the next one's number."""
    roll = Roll(outlook.store, FLEET)
    before = roll.call()

    def die() -> None:
        with outlook.store.write() as connection:
            death = v1.Death(fleet=FLEET, device=LERWICK[0], session=1)
            presence.died(connection, death, now="2026-03-01T12:00:00Z")
            assert roll.call() is before
            raise InterruptedError

    with pytest.raises(InterruptedError):
        die()
    assert roll.call() is before
    outlook.feel(LERWICK[1])
    assert [LERWICK[1]] == [
        new.device.id for old, new in zip(before, roll.call(), strict=True) if old is not new
    ]


def test_a_clock_that_is_set_back_hides_nothing(outlook: Outlook) -> None:
    """What was written is numbered: no time is compared."""
    roll = Roll(outlook.store, FLEET)
    roll.call()
    outlook.now -= dt.timedelta(days=400)
    outlook.feel(LERWICK[0], throttled=True)

    (changed,) = [each for each in roll.call() if each.device.id == LERWICK[0]]
    assert changed.heard.health is not None
    assert changed.heard.health.throttled


def test_many_call_at_once(outlook: Outlook) -> None:
    """Each gets the fleet whole, while it changes."""
    roll = Roll(outlook.store, FLEET)
    whole = len(roll.call())
    sizes: list[int] = []

    def ask() -> None:
        sizes.extend(len(roll.call()) for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        outlook.feel(LERWICK[0])
    for thread in threads:
        thread.join()

    assert [whole] * 80 == sizes


@pytest.mark.parametrize("part", touched.Part)
def test_every_part_that_is_written_is_noted(outlook: Outlook, part: touched.Part) -> None:
    """A table that forgot to say what it writes would be read once, and never again."""
    with outlook.store.read() as connection:
        before = touched.head(connection)
    device = LERWICK[0]
    match part:
        case touched.Part.DEVICE:
            with outlook.store.write() as connection:
                devices.learn(connection, device, {"skerry/cpu": "1"})
        case touched.Part.PRESENCE:
            outlook.go(device)
        case touched.Part.REPORTED:
            outlook.refuse(device)
        case touched.Part.DESIRED:
            outlook.want(device)
        case touched.Part.HEALTH:
            outlook.feel(device)
        case touched.Part.DRIFT:
            publish_reference(outlook.store)
            sketch = (v1.DriftSketch(subject="input-0-mean", counts=(1, 1, 1, 1, 0)),)
            outlook.commit(drifted(outlook, device, sketch, told=1))
    with outlook.store.read() as connection:
        assert (device, part) in touched.since(connection, before)
