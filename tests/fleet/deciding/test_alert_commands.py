"""What an alert tells people to type lists the devices that the alert counts, and no others."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.v1 import DeploymentHealth, Problem
from fleet.alerts.cause import Cause
from fleet.alerts.notes import note
from fleet.alerts.rules import RULES, causes
from fleet.alerts.words import said
from fleet.alerts.world import World
from fleet.api.search import parse
from fleet.clock import written
from fleet.health.heard import Heard
from fleet.health.states import verdict
from fleet.rollouts.errors import PlanError
from fleet.rollouts.outline import outline
from fleet.rollouts.progress import Cause as RolloutCause
from fleet.rollouts.states import RolloutState
from tests.fleet.deciding.test_health_states import (
    BUNDLE,
    DRIFT,
    NOW,
    PAPER,
    SLOW,
    ago,
    feels,
    heard,
    told,
)

DAY_S = 86400.0
FULL = {"disk_free_bytes": 1, "disk_total_bytes": 1 << 40}


def period(*, errors: int = 0, restarts: int = 0) -> tuple[DeploymentHealth, ...]:
    return (
        DeploymentHealth(
            name="digits",
            revision=1,
            digest=BUNDLE.digest,
            requests=100,
            errors=errors,
            restarts=restarts,
        ),
    )


def refusing(reason: Reason, **health: object) -> Heard:
    return heard(told(Phase.REFUSED, last_error=Problem(reason=reason)), health=feels(**health))


def away(seconds: float) -> Heard:
    """A device that the broker says is gone, and since when."""
    return heard(online=False, last_seen=ago(seconds), reported_at=ago(seconds + 60))


def quiet(seconds: float) -> Heard:
    """A device that says nothing more, though nobody says it has gone."""
    return heard(reported_at=ago(seconds + 60), health_at=ago(seconds))


def planted() -> Iterator[tuple[str, Heard]]:
    """Devices by their site: every rule about devices counts some, and none counts all."""
    yield "cut", away(600)
    yield "cut", quiet(900)
    yield "cut", replace(refusing(Reason.DISK_FULL), health_at=ago(900), reported_at=ago(900))
    yield "cut", away(8 * DAY_S)
    yield "cut", quiet(9 * DAY_S)
    yield "porto", away(600)
    yield "porto", away(8 * DAY_S)
    yield "porto", heard()
    yield "porto", heard()
    yield "porto", heard(health=feels(**FULL))
    yield "porto", refusing(Reason.GOLDEN_MISMATCH, **FULL)
    yield "porto", refusing(Reason.DISK_FULL)
    yield "porto", heard(health=feels(throttled=True))
    yield "porto", heard(told(conditions=(SLOW,)), health=feels(throttled=True))
    yield "leith", heard(health=feels(throttled=True, **FULL))
    yield "leith", heard(health=feels(deployments=period(restarts=5)))
    yield "leith", heard(health=feels(deployments=period(errors=60)))
    yield "leith", heard(drift=(DRIFT,))
    yield "leith", refusing(Reason.NO_VARIANT_FITS)
    yield "leith", heard(told(last_error=Problem(reason=Reason.REGISTRY_UNREACHABLE)))
    yield "", away(600)
    yield "", heard(health=feels(**FULL))
    yield "", heard()
    yield "porto", heard(reports=False)


def fleet() -> list[Heard]:
    return [
        replace(
            each,
            target=replace(
                each.target, device=f"d-{number}", name=f"{site or 'none'}-{number}", site=site
            ),
        )
        for number, (site, each) in enumerate(planted())
    ]


def found() -> list[Cause]:
    """Return all causes in the planted fleet."""
    soon = written(NOW + timedelta(days=3))
    notes = [note(each, soon if n < 3 else "2030", NOW) for n, each in enumerate(fleet())]
    inventory = PAPER.inventory(*PAPER.targets(3))
    rollout, _ = PAPER.started(inventory, PAPER.plan(inventory))
    gate = RolloutCause(code="SAMPLE_TOO_SMALL", parameters={"wave": "1", "sample": "1"})
    paused = replace(rollout, id="r-2", state=RolloutState.PAUSED, cause=gate)
    back = replace(rollout, id="r-3", state=RolloutState.ROLLED_BACK, cause=gate)
    world = World(
        now=NOW,
        hearing_since=NOW - timedelta(days=1),
        notes=notes,
        rollouts=(outline(back), outline(paused)),
        certificates={"server": NOW + timedelta(days=2)},
    )
    return list(causes(world).found)


FOUND = {f"{each.key.rule} {each.key.subject}".strip(): each for each in found()}


def listed(field: str) -> list[str]:
    """Return the names of the devices that a field lists."""
    wanted = parse("", field)
    return [each.target.name for each in fleet() if wanted.matches(each, verdict(each, NOW), NOW)]


def test_the_planted_fleet_shows_every_rule_about_devices() -> None:
    """So that no rule's command goes untried."""
    tried = {each.key.rule for each in FOUND.values()}
    alone = {"SkerryBrokerDisconnected", "SkerryRolloutStalled"}
    unreached = {"SkerryDevicesDegraded"}  # whatever degrades a device has a rule of its own now

    assert {rule.name for rule in RULES} - alone - unreached == tried


@pytest.mark.parametrize("name", FOUND)
def test_a_command_lists_whom_its_alert_counts(name: str) -> None:
    """Exactly those; one that shows a single device shows one of them."""
    cause = FOUND[name]
    _, *words = shlex.split(said(cause).command)
    match words:
        case ["device", "ls", "--field", field]:
            assert 0 < cause.devices < len(fleet())
            assert sorted(cause.names) == sorted(listed(field))[: len(cause.names)]
            assert cause.devices == len(listed(field))
        case ["device", "show" | "history", device]:
            assert device in cause.names
        case ["rollout", "why", rollout]:
            assert rollout == cause.key.subject
        case _:
            assert ["doctor"] == words
            assert 0 == cause.devices


@pytest.mark.parametrize("rule", [rule.name for rule in RULES if rule.find is None])
def test_every_device_of_a_rule_can_be_listed(rule: str) -> None:
    """Also where the alert's own command shows one of them: over all its alerts together."""
    counted = [each for each in FOUND.values() if each.key.rule == rule]

    assert sum(each.devices for each in counted) == len(listed(f"alert={rule}"))


def test_a_rule_that_is_none_is_refused() -> None:
    """Not taken for a filter that nobody matches."""
    with pytest.raises(PlanError, match="skerry alert rules"):
        parse("", "alert=SkerryNothing")
