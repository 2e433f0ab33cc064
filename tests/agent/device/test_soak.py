"""A short soak: what `make soak-agent` does a thousand times, some times."""

from collections.abc import Iterator
from pathlib import Path  # noqa: TC003  # it is a value here

import pytest

from tests.agent.device.outside import Subject, subject
from tests.agent.device.soak import soak


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder: Path = tmp_path_factory.mktemp("soak")
    with subject(folder) as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_random_moments_something_serves_at_each_start(device: Subject) -> None:
    """The old or the new, told once; and it comes to its end."""
    made = soak(device, 12, seed=7, tell=print)
    print(made)  # noqa: T201  # the histogram
    assert 12 == made.interruptions == sum(made.hit.values())
