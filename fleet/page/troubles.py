"""What alerts have in common with what else a page says: each trouble is said once. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from fleet.alerts.cause import Scope
from fleet.api.alerts import AlertShown
from fleet.api.look import Need


def besides(needs: Iterable[Need], alerts: Sequence[AlertShown]) -> list[Need]:
    """Return what needs a person and no open alert says: of the same rollout, or one device.

    Of several devices it isn't known whether they are those of an alert: they are said twice.
    """
    rollouts = {each.subject for each in alerts if each.scope is Scope.ROLLOUT}
    devices = {(name, each.reason) for each in alerts for name in each.names}
    return [
        need
        for need in needs
        if need.subject not in rollouts and (need.subject, need.reason) not in devices
    ]


def meant(found: AlertShown) -> Mapping[str, str | None]:
    """Return what a silence of an alert matches: its rule, and its site or bundle if it has one."""
    return {
        "rule": found.rule,
        "site": found.subject or None if found.scope is Scope.SITE else None,
        "bundle": found.subject.replace(" ", ":", 1) if found.scope is Scope.BUNDLE else None,
    }


def places(found: AlertShown) -> str:
    """Return the field of a list of devices that an alert's command lists; empty: it lists none."""
    _, listed, field = found.command.partition("skerry device ls --field ")
    return field if listed else ""
