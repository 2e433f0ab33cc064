"""What was last seen: who it is, what it wants, what it said, what it has."""

import pytest

from agent.wire import facts
from agent.wire.phases import Phase
from agent.wire.v1 import Desired, Order, Reported
from fleet.inventory import Inventory, Target
from models.fit import Hardware
from tests.fleet.deciding.paper import Paper


def test_selectors_read_labels_facts_and_place(paper: Paper) -> None:
    """A fact can't be overwritten by a label, and who it is can't by either."""
    target = paper.target(
        site="s-porto",
        labels={"shop": "oslo", "skerry/runtime": "mine", "skerry/device": "d-999"},
    )

    assert target.attributes["shop"] == "oslo"
    assert target.attributes["skerry/runtime"] == "litert"
    assert target.attributes["skerry/device"] == "d-1"
    assert target.attributes["skerry/name"] == "buoy-1"
    assert target.attributes["skerry/site"] == "s-porto"
    assert "skerry/site" not in paper.target().attributes


def test_what_is_wanted_and_what_was_told_are_found_by_name(paper: Paper) -> None:
    """Nothing known is None, not an empty something."""
    bare = paper.target()
    target = paper.target(desired=paper.desired("d-1", paper.deployment(revision=4)))
    told = paper.reported(target, Phase.TESTING)

    assert (bare.wanted("digits"), bare.told("digits")) == (None, None)
    assert target.wanted("digits") == paper.deployment(revision=4)
    assert target.wanted("wake") is None
    word = told.told("digits")
    assert word is not None
    assert word.phase is Phase.TESTING
    assert told.told("wake") is None


def test_a_target_is_ahead_when_it_acts_on_a_newer_document(paper: Paper) -> None:
    """The store was restored; equal and older are normal."""
    desired = paper.desired("d-1", generation=5)

    def acting_on(generation: int | None, desired: Desired | None = None) -> Target:
        observed = None if generation is None else Order(epoch=0, generation=generation)
        report = Reported(fleet=paper.fleet, device="d-1", session=1, observed=observed)
        return paper.target(reported=report, desired=desired)

    assert acting_on(6, desired=desired).ahead == Order(epoch=0, generation=6)
    assert acting_on(5, desired=desired).ahead is None
    assert acting_on(4, desired=desired).ahead is None
    assert acting_on(None, desired=desired).ahead is None
    assert acting_on(1).ahead == Order(epoch=0, generation=1)
    assert paper.target(desired=desired).ahead is None


def test_hardware_is_read_from_facts(paper: Paper) -> None:
    """Accelerators are a list in one fact; none of them is the CPU alone."""
    some = {**paper.facts, facts.ACCELERATORS: "edgetpu_gpu"}

    assert paper.target(facts=some).hardware == Hardware(
        architecture="x86_64",
        memory_bytes=512 << 20,
        runtime="litert",
        runtime_version="2.3.0",
        accelerators=("edgetpu", "gpu"),
    )
    plain = paper.target().hardware
    assert plain is not None
    assert plain.accelerators == ()


@pytest.mark.parametrize(
    "missing", [facts.ARCHITECTURE, facts.MEMORY_MIB, facts.RUNTIME, facts.RUNTIME_VERSION]
)
def test_a_missing_fact_is_not_guessed(paper: Paper, missing: str) -> None:
    """Ignorance has a name: None."""
    known = {name: value for name, value in paper.facts.items() if name != missing}

    assert paper.target(facts=known).hardware is None
    assert paper.target(facts={**paper.facts, facts.MEMORY_MIB: "lots"}).hardware is None


def test_a_device_is_in_the_inventory_once(paper: Paper) -> None:
    """And found by its id."""
    one, two = paper.targets(2)

    assert paper.inventory(one, two).by_device() == {"d-1": one, "d-2": two}
    with pytest.raises(ValueError, match="the same device twice"):
        Inventory(fleet=paper.fleet, targets=(one, one))
    with pytest.raises(ValueError, match="not a device id"):
        Target(device="s-1", name="a site")
