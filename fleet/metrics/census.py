"""The fleet counted for a Prometheus: from devices with their verdicts to numbers. Pure.

Devices that are not heard of count by their state and by how long they are silent, and nowhere
else: what they serve now nobody knows.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.wire.reasons import Reason
from fleet.alerts.find import LONG_S, is_cut
from fleet.clock import written
from fleet.health.drift import Level
from fleet.health.heard import Heard
from fleet.health.states import State, Verdict
from fleet.health.sums import Judged
from fleet.metrics.families import Sheet
from fleet.metrics.slots import UNKNOWN, Key, Slots

SILENT = {"1h": 3600, "1d": 86400, "7d": 7 * 86400}
"""How long, in words and in seconds."""

_AWAY = frozenset({State.UNKNOWN, State.OFFLINE})
_SLOWER = frozenset({Reason.ACCELERATOR_FALLBACK, Reason.ACCELERATOR_MISSING})


class Named:
    """The slots that a fleet's own names share."""

    def __init__(self) -> None:
        self.sites = Slots(50)
        self.bundles = Slots(20)
        self.accelerators = Slots(6)

    def every(self) -> Mapping[str, Slots]:
        """Return them by what they are slots of."""
        return {
            "site": self.sites,
            "bundle": self.bundles,
            "accelerator": self.accelerators,
        }


@dataclass(frozen=True, slots=True)
class _Counted:
    """What one device counts for, as long as it and its verdict are these.

    Each bundle is named once: those that it serves with their accelerators, those of them that it
    serves more slowly than it could, and those whose drift it told of.
    """

    heard: Heard
    verdict: Verdict
    serving: tuple[tuple[str, str, str], ...]
    slow: tuple[Key, ...]
    drifting: tuple[tuple[Key, Level], ...]


class Census:
    """Counts a fleet again and again; of whom nothing new is known, it looks at the state alone."""

    def __init__(self, named: Named) -> None:
        self._named = named
        self._counted: dict[str, _Counted] = {}

    def take(
        self, judged: Judged, now: datetime, published: Sequence[Key] = ()
    ) -> tuple[Sheet, Collection[Key]]:
        """Return the fleet in numbers, and the bundles that lost their name by it.

        Args:
            judged: every device with its verdict.
            now: when it was looked at.
            published: bundles by name and version, the newest first: they are named before they
                serve.
        """
        states: Counter[tuple[State, str | None]] = Counter()
        serving: Counter[tuple[str, str, str]] = Counter()
        fallback: Counter[Key] = Counter()
        drifting: Counter[tuple[Key, Level]] = Counter()
        silent: Counter[str] = Counter(dict.fromkeys(SILENT, 0))
        present: Counter[str] = Counter()
        absent: Counter[str] = Counter()
        long_ago = written(now - timedelta(seconds=LONG_S))
        counted = dict[str, _Counted]()
        for heard, verdict in judged:
            site = heard.target.site
            states[verdict.state, site] += 1
            if site and verdict.state is State.OFFLINE:
                absent[site] += verdict.finding.since >= long_ago
            elif site and verdict.state is not State.UNKNOWN:
                present[site] += 1
            if verdict.state in _AWAY:
                for_s = heard.silent_s(now)
                silent.update(over for over, limit_s in SILENT.items() if for_s > limit_s)
                continue
            device = heard.target.device
            kept = self._counted.get(device)
            if kept is None or kept.heard is not heard or kept.verdict is not verdict:
                kept = _counted(heard, verdict)
            counted[device] = kept
            serving.update(kept.serving)
            fallback.update(kept.slow)
            drifting.update(kept.drifting)
        self._counted = counted
        named, at_sites = self._named, Counter[Key]()
        for (_, site), devices in states.items():
            at_sites[_site(site)] += devices
        on_devices: Counter[Key] = Counter()
        for (name, version, _), devices in serving.items():
            on_devices[name, version] += devices
        named.sites.settle(_ranked(at_sites))
        lost = named.bundles.settle([*_ranked(on_devices), *published])
        return {
            "skerry_fleet_look_timestamp_seconds": {(): now.timestamp()},
            "skerry_fleet_devices": _by_state(states, named.sites),
            "skerry_fleet_devices_serving": _added(
                (
                    (
                        *named.bundles.label((name, version)),
                        *named.accelerators.label((on,)),
                    ),
                    devices,
                )
                for (name, version, on), devices in sorted(serving.items())
            ),
            "skerry_fleet_devices_fallback": _added(
                (named.bundles.label(bundle), fallback[bundle]) for bundle in sorted(on_devices)
            ),
            "skerry_model_drift_devices": _added(
                ((*named.bundles.label(bundle), level.value), drifting[bundle, level])
                for bundle in sorted(on_devices)
                for level in Level
            ),
            "skerry_sites": _sites(present, absent),
            "skerry_fleet_devices_silent": {(over,): silent[over] for over in SILENT},
        }, lost


def _counted(heard: Heard, verdict: Verdict) -> _Counted:
    serving, slow = set(), set()
    for told in heard.deployments:
        bundle = heard.serves(told)
        if bundle is None:
            continue
        on = UNKNOWN if told.active is None else told.active.accelerator
        serving.add((bundle.name, bundle.version, on))
        if any(condition.reason in _SLOWER for condition in told.conditions):
            slow.add((bundle.name, bundle.version))
    drifting = tuple(
        ((bundle.name, bundle.version), drift.level)
        for told, drift in heard.drifting()
        if (bundle := heard.serves(told)) is not None
    )
    return _Counted(heard, verdict, tuple(serving), tuple(slow), drifting)


def _by_state(states: Counter[tuple[State, str | None]], sites: Slots) -> dict[Key, float]:
    """Every state of every site, the empty ones too: a count that was never there is no news."""
    shown: dict[Key, float] = {}
    for site in {site for _, site in states} or {None}:
        (label,) = sites.label(_site(site))
        for state in State:
            key = (state.value, label)
            shown[key] = shown.get(key, 0) + states[state, site]
    return shown


def _sites(present: Counter[str], absent: Counter[str]) -> dict[Key, float]:
    """Count sites as alerts do: of whom was ever heard, and lately enough to be waited for."""
    shown = dict.fromkeys(("whole", "partly", "cut"), 0)
    for site in {*present, *absent}:
        away = absent[site]
        cut = is_cut(away, away + present[site])
        shown["cut" if cut else "partly" if away else "whole"] += 1
    return {(state,): sites for state, sites in shown.items()}


def _site(site: str | None) -> Key:
    return (site or "none",)


def _ranked(counted: Counter[Key]) -> list[Key]:
    return sorted(counted, key=lambda key: (-counted[key], key))


def _added(counted: Iterable[tuple[Key, int]]) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for key, number in counted:
        found[key] = found.get(key, 0) + number
    return found
