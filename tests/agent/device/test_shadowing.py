"""A real device compares a candidate with what serves, on live requests, before it serves."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind
from models import keys
from models.bundle import Bundle
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import Home, Publish, Registry, deployment, publisher, until
from tests.agent.packages import Package

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow, pytest.mark.usefixtures("serving")]

Lead = Callable[[Bundle, int], None]


@pytest.fixture
def lead(centre: Centre, home: Home) -> Lead:
    """Want a revision, and wait until it is in the shadow."""

    def say(of: Bundle, revision: int) -> None:
        wanted = deployment(of, revision)
        settings = v1.DeploymentSettings(shadow=v1.ShadowSettings(requests=6, agreement=0.9))
        centre.say(Kind.DESIRED, home.envelope(revision, replace(wanted, settings=settings)))
        until(lambda: centre.phase() == (Phase.SHADOWING, revision))

    return say


def asked_until(agent: Agent, settled: Callable[[], bool]) -> set[str | None]:
    """Ask until something is so; return the versions that answered before."""
    versions = set()

    def ask() -> bool:
        versions.add(agent.serves())
        return settled()

    until(ask)
    return versions


def test_a_candidate_that_agrees_comes_to_serve(
    agent: Agent, centre: Centre, publish: Publish, lead: Lead
) -> None:
    """By live requests alone, killed in between or not; the numbers are told."""
    lead(publish("2.0.0", padding=1), 2)
    assert "1.0.0" == agent.serves()
    agent.kill()
    agent.start()
    until(lambda: agent.serves() == "1.0.0")
    asked_until(agent, lambda: centre.phase() == (Phase.COMMITTED, 2))
    assert "2.0.0" == agent.serves()
    told = [each for each in centre.events.values() if each.phase is Phase.ACTIVATING]
    assert {("6", "6")} == {
        (each.parameters["shadow_compared"], each.parameters["shadow_agreed"])
        for each in told
        if each.revision == 2
    }


def test_a_candidate_that_answers_otherwise_never_serves(  # noqa: PLR0917  # fixtures by name
    agent: Agent,
    centre: Centre,
    registry: Registry,
    bundle_key: keys.SigningKey,
    another: Package,
    lead: Lead,
) -> None:
    """Its golden vectors are right, and so is all else: only live requests tell the two apart."""
    lead(publisher(registry.layout, bundle_key, another)("2.0.0"), 2)
    versions = asked_until(agent, lambda: centre.phase() == (Phase.REFUSED, 2))
    assert {"1.0.0"} == versions
    assert centre.reported is not None
    [told] = centre.reported.deployments
    assert told.last_error is not None
    assert "SHADOW_DISAGREED" == told.last_error.reason
    assert "0" == told.last_error.parameters["agreed"]
