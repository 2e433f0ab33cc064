"""What devices tell, counted as it is committed: requests, latency, events.

Rules:
- The same document may come again (a broken connection, a device that was not acknowledged), and
  is counted once: by a health document's own identity, by an event's number in its ledger.
- Requests are of health documents that came at once. One that waited for a connection says how
  things were, not how they are; it is in the device's history.
- It begins at zero with the centre, as every counter of a process does. What a rule watches for
  is there with a zero before it happens: an increase from nothing is none.
- What is remembered of devices is bounded.
"""

import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.sketch import BOUNDS_S, binned, seconds
from fleet.metrics.bins import Bins
from fleet.metrics.census import Named
from fleet.metrics.families import Sheet
from fleet.metrics.slots import OTHER, UNKNOWN, Key, Slots
from fleet.ports import FromDevice

DEVICES_LIMIT = 200_000
"""Devices of which something is remembered; the one heard of longest ago gives way."""

_DOCUMENTS_KEPT = 4
"""A broker sends again what was not confirmed: of one device, a few documents."""

COMMIT_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

VERIFYING = (
    Reason.SIGNATURE_MISSING,
    Reason.SIGNATURE_INVALID,
    Reason.STALE_GENERATION,
    Reason.CONFLICTING_GENERATION,
)
"""Refusals that mean that somebody else may speak: an alert watches for them."""

_KNOWN = frozenset(map(str, Reason))
_ENDS = frozenset({Phase.REFUSED, Phase.ROLLED_BACK})
_DIGITS = 10  # of a number that a device wrote as text


@dataclass(slots=True)
class _Device:
    """What is remembered of one device: its last documents, its ledger, what serves on what."""

    documents: tuple[int, ...] = ()
    ledger: str = ""
    number: int = 0
    serves: Mapping[tuple[str, str], v1.Active] | None = None


class Tally:
    """Counts what was committed. Safe to use from several threads."""

    def __init__(self) -> None:
        self.named = self._named = Named()
        self._why = Slots(100)  # bundle, version and reason of what was rolled back
        self._lock = threading.Lock()
        self._devices: dict[str, _Device] = {}
        self._published: Mapping[str, Key] = {}
        self._messages: Counter[Key] = Counter()
        self._events: Counter[Key] = Counter()
        self._folded = 0
        self._refusals: Counter[Key] = Counter({(str(reason),): 0 for reason in VERIFYING})
        self._rollbacks: Counter[Key] = Counter()
        self._quarantines: Counter[Key] = Counter()
        self._golden: Counter[Key] = Counter()
        self._shadow: Counter[Key] = Counter()
        self._requests: Counter[Key] = Counter()
        self._latency = Bins(BOUNDS_S)
        self._commits = Bins(COMMIT_BOUNDS_S)

    def commits(self, documents: Sequence[FromDevice], took_s: float) -> None:
        """Count a batch that was committed."""
        with self._lock:
            self._commits.add((), took_s)
            for document in documents:
                self._messages[(_kind(document),)] += 1
                device = self._remember(document.device)
                match document:
                    case v1.Reported():
                        device.serves = {
                            (each.name, each.active.bundle.digest): each.active
                            for each in document.deployments
                            if each.active is not None
                        }
                    case v1.Health():
                        self._health(device, document)
                    case v1.Event():
                        self._event(device, document)
                    case v1.Birth() | v1.Death() | v1.SiteReported() | v1.Result():
                        pass  # counted by their kind only

    def know(self, published: Mapping[str, Key], lost: Collection[Key]) -> None:
        """Learn which bundles there are, by digest, and forget those that lost their name."""
        with self._lock:
            self._published = published
            bundles = set(lost)
            self._why.release(lambda key: key[:2] in bundles)
            kept = (
                self._rollbacks,
                self._quarantines,
                self._golden,
                self._shadow,
                self._requests,
            )
            for counted in kept:
                for key in [key for key in counted if key[:2] in bundles]:
                    del counted[key]
            self._latency.forget(lambda key: key[:2] in bundles)

    def sheet(self) -> Sheet:
        """Return what was counted so far."""
        with self._lock:
            nothing = dict.fromkeys(self._named.bundles.held, 0)
            return {
                "skerry_mqtt_messages_total": dict(self._messages),
                "skerry_device_events_total": dict(self._events),
                "skerry_device_events_folded_total": {(): self._folded},
                "skerry_device_refusals_total": dict(self._refusals),
                "skerry_device_rollbacks_total": dict(self._rollbacks),
                "skerry_device_quarantines_total": nothing | dict(self._quarantines),
                "skerry_model_golden_failures_total": nothing | dict(self._golden),
                "skerry_model_shadow_compared_total": dict(self._shadow),
                "skerry_inference_requests_total": dict(self._requests),
                "skerry_inference_latency_seconds": self._latency.numbers(),
                "skerry_ingest_batch_duration_seconds": self._commits.numbers(),
            }

    @property
    def overflow(self) -> Mapping[str, int]:
        """How often something found no slot."""
        return {"rollback": self._why.overflow}

    def _remember(self, name: str) -> _Device:
        device = self._devices.pop(name, None) or _Device()
        self._devices[name] = device  # as the one heard of last
        if len(self._devices) > DEVICES_LIMIT:
            del self._devices[next(iter(self._devices))]
        return device

    def _health(self, device: _Device, told: v1.Health) -> None:
        identity = hash((told.session, told.at, told.told))
        if identity in device.documents:
            return
        device.documents = (identity, *device.documents)[:_DOCUMENTS_KEPT]
        for each in told.deployments:
            active = (device.serves or {}).get((each.name, each.digest))
            on = UNKNOWN if active is None else active.accelerator
            bundle = self._bundle(each.digest, each.name, active)
            key = (*bundle, *self._named.accelerators.label((on,)))
            self._requests[*key, "error"] += each.errors
            self._requests[*key, "ok"] += max(0, each.requests - each.errors)
            self._latency.merge(key, binned(each.latency), seconds(each.latency))

    def _event(self, device: _Device, told: v1.Event) -> None:
        if told.ledger != device.ledger:
            device.ledger, device.number = told.ledger, 0
        if told.number <= device.number:
            return
        device.number = told.number
        self._events[(str(told.kind),)] += 1
        bundle = self._bundle(told.digest, told.deployment)
        match told.kind:
            case v1.EventKind.REFUSED:
                self._refusals[(_reason(told),)] += told.count
            case v1.EventKind.FOLDED:
                self._folded += told.count
            case v1.EventKind.PHASE:
                self._phase(told, bundle)
            case v1.EventKind.QUARANTINE if told.parameters.get("what") == "quarantined":
                self._quarantines[bundle] += 1

    def _phase(self, told: v1.Event, bundle: Key) -> None:
        if told.phase is Phase.REFUSED:
            self._refusals[(_reason(told),)] += 1
        if told.phase is Phase.ROLLED_BACK:
            self._rollbacks[self._why.label((*bundle, _reason(told)))] += 1
        if told.phase in _ENDS and told.reason == Reason.GOLDEN_MISMATCH:
            self._golden[bundle] += 1
        compared, agreed = (_number(told, f"shadow_{name}") for name in ("compared", "agreed"))
        if compared:
            self._shadow[*bundle, "agreed"] += min(agreed, compared)
            self._shadow[*bundle, "disagreed"] += max(0, compared - agreed)

    def _bundle(
        self, digest: str | None, deployment: str | None, active: v1.Active | None = None
    ) -> Key:
        key = self._published.get(digest or "")
        if key is None and active is not None:
            key = active.bundle.name, active.bundle.version
        return self._named.bundles.label(key or (deployment or UNKNOWN, UNKNOWN))


def _kind(document: FromDevice) -> str:
    match document:
        case v1.Birth() | v1.Death():
            return "presence"
        case v1.SiteReported():
            return "site-reported"
        case _:
            return type(document).__name__.lower()


def _reason(told: v1.Event) -> str:
    """Return a reason code that we know: a device could send as many others as it likes."""
    if told.reason is None:
        return UNKNOWN
    return told.reason if told.reason in _KNOWN else OTHER


def _number(told: v1.Event, name: str) -> int:
    text = told.parameters.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0
