"""A fleet's home, its authority and its store, fresh for each test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from fleet.identity import authority as identity
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.store.engine import Store
from tests.fleet.centre.parties import NOW


@pytest.fixture(autouse=True)
def _log_aside() -> Iterator[None]:
    """Send what a centre logs where it does, to standard error: commands are read beside it."""
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.__stderr__))
    yield
    structlog.reset_defaults()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    identity.init(tmp_path / "home", fleet="harbour", hosts=["centre.example"], now=NOW)
    return Home(tmp_path / "home")


@pytest.fixture
def authority(home: Home) -> Authority:
    return Authority.load(home.path)


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = Store.open(home.store)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def lasting_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Return a store for properties, whose examples each use a device of their own."""
    opened = Store.open(tmp_path_factory.mktemp("store") / "store.db")
    yield opened
    opened.close()
