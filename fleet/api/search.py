"""Which devices are looked for: one filter for the API, the page and the command. Pure.

A selector reads labels and facts (`fleet.selector`); fields read what is known beside them:
`state=offline,bundle=digits:1.4.0`. `alert` lists the devices that a rule counts. All parts must
hold.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from fleet.alerts.find import counted_by
from fleet.alerts.rules import BY_NAME
from fleet.health.heard import Heard
from fleet.health.states import State, Verdict
from fleet.known import Known
from fleet.rollouts.errors import PlanError, PlanReason
from fleet.selector import EVERYTHING, Selector, SelectorError
from fleet.selector import parse as parse_selector

Judged = tuple[Known, Verdict]
"""A device with its verdict."""

_Find = Callable[[Heard, Verdict, datetime], Iterator[str]]


def _bundles(heard: Heard, *_: object) -> Iterator[str]:
    for bundle in heard.serving():
        yield bundle.name
        yield f"{bundle.name}:{bundle.version}"
        yield bundle.digest


def _state(_: Heard, judged: Verdict, __: datetime) -> Iterator[str]:
    yield judged.state


def _reason(_: Heard, judged: Verdict, __: datetime) -> Iterator[str]:
    yield judged.finding.reason


def _site(heard: Heard, *_: object) -> Iterator[str]:
    yield heard.target.site or ""


FIELDS: Mapping[str, _Find] = {
    "state": _state,
    "reason": _reason,
    "site": _site,
    "bundle": _bundles,
    "alert": counted_by,
}
"""What can be asked for by name, and the values of a device that answer to it."""

SELECTOR_WORDS = "Kubernetes syntax over labels and facts; empty: every device."
FIELD_WORDS = f"NAME=VALUE, with commas between; names are {', '.join(FIELDS)}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Devices that match all of it. Without anything: all."""

    selector: Selector = field(default_factory=Selector)
    fields: tuple[tuple[str, str], ...] = ()

    def matches(self, heard: Heard, judged: Verdict, now: datetime) -> bool:
        """Say whether a device is looked for, as it was judged now."""
        return all(value in FIELDS[name](heard, judged, now) for name, value in self.fields) and (
            not self.selector.requirements or self.selector.matches(heard.target.attributes)
        )

    def among(
        self,
        every: Sequence[Judged],
        now: datetime,
        *,
        limit: int,
        after: tuple[str, str] = ("", ""),
        prefix: str = "",
    ) -> list[Judged]:
        """Return the first of these devices that match.

        Args:
            every: devices with their verdicts, by name, then id.
            now: when they were judged.
            limit: so many at the most.
            after: name and id of the one after which to begin.
            prefix: what their names begin with.
        """
        found = []
        start = max(
            bisect_right(every, after, key=place_of), bisect_left(every, (prefix, ""), key=place_of)
        )
        for known, verdict in islice(every, start, None):
            if not known.device.name.startswith(prefix):
                break  # they are in order
            if self.matches(known.heard, verdict, now):
                found.append((known, verdict))
                if len(found) == limit:
                    break
        return found


def place_of(judged: Judged) -> tuple[str, str]:
    """Return what devices are ordered by."""
    device = judged[0].device
    return device.name, device.id


def parse(selector: str, fields: str) -> Search:
    """Return what is looked for.

    Raises:
        PlanError: it can't be read; the error says where and what was expected.
    """
    everything = selector.strip() == EVERYTHING
    try:
        labels = Selector() if everything else parse_selector(selector)
    except (SelectorError, ValueError) as error:
        raise PlanError(PlanReason.SELECTOR_MALFORMED, str(error)) from error
    return Search(selector=labels, fields=tuple(_fields(fields)))


def _fields(text: str) -> Iterator[tuple[str, str]]:
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = map(str.strip, part.partition("="))
        if not equals or name not in FIELDS:
            raise PlanError(
                PlanReason.SELECTOR_MALFORMED,
                f"{part[:80]!r} is no field; write NAME=VALUE, with {', '.join(FIELDS)} as NAME",
            )
        if name == "state" and value not in set(State):
            raise PlanError(
                PlanReason.SELECTOR_MALFORMED,
                f"{value[:80]!r} is no state; there are {', '.join(State)}",
            )
        if name == "alert" and value not in BY_NAME:
            raise PlanError(
                PlanReason.SELECTOR_MALFORMED,
                f"{value[:80]!r} is no rule; skerry alert rules lists them",
            )
        yield name, value
