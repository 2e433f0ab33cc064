"""The rules: what is worth an alert, how urgent it is, and what to do. One table. Pure.

Rules:
- A rule groups what it finds by where the cause is looked for: devices of a site that are not
  heard have one cause, devices that crash with one bundle have one. More than `many` such groups
  at once have one cause, too: the rule's alert is then about the whole fleet.
- A cause must be there for `holds_s` before its alert opens, and be gone for `clears_s` before
  the alert ends (`fleet.alerts.fold`).

`docs/reference/alerts.md` is generated from `RULES`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from fleet.alerts import find
from fleet.alerts.cause import Cause, Key, Scope, Severity
from fleet.alerts.find import CUT_LEAST, CUT_SHARE, LONG_S, NAMED, SOON, STALLED_S, Seen
from fleet.alerts.notes import RESTARTS_LEAST
from fleet.alerts.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row. `find` is None where devices show it themselves (`fleet.alerts.notes`).

    `of_devices`: it can be judged only while the centre hears its broker. The words in braces
    of `sentence` and `command` are put in by `fleet.alerts.words`; `of_many` and `command_of_many`
    are said instead where it is at many places at once, of which none can be named.
    """

    name: str
    severity: Severity
    when: str
    sentence: str
    next_step: str
    command: str
    holds_s: float
    clears_s: float
    many: int = 10
    of_many: str = ""
    command_of_many: str = ""
    find: Callable[[Seen], Iterable[Cause]] | None = None
    of_devices: bool = True


_MINUTE_S = 60.0

RULES: tuple[Rule, ...] = (
    Rule(
        name="SkerryBrokerDisconnected",
        severity=Severity.CRITICAL,
        when="the centre has no connection to its broker",
        sentence="The centre has no connection to its broker: nothing is heard of devices.",
        next_step="Look at the broker, and at the way to it; devices go on with what they have.",
        command="skerry doctor",
        holds_s=_MINUTE_S,
        clears_s=_MINUTE_S,
        find=find.broker,
        of_devices=False,
    ),
    Rule(
        name="SkerrySiteCut",
        severity=Severity.CRITICAL,
        when=f"at least {CUT_LEAST} devices of a site, and {100 * CUT_SHARE:.0f} % of it, aren't"
        " heard",
        sentence="Cut off: {where}; {share} devices can't be heard.",
        next_step="Check the site's power and its uplink; devices go on with what they have.",
        command="skerry device ls --field alert=SkerrySiteCut{and_site}",
        holds_s=_MINUTE_S,
        clears_s=2 * _MINUTE_S,
        many=5,
        find=find.cut,
    ),
    Rule(
        name="SkerryDevicesAway",
        severity=Severity.WARNING,
        when="devices of a site aren't heard, and most of the site is",
        sentence="{where}: {devices} can't be heard ({share}).",
        next_step="Check their power and their network.",
        command="skerry device ls --field alert=SkerryDevicesAway{and_site}",
        holds_s=5 * _MINUTE_S,
        clears_s=2 * _MINUTE_S,
        find=find.some_away,
    ),
    Rule(
        name="SkerryDevicesLongSilent",
        severity=Severity.INFO,
        when=f"devices haven't been heard for more than {LONG_S / 86400:.0f} d",
        sentence="{devices} can't be heard any more, for more than a week.",
        next_step="Bring them back, or take them out of the fleet.",
        command="skerry device ls --field alert=SkerryDevicesLongSilent",
        holds_s=60 * _MINUTE_S,
        clears_s=5 * _MINUTE_S,
        find=find.long_away,
    ),
    Rule(
        name="SkerryCrashLoop",
        severity=Severity.CRITICAL,
        when=f"a bundle's workers die again and again ({RESTARTS_LEAST} times in a period, or the"
        " device gave up), or it is in quarantine",
        sentence="Workers keep dying: {where}, on {devices}.",
        next_step="Roll it back; then look at the log of one of the devices.",
        command="skerry device history {name}",
        holds_s=0,
        clears_s=10 * _MINUTE_S,
    ),
    Rule(
        name="SkerryGoldenFailing",
        severity=Severity.CRITICAL,
        when="a bundle answers its golden vectors wrongly",
        sentence="Golden vectors are missed: {where}, on {devices}.",
        next_step="Don't roll it out to this class of devices; pack a variant that is right there.",
        command="skerry device show {name}",
        holds_s=0,
        clears_s=5 * _MINUTE_S,
    ),
    Rule(
        name="SkerryDevicesFailing",
        severity=Severity.WARNING,
        when="something that is wanted does not serve, for another reason",
        sentence="{where}: what is wanted does not serve on {devices}.",
        next_step="Look why on one of them.",
        command="skerry device show {name}",
        holds_s=2 * _MINUTE_S,
        clears_s=5 * _MINUTE_S,
    ),
    Rule(
        name="SkerryModelErrors",
        severity=Severity.WARNING,
        when="too many of a bundle's requests fail",
        sentence="{where}: too many requests fail on {devices}.",
        next_step="Read the last events of one of the devices, and compare with others.",
        command="skerry device show {name}",
        holds_s=2 * _MINUTE_S,
        clears_s=5 * _MINUTE_S,
    ),
    Rule(
        name="SkerryModelDrifting",
        severity=Severity.WARNING,
        when="a bundle is asked, or answers, otherwise than its card's reference",
        sentence="{where}: what it is asked or answers has drifted on {devices}.",
        next_step="Look at what has changed before the device; then measure the model anew.",
        command="skerry device show {name}",
        holds_s=0,
        clears_s=60 * _MINUTE_S,
    ),
    Rule(
        name="SkerryAcceleratorFallback",
        severity=Severity.WARNING,
        when="a bundle serves on a slower path than it was built for",
        sentence="On a slower path than built for: {where}, on {devices}.",
        next_step="Look why its accelerator is not used.",
        command="skerry device show {name}",
        holds_s=2 * _MINUTE_S,
        clears_s=5 * _MINUTE_S,
    ),
    Rule(
        name="SkerryThrottling",
        severity=Severity.WARNING,
        when="devices of a site slow themselves down, for heat or for power",
        sentence="{where}: for heat or for power, {devices} can't run at full speed.",
        next_step="Cool the place, or check the power supply.",
        command="skerry device ls --field alert=SkerryThrottling{and_site}",
        holds_s=2 * _MINUTE_S,
        clears_s=5 * _MINUTE_S,
    ),
    Rule(
        name="SkerryDiskFilling",
        severity=Severity.WARNING,
        when="devices of a site have hardly any room on their disks",
        sentence="{where}: the disk is nearly full on {devices}.",
        next_step="Free some room there; an update may not fit any more.",
        command="skerry device ls --field alert=SkerryDiskFilling{and_site}",
        holds_s=_MINUTE_S,
        clears_s=5 * _MINUTE_S,
    ),
    Rule(
        name="SkerryDevicesDegraded",
        severity=Severity.WARNING,
        when="devices serve, and not as well as they should, for another reason",
        sentence="{where}: degraded on {devices}.",
        next_step="Look why on one of them.",
        command="skerry device show {name}",
        holds_s=2 * _MINUTE_S,
        clears_s=5 * _MINUTE_S,
    ),
    Rule(
        name="SkerryDeviceCertificatesExpiring",
        severity=Severity.WARNING,
        when=f"devices' certificates have ended, or end within {SOON.days} d",
        sentence=f"The certificate ends within {SOON.days} d, or has ended, on {{devices}};"
        " the first on {ends}.",
        next_step="Let them join again with a new token before that: afterwards none is heard.",
        command="skerry device show {name}",
        holds_s=0,
        clears_s=_MINUTE_S,
        find=find.devices_certificates,
        of_devices=False,
    ),
    Rule(
        name="SkerryCentreCertificateExpiring",
        severity=Severity.CRITICAL,
        when=f"a certificate of the centre has ended, or ends within {SOON.days} d",
        sentence="The centre's {subject} certificate ends on {ends}.",
        of_many=f"Certificates of the centre end within {SOON.days} d, or have ended.",
        next_step="Plan a new home before that: afterwards nobody who checks it connects.",
        command="skerry doctor",
        holds_s=0,
        clears_s=_MINUTE_S,
        find=find.centres_certificates,
        of_devices=False,
    ),
    Rule(
        name="SkerryRolloutStalled",
        severity=Severity.WARNING,
        when=f"a rollout waits for devices that are here, and nothing has moved for"
        f" {STALLED_S / 60:.0f} min",
        sentence="{where} to {to}: {share} are waited for, and nothing moves.",
        of_many="{where}: {share} devices are waited for, and nothing moves.",
        next_step="Ask what it waits for; pause or abort it.",
        command="skerry rollout why {subject}",
        command_of_many="skerry rollout ls",
        holds_s=0,
        clears_s=_MINUTE_S,
        find=find.stalled,
    ),
    Rule(
        name="SkerryRolloutInconclusive",
        severity=Severity.WARNING,
        when="a gate has paused a rollout, because it could not decide",
        sentence="{where} to {to} is paused: its gate could not decide.",
        of_many="{where} are paused: their gates could not decide.",
        next_step="Resume, abort or roll back.",
        command="skerry rollout why {subject}",
        command_of_many="skerry rollout ls",
        holds_s=0,
        clears_s=_MINUTE_S,
        find=find.undecided,
        of_devices=False,
    ),
    Rule(
        name="SkerryRolloutRolledBack",
        severity=Severity.CRITICAL,
        when="a gate has sent back or stopped the last rollout of a deployment, or it has failed",
        sentence="{where} to {to} is {state}: its gate did not let it through.",
        of_many="{where} are sent back, stopped or failed: their gates did not let them through.",
        next_step="Look why; the alert ends when another rollout of the deployment follows.",
        command="skerry rollout why {subject}",
        command_of_many="skerry rollout ls",
        holds_s=0,
        clears_s=_MINUTE_S,
        find=find.gone_back,
        of_devices=False,
    ),
)
"""The table, in the order in which it is evaluated."""

BY_NAME = {rule.name: rule for rule in RULES}


class Causes(NamedTuple):
    """What one look found, and what it could not judge.

    `blind`: rules of which nothing is known. `unseen`: causes that devices showed which aren't
    heard now: they may be there, or not.
    """

    found: tuple[Cause, ...]
    blind: frozenset[str] = frozenset()
    unseen: frozenset[Key] = frozenset()


def causes(world: World) -> Causes:
    """Return the causes that are there now, in the order of the table."""
    seen = find.look(world)
    deaf = world.hearing_since is None
    found: list[Cause] = []
    for rule in RULES:
        if deaf and rule.of_devices:
            continue  # nothing is heard, so that nothing can be said of devices
        here = seen.shown.get(rule.name, ()) if rule.find is None else rule.find(seen)
        found += together(rule, sorted(here, key=lambda each: each.key))
    blind = frozenset(rule.name for rule in RULES if deaf and rule.of_devices)
    return Causes(tuple(found), blind, seen.unseen)


def together(rule: Rule, found: list[Cause]) -> list[Cause]:
    """Return what a rule found, as one cause where it is at more places than are chance."""
    if len(found) <= rule.many:
        return found
    most = max(found, key=lambda each: each.devices)
    whole = replace(
        most,
        key=Key(rule.name, Scope.FLEET),
        since=min(each.since for each in found),
        devices=sum(each.devices for each in found),
        of=sum(each.of for each in found),
        places=len(found),
        part=most.key.scope,
        names=tuple(name for each in found for name in each.names)[:NAMED],
        parameters={},
    )
    return [whole]
