"""What the tests of the deciding modules share."""

import pytest

from tests.fleet.deciding.paper import Paper


@pytest.fixture(scope="session")
def paper() -> Paper:
    """Return the builders of a small fleet on paper."""
    return Paper()
