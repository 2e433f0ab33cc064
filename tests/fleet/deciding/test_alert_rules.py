"""One cause is one alert, however many devices show it; what isn't known opens and ends nothing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.v1 import DeploymentHealth, Problem
from fleet.alerts.cause import Cause, Key, Scope
from fleet.alerts.notes import Noted, Sign, note
from fleet.alerts.rules import RULES, Rule, causes, together
from fleet.alerts.words import said
from fleet.alerts.world import World
from fleet.cli import WORDS
from fleet.clock import written
from fleet.health.heard import Heard
from fleet.rollouts.gate import GateReason
from fleet.rollouts.outline import outline
from fleet.rollouts.progress import Cause as RolloutCause
from fleet.rollouts.progress import Rollout
from fleet.rollouts.states import RolloutState, WaveState
from tests.fleet.deciding.paper import NOW, Paper
from tests.fleet.deciding.test_health_states import BUNDLE, feels, heard, told

HOUR = timedelta(hours=1)
PAPER = Paper()
CRASHED = Sign(
    rule="SkerryCrashLoop",
    scope=Scope.BUNDLE,
    subject="digits 1.5.0",
    reason=Reason.WORKER_CRASHED,
    since=written(NOW),
)


def ago(seconds: float) -> str:
    return written(NOW - timedelta(seconds=seconds))


def noted(number: int, **changes: object) -> Noted:
    fields: dict[str, object] = {
        "device": f"d-{number}",
        "name": f"buoy-{number}",
        "site": "porto",
        "online": True,
        "reported": True,
        "since": ago(3600),
        "at": ago(30),
        "quiet_after_s": 300.0,
        "certificate_ends": written(NOW + timedelta(days=300)),
        **changes,
    }
    return Noted(**fields)  # type: ignore[arg-type]


def many(first: int, count: int, **changes: object) -> list[Noted]:
    return [noted(number, **changes) for number in range(first, first + count)]


def world(notes: Sequence[Noted] = (), **changes: object) -> World:
    fields: dict[str, object] = {
        "now": NOW,
        "hearing_since": NOW - 24 * HOUR,
        "notes": notes,
        **changes,
    }
    return World(**fields)  # type: ignore[arg-type]


def found(notes: Sequence[Noted] = (), **changes: object) -> list[Cause]:
    return list(causes(world(notes, **changes)).found)


def keys(notes: Sequence[Noted] = (), **changes: object) -> list[tuple[str, str, int]]:
    """Return rule, place and number of devices of each cause."""
    return [(each.key.rule, each.key.subject, each.devices) for each in found(notes, **changes)]


def test_a_fleet_that_is_well_has_no_cause() -> None:
    """Nothing fires on a healthy look."""
    assert [] == found(many(1, 40))


@pytest.mark.parametrize("how", [{"online": False}, {"at": ago(301)}])
def test_a_cut_cable_is_one_cause(how: dict[str, object]) -> None:
    """A site of 400 devices that left, or fell silent, is one alert and not 400."""
    (cut,) = found([*many(1, 400, site="lerwick", **how), *many(500, 20)])

    assert Key("SkerrySiteCut", Scope.SITE, "lerwick") == cut.key
    assert (400, 400) == (cut.devices, cut.of)
    assert "Cut off: site lerwick; 400 of 400 devices can't be heard." == said(cut).title
    assert "skerry device ls --field alert=SkerrySiteCut,site=lerwick" == said(cut).command


def test_some_of_a_site_are_another_cause() -> None:
    """Where most of a site is heard its cable isn't cut."""
    away = many(1, 7, online=False)

    assert [("SkerryDevicesAway", "porto", 7)] == keys([*away, *many(8, 3)])
    assert [("SkerrySiteCut", "porto", 8)] == keys([*away, noted(0, online=False), *many(8, 2)])
    (one,) = found([noted(1, online=False), *many(2, 9)])
    assert "Site porto: buoy-1 can't be heard (1 of 10)." == said(one).title
    assert [("SkerryDevicesAway", "porto", 1)] == keys([noted(1, online=False)])
    assert [("SkerryDevicesAway", "", 3)] == keys(many(1, 3, online=False, site=""))


def test_who_is_away_for_long_counts_in_no_site() -> None:
    """Three in a cupboard since spring don't make a cut cable, and don't hide one."""
    cupboard = many(1, 3, online=False, since="2026-01-01T00:00:00Z", at="2026-01-01T00:00:00Z")

    assert [("SkerryDevicesLongSilent", "", 3)] == keys([*cupboard, *many(4, 2)])
    assert [("SkerrySiteCut", "porto", 2), ("SkerryDevicesLongSilent", "", 3)] == keys(
        [*cupboard, *many(4, 2, online=False)]
    )


def test_a_device_that_never_spoke_is_not_away() -> None:
    """Who was never heard can't fall silent: the doctor tells of it."""
    assert [] == keys(many(1, 5, reported=False, online=False))


def test_nobody_falls_silent_while_the_centre_hears_nothing() -> None:
    """A centre that was down for a day says nothing of who was silent meanwhile."""
    quiet = many(1, 10, at=ago(86400))

    assert [] == keys(quiet, hearing_since=NOW - timedelta(seconds=299))
    assert [("SkerrySiteCut", "porto", 10)] == keys(quiet, hearing_since=NOW - HOUR)
    deaf = causes(world([*quiet, noted(11, signs=(CRASHED,))], hearing_since=None))
    assert ["SkerryBrokerDisconnected"] == [each.key.rule for each in deaf.found]
    assert {"SkerrySiteCut", "SkerryCrashLoop"} <= deaf.blind
    assert not {"SkerryBrokerDisconnected", "SkerryRolloutRolledBack"} & deaf.blind


def test_nobody_is_back_before_they_could_speak() -> None:
    """Who was silent when the centre began to hear is in no cause, and in none that is gone."""
    quiet = many(1, 8, at=ago(86400), signs=(CRASHED,))
    gone = many(9, 2, online=False)
    began = NOW - timedelta(seconds=299)
    told = causes(world([*quiet, *gone], hearing_since=began))
    (away,) = told.found

    assert ("SkerryDevicesAway", 2, 10) == (away.key.rule, away.devices, away.of)
    assert {
        Key("SkerrySiteCut", Scope.SITE, "porto"),
        Key("SkerrySiteCut", Scope.FLEET),
        Key("SkerryCrashLoop", Scope.BUNDLE, "digits 1.5.0"),
        Key("SkerryCrashLoop", Scope.FLEET),
    } <= told.unseen
    assert not causes(world(many(1, 8), hearing_since=began)).unseen


def test_a_bundle_that_crashes_everywhere_is_one_cause() -> None:
    """300 devices in 30 sites, and one bundle: one alert, which names it."""
    notes = [noted(n, site=f"site-{n % 30}", signs=(CRASHED, CRASHED)) for n in range(300)]
    (crash,) = found(notes)

    assert Key("SkerryCrashLoop", Scope.BUNDLE, "digits 1.5.0") == crash.key
    assert 300 == crash.devices
    assert "Workers keep dying: digits 1.5.0, on 300 devices." == said(crash).title


def test_a_device_of_a_cut_site_is_in_no_other_alert() -> None:
    """Its last words are old: they say nothing about now."""
    notes = many(1, 4, online=False, signs=(CRASHED,))

    assert [("SkerrySiteCut", "porto", 4)] == keys(notes)
    assert {Key("SkerryCrashLoop", Scope.BUNDLE, "digits 1.5.0")} == causes(world(notes)).unseen


def test_the_same_at_too_many_places_is_one_cause() -> None:
    """Five cut sites are five cables; six have something in common, and are one alert."""

    def cut(sites: int) -> list[Noted]:
        return [noted(n, site=f"site-{n // 2}", online=False) for n in range(2 * sites)]

    assert 5 == len(found(cut(5)))
    (whole,) = found(cut(6))
    assert Key("SkerrySiteCut", Scope.FLEET) == whole.key
    assert (6, 12, 12) == (whole.places, whole.devices, whole.of)
    assert "Cut off: 6 sites; 12 of 12 devices can't be heard." == said(whole).title


def test_alerts_are_few_whatever_goes_wrong() -> None:
    """A fleet of bad news has no more causes than the table allows."""
    names = [rule.name for rule in RULES if rule.find is None]
    notes = [
        noted(
            n,
            site=f"site-{n}",
            signs=tuple(
                Sign(rule=name, scope=Scope.SITE, subject=f"site-{n}", reason="X", since=ago(1))
                for name in names
            ),
        )
        for n in range(500)
    ]

    assert len(names) == len(found(notes))


def test_certificates_that_end_are_told_in_time() -> None:
    """Of all devices together; and of the centre each."""
    ends = [noted(n, certificate_ends=written(NOW + timedelta(days=29))) for n in range(3)]
    (devices,) = found([*ends, *many(10, 5)])
    centre = {"server": NOW + timedelta(days=2), "CA": NOW + timedelta(days=31)}
    (own,) = found(certificates=centre)

    assert ("SkerryDeviceCertificatesExpiring", 3, 8) == (
        devices.key.rule,
        devices.devices,
        devices.of,
    )
    assert written(NOW + timedelta(days=29)) in said(devices).title
    assert Key("SkerryCentreCertificateExpiring", Scope.CENTRE, "server") == own.key


def test_rollouts_that_need_somebody_are_causes() -> None:
    """Stalled for an hour, undecided, sent back by a gate: each once, and never by a person."""
    inventory = PAPER.inventory(*PAPER.targets(3))
    rollout, _ = PAPER.started(inventory, PAPER.plan(inventory))
    gate = RolloutCause(code=next(iter(GateReason)), parameters={"wave": "1"})
    person = RolloutCause(code="PAUSED_BY_PERSON", by="operator")
    away = replace(rollout, targets=tuple(replace(t, online=False) for t in rollout.targets))

    def rules(*rollouts: Rollout, now: datetime = NOW) -> list[str]:
        return [each.key.rule for each in found(rollouts=list(map(outline, rollouts)), now=now)]

    assert [] == rules(rollout)
    assert [] == rules(rollout, now=NOW + HOUR)
    assert ["SkerryRolloutStalled"] == rules(rollout, now=NOW + 1.1 * HOUR)
    assert [] == rules(away, now=NOW + 1.1 * HOUR)
    waits = tuple(replace(wave, state=WaveState.TO_APPROVE) for wave in rollout.waves)
    assert [] == rules(replace(rollout, waves=waits), now=NOW + 1.1 * HOUR)
    paused = replace(rollout, state=RolloutState.PAUSED, cause=gate)
    assert ["SkerryRolloutInconclusive"] == rules(paused)
    assert [] == rules(replace(paused, cause=person))
    first, *rest = paused.waves
    stopped = replace(paused, waves=(replace(first, state=WaveState.FAILED), *rest))
    assert ["SkerryRolloutRolledBack"] == rules(stopped)
    back = replace(rollout, state=RolloutState.ROLLED_BACK, cause=gate)
    assert ["SkerryRolloutRolledBack"] == rules(back)
    assert [] == rules(replace(rollout, id="r-2"), back)


@pytest.mark.parametrize(
    ("reason", "phase", "rule"),
    [
        (Reason.GOLDEN_MISMATCH, Phase.REFUSED, "SkerryGoldenFailing"),
        (Reason.WORKER_CRASHED, Phase.ROLLED_BACK, "SkerryCrashLoop"),
        (Reason.QUARANTINED, Phase.REFUSED, "SkerryCrashLoop"),
        (Reason.DISK_FULL, Phase.REFUSED, "SkerryDiskFilling"),
        (Reason.NO_VARIANT_FITS, Phase.REFUSED, "SkerryDevicesFailing"),
    ],
)
def test_what_a_device_reports_is_a_sign(reason: Reason, phase: Phase, rule: str) -> None:
    """Each reason code belongs to one rule; one that nobody listed is a failure all the same."""
    device = heard(told(phase, last_error=Problem(reason=reason)))
    (sign,) = note(device, "2027", NOW).signs

    assert (rule, reason) == (sign.rule, sign.reason)


def of_health(**changes: object) -> Heard:
    return heard(health=feels(**changes))


def period(**changes: object) -> tuple[DeploymentHealth, ...]:
    fields: dict[str, object] = {
        "name": "digits",
        "revision": 1,
        "digest": BUNDLE.digest,
        "requests": 100,
        "errors": 0,
        **changes,
    }
    return (DeploymentHealth(**fields),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("health", "rule", "subject"),
    [
        ({"throttled": True}, "SkerryThrottling", ""),
        ({"disk_free_bytes": 1, "disk_total_bytes": 1 << 40}, "SkerryDiskFilling", ""),
        ({"deployments": period(errors=50)}, "SkerryModelErrors", "digits 1.4.0"),
        ({"deployments": period(restarts=3)}, "SkerryCrashLoop", "digits 1.4.0"),
    ],
)
def test_how_a_device_feels_is_a_sign(health: dict[str, object], rule: str, subject: str) -> None:
    """And whatever is a sign is never taken for a period that shows nothing."""
    device = of_health(**health)
    (sign,) = note(device, "2027", NOW).signs

    assert (rule, subject) == (sign.rule, sign.subject)


def test_all_that_is_wrong_with_a_device_is_noted() -> None:
    """Not only the word it is given: one that fails and has no room is in both alerts."""
    device = heard(
        told(Phase.REFUSED, last_error=Problem(reason=Reason.GOLDEN_MISMATCH)),
        health=feels(throttled=True, deployments=period(restarts=5)),
    )
    rules = {sign.rule for sign in note(device, "2027", NOW).signs}

    assert {"SkerryGoldenFailing", "SkerryThrottling", "SkerryCrashLoop"} == rules


def test_a_well_device_shows_nothing() -> None:
    """No sign in its report, nor in its health."""
    device = of_health(deployments=period(restarts=2, errors=1))

    assert () == note(device, "2027", NOW).signs


def test_every_rule_says_what_to_do() -> None:
    """A sentence, a next step, a command; and no word in braces is left."""
    for rule in RULES:
        for cause in (
            Cause(key=Key(rule.name, Scope.SITE, "porto"), since="", devices=3, names=("a",)),
            Cause(key=Key(rule.name, Scope.FLEET), since="", devices=1, places=12, names=("a",)),
        ):
            words = said(cause)
            assert words.title.endswith(".")
            assert words.next_step.endswith(".")
            assert words.command.startswith("skerry ")
            assert "{" not in words.title + words.command
            _, word, *rest = words.command.split()
            assert word in WORDS
            options = {each for each in rest if each.startswith("--")}
            assert options <= {"--field", "--state"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_is_at_many_places_is_said_without_gaps(rule: Rule) -> None:
    """Nothing that only one of them has is missing from the sentence or the command."""
    if rule.name == "SkerryDeviceCertificatesExpiring":
        return  # always one cause
    most = [
        Cause(key=Key(rule.name, scope, f"x-{n}"), since="", devices=1, of=2, names=("a",))
        for n in range(rule.many + 1)
        for scope in [Scope.ROLLOUT if "Rollout" in rule.name else Scope.SITE]
    ]

    (whole,) = together(rule, most)
    words = said(whole)

    assert "?" not in words.title + words.command
    assert "  " not in words.title + words.command
    assert words.command == words.command.strip()
    if "Rollout" in rule.name:
        assert words.title.startswith("11 rollouts")
        assert "skerry rollout ls" == words.command
