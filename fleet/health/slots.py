"""How a device was in a stretch of time, in some forty bytes that add up. Pure.

Rules:
- Slots merge in any order to the same slot: counts are added, the most of a gauge is the most of
  both. What was not measured is None, never a zero.
- Latency is a sketch of few buckets. Where it would have more, *all* neighbours are put together
  in pairs, which squares the ratio of their bounds (uniform collapse: Epicoco, Melle, Cafaro,
  Pulimeno, IEEE Access 2020). So the slow end and the quick end lose alike, the result does not
  depend on the order, and how much was lost is known (`Latency.within`).
- Nothing overflows: a count stops at `COUNT_LIMIT`, a gauge at what its unit can be.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite

from agent.wire import v1
from agent.wire.packing import leb128, unleb128
from agent.wire.sketch import GAMMA

COUNT_LIMIT = 2**53 - 1
"""As whole numbers of the wire."""

BUCKETS_LIMIT = 12
"""Of a slot's latency: within 5 % where the slowest answer took up to three times the quickest,
within 10 % up to eleven times, within 20 % up to 120 times."""

_COLDEST, _HOTTEST = -1000, 4000
"""What a temperature may be, in tenths of a degree: beyond it, a sensor lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A sketch whose buckets were put together in pairs `halvings` times."""

    halvings: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)

    @property
    def within(self) -> float:
        """By which share a quantile may be wrong."""
        ratio = GAMMA ** (1 << self.halvings)
        return float((ratio - 1) / (ratio + 1))

    def quantile(self, share: float) -> float | None:
        """Return the seconds below which this share of requests took; None: there were none."""
        rank = share * (sum(self.buckets.values()) - 1)
        ratio, below = GAMMA ** (1 << self.halvings), 0
        for index in sorted(self.buckets):
            below += self.buckets[index]
            if below > rank:
                return float(2 * ratio**index / (ratio + 1))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What the health documents of a stretch of time come to.

    `late`: so many of them had waited for a connection. Shares are in thousandths, temperatures
    in tenths of a degree; `cpu_sum` is of `cpu_documents`, for their mean.
    """

    documents: int = 0
    late: int = 0
    throttled: int = 0
    requests: int = 0
    errors: int = 0
    restarts: int = 0
    cpu_documents: int = 0
    cpu_sum: int = 0
    cpu_most: int | None = None
    memory_most: int | None = None
    disk_most: int | None = None
    temperature_most: int | None = None
    accelerator_most: int | None = None
    outbox_most: int | None = None
    latency: Latency = field(default_factory=Latency)


def slot_of(document: v1.Health, *, late: bool) -> Slot:
    """Return what one document says."""
    served = document.deployments
    cpu = None if document.cpu_ratio is None else _thousandths(document.cpu_ratio, 1.0)
    return Slot(
        documents=1,
        late=int(late),
        throttled=int(bool(document.throttled)),
        requests=_capped(sum(each.requests for each in served)),
        errors=_capped(sum(each.errors for each in served)),
        restarts=_capped(sum(each.restarts for each in served)),
        cpu_documents=int(cpu is not None),
        cpu_sum=cpu or 0,
        cpu_most=cpu,
        memory_most=_thousandths(document.memory_used_bytes, document.memory_total_bytes),
        disk_most=_taken(document.disk_free_bytes, document.disk_total_bytes),
        temperature_most=_tenths(document.temperature_c),
        accelerator_most=_tenths(document.accelerator_c),
        outbox_most=_capped(document.outbox),
        latency=_merged_latency(Latency(buckets=each.latency.buckets) for each in served),
    )


def merged(slots: Iterable[Slot]) -> Slot:
    """Return what is in any of them."""
    every = tuple(slots)
    if len(every) == 1:
        return every[0]
    return Slot(
        documents=_added(each.documents for each in every),
        late=_added(each.late for each in every),
        throttled=_added(each.throttled for each in every),
        requests=_added(each.requests for each in every),
        errors=_added(each.errors for each in every),
        restarts=_added(each.restarts for each in every),
        cpu_documents=_added(each.cpu_documents for each in every),
        cpu_sum=_added(each.cpu_sum for each in every),
        cpu_most=_most(each.cpu_most for each in every),
        memory_most=_most(each.memory_most for each in every),
        disk_most=_most(each.disk_most for each in every),
        temperature_most=_most(each.temperature_most for each in every),
        accelerator_most=_most(each.accelerator_most for each in every),
        outbox_most=_most(each.outbox_most for each in every),
        latency=_merged_latency(each.latency for each in every),
    )


def pack(slot: Slot) -> bytes:
    """Return a slot as bytes."""
    return b"".join(map(leb128, _told(slot)))


def unpack(raw: bytes) -> Slot:
    """Return the slot that `pack` wrote.

    Raises:
        ValueError: it is not what `pack` writes.
    """
    told = unleb128(raw)
    try:
        return Slot(
            documents=next(told),
            late=next(told),
            throttled=next(told),
            requests=next(told),
            errors=next(told),
            restarts=next(told),
            cpu_documents=next(told),
            cpu_sum=next(told),
            cpu_most=_or_none(next(told)),
            memory_most=_or_none(next(told)),
            disk_most=_or_none(next(told)),
            temperature_most=_or_none(next(told), _COLDEST),
            accelerator_most=_or_none(next(told), _COLDEST),
            outbox_most=_or_none(next(told)),
            latency=_latency(told),
        )
    except StopIteration:
        raise ValueError("a slot that ends early") from None


def _told(slot: Slot) -> Iterator[int]:
    yield slot.documents
    yield slot.late
    yield slot.throttled
    yield slot.requests
    yield slot.errors
    yield slot.restarts
    yield slot.cpu_documents
    yield slot.cpu_sum
    yield _from_one(slot.cpu_most)
    yield _from_one(slot.memory_most)
    yield _from_one(slot.disk_most)
    yield _from_one(slot.temperature_most, _COLDEST)
    yield _from_one(slot.accelerator_most, _COLDEST)
    yield _from_one(slot.outbox_most)
    buckets = sorted(slot.latency.buckets.items())
    yield len(buckets)
    if not buckets:
        return
    before = buckets[0][0]
    yield slot.latency.halvings
    yield before << 1 if before >= 0 else (-before << 1) - 1
    for index, count in buckets:
        yield index - before
        yield count
        before = index


def _latency(told: Iterator[int]) -> Latency:
    number = next(told)
    if not number:
        return Latency()
    halvings, zigzag = next(told), next(told)
    index = (zigzag >> 1) ^ -(zigzag & 1)
    buckets: dict[int, int] = {}
    for _ in range(number):
        index += next(told)
        buckets[index] = next(told)
    return Latency(halvings=halvings, buckets=buckets)


def _merged_latency(parts: Iterable[Latency]) -> Latency:
    """Return all of them in one, as coarse as the coarsest or as there is room."""
    some = [each for each in parts if each.buckets]
    halvings = max((each.halvings for each in some), default=0)
    buckets: dict[int, int] = {}
    for each in some:
        for index, count in each.buckets.items():
            coarse = _paired(index, halvings - each.halvings)
            buckets[coarse] = _capped(buckets.get(coarse, 0) + count)
    while len(buckets) > BUCKETS_LIMIT:
        halvings += 1
        finer, buckets = buckets, {}
        for index, count in finer.items():
            coarse = _paired(index, 1)
            buckets[coarse] = _capped(buckets.get(coarse, 0) + count)
    return Latency(halvings=halvings, buckets=buckets)


def _paired(index: int, times: int) -> int:
    """Return the bucket that holds this one after so many halvings: its bounds are rounded up."""
    return -(-index >> times)


def _capped(number: int) -> int:
    return min(max(number, 0), COUNT_LIMIT)


def _thousandths(part: float | None, whole: float | None) -> int | None:
    if part is None or not whole or whole < 0 or not isfinite(part / whole):
        return None
    return round(1000 * min(max(part / whole, 0.0), 1.0))


def _taken(free: int | None, total: int | None) -> int | None:
    left = _thousandths(free, total)
    return None if left is None else 1000 - left


def _tenths(celsius: float | None) -> int | None:
    if celsius is None or not isfinite(celsius):
        return None
    return round(10 * min(max(celsius, _COLDEST / 10), _HOTTEST / 10))


def _added(counts: Iterable[int]) -> int:
    return _capped(sum(counts))


def _most(gauges: Iterable[int | None]) -> int | None:
    return max((each for each in gauges if each is not None), default=None)


def _from_one(most: int | None, least: int = 0) -> int:
    return 0 if most is None else most - least + 1


def _or_none(number: int, least: int = 0) -> int | None:
    return number - 1 + least if number else None
