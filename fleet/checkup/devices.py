"""What is wrong with devices that they can't tell: they were never heard, or soon won't be. Pure.

How those are that are heard is told by `skerry fleet status`.
"""

from collections.abc import Iterator, Sequence

from fleet.checkup.centre import Asked
from fleet.checkup.finding import Finding, not_tried, ok, warning
from fleet.checkup.store import Kept
from fleet.checkup.trust import SOON
from fleet.wording import count

_CHECK = "devices"
_NAMED = 3
_QUIET_S = 3600.0
"""Whoever was set up a moment ago may still be on its way to its place."""


def judge(kept: Kept | None, asked: Asked | None) -> Iterator[Finding]:
    """Judge devices by the store, which knows their certificates, and by the centre that runs."""
    if kept is None and asked is None:
        yield not_tried(_CHECK, "it needs the store or the centre")
        return
    found = [*_ending(kept), *_unheard(asked)]
    yield from found or [ok(_CHECK, _well(kept, asked))]


def _ending(kept: Kept | None) -> Iterator[Finding]:
    if kept is not None and kept.expiring:
        names = named(kept.expiring)
        yield warning(
            _CHECK,
            f"{count(len(kept.expiring))} of {count(kept.devices)} certificates have ended or end"
            f" within {SOON.days} d: {names}",
            "a device whose certificate has ended goes on serving, and is heard no more",
            "see when: skerry device show NAME; on each: move its identity folder away, then"
            " skerry-agent join with a new token and name",
        )


def _unheard(asked: Asked | None) -> Iterator[Finding]:
    if asked is None:
        return
    long = [
        name for name, joined in asked.unheard if (asked.as_of - joined).total_seconds() > _QUIET_S
    ]
    if long:
        yield warning(
            _CHECK,
            f"{count(len(long))} of {count(asked.devices)} joined more than an hour ago and"
            f" were never heard: {named(long)}",
            "their agents do not run, or can't reach the broker",
            f"see them: skerry device ls --state unknown{asked.where};"
            " on each: skerry-agent doctor",
        )


def _well(kept: Kept | None, asked: Asked | None) -> str:
    if asked is None:
        assert kept is not None  # noqa: S101  # for the type checker
        return f"{count(kept.devices)} joined; no certificate ends within {SOON.days} d"
    quiet = len(asked.unheard)
    heard = f"{count(quiet)} not heard yet" if quiet else "each was heard"
    said = f"{count(asked.devices)} joined, {heard}" if asked.devices else "none has joined"
    if kept is None:
        return f"{said}; when certificates end is known beside the home only"
    return f"{said}; no certificate ends within {SOON.days} d"


def named(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {count(more)} more" if more > 0 else "")
