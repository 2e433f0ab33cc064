"""The last drift that a device told of one deployment: kept each, counted once, in order. Pure.

Rules:
- A deployment tells its drift an hour after it began to count, so that the last `KEPT` are of a day
  at least, and of more where nobody asks the model at night. A shorter window would call each night
  a drift; a longer one would be slower to see one.
- They are ordered as they were measured, by the ledger's numbers and by no clock: one that waited
  for a connection takes its place before those that came at once meanwhile.
- The same telling counts once, however it comes and how often: at once, after a broken connection
  again, as an event.
- What is told of another revision or bundle, or in another ledger, begins anew if it is newer.
"""

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.wire.limits import DRIFT_SUBJECTS_LIMIT
from fleet.health.drift import Counts, added

KEPT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """The drift of one health document. `mark` tells it from others with the same counts.

    `number`: of its event where it `waited`, else how many events had been told before it.
    """

    number: int
    waited: bool
    mark: str
    counts: Counts

    @property
    def order(self) -> tuple[int, bool]:
        """What orders it: measured after all events with lower numbers, and with its own."""
        return self.number, not self.waited


@dataclass(frozen=True, slots=True, kw_only=True)
class Tellings:
    """The last of one deployment. `ledger`: in which they are numbered (None: not known)."""

    ledger: str | None
    revision: int
    digest: str
    kept: tuple[Telling, ...]

    def counts(self) -> Counts:
        """Return the sum; of subjects and bins that changed on the way the newest count."""
        found = added(telling.counts for telling in reversed(self.kept))
        return dict(list(found.items())[:DRIFT_SUBJECTS_LIMIT])


def with_one(held: Tellings | None, new: Tellings, *, in_use: bool) -> Tellings | None:
    """Return what is held when one more was told; None: it changes nothing.

    Args:
        held: None: this is the first of its deployment.
        new: the one, as if it were the first.
        in_use: whether the device numbers in the new one's ledger now.
    """
    (telling,) = new.kept
    if held is None:
        return new
    other_ledger = None not in {held.ledger, new.ledger} and held.ledger != new.ledger
    if other_ledger:
        return new if in_use else None
    if (held.revision, held.digest) != (new.revision, new.digest):
        later = not telling.waited or telling.order > held.kept[-1].order
        return new if later else None
    if any((each.mark, each.counts) == (telling.mark, telling.counts) for each in held.kept):
        return None
    kept = _in_order(held.kept, telling)
    if telling not in kept:
        return None
    return replace(held, ledger=new.ledger or held.ledger, kept=kept)


def _in_order(kept: Sequence[Telling], telling: Telling) -> tuple[Telling, ...]:
    found = list(kept)
    insort(found, telling, key=lambda each: each.order)
    return tuple(found[-KEPT:])
