"""What the centre last heard of one device, and what can be read off it at once. A value. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from agent.wire import v1
from agent.wire.phases import SERVING
from agent.wire.words import compared
from fleet.health.drift import FRESH_S, Drift
from fleet.inventory import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One device as it was last heard of. All times but those inside documents are the centre's.

    `target.last_seen` is when it came or went, `reported_at` and `health_at` when its last
    documents of these kinds arrived. `health_late`: that one had waited for a connection, and
    says how the device was when it was measured. `drift` is what was told of it last, of each
    deployment; `drifting` leaves out what is not of now.
    """

    target: Target
    joined_at: str
    reported_at: str | None = None
    health: v1.Health | None = None
    health_at: str | None = None
    health_late: bool = False
    drift: tuple[Drift, ...] = ()

    @property
    def at(self) -> str | None:
        """When it last said anything; None: it never did."""
        told = [self.target.last_seen, self.reported_at, self.health_at]
        return max((moment for moment in told if moment is not None), default=None)

    @property
    def feels(self) -> v1.Health | None:
        """How it feels now, as far as that was heard."""
        return None if self.health_late else self.health

    @property
    def deployments(self) -> tuple[v1.ReportedDeployment, ...]:
        """What it last said of its deployments."""
        return () if self.target.reported is None else self.target.reported.deployments

    def serves(self, told: v1.ReportedDeployment) -> v1.BundleRef | None:
        """Return the bundle that answers under a name; None: nothing does.

        A report that was too large leaves `active` out; the phase then says it.
        """
        if told.active is not None:
            return told.active.bundle
        return self.named(told.name, told.digest) if told.phase in SERVING else None

    def named(self, deployment: str, digest: str) -> v1.BundleRef:
        """Return a bundle under a deployment's name as people know it, where anything says so."""
        wanted, told = self.target.wanted(deployment), self.target.told(deployment)
        active = None if told is None else told.active
        for known in (wanted and wanted.bundle, active and active.bundle):
            if known and known.digest == digest:
                return known
        return v1.BundleRef(digest=digest, name=deployment, version="")

    def serving(self) -> Iterator[v1.BundleRef]:
        """Return what it serves, as last heard."""
        for told in self.deployments:
            bundle = self.serves(told)
            if bundle is not None:
                yield bundle

    def drifting(self) -> Iterator[tuple[v1.ReportedDeployment, Drift]]:
        """Return the drift of what serves, as far as it was told lately before it fell silent."""
        told = {each.name: each for each in self.deployments}
        for drift in self.drift:
            report = told.get(drift.deployment)
            if report is None or drift.told_at is None or not self._is_of(report, drift):
                continue
            last = datetime.fromisoformat(self.at or self.joined_at)
            if (last - datetime.fromisoformat(drift.told_at)).total_seconds() <= FRESH_S:
                yield report, drift

    def _is_of(self, report: v1.ReportedDeployment, drift: Drift) -> bool:
        serves = self.serves(report)
        revision = drift.revision if report.active is None else report.active.revision
        return serves is not None and (revision, serves.digest) == (drift.revision, drift.digest)

    def silent_s(self, now: datetime) -> float:
        """Return for how long it has said nothing; since it joined, if it never spoke."""
        return (now - datetime.fromisoformat(self.at or self.joined_at)).total_seconds()


def words(bundle: v1.BundleRef) -> str:
    """Return a bundle as a person reads it: `digits 1.4.0`."""
    return f"{bundle.name} {bundle.version or bundle.digest.removeprefix('sha256:')[:12]}"


def so_far(feels: v1.Health | None, deployment: str) -> Mapping[str, str]:
    """Return how far a candidate in the shadow is, as was last heard, for beside a reason."""
    for each in feels.deployments if feels else ():
        if each.name == deployment and each.shadow is not None:
            done = each.shadow
            return {"so far": compared(done.compared, done.agreed, done.wanted)}
    return {}
