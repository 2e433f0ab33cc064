"""Every metric of the centre: one table. Pure.

The reference is written from it, and rules and dashboards may ask for nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a metric is, in Prometheus's words."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, what it is, its labels, and what it says."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A histogram's numbers: how many were in each bin (the last one has no upper bound)."""

    bounds: Sequence[float]
    bins: Sequence[int]
    sum: float


Sheet = Mapping[str, Mapping[tuple[str, ...], float | Spread]]
"""Numbers by a metric's name and its label values, in the order of the family's labels."""

_BUNDLE = ("bundle", "version")
_SERVED = (*_BUNDLE, "accelerator")

_G, _C, _H = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM

FAMILIES: tuple[Family, ...] = (
    Family("skerry_build_info", _G, ("version",), "The centre's version; always 1."),
    # The fleet, as it was last looked at
    Family(
        "skerry_fleet_look_timestamp_seconds",
        _G,
        (),
        "When the fleet was last looked at; the metrics of fleet and rollouts are as of then.",
    ),
    Family("skerry_fleet_devices", _G, ("state", "site"), "Devices by state and site."),
    Family(
        "skerry_fleet_devices_serving",
        _G,
        _SERVED,
        "Devices that are heard of, by what serves there and on which accelerator.",
    ),
    Family(
        "skerry_fleet_devices_fallback",
        _G,
        _BUNDLE,
        "Devices that are heard of where it serves on a slower path than it was built for.",
    ),
    Family(
        "skerry_model_drift_devices",
        _G,
        (*_BUNDLE, "level"),
        "Devices that are heard of, by how far what it is asked or answers there has drifted.",
    ),
    Family(
        "skerry_fleet_devices_silent",
        _G,
        ("over",),
        "Devices that have said nothing for longer than this.",
    ),
    Family(
        "skerry_sites",
        _G,
        ("state",),
        "Sites whose devices are all heard (whole), or not (partly), or hardly at all (cut).",
    ),
    Family(
        "skerry_fleet_certificates_expiring",
        _G,
        ("within",),
        "Devices whose certificate has ended, or ends within this.",
    ),
    # What devices tell, as it is committed
    Family("skerry_device_events_total", _C, ("kind",), "Events that devices told."),
    Family(
        "skerry_device_events_folded_total",
        _C,
        (),
        "Events that devices summed up or gave up before they could tell them: no room was left.",
    ),
    Family(
        "skerry_device_refusals_total",
        _C,
        ("reason",),
        "Documents and bundles that devices refused.",
    ),
    Family(
        "skerry_device_rollbacks_total",
        _C,
        (*_BUNDLE, "reason"),
        "Revisions that devices took back by themselves.",
    ),
    Family(
        "skerry_device_quarantines_total", _C, _BUNDLE, "Devices that put a bundle into quarantine."
    ),
    # Rollouts: those under way, and those that ended within a day
    Family("skerry_rollout_info", _G, ("rollout", *_BUNDLE, "state"), "A rollout; always 1."),
    Family("skerry_rollout_devices", _G, ("rollout", "outcome"), "A rollout's targets by state."),
    Family("skerry_rollout_wave", _G, ("rollout",), "The wave under way, from 1; 0: none is."),
    Family(
        "skerry_rollout_gate_verdict",
        _G,
        ("rollout", "gate", "verdict"),
        "The last verdict of a rollout's gates; always 1.",
    ),
    Family(
        "skerry_rollout_gate_observed_ratio",
        _G,
        ("rollout", "gate"),
        "Of the targets that came to an end, how many took it, in the last wave that has begun.",
    ),
    Family(
        "skerry_rollout_gate_wanted_ratio",
        _G,
        ("rollout", "gate"),
        "How many must have taken it to let the rollout through that gate.",
    ),
    Family(
        "skerry_rollout_last_progress_timestamp_seconds",
        _G,
        ("rollout",),
        "When a target or a wave of it last moved; a soak moves until its end.",
    ),
    Family(
        "skerry_rollouts_finished_total",
        _C,
        ("outcome", "bundle"),
        "Rollouts that came to an end.",
    ),
    Family(
        "skerry_rollout_duration_seconds",
        _H,
        ("outcome",),
        "From the start of a rollout to its end.",
    ),
    # Models, from health documents that came at once
    Family(
        "skerry_inference_requests_total",
        _C,
        (*_SERVED, "result"),
        "Requests that devices told of without delay.",
    ),
    Family(
        "skerry_inference_latency_seconds",
        _H,
        _SERVED,
        "How long good answers took on the device; the sum is within 5 %.",
    ),
    Family(
        "skerry_model_shadow_compared_total",
        _C,
        (*_BUNDLE, "result"),
        "Live requests that a candidate answered in the incumbent's shadow.",
    ),
    Family(
        "skerry_model_golden_failures_total",
        _C,
        _BUNDLE,
        "Times that a bundle missed its golden vectors on a device.",
    ),
    # The centre itself
    Family("skerry_mqtt_connected", _G, (), "Whether the centre has a session with its broker."),
    Family(
        "skerry_mqtt_messages_total", _C, ("kind",), "Documents of devices that were committed."
    ),
    Family(
        "skerry_ingest_lag_seconds", _G, (), "How long the oldest message waits for its commit."
    ),
    Family("skerry_ingest_batch_duration_seconds", _H, (), "How long it took to commit a batch."),
    Family(
        "skerry_ingest_dropped_total",
        _C,
        ("reason",),
        "Messages that were refused, or found no room.",
    ),
    Family(
        "skerry_http_requests_total",
        _C,
        ("route", "method", "code"),
        "Requests that were answered.",
    ),
    Family(
        "skerry_http_request_duration_seconds",
        _H,
        ("route",),
        "Until the answer's head was sent.",
    ),
    Family("skerry_store_size_bytes", _G, (), "The database with its log."),
    Family("skerry_store_free_bytes", _G, (), "What is free on the disk that the store is on."),
    Family("skerry_stream_clients", _G, (), "Browsers that follow live."),
    Family(
        "skerry_trust_expiry_timestamp_seconds",
        _G,
        ("role",),
        "When a certificate of the centre ends.",
    ),
    Family(
        "skerry_audit_events_total",
        _C,
        ("action",),
        "Changes written down since the centre began.",
    ),
    Family("skerry_metrics_series", _G, (), "Series of this scrape."),
    Family(
        "skerry_metrics_label_overflow_total",
        _C,
        ("slots",),
        "Times that a value found no slot and was counted as other.",
    ),
)

FORBIDDEN_LABELS = frozenset({"device", "serial", "ip", "digest", "user", "path", "id", "name"})
"""An individual's, and so one series each: at 100,000 devices that is a Prometheus that dies."""

SERIES_LIMIT = 6000
"""Of one centre, at any size of fleet."""


def series(family: Family, numbers: Mapping[tuple[str, ...], float | Spread]) -> int:
    """Return how many series a family has in a scrape."""
    if family.kind is not Kind.HISTOGRAM:
        return len(numbers)
    return sum(len(each.bins) + 2 for each in numbers.values() if isinstance(each, Spread))
