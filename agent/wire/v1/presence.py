"""`presence`: birth, and death as the broker's will. Only the latest session's death counts.

Facts are what a device says of itself; labels are set by people and never travel here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.wire.limits import FACTS_LIMIT
from agent.wire.v1.checks import (
    check_device,
    check_fleet,
    check_pairs,
    check_text,
    check_time,
    check_whole,
)

Facts = Mapping[str, str]
"""Names under `skerry/` (architecture, accelerator, versions, memory_mib …) to short texts."""


def check_facts(facts: Facts) -> None:
    """Facts live under `skerry/`, so that none can pass for a label."""
    check_pairs("facts", facts, FACTS_LIMIT)
    if wrong := [name for name in facts if not name.startswith("skerry/")]:
        raise ValueError(f"a fact outside skerry/: {wrong[0]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """A device is here. `session` counts connections within the ledger and only rises."""

    fleet: str
    device: str
    session: int
    agent_version: str
    at: str
    facts: Facts

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)
        check_whole("session", self.session, least=1)
        check_text(self.agent_version)
        check_time(self.at)
        check_facts(self.facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A device is gone: published as its will, or by itself when it leaves on purpose."""

    fleet: str
    device: str
    session: int

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)
        check_whole("session", self.session, least=1)
