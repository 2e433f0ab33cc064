"""What the tests of the deciding modules share."""

import pytest

from fleet.inventory import Inventory
from fleet.rollouts.progress import Rollout
from tests.fleet.deciding.paper import Paper, look


@pytest.fixture(scope="session")
def paper() -> Paper:
    """Return the builders of a small fleet on paper."""
    return Paper()


@pytest.fixture
def running(paper: Paper) -> tuple[Rollout, Inventory]:
    """Return three targets that were all asked, with no gate."""
    inventory = paper.inventory(*paper.targets(3))
    rollout, inventory = paper.started(inventory, paper.plan(inventory))
    return look(rollout, inventory), inventory
