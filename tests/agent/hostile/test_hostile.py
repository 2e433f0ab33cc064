"""A slice of the campaign of `make hostile`: the supervisor lives, whatever its workers die of."""

from pathlib import Path
from typing import Any

import pytest

from tests.agent.hostile.campaign import DEAD, PYTHONS, REACH, Table, numbered, run

KILLERS = (("options", 322), ("operator", 404))
"""Kinds and numbers that kill the newest runtime's process, found by the campaign."""

FILES = 84

Result = tuple[Table, dict[str, Table], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def result() -> Result:
    libraries = [name for name, python in PYTHONS.items() if Path(python).exists()]
    gate, tables, standing = run([*KILLERS, *numbered(FILES)], libraries)
    return gate, dict(tables), dict(standing)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_model_harms_the_supervisor(result: Result) -> None:
    """Each file is counted once; a whole model answers meanwhile, and nothing is left behind."""
    gate, tables, standing = result
    print(gate, *tables.values(), sep="\n\n")  # noqa: T201  # the figures

    assert len(KILLERS) + FILES == sum(sum(row.values()) for row in gate.rows.values())
    for library, table in tables.items():
        assert gate.total(REACH) == sum(sum(row.values()) for row in table.rows.values())
        assert standing[library]["before"] == standing[library]["after"]
    assert gate.total(REACH) > 20
    assert sum(table.total(DEAD) for table in tables.values()) > 0
