"""Label values that users make: few have a name, the rest are one, and counters keep theirs."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.metrics.census import Named
from fleet.metrics.courses import NAMES_LIMIT, Courses
from fleet.metrics.exposition import text
from fleet.metrics.slots import OTHER, Slots
from fleet.metrics.tally import Tally
from fleet.rollouts.states import RolloutState
from fleet.store.engine import Store
from tests.fleet.centre.parties import NOW
from tests.fleet.screens.village import FLEET, NEW, keep, waiting


def test_who_comes_first_keeps_the_name_and_the_rest_is_counted_as_other() -> None:
    """A name is given once, and a flood of names makes one series."""
    slots = Slots(2)

    assert [("a",), ("b",), (OTHER,), ("a",)] == [slots.label((each,)) for each in "abca"]
    assert 1 == slots.overflow


def test_the_largest_take_the_slots_over_and_who_lost_one_is_named() -> None:
    """Room that is left stays with those that had it: a counter must not vanish without need."""
    slots = Slots(2)
    slots.label(("old",))

    assert () == slots.settle([("a",)])
    assert [("old",)] == list(slots.settle([("b",), ("a",), ("c",)]))
    assert (("b",), ("a",)) == slots.held
    assert () == slots.settle([("a",)])
    assert (("b",), ("a",)) == slots.held


def rolled_back(number: int, name: str) -> v1.Event:
    return v1.Event(
        fleet=FLEET,
        device="d-1",
        ledger="l",
        number=number,
        kind=v1.EventKind.PHASE,
        at="2026-03-01T11:00:00Z",
        deployment=name,
        phase=Phase.ROLLED_BACK,
        reason=Reason.GOLDEN_MISMATCH,
    )


def test_a_bundle_that_is_gone_gives_back_its_rollbacks_slots() -> None:
    """Years of bundles: what goes back today has a name, whatever went back before."""
    tally, number = Tally(), 0
    names: list[str] = []
    for year in range(30):
        names = [f"y{year}-{each}" for each in range(20)]
        lost = tally.named.bundles.settle([(name, "unknown") for name in names])
        tally.know({}, lost)
        for name in names:
            number += 1
            tally.commits([rolled_back(number, name)], 0.01)

    counted = tally.sheet()["skerry_device_rollbacks_total"]
    assert {(name, "unknown", "GOLDEN_MISMATCH"): 1 for name in names} == counted
    assert {"rollback": 0} == tally.overflow


def test_a_bundle_that_is_gone_gives_back_its_rollouts_slot(store: Store) -> None:
    """The rollouts that ended today are counted by name, whatever ended before; and none twice."""
    named = Named()
    courses = Courses(named)
    with store.read() as connection:
        finished = courses.look(connection, NOW)["skerry_rollouts_finished_total"]
    lately = range(0)
    for number in range(3 * NAMES_LIMIT):
        lately = range(number, max(-1, number - NAMES_LIMIT), -1)
        named.bundles.settle([(f"b{each}", NEW.version) for each in lately])
        bundle = replace(NEW, name=f"b{number}")
        ended = replace(waiting(), id=f"r-{number}", bundle=bundle, state=RolloutState.DONE)
        keep(store, ended, "2026-03-01T11:50:00Z")
        with store.read() as connection:
            finished = courses.look(connection, NOW)["skerry_rollouts_finished_total"]

    counted = {
        bundle: number for (outcome, bundle), number in finished.items() if outcome == "done"
    }
    assert {f"b{each}": 1 for each in lately} == counted
    assert {"finished": 0} == courses.overflow


@given(st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=5, unique=True))
def test_whatever_text_there_is_gives_lines_that_a_parser_reads_back(values: list[str]) -> None:
    """Quotes, newlines, backslashes, lone surrogates: no value can end its line, or add one."""
    slots = Slots(50)
    numbers: dict[tuple[str, ...], float] = {}
    for value in values:
        label = slots.label((value, "1", "cpu"))
        numbers[label] = numbers.get(label, 0) + 1

    written = text([{"skerry_fleet_devices_serving": numbers}]).decode()

    read = {
        (each.labels["bundle"], each.labels["version"], each.labels["accelerator"]): each.value
        for family in text_string_to_metric_families(written)
        for each in family.samples
        if each.name == "skerry_fleet_devices_serving"
    }
    assert read == numbers
    assert sum(read.values()) == len(values)
