"""Real processes for whole-path tests: a centre with its broker, agents, bundles."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.layout import Layout
from tests.e2e.scene import Centre, Device
from tests.e2e.wares import Model, build, packed


@pytest.fixture(scope="session")
def built() -> tuple[Model, Model]:
    """Two models that answer every probe differently."""
    return build()


@pytest.fixture(scope="session")
def old(built: tuple[Model, Model]) -> Model:
    """What `digits:1.0.0` answers."""
    return built[0]


@pytest.fixture(scope="session")
def new(built: tuple[Model, Model]) -> Model:
    """What `digits:2.0.0` answers."""
    return built[1]


@pytest.fixture(scope="session")
def shared_centre(
    tmp_path_factory: pytest.TempPathFactory, old: Model, new: Model
) -> Iterator[Centre]:
    centre = Centre(tmp_path_factory.mktemp("shared"))
    yield from _running(centre, old, new)


@pytest.fixture
def town(shared_centre: Centre) -> Iterator[Centre]:
    """A running centre with `digits` 1.0.0 and 2.0.0, shared by tests that leave it whole."""
    yield shared_centre
    assert shared_centre.alive(), shared_centre.tail()
    shared_centre.check_log()


@pytest.fixture
def island(tmp_path: Path, old: Model, new: Model) -> Iterator[Centre]:
    """The same, of a test's own: to stop, to kill, to damage."""
    yield from _running(Centre(tmp_path), old, new)


@pytest.fixture
def make_device() -> Iterator[Callable[..., Device]]:
    """Join devices, and end those that run."""
    made: list[Device] = []

    def make(centre: Centre, *, join: bool = True, home: Path | None = None) -> Device:
        device = centre.make_device(join=join, home=home)
        made.append(device)
        return device

    yield make
    _dismiss(made)


def _running(centre: Centre, old: Model, new: Model) -> Iterator[Centre]:
    centre.start()
    layout = Layout.create(centre.folder / "bundles")
    for model, version in ((old, "1.0.0"), (new, "2.0.0")):
        centre.publish(layout, packed(model, version, layout, key=centre.key))
    yield centre
    centre.dismiss()


def _dismiss(programs: list[Device]) -> None:
    try:
        for each in programs:
            each.dismiss()
    finally:
        for each in programs:
            if each.process is not None and each.alive():
                each.process.kill()
                each.process.wait()
