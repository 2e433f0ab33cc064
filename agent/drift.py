"""When drift is told: an hour after it began to be counted, where there is room for it. Pure.

Rules:
- Counts wait for `HOUR_S` of loop time after the first of them, then go along with the next health
  document that has room, the longest waiting first. Sixteen deployments that began together so
  come to speak in different documents. There is always room for one of them.
- What goes along is forgotten here: nothing is told twice. It also fits where the document finds
  no connection and becomes an event, so that none of it is shed there. It is lost with a document
  that a broken connection swallows, as all of health is.
- Above `DRIFT_COUNT_LIMIT` in a bin the rest waits for the next document.
- Bins are a card's. What was counted of one bundle is dropped when another serves in its place.
- In memory only: an agent that is started again begins the hour anew.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from agent.wire import v1
from agent.wire.codec import WireError, encode
from agent.wire.limits import DOCUMENT_LIMIT_BYTES, DRIFT_COUNT_LIMIT

HOUR_S = 3600.0

AROUND_BYTES = 352
"""What an event has around a health document, with the longest names: see `agent.outbox`."""

Counts = Mapping[str, tuple[int, ...]]
"""By subject, how many requests were in each bin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What is counted of one deployment's bundle, and since when (loop time)."""

    digest: str
    since_s: float
    counts: Counts


Waiting = Mapping[str, Counted]
"""What is counted and not told, by deployment."""


def added(old: Counts, new: Counts) -> Counts:
    """Return the counts of both; where a subject's bins are others, only the newer can be meant."""
    found = {**old, **new}
    for subject, counts in new.items():
        before = old.get(subject, ())
        if len(before) == len(counts):
            found[subject] = tuple(map(int.__add__, before, counts))
    return found


def told(
    health: v1.Health, waiting: Waiting, new: Iterable[tuple[str, str, Counts]], now_s: float
) -> tuple[v1.Health, Waiting]:
    """Return the document with the drift that goes along, and what waits for another one.

    `new` is what was counted since the last document, by deployment and digest. What is not of a
    bundle that the document tells of is dropped.
    """
    parts = {part.name: part for part in health.deployments}
    digests = {part.name: part.digest for part in health.deployments}
    left = {name: each for name, each in waiting.items() if digests.get(name) == each.digest}
    for name, digest, counts in new:
        if digests.get(name) == digest and any(map(any, counts.values())):
            old = left.get(name, Counted(digest=digest, since_s=now_s, counts={}))
            left[name] = replace(old, counts=added(old.counts, counts))
    due = [name for name in left if now_s - left[name].since_s >= HOUR_S]
    for name in sorted(due, key=lambda each: (left[each].since_s, each)):
        most = _at_most(left[name].counts)
        heavier = {**parts, name: replace(parts[name], drift=tuple(_sketches(most)))}
        fuller = replace(health, deployments=tuple(heavier.values()))
        if not fits(fuller):
            break  # those that have waited less don't overtake it
        parts, health = heavier, fuller
        rest = _less(left[name].counts, most)
        if any(map(any, rest.values())):
            left[name] = replace(left[name], counts=rest)
        else:
            del left[name]
    return health, left


def _at_most(counts: Counts) -> Counts:
    return {
        subject: tuple(min(count, DRIFT_COUNT_LIMIT) for count in of_subject)
        for subject, of_subject in counts.items()
    }


def _sketches(counts: Counts) -> Iterable[v1.DriftSketch]:
    for subject in sorted(counts):
        if any(counts[subject]):
            yield v1.DriftSketch(subject=subject, counts=counts[subject])


def _less(counts: Counts, told: Counts) -> Counts:
    return {
        subject: tuple(map(int.__sub__, of_subject, told[subject]))
        for subject, of_subject in counts.items()
    }


def fits(health: v1.Health) -> bool:
    """Tell whether a document has room for all it says, also where it becomes an event."""
    try:
        return len(encode(health)) + AROUND_BYTES <= DOCUMENT_LIMIT_BYTES
    except WireError:  # one that can't go at all is not made heavier
        return False
