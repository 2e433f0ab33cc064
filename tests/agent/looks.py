"""Looks at made-up devices, for their page: well, in trouble, empty, and as full as can be."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from agent.page.seen import Line, Seen
from agent.report import Self, reported
from agent.sketch import Sketch
from agent.state import (
    GivenUp,
    Installed,
    Machine,
    Measured,
    Quarantined,
    Record,
    Vitals,
    accepted,
)
from agent.wire import v1
from agent.wire.limits import DEPLOYMENTS_LIMIT, TEXT_LIMIT
from agent.wire.phases import Phase
from models.delegate import Delegate
from models.values import digest_of

NOW = "2026-03-01T12:00:00Z"
FLEET, DEVICE = "north-sea", "d-q7x2m4r2x6ta"
WHO = Self(fleet=FLEET, device=DEVICE, agent_version="0.1.3")
MACHINE = Machine(
    architecture="aarch64",
    library="litert",
    library_version="2.3.0",
    cores=4,
    delegates=(Delegate(accelerator="edgetpu", library="libedgetpu.so.1"),),
    sandbox=("no-new-privileges", "no-capabilities", "limits", "landlock-7", "seccomp"),
)
VITALS = Vitals(
    memory_used_bytes=844_000_000,
    memory_total_bytes=2_014_000_000,
    disk_free_bytes=11_700_000_000,
    disk_total_bytes=30_100_000_000,
    temperature_c=54.2,
)


def at(clock: str) -> str:
    return f"2026-03-01T{clock}Z"


def wanted(name: str, version: str, revision: int = 1) -> v1.Deployment:
    digest = digest_of(f"{name}:{version}".encode())
    return v1.Deployment(
        name=name,
        revision=revision,
        bundle=v1.BundleRef(digest=digest, name=name, version=version),
    )


def installed(of: v1.Deployment, accelerator: str = "cpu", fallback: str = "") -> Installed:
    variant = digest_of(f"variant of {of.name}".encode())
    way = Measured(
        variant=variant,
        format="int8",
        accelerator=accelerator,
        threads=2,
        latency_p50_s=0.00861 if accelerator == "cpu" else 0.0021,
    )
    return Installed(
        deployment=of,
        variant=variant,
        runtime=MACHINE.runtime,
        accelerator=accelerator,
        format="int8",
        threads=2,
        measured=(way,),
        why=f"int8 on {accelerator}, 2 threads was the fastest of 3 ways: {way.took}",
        fallback=fallback,
    )


def committed(name: str, version: str, revision: int = 1, **changes: str) -> Record:
    deployment = wanted(name, version, revision)
    return replace(
        accepted(deployment, at("08:12:40")),
        phase=Phase.COMMITTED,
        current=installed(deployment, **changes),
        proven=True,
    )


def refused(record: Record, version: str) -> Record:
    """Return what becomes of a record whose next revision misses its golden vectors."""
    next_one = wanted(record.name, version, record.wanted.revision + 1)
    return replace(
        record.superseded(next_one, at("11:48:00")),
        phase=Phase.REFUSED,
        since=at("11:50:00"),
        problem=v1.Problem(
            reason="GOLDEN_MISMATCH", message="3 of 16 golden vectors differ, the worst by 0.31"
        ),
    )


def health(records: Iterable[Record], *, errors: int = 0, **changes: object) -> v1.Health:
    def row(record: Record) -> v1.DeploymentHealth:
        latency = Sketch()
        for step in range(400):
            latency.add(0.008 + step * 0.00001)
        assert record.current is not None
        return v1.DeploymentHealth(
            name=record.name,
            revision=record.current.revision,
            digest=record.current.digest,
            requests=400,
            errors=errors if record.name == "digits" else 0,
            latency=latency.to_wire(),
        )

    fields: dict[str, object] = {
        "fleet": FLEET,
        "device": DEVICE,
        "session": 12,
        "at": at("11:59:50"),
        "period_s": 60.0,
        "cpu_ratio": 0.12,
        "throttled": False,
        "deployments": tuple(row(record) for record in records if record.current),
        **changes,
    }
    return v1.Health(**fields)  # type: ignore[arg-type]


def event(number: int, clock: str, kind: v1.EventKind, **changes: object) -> v1.Event:
    fields: dict[str, object] = {
        "fleet": FLEET,
        "device": DEVICE,
        "ledger": "l-1",
        "number": number,
        "kind": kind,
        "at": at(clock),
        **changes,
    }
    return v1.Event(**fields)  # type: ignore[arg-type]


def phases(first: int, clock: str, name: str, revision: int, *those: Phase) -> list[v1.Event]:
    return [
        event(
            first + step,
            f"{clock}:{step * 3:02}",
            v1.EventKind.PHASE,
            deployment=name,
            revision=revision,
            phase=phase,
        )
        for step, phase in enumerate(those)
    ]


ON_THE_WAY = (
    Phase.FETCHING,
    Phase.VERIFYING,
    Phase.STAGING,
    Phase.TESTING,
)
BOOT = event(1, "08:12:31", v1.EventKind.BOOT, parameters={"agent_version": "0.1.3"})
CAME = [
    BOOT,
    *phases(2, "08:13", "digits", 1, *ON_THE_WAY, Phase.ACTIVATING, Phase.PROBATION),
    event(
        8, "08:23:20", v1.EventKind.PHASE, deployment="digits", revision=1, phase=Phase.COMMITTED
    ),
]


def seen(
    *records: Record,
    hold: v1.Hold | None = None,
    quarantined: Mapping[str, Quarantined] | None = None,
    last_error: v1.Problem | None = None,
    past: Iterable[v1.Event] = (),
    **changes: object,
) -> Seen:
    """Return a look at a device that is well, but for what is said otherwise."""
    named = {record.name: record for record in records}
    fields: dict[str, object] = {
        "at": NOW,
        "started": at("08:12:31"),
        "host": "porto-cam-07",
        "reported": reported(
            WHO,
            12,
            v1.Order(epoch=0, generation=41),
            named,
            last_error,
            hold=hold,
            quarantined=quarantined or {},
        ),
        "records": named,
        "answering": frozenset(record.name for record in records if record.current),
        "given_up": {},
        "serving": {},
        "compared": {},
        "health": health(records),
        "vitals": VITALS,
        "past": tuple(past)[::-1],
        "line": Line(connected=True, since=at("08:12:33")),
        "machine": MACHINE,
        "outbox": 0,
        "outbox_bytes": 0,
        "may_ask": "logs, doctor, benchmark, self-test",
        **changes,
    }
    return Seen(**fields)  # type: ignore[arg-type]


DIGITS = committed("digits", "1.4.0")
WAKE = committed("wake", "2.0.0", accelerator="edgetpu")
SLOW = committed("wake", "2.0.0", fallback="edgetpu: no device is connected")
HOLD = v1.Hold(reason="the belt is being changed", since=at("11:31:00"))
REFUSED = refused(DIGITS, "1.5.0")
VERDICT = Quarantined(
    digest=REFUSED.wanted.bundle.digest,
    reason="GOLDEN_MISMATCH",
    since=at("11:50:00"),
    message="3 of 16 golden vectors differ",
    runtime=MACHINE.runtime,
)

WELL = seen(DIGITS, WAKE, past=CAME)
TROUBLE = seen(
    REFUSED,
    SLOW,
    hold=HOLD,
    quarantined={VERDICT.digest: VERDICT},
    past=[
        *CAME,
        event(9, "11:31:00", v1.EventKind.HOLD, parameters={"what": "held"}, message=HOLD.reason),
        *phases(10, "11:49", "digits", 2, *ON_THE_WAY),
        event(
            14,
            "11:50:00",
            v1.EventKind.PHASE,
            deployment="digits",
            revision=2,
            phase=Phase.REFUSED,
            reason="GOLDEN_MISMATCH",
            message="3 of 16 golden vectors differ, the worst by 0.31",
        ),
        event(
            15,
            "11:50:00",
            v1.EventKind.QUARANTINE,
            digest=VERDICT.digest,
            reason="GOLDEN_MISMATCH",
            parameters={"what": "quarantined"},
        ),
    ],
    health=health((DIGITS, SLOW), errors=21, disk_free_bytes=900_000_000, disk_total_bytes=1 << 35),
    vitals=replace(VITALS, disk_free_bytes=900_000_000, disk_total_bytes=1 << 35),
    line=Line(connected=False, since=at("10:02:11"), why="the broker did not answer in 10 s"),
    outbox=1204,
    outbox_bytes=412_000,
)
STARTING = seen(DIGITS, answering=frozenset(), health=None, vitals=None, past=[BOOT])
GONE = GivenUp(revision=1, digest=DIGITS.wanted.bundle.digest, reason="WORKER_STUCK", message="…")
GIVEN_UP = seen(DIGITS, answering=frozenset(), given_up={"digits": GONE}, past=CAME)
EMPTY = seen(line=Line(connected=False, since=at("11:59:00")))
UNREADABLE = replace(WELL, past=None, vitals=None)


def fullest() -> Seen:
    """Return a look with as much on it, and as nasty, as documents can carry."""
    nasty = "<&\"'>" * (TEXT_LIMIT // 5)
    hashes = [digest_of(bytes([each])) for each in range(DEPLOYMENTS_LIMIT)]
    records = [
        replace(
            refused(committed(f"{'n' * 50}{each}", "v" * 60, fallback=nasty), "w" * 60),
            problem=v1.Problem(reason="R" * 40, message=nasty),
        )
        for each in range(DEPLOYMENTS_LIMIT)
    ]
    return seen(
        *records,
        hold=v1.Hold(reason=nasty, since=NOW),
        quarantined={
            each: Quarantined(digest=each, reason="R" * 40, since=NOW, message="", runtime="")
            for each in hashes
        },
        last_error=v1.Problem(reason="R" * 40, message=nasty),
        past=[
            event(
                each + 1,
                "11:00:00",
                v1.EventKind.WORKER,
                deployment="n" * 50,
                reason="R" * 40,
                message=nasty,
                parameters={"what": nasty},
            )
            for each in range(20)
        ],
        line=Line(connected=False, since=NOW, why=nasty),
    )


LOOKS = {
    "well": WELL,
    "trouble": TROUBLE,
    "starting": STARTING,
    "given up": GIVEN_UP,
    "empty": EMPTY,
    "unreadable": UNREADABLE,
    "fullest": fullest(),
}
