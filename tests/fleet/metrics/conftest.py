"""A fleet's home, its authority and its store, fresh for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.identity import authority as identity
from fleet.identity.authority import Authority
from fleet.identity.places import Home
from fleet.store.engine import Store
from tests.fleet.centre.parties import NOW
from tests.fleet.screens.village import FLEET


@pytest.fixture
def home(tmp_path: Path) -> Home:
    identity.init(tmp_path / "home", fleet=FLEET, hosts=["centre.example"], now=NOW)
    return Home(tmp_path / "home")


@pytest.fixture
def authority(home: Home) -> Authority:
    return Authority.load(home.path)


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = Store.open(home.store)
    yield opened
    opened.close()
