"""A real device in its maintenance windows: real workers, a real broker and a real disk."""

from datetime import timedelta

import pytest

from agent.clock import now
from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.topics import Kind
from tests.agent.device.running import Agent, Centre
from tests.agent.device.world import Deployed, Home, Publish, until


@pytest.mark.real("mosquitto")
def test_what_serves_changes_in_a_window_alone_and_goes_back_at_once(
    agent: Agent, centre: Centre, home: Home, publish: Publish, deployed: Deployed
) -> None:
    """Ready and waiting beside what serves; let go by a person; back again by day."""
    at = now()
    start, end = (f"{at + timedelta(hours=hours):%H:00}" for hours in (12, 13))
    shut = (v1.Window(days=tuple(v1.Weekday), start=start, end=end),)
    first, second = publish("1.0.0"), publish("2.0.0")
    centre.say(Kind.DESIRED, home.envelope(1, deployed(first)))
    until(lambda: agent.serves() == "1.0.0")
    pids = {each.pid for each in agent.workers()}

    centre.say(Kind.DESIRED, home.envelope(2, deployed(second, 2), maintenance=shut))
    until(lambda: waits(centre) == "MAINTENANCE_WINDOW_CLOSED")
    assert centre.phase() == (Phase.TESTING, 2)
    assert pids == {each.pid for each in agent.workers()}, "it serves on as it was"
    assert "1.0.0" == agent.serves()

    centre.say(Kind.DESIRED, home.envelope(3, deployed(second, 2)))
    until(lambda: agent.serves() == "2.0.0")
    centre.say(Kind.DESIRED, home.envelope(4, deployed(first, 4), maintenance=shut))
    until(lambda: agent.serves() == "1.0.0")
    until(lambda: centre.phase() == (Phase.COMMITTED, 4))


def waits(centre: Centre) -> str | None:
    """Return the reason for which a deployment is put off."""
    for each in centre.reported.deployments if centre.reported else ():
        for condition in each.conditions:
            if condition.type == "deferred":
                return condition.reason
    return None
