"""Label values that users make: few have a name, the rest are one, and counters keep theirs."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fleet.metrics.exposition import text
from fleet.metrics.slots import OTHER, Slots


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
