"""How a device was in a stretch of time: sums add up, in any order, whatever it says."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agent.sketch import Sketch
from agent.wire import v1
from fleet.health.days import (
    COARSE_S,
    DAY_S,
    FINE_S,
    Day,
    belongs,
    coarsened,
    pack_day,
    unpack_day,
    with_slot,
)
from fleet.health.slots import (
    BUCKETS_LIMIT,
    COUNT_LIMIT,
    Latency,
    Slot,
    merged,
    pack,
    slot_of,
    unpack,
)

NOON = 1_772_366_400
SANE = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, COUNT_LIMIT)
INDEXES = st.integers(-200, 200)


@st.composite
def served(draw: st.DrawFn, name: str = "digits") -> v1.DeploymentHealth:
    buckets = draw(st.dictionaries(INDEXES, st.integers(1, 10**6), max_size=64))
    return v1.DeploymentHealth(
        name=name,
        revision=1,
        digest="sha256:" + "a" * 64,
        requests=draw(COUNTS),
        errors=draw(COUNTS),
        restarts=draw(st.integers(0, 9)),
        latency=v1.LatencySketch(count=sum(buckets.values()), buckets=buckets),
    )


@st.composite
def documents(draw: st.DrawFn) -> v1.Health:
    """Any document that the wire lets through: huge and negative numbers, too."""
    return v1.Health(
        fleet="harbour",
        device="d-one",
        session=1,
        at="2026-03-01T12:00:00Z",
        period_s=60.0,
        cpu_ratio=draw(st.none() | SANE),
        memory_used_bytes=draw(st.none() | st.integers()),
        memory_total_bytes=draw(st.none() | st.integers()),
        temperature_c=draw(st.none() | SANE),
        throttled=draw(st.none() | st.booleans()),
        disk_free_bytes=draw(st.none() | st.integers()),
        disk_total_bytes=draw(st.none() | st.integers()),
        accelerator_c=draw(st.none() | SANE),
        outbox=draw(COUNTS),
        deployments=tuple(draw(st.lists(served(), max_size=1))),
    )


SLOTS = st.builds(slot_of, documents(), late=st.booleans())


@given(st.lists(SLOTS, min_size=1, max_size=6), st.data())
def test_slots_add_up_in_any_order_and_grouping(slots: list[Slot], data: st.DataObject) -> None:
    """Merged one by one, in another order or by groups: the same slot, and nothing is lost."""
    whole = merged(slots)
    shuffled = data.draw(st.permutations(slots))
    cut = data.draw(st.integers(0, len(slots)))
    groups = [merged(part) for part in (shuffled[:cut], shuffled[cut:]) if part]

    assert whole == merged(groups)
    assert len(slots) == whole.documents
    assert min(sum(each.requests for each in slots), COUNT_LIMIT) == whole.requests
    assert min(sum(each.errors for each in slots), COUNT_LIMIT) == whole.errors
    counted = sum(sum(each.latency.buckets.values()) for each in slots)
    assert counted == sum(whole.latency.buckets.values())
    assert len(whole.latency.buckets) <= BUCKETS_LIMIT


@given(st.lists(SLOTS, max_size=4))
def test_bytes_say_what_was_packed(slots: list[Slot]) -> None:
    """Whatever is in it, and never more than a day has room for."""
    slot = merged(slots)
    assert slot == unpack(pack(slot))
    assert len(pack(slot)) <= 280


@given(st.lists(st.tuples(st.integers(0, DAY_S - 1), SLOTS), max_size=8))
def test_hours_say_what_their_quarters_said(added: list[tuple[int, Slot]]) -> None:
    """Put together early or late, packed between or not, an hour is the same."""
    fine = Day(day=7, step_s=FINE_S, slots={})
    coarse = Day(day=7, step_s=COARSE_S, slots={})
    for second, slot in added:
        fine = unpack_day(7, FINE_S, pack_day(with_slot(fine, second, slot)))
        coarse = unpack_day(7, COARSE_S, pack_day(with_slot(coarse, second, slot)))

    assert coarse == coarsened(fine)
    assert len(added) == sum(each.documents for each in fine.slots.values())


@given(
    st.lists(st.floats(0.01, 5), min_size=1, max_size=300),
    st.sampled_from([0.5, 0.95, 0.99]),
    st.integers(1, 5),
)
def test_a_quantile_is_as_near_as_it_says(
    seconds: list[float], share: float, documents_count: int
) -> None:
    """Of any latencies, over any number of documents; `within` is the promise."""
    parts = [seconds[start::documents_count] for start in range(documents_count)]
    found = merged([latency(part) for part in parts]).latency

    true = sorted(seconds)[int(share * (len(seconds) - 1))]
    told = found.quantile(share)
    assert told is not None
    # What a device sends is within 5 % by itself.
    assert abs(told - true) <= (found.within + 1e-9) * true


def test_ordinary_latencies_keep_five_percent() -> None:
    """Where the slowest takes less than three times the quickest, nothing is put together."""
    slot = merged([latency([0.009 + n / 1e5 for n in range(1000)]) for _ in range(15)])
    assert 0 == slot.latency.halvings
    assert slot.latency.within < 0.051


def test_what_is_wrong_with_a_clock_goes_by_arrival() -> None:
    """1970, ten years ahead and before it joined; what is believed goes where it belongs."""
    joined, hour = NOON - 9 * DAY_S, 3600

    def of(measured: int | None) -> int:
        return belongs(NOON, measured=measured, joined=joined)

    assert NOON - hour == of(NOON - hour)
    assert joined == of(joined)
    assert NOON == of(0) == of(NOON + 3650 * DAY_S) == of(joined - 1) == of(None)
    assert NOON == of(NOON + 60)  # a little ahead is now


def latency(seconds: Sequence[float]) -> Slot:
    sketch = Sketch()
    for each in seconds:
        sketch.add(each)
    return Slot(documents=1, latency=Latency(buckets=sketch.to_wire().buckets))
