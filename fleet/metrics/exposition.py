"""From numbers to what Prometheus reads: escaped by `prometheus_client`, checked against the table.

Pure but for `process`, which reads how this process is.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fleet.metrics.families import FAMILIES, Family, Kind, Sheet, Spread, series

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Known(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def text(sheets: Iterable[Sheet]) -> bytes:
    """Return all numbers in the text format, the process's own with them."""
    together = {name: numbers for sheet in sheets for name, numbers in sheet.items()}
    known = {family.name: family for family in FAMILIES}
    counted = sum(series(known[name], numbers) for name, numbers in together.items())
    together["skerry_metrics_series"] = {(): counted + 1}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Known(list(_metrics(together))))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


def _metrics(together: Sheet) -> Iterator[Metric]:
    for family in FAMILIES:
        if family.name in together:
            yield _metric(family, together)


def _metric(family: Family, together: Sheet) -> Metric:
    numbers = together[family.name]
    match family.kind:
        case Kind.HISTOGRAM:
            spread = HistogramMetricFamily(family.name, family.says, labels=family.labels)
            for labels, each in numbers.items():
                assert isinstance(each, Spread)  # noqa: S101  # for the type checker
                spread.add_metric(labels, _buckets(each), each.sum)
            return spread
        case Kind.COUNTER:
            counter = CounterMetricFamily(family.name, family.says, labels=family.labels)
            for labels, each in numbers.items():
                assert not isinstance(each, Spread)  # noqa: S101  # as above
                counter.add_metric(labels, each)
            return counter
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(family.name, family.says, labels=family.labels)
            for labels, each in numbers.items():
                assert not isinstance(each, Spread)  # noqa: S101  # as above
                gauge.add_metric(labels, each)
            return gauge


def _buckets(spread: Spread) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    below = 0
    for bound, number in zip((*spread.bounds, float("inf")), spread.bins, strict=True):
        below += number
        found.append(("+Inf" if bound == float("inf") else f"{bound:.6g}", below))
    return found
