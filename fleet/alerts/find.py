"""Looks for causes: who isn't heard and where, what devices show, how rollouts and keys are. Pure.

A device that isn't heard contributes to nothing else: its last words are old. What it showed is
not over either, and nobody knows (`unseen`). Nor does anybody know of a device that was silent when
the centre began to hear: it has as long to speak as it may be silent.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet.alerts.cause import Cause, Key, Scope
from fleet.alerts.notes import OTHERWISE, RULE_OF, Noted, Sign, signs
from fleet.alerts.world import World
from fleet.clock import written
from fleet.health.heard import Heard
from fleet.health.states import HealthReason, State, Verdict
from fleet.rollouts.outline import Outline
from fleet.rollouts.states import TO_APPROVE, RolloutState, WaveState

LONG_S = 7 * 86400.0
"""Who is away for longer is no news: it counts in no site's share."""

CUT_SHARE = 0.8
CUT_LEAST = 2
"""A site is cut off where so many of its devices, and at least so many, aren't heard."""

SOON = timedelta(days=30)
STALLED_S = 3600.0
NAMED = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """A world, and what was counted in it once for all rules."""

    world: World
    away: "Away"
    shown: Mapping[str, list[Cause]]
    unseen: frozenset[Key]


@dataclass(slots=True)
class _Group:
    """Devices that show one cause, while they are counted."""

    devices: int = 0
    since: str = ""
    names: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    parameters: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def add(self, name: str, since: str, reason: str, parameters: Mapping[str, str]) -> None:
        self.devices += 1
        self.since = min(self.since or since, since)
        self.reasons[reason] += 1
        self.parameters.setdefault(reason, parameters)
        if len(self.names) < NAMED:
            self.names.append(name)

    def cause(self, key: Key, of: int) -> Cause:
        reason = self.reasons.most_common(1)[0][0]
        return Cause(
            key=key,
            since=self.since,
            devices=self.devices,
            of=of,
            names=tuple(self.names),
            reason=reason,
            parameters=self.parameters[reason] if self.devices == 1 else {},
        )


@dataclass(frozen=True, slots=True)
class Away:
    """Who isn't heard, by site; how many each site has; and who has been away for long.

    `unseen` is what those may be part of who may yet speak, after the centre heard nothing.
    """

    sites: Mapping[str, _Group]
    sizes: Mapping[str, int]
    long: _Group
    heard: tuple[Noted, ...]
    unheard: tuple[Noted, ...]
    unseen: frozenset[Key]


def look(world: World) -> Seen:
    """Count who is away, and what those who are heard show."""
    away = _away(world)
    hidden = {key for each in away.unheard for key, _ in _once(each.signs)}
    unseen = away.unseen | hidden
    return Seen(world=world, away=away, shown=_shown(away), unseen=unseen)


def _away(world: World) -> Away:
    sites: dict[str, _Group] = {}
    sizes: Counter[str] = Counter()
    long, heard, unheard = _Group(), [], []
    unseen: set[Key] = set()
    listens = written(world.hearing_since or world.now)
    long_ago = written(world.now - timedelta(seconds=LONG_S))
    cutoffs: dict[float, str] = {}
    for each in world.notes:
        if not each.reported:
            continue
        cutoff = cutoffs.get(each.quiet_after_s)
        if cutoff is None:
            cutoff = written(world.now - timedelta(seconds=each.quiet_after_s))
            cutoffs[each.quiet_after_s] = cutoff
        quiet = each.online and each.at < cutoff
        if quiet and listens >= cutoff:
            # While the centre itself heard nothing, nobody fell silent; nor did anybody speak.
            unseen |= _parts(each)
            sizes[each.site] += each.at >= long_ago
            continue
        if each.online and not quiet:
            heard.append(each)
            sizes[each.site] += 1
            continue
        reason = HealthReason.SILENT if quiet else HealthReason.DISCONNECTED
        since = each.at if quiet else each.since
        if since < long_ago:
            long.add(each.name, since, reason, {})
            continue
        unheard.append(each)
        sizes[each.site] += 1
        sites.setdefault(each.site, _Group()).add(each.name, since, reason, {})
    return Away(
        sites=sites,
        sizes=sizes,
        long=long,
        heard=tuple(heard),
        unheard=tuple(unheard),
        unseen=frozenset(unseen),
    )


def _parts(awaited: Noted) -> set[Key]:
    """Return all that a device of which nobody knows may be part of, there or in the fleet."""
    here = [Key(rule, Scope.SITE, awaited.site) for rule in ("SkerrySiteCut", "SkerryDevicesAway")]
    keys = [*here, Key("SkerryDevicesLongSilent", Scope.FLEET)]
    keys += [key for key, _ in _once(awaited.signs)]
    return {*keys, *(Key(key.rule, Scope.FLEET) for key in keys)}


def is_cut(devices: int, of: int) -> bool:
    """Say whether a site of which so many devices aren't heard is cut off."""
    return devices >= CUT_LEAST and devices >= CUT_SHARE * of


def _is_cut(away: Away, site: str) -> bool:
    return bool(site) and is_cut(away.sites[site].devices, away.sizes[site])


def cut(seen: Seen) -> Iterator[Cause]:
    """Return the sites of which hardly any device is heard."""
    for site, group in seen.away.sites.items():
        if _is_cut(seen.away, site):
            key = Key("SkerrySiteCut", Scope.SITE, site)
            yield group.cause(key, seen.away.sizes[site])


def some_away(seen: Seen) -> Iterator[Cause]:
    """Return the sites of which some devices aren't heard, and most are."""
    for site, group in seen.away.sites.items():
        if not _is_cut(seen.away, site):
            key = Key("SkerryDevicesAway", Scope.SITE, site)
            yield group.cause(key, seen.away.sizes[site])


def long_away(seen: Seen) -> Iterator[Cause]:
    """Return who has been away for so long that nobody waits any more."""
    if seen.away.long.devices:
        yield seen.away.long.cause(Key("SkerryDevicesLongSilent", Scope.FLEET), 0)


def _shown(away: Away) -> Mapping[str, list[Cause]]:
    """Return by rule what devices that are heard show, a cause for each place."""
    groups: dict[Key, _Group] = {}
    for each in away.heard:
        for key, sign in _once(each.signs):
            groups.setdefault(key, _Group()).add(
                each.name, sign.since, sign.reason, sign.parameters
            )
    found: dict[str, list[Cause]] = {}
    for key, group in groups.items():
        of = away.sizes[key.subject] if key.scope is Scope.SITE else 0
        found.setdefault(key.rule, []).append(group.cause(key, of))
    return found


def _once(signs: Iterable[Sign]) -> Iterator[tuple[Key, Sign]]:
    """Return signs by what they are of: a device that shows one twice is one device."""
    keyed: dict[Key, Sign] = {}
    for sign in signs:
        keyed.setdefault(Key(sign.rule, sign.scope, sign.subject), sign)
    yield from keyed.items()


COUNTING = frozenset(
    {
        "SkerrySiteCut",
        "SkerryDevicesAway",
        "SkerryDevicesLongSilent",
        *(rule for rule, _ in RULE_OF.values()),
        *OTHERWISE.values(),
    }
)
"""The rules that count devices by how they are."""


def counted_by(heard: Heard, judged: Verdict, now: datetime) -> Iterator[str]:
    """Return the rules that count a device; of a site's devices that are away, both that may."""
    if judged.state is State.OFFLINE:
        long = judged.finding.since < written(now - timedelta(seconds=LONG_S))
        yield from ["SkerryDevicesLongSilent"] if long else ["SkerrySiteCut", "SkerryDevicesAway"]
    elif judged.state is not State.UNKNOWN:
        yield from {sign.rule for sign in signs(heard, now)}


def broker(seen: Seen) -> Iterator[Cause]:
    """Return that the centre hears nobody."""
    if seen.world.hearing_since is None:
        key = Key("SkerryBrokerDisconnected", Scope.CENTRE, "broker")
        yield Cause(key=key, since=written(seen.world.now))


def devices_certificates(seen: Seen) -> Iterator[Cause]:
    """Return whose certificate has ended or ends soon."""
    now, group = seen.world.now, _Group()
    soon = written(now + SOON)
    for each in seen.world.notes:
        if each.certificate_ends < soon:
            group.add(each.name, each.certificate_ends, "", {})
    if group.devices:
        key = Key("SkerryDeviceCertificatesExpiring", Scope.FLEET)
        cause = group.cause(key, len(seen.world.notes))
        yield replace(cause, since=written(now), parameters={"ends": group.since})


def centres_certificates(seen: Seen) -> Iterator[Cause]:
    """Return which of the centre's own certificates have ended or end soon."""
    now = seen.world.now
    for name, ends in seen.world.certificates.items():
        if ends < now + SOON:
            key = Key("SkerryCentreCertificateExpiring", Scope.CENTRE, name)
            yield Cause(key=key, since=written(now), parameters={"ends": written(ends)})


def stalled(seen: Seen) -> Iterator[Cause]:
    """Return the rollouts that wait for devices which are here, and in which nothing moves."""
    for rollout in seen.world.rollouts:
        moved = _moved(rollout)
        if moved is not None and (seen.world.now - moved).total_seconds() > STALLED_S:
            yield _of_rollout("SkerryRolloutStalled", rollout, since=written(moved))


def _moved(rollout: Outline) -> datetime | None:
    """Return when a rollout moved last; None: it waits for what may take so long."""
    if rollout.state not in {RolloutState.RUNNING, RolloutState.ROLLING_BACK}:
        return None
    if any(wave.state in _WAITING for wave in rollout.waves):
        return None
    if not rollout.awaited_here:
        return None  # all who are waited for are away, or held
    return rollout.moved


_WAITING = TO_APPROVE | {WaveState.SOAKING}
"""Waves that wait for a time or a person, and not for a device."""


def undecided(seen: Seen) -> Iterator[Cause]:
    """Return the rollouts that a gate has paused because it could not decide."""
    for rollout in seen.world.rollouts:
        if _is_paused(rollout) and not _is_stopped(rollout):
            yield _of_rollout("SkerryRolloutInconclusive", rollout)


_GONE_BACK = frozenset({RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK, RolloutState.FAILED})


def gone_back(seen: Seen) -> Iterator[Cause]:
    """Return the last rollout of each deployment where a gate has sent it back, or stopped it."""
    known = set()
    for rollout in seen.world.rollouts:  # the newest first: one that was followed is no news
        if rollout.deployment in known:
            continue
        known.add(rollout.deployment)
        gone = rollout.state in _GONE_BACK and rollout.cause and not rollout.cause.by
        if gone or _is_stopped(rollout):
            yield _of_rollout("SkerryRolloutRolledBack", rollout)


def _is_paused(rollout: Outline) -> bool:
    """Tell whether a gate has paused it."""
    by_gate = rollout.cause is not None and not rollout.cause.by
    return rollout.state is RolloutState.PAUSED and by_gate


def _is_stopped(rollout: Outline) -> bool:
    """Tell whether a gate that failed has paused it."""
    return _is_paused(rollout) and any(wave.state is WaveState.FAILED for wave in rollout.waves)


def _of_rollout(rule: str, rollout: Outline, since: str | None = None) -> Cause:
    bundle = rollout.bundle
    return Cause(
        key=Key(rule, Scope.ROLLOUT, rollout.id),
        since=since or ("" if rollout.moved is None else written(rollout.moved)),
        devices=rollout.awaited,
        of=rollout.size,
        reason="" if rollout.cause is None else rollout.cause.code,
        parameters={
            **({} if rollout.cause is None else rollout.cause.parameters),
            "to": rollout.deployment if bundle is None else f"{bundle.name} {bundle.version}",
            "state": rollout.state,
        },
    )
