"""What a device remembers of each deployment, as values. Pure: no clock, disk or socket.

A `Record` is one deployment's row in the ledger. Its methods are the only way
from one record to the next: each applies a happening of `agent.wire.phases` and
says what it means for what serves. `current` is what should be serving now,
`previous` the last *committed* revision, to which a failed one returns.
Until a candidate is activated nothing of `current` changes, so whatever goes
wrong before leaves the incumbent alone.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.wire import v1
from agent.wire.phases import SETTLED, Happening, Phase, after
from agent.wire.reasons import Reason
from models.delegate import Delegate
from models.values import DISTRIBUTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What became of one way to serve, tried on this device: a median, or why it is out."""

    variant: str
    format: str
    accelerator: str
    threads: int
    latency_p50_s: float | None = None
    memory_bytes: int | None = None
    reference: str = ""
    reason: str | None = None
    message: str = ""

    @property
    def named(self) -> str:
        """The way in a few words."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.format} on {self.accelerator}, {threads}"

    @property
    def took(self) -> str:
        """The median in words."""
        return "" if self.latency_p50_s is None else f"{1000 * self.latency_p50_s:.3g} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A way to serve, started once more apart: its golden vectors, and what that cost.

    `measured` is None where only the golden vectors were asked for; `cpu_s` where the process
    was gone before it could be asked.
    """

    vectors: int
    agreed: int
    largest: tuple[float, ...]
    took_s: float
    cpu_s: float | None = None
    measured: Measured | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How a candidate's answers to live requests compared with the incumbent's.

    `apart` could not be compared: the two don't take or give the same tensors.
    """

    requests: int = 0
    agreed: int = 0
    apart: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What so many workers together answered on this device, asked by as many at once.

    None: there was no memory for so many.
    """

    workers: int
    per_s: float | None = None

    @property
    def named(self) -> str:
        """The workers, and what they answered, in a few words."""
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{workers}: {'no memory' if self.per_s is None else f'{self.per_s:.4g}/s'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A revision that was staged: its deployment, the variant chosen, and on what it runs.

    `hardware` is what the choice was made on, `measured` by what, and `why` says so in words.
    `fallback` says why it does not run on the accelerator that there is a variant for.
    `compared` is how it did in the incumbent's shadow; None: it was not asked for.
    So many `workers` are to answer, chosen by `throughput` where that was measured; a
    `stateful` model has one.
    """

    deployment: v1.Deployment
    variant: str
    runtime: str
    accelerator: str = "cpu"
    format: str = ""
    threads: int = 1
    workers: int = 1
    stateful: bool = False
    hardware: str = ""
    measured: tuple[Measured, ...] = ()
    throughput: tuple[Throughput, ...] = ()
    why: str = ""
    fallback: str = ""
    compared: Compared | None = None

    @property
    def revision(self) -> int:
        """The deployment's revision."""
        return self.deployment.revision

    @property
    def digest(self) -> str:
        """The bundle's digest."""
        return self.deployment.bundle.digest

    @property
    def latency_p50_s(self) -> float | None:
        """The median that was measured of this way; None: it was not measured."""
        way = (self.variant, self.accelerator, self.threads)
        for each in self.measured:
            if (each.variant, each.accelerator, each.threads) == way:
                return each.latency_p50_s
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this device can run models on."""

    architecture: str
    library: str
    library_version: str
    cores: int = 1
    delegates: tuple[Delegate, ...] = ()
    sandbox: tuple[str, ...] = ()

    @property
    def accelerators(self) -> tuple[str, ...]:
        """What a variant may be built for."""
        return ("cpu", *(each.accelerator for each in self.delegates))

    @property
    def hardware(self) -> str:
        """What a choice depends on: another text means that it must be made again."""
        special = "+".join(self.accelerators)
        return f"{self.architecture}, {self.cores} cores, {special}, {self.runtime}"

    @property
    def runtime(self) -> str:
        """The runtime as reports name it."""
        return f"{DISTRIBUTIONS[self.library]} {self.library_version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """How the machine is at one moment. None: it can't be measured here."""

    memory_used_bytes: int
    memory_total_bytes: int
    disk_free_bytes: int
    disk_total_bytes: int
    temperature_c: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One deployment: the revision wanted, how far it has come, and what serves meanwhile.

    `proven` says whether `current` was committed; `problem` is why the wanted
    revision was put off, refused or rolled back; `since` is when the phase was
    entered by the device's clock, for people.
    """

    wanted: v1.Deployment
    phase: Phase
    since: str
    problem: v1.Problem | None = None
    candidate: Installed | None = None
    current: Installed | None = None
    previous: Installed | None = None
    proven: bool = False

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.wanted.name

    @property
    def settled(self) -> bool:
        """Whether the wanted revision stays as it is until something newer is wanted."""
        return self.phase in SETTLED

    def trace_of(self, revision: int) -> str | None:
        """Return the trace that brought a revision here; None: it is not known, or has none."""
        known = [each.deployment for each in (self.current, self.previous) if each]
        found = (each for each in (self.wanted, *known) if each.revision == revision)
        return next((each.trace_id for each in found), None)

    def trace_of_content(self, digest: str) -> str | None:
        """Return the trace that brought a bundle here; None: it is not known, or has none."""
        known = [self.wanted, *(each.deployment for each in (self.current, self.previous) if each)]
        return next((each.trace_id for each in known if each.bundle.digest == digest), None)

    def superseded(self, wanted: v1.Deployment, at: str) -> "Record":
        """Want another revision; what serves goes on serving."""
        after(self.phase, Happening.SUPERSEDED)
        return replace(
            self, wanted=wanted, phase=Phase.ACCEPTED, since=at, problem=None, candidate=None
        )

    def moved(self, happening: Happening, at: str, problem: v1.Problem | None = None) -> "Record":
        """Apply a happening that changes nothing of what serves.

        A problem stays until the revision serves or another is wanted, so that a
        retry of the same trouble is seen to be the same.
        """
        return replace(
            self,
            phase=after(self.phase, happening),
            since=at,
            problem=problem if problem is not None else self.problem,
        )

    def staged(self, candidate: Installed, at: str) -> "Record":
        """Remember the candidate that was made ready to start."""
        return replace(self.moved(Happening.STAGED, at), candidate=candidate)

    def tested(self, chosen: Installed, at: str) -> "Record":
        """Remember the way to serve that was chosen by measurement."""
        return replace(self.moved(Happening.TESTED, at), candidate=chosen)

    def shadowed(self, chosen: Installed, at: str) -> "Record":
        """Remember it, and that it is to be compared with the incumbent first."""
        return replace(self.moved(Happening.SHADOWED, at), candidate=chosen)

    def agreed(self, candidate: Installed, at: str) -> "Record":
        """Remember how the candidate compared with the incumbent: well enough."""
        return replace(self.moved(Happening.AGREED, at), candidate=candidate)

    def chosen_again(self, chosen: Installed) -> "Record":
        """What serves goes on another way, for the machine is another."""
        return replace(self, current=chosen)

    def activated(self, at: str) -> "Record":
        """The candidate serves; what was committed before it is kept to return to."""
        return replace(
            self.moved(Happening.ACTIVATED, at),
            current=self.candidate,
            previous=self.current if self.proven else self.previous,
            candidate=None,
            proven=False,
            problem=None,
        )

    @property
    def adoptable(self) -> bool:
        """Whether what serves is committed and the same as what is wanted, but for its number."""
        if self.current is None or not self.proven:
            return False
        same = replace(self.current.deployment, revision=self.wanted.revision)
        return same == self.wanted

    @property
    def leads_back(self) -> bool:
        """Whether what is wanted is what served here last, or before that, but for its number."""
        known = [each.deployment for each in (self.current, self.previous) if each]
        return any(replace(each, revision=self.wanted.revision) == self.wanted for each in known)

    def adopted(self, at: str) -> "Record":
        """What serves goes on, under the number that is wanted now."""
        assert self.current is not None  # noqa: S101  # for the type checker: it is adoptable
        return replace(
            self.moved(Happening.ADOPTED, at),
            current=replace(self.current, deployment=self.wanted),
            candidate=None,
            problem=None,
        )

    def committed(self, at: str) -> "Record":
        """The candidate has proven itself."""
        return replace(self.moved(Happening.PROVEN, at), proven=True)

    def restored(self, at: str) -> "Record":
        """The last committed revision serves again (or nothing, where nothing did before)."""
        return replace(
            self.moved(Happening.RESTORED, at),
            current=self.previous,
            previous=None,
            proven=self.previous is not None,
        )

    def let_go(self, problem: v1.Problem, at: str) -> "Record":
        """Part with what serves because it fails by itself; the one committed before it is next.

        With none before it, what was committed stays what should serve: better seldom than never.
        """
        if self.phase is Phase.PROBATION or (self.phase is Phase.COMMITTED and self.previous):
            return replace(self.moved(Happening.FAILED, at, problem), proven=False)
        if self.phase is Phase.COMMITTED:
            known = self.problem is not None and self.problem.reason == problem.reason
            return self if known else replace(self, problem=problem)
        if self.phase is Phase.ROLLING_BACK or self.previous is None:
            return self
        # The revision wanted is another one, and is where it was.
        return replace(self, current=self.previous, previous=None, proven=True)

    def digests(self) -> frozenset[str]:
        """Return the bundles that must stay in the store."""
        installed = [each.digest for each in (self.candidate, self.current, self.previous) if each]
        return frozenset([self.wanted.bundle.digest, *installed])


def accepted(wanted: v1.Deployment, at: str) -> Record:
    """Return the record of a deployment that is new on this device."""
    return Record(wanted=wanted, phase=Phase.ACCEPTED, since=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Content that failed by itself on this device's runtime, and is not tried again on it."""

    digest: str
    reason: str
    since: str
    message: str
    runtime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What answers under a name right now, with how many workers; `short` says why not more."""

    revision: int
    digest: str
    workers: int = 1
    short: v1.Problem | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A probation so far, in loop time and counts since it began on this process.

    `crashes` are deaths that the bundle's content brought about; `mishaps` those that its
    settings or the machine may have: a call past its deadline, no memory. `latency` is of good
    answers.
    """

    revision: int
    since_s: float
    requests: int = 0
    errors: int = 0
    crashes: int = 0
    mishaps: int = 0
    latency: v1.LatencySketch = field(default_factory=v1.LatencySketch)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """What answered under a name, and died so often that it is not started again by itself."""

    revision: int
    digest: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything a plan looks at.

    `waits` holds back a deployment's next attempt until that loop time,
    `restore_waits` the next attempt to start what should be serving, `mend_waits` to mend it. From
    `recoveries` on, what died too often counts as well again. `given_up` is what
    nobody has dealt with yet; `rotten` are bundles that are no longer whole in the store. `shut` is
    why nothing may be downloaded now, `line_turns_s` the loop time at which that may be another,
    and `lacking` what was seen to need a download while it was shut for that reason. `closed` is
    why what serves may not be changed now, until `closed_turns_s` at least. While the device is
    `held` it stays as it is.
    """

    records: Mapping[str, Record] = field(default_factory=dict)
    serving: Mapping[str, Serving] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)
    waits: Mapping[str, float] = field(default_factory=dict)
    restore_waits: Mapping[str, float] = field(default_factory=dict)
    mend_waits: Mapping[str, float] = field(default_factory=dict)
    recoveries: Mapping[str, float] = field(default_factory=dict)
    given_up: Mapping[str, GivenUp] = field(default_factory=dict)
    quarantined: Mapping[str, Quarantined] = field(default_factory=dict)
    rotten: frozenset[str] = frozenset()
    shut: v1.Problem | None = None
    line_turns_s: float | None = None
    lacking: Mapping[str, v1.Problem] = field(default_factory=dict)
    closed: v1.Problem | None = None
    closed_turns_s: float | None = None
    held: bool = False
    hardware: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A transition to tell the centre, or health that has to wait, before the ledger numbers it."""

    kind: v1.EventKind
    deployment: str | None = None
    revision: int | None = None
    digest: str | None = None
    phase: Phase | None = None
    reason: str | None = None
    message: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    health: v1.Health | None = None
    trace_id: str | None = None


def phase_note(record: Record) -> Note:
    """Return the transition that led to a record."""
    problem = record.problem
    if problem is None and record.phase is Phase.ACTIVATING and record.candidate is not None:
        return choice_note(record, record.candidate)
    return Note(
        kind=v1.EventKind.PHASE,
        deployment=record.name,
        revision=record.wanted.revision,
        digest=record.wanted.bundle.digest,
        phase=record.phase,
        reason=problem.reason if problem else None,
        message=problem.message if problem else "",
        parameters=problem.parameters if problem else {},
        trace_id=record.wanted.trace_id,
    )


def choice_note(record: Record, chosen: Installed) -> Note:
    """Return how a revision serves here from now on, and by which numbers that was chosen."""
    numbers = {"variant": chosen.variant[:19], "accelerator": chosen.accelerator}
    numbers |= {"threads": str(chosen.threads), "workers": str(chosen.workers)}
    if chosen.latency_p50_s is not None:
        numbers["latency_p50_ms"] = f"{1000 * chosen.latency_p50_s:.4g}"
    if chosen.compared is not None:
        numbers["shadow_compared"] = str(chosen.compared.requests)
        numbers["shadow_agreed"] = str(chosen.compared.agreed)
    if chosen.throughput:
        numbers["throughput"] = text(", ".join(each.named for each in chosen.throughput))
    if chosen.fallback:
        numbers["fallback"] = text(chosen.fallback)
    return Note(
        kind=v1.EventKind.PHASE,
        deployment=record.name,
        revision=record.wanted.revision,
        digest=record.wanted.bundle.digest,
        phase=record.phase,
        reason=Reason.ACCELERATOR_FALLBACK if chosen.fallback else None,
        message=text(chosen.why),
        parameters=numbers,
        trace_id=record.wanted.trace_id,
    )


def hold_note(hold: v1.Hold | None, ended: v1.Hold | None) -> Note:
    """Return that somebody holds the device, or that its hold ended, and why it was held."""
    said = hold or ended
    return Note(
        kind=v1.EventKind.HOLD,
        reason=Reason.HELD_BY_OWNER if hold else None,
        message=said.reason if said else "",
        parameters={"what": "held" if hold else "released"},
    )


def quarantine_note(
    verdict: Quarantined,
    records: Iterable[Record],
    deployment: str | None = None,
    *,
    lifted: bool = False,
) -> Note:
    """Return that content is not tried again on this device, or that it is after all.

    One of `records` may know the trace that brought it.
    """
    traces = (each.trace_of_content(verdict.digest) for each in records)
    return Note(
        kind=v1.EventKind.QUARANTINE,
        deployment=deployment,
        digest=verdict.digest,
        reason=verdict.reason,
        message=verdict.message,
        parameters={"what": "lifted" if lifted else "quarantined"},
        trace_id=next(filter(None, traces), None),
    )


def rot_note(bundle: str, record: Record, parts: Collection[str] = ()) -> Note:
    """Return that parts of what a device needs rotted in its store; without any, that it is whole.

    A few of them are named.
    """
    named = ", ".join(sorted(part.removeprefix("sha256:")[:12] for part in parts)[:8])
    return Note(
        kind=v1.EventKind.STORE,
        deployment=record.name,
        digest=bundle,
        reason=Reason.BLOB_ROTTEN if parts else None,
        message=f"not what they were: {named}" if parts else "",
        parameters={"what": "rotten", "parts": str(len(parts))} if parts else {"what": "mended"},
        trace_id=record.trace_of_content(bundle),
    )


def text(message: object, limit: int = 250) -> str:
    """Return a message cut to what a document carries."""
    return str(message)[:limit]
