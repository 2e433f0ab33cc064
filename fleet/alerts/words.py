"""An alert as people read it: what is wrong and where, why, and what to do. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from fleet.alerts.cause import Cause, Key, Scope
from fleet.alerts.rules import BY_NAME
from fleet.sentences import explain
from fleet.wording import count

_PLACES: Mapping[Scope | None, str] = {
    Scope.SITE: "sites",
    Scope.BUNDLE: "bundles",
    Scope.REASON: "bundles or devices",
    Scope.ROLLOUT: "rollouts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An alert in words. `why` is empty where the sentence says it all."""

    title: str
    why: str
    next_step: str
    command: str


def said(cause: Cause) -> Said:
    """Return a cause in words. One of a rule that is no more has its name alone."""
    rule = BY_NAME.get(cause.key.rule)
    why = explain(cause.reason, cause.parameters).meaning if cause.reason else ""
    if rule is None:
        return Said(
            title=f"{cause.key.rule} {cause.key.subject}", why=why, next_step="", command=""
        )
    subject = cause.key.subject
    filling = _Blank(
        {
            **cause.parameters,
            "subject": subject,
            "where": where(cause),
            "devices": _devices(cause),
            "share": f"{count(cause.devices)} of {count(cause.of)}",
            "name": cause.names[0] if cause.names else "DEVICE",
            "and_site": f",site={subject}" if cause.key.scope is Scope.SITE else "",
        }
    )
    many = cause.places > 0
    title = ((many and rule.of_many) or rule.sentence).format_map(filling)
    return Said(
        title=title[:1].upper() + title[1:],
        why=why if rule.name not in _PLAIN else "",
        next_step=rule.next_step,
        command=((many and rule.command_of_many) or rule.command).format_map(filling),
    )


_PLAIN = frozenset({"SkerrySiteCut", "SkerryDevicesAway", "SkerryDevicesLongSilent"})
"""Rules whose reason codes say what the sentence says."""


class _Blank(dict[str, str]):
    """What is not known shows as a question mark."""

    def __missing__(self, name: str) -> str:
        return "?"


def where(cause: Cause) -> str:
    """Return where a cause is, in words."""
    key = cause.key
    match key.scope:
        case Scope.FLEET if cause.places:
            return f"{count(cause.places)} {_PLACES.get(cause.part, 'places')}"
        case Scope.FLEET:
            return "the fleet"
        case Scope.SITE:
            return f"site {key.subject}" if key.subject else "devices without a site"
        case Scope.ROLLOUT:
            return f"rollout {key.subject}"
        case _:
            return key.subject


def place(key: Key) -> str:
    """Return a cause's place as a short text for a table."""
    return key.subject or str(key.scope)


def _devices(cause: Cause) -> str:
    if cause.devices == 1 and cause.names:
        return cause.names[0]
    return f"{count(cause.devices)} device{'' if cause.devices == 1 else 's'}"
