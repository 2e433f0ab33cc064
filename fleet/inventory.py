"""What was last seen of the fleet: always incomplete, always a little old. Values only. Pure.

`None` is "not known here", never "none there". Nothing is ordered by a time in
here; times are shown to people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.wire import facts
from agent.wire.v1 import Deployment, Desired, Order, Reported, ReportedDeployment
from agent.wire.v1.checks import check_device, check_fleet, check_unique, check_whole
from models.fit import Hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One device as the centre knows it.

    `desired` is the newest document the store holds for it, `reported` the last
    one it sent. `online` is its last presence; `last_seen` is when, for people.
    """

    device: str
    name: str
    site: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    online: bool = False
    last_seen: str | None = None
    desired: Desired | None = None
    reported: Reported | None = None

    def __post_init__(self) -> None:
        check_device(self.device)

    @property
    def attributes(self) -> dict[str, str]:
        """What selectors read: labels by people, facts under `skerry/`, and who and where it is."""
        place = {} if self.site is None else {"skerry/site": self.site}
        return {
            **self.labels,
            **self.facts,
            "skerry/device": self.device,
            "skerry/name": self.name,
            **place,
        }

    def wanted(self, deployment: str) -> Deployment | None:
        """Return what the store wants under this name."""
        if self.desired is not None:
            for wanted in self.desired.deployments:
                if wanted.name == deployment:
                    return wanted
        return None

    def told(self, deployment: str) -> ReportedDeployment | None:
        """Return what the device last said of this name."""
        if self.reported is not None:
            for told in self.reported.deployments:
                if told.name == deployment:
                    return told
        return None

    @property
    def ahead(self) -> Order | None:
        """Return the order the device acts on, if the store's is older: the store was restored."""
        observed = None if self.reported is None else self.reported.observed
        if observed is None:
            return None
        held = None if self.desired is None else self.desired.order
        return observed if held is None or observed > held else None

    @property
    def hardware(self) -> Hardware | None:
        """Return what a variant must fit, by the device's facts. None: it hasn't said enough."""
        accelerators = self.facts.get(facts.ACCELERATORS, "")
        try:
            return Hardware(
                architecture=self.facts[facts.ARCHITECTURE],
                memory_bytes=int(self.facts[facts.MEMORY_MIB]) << 20,
                runtime=self.facts[facts.RUNTIME],
                runtime_version=self.facts[facts.RUNTIME_VERSION],
                accelerators=tuple(accelerators.split("_")) if accelerators else (),
            )
        except (KeyError, ValueError):  # a fact is missing, or the memory is not a number
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The fleet as last seen. `epoch` is that of the first document of a target that has none."""

    fleet: str
    targets: tuple[Target, ...] = ()
    epoch: int = 0

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_whole("epoch", self.epoch)
        check_unique("device", [target.device for target in self.targets])

    def by_device(self) -> dict[str, Target]:
        """Return the targets by their id."""
        return {target.device: target for target in self.targets}
