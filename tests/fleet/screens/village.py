"""A fleet in every state there is, put into a store as if its devices had said so."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from agent.sketch import Sketch
from agent.wire import codec, facts, v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet import kept
from fleet.clock import written
from fleet.ports import FromDevice
from fleet.rollouts.gate import GateReason
from fleet.rollouts.progress import Cause, Rollout, RolloutWave, begin
from fleet.rollouts.states import RolloutState, TargetState, WaveState
from fleet.store import arrivals, desired, devices
from fleet.store.engine import Store
from tests.fleet.deciding.paper import NOW, Paper

FLEET = "north-sea"
PAPER = Paper()
OLD, NEW = PAPER.bundle("1.4.0"), PAPER.bundle("1.5.0")
VARIANT = "sha256:" + "5" * 64
LATE = written(NOW.replace(hour=11, minute=59, second=50))
BEFORE = written(NOW.replace(hour=11, minute=50))
LONG_AGO = "2026-02-26T07:30:00Z"
FACTS = {
    facts.ARCHITECTURE: "aarch64",
    facts.MEMORY_MIB: "1906",
    facts.RUNTIME: "litert",
    facts.RUNTIME_VERSION: "2.3.0",
}


@dataclass(frozen=True, kw_only=True)
class Villager:
    """One device: by default it serves 1.4.0, and is well."""

    name: str
    site: str = "porto"
    wanted: v1.BundleRef = OLD
    serves: v1.BundleRef = OLD
    phase: Phase = Phase.COMMITTED
    error: v1.Problem | None = None
    hold: v1.Hold | None = None
    speaks: bool = True
    leaves: bool = False
    hangs: bool = False
    milliseconds: float = 9.0
    requests: int = 400
    errors: int = 0
    health: dict[str, object] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


MISMATCH = v1.Problem(
    reason=Reason.GOLDEN_MISMATCH,
    message="3 of 16 golden vectors differ",
    parameters={"failed": "3", "of": "16"},
)
VILLAGE = (
    Villager(name="porto-cam-01", labels={"room": "oven", "tier": "1"}),
    Villager(name="porto-cam-02", milliseconds=13.5),
    Villager(name="porto-cam-with-quite-a-long-name-for-one-device-03"),
    Villager(
        name="porto-cam-07",
        wanted=NEW,
        phase=Phase.REFUSED,
        error=MISMATCH,
        health={"temperature_c": 71.2},
    ),
    Villager(name="porto-cam-08", errors=40),
    Villager(name="lerwick-2", site="lerwick", wanted=NEW, phase=Phase.FETCHING),
    Villager(
        name="lerwick-3",
        site="lerwick",
        hold=v1.Hold(reason="lens is off \x1b[2J", since=BEFORE),
    ),
    Villager(name="lerwick-4", site="lerwick", leaves=True),
    Villager(name="lerwick-5", site="lerwick", speaks=False),
)


def settle(store: Store, villagers: tuple[Villager, ...] = VILLAGE, *, first: int = 1) -> None:
    """Put the village into a store."""
    for number, villager in enumerate(villagers, start=first):
        device = f"d-{number}"
        with store.write() as connection:
            place = devices.site_named(
                connection, villager.site, new_id=f"s-{villager.site}", now=LONG_AGO
            )
            devices.add(
                connection,
                devices.Device(
                    id=device,
                    name=villager.name,
                    site=place.id,
                    site_name=place.name,
                    labels=villager.labels,
                    facts=FACTS,
                    serial=str(number),
                    certificate_expires_at="2027-03-01T00:00:00Z",
                    joined_at="2026-02-20T00:00:00Z",
                ),
            )
            if villager.speaks:
                _speak(connection, device, villager)


def _speak(connection: Connection, device: str, villager: Villager) -> None:
    wanted = v1.Deployment(name="digits", bundle=villager.wanted, revision=3)
    document = v1.Desired(
        fleet=FLEET,
        target=device,
        order=v1.Order(epoch=0, generation=5),
        issued_at=BEFORE,
        deployments=(wanted,),
    )
    desired.put(
        connection,
        desired.HeldDesired(
            target=device,
            order=document.order,
            payload=codec.encode(document),
            envelope=b"",
            issued_at=BEFORE,
        ),
    )
    born = v1.Birth(
        fleet=FLEET, device=device, session=1, agent_version="0.1.3", at=BEFORE, facts=FACTS
    )
    _hear(connection, born, LONG_AGO if villager.leaves else BEFORE)
    said = LONG_AGO if villager.leaves or villager.hangs else BEFORE
    _hear(connection, _report(device, villager), said)
    silent = villager.leaves or villager.hangs
    _hear(connection, _health(device, villager), LONG_AGO if silent else LATE)
    if villager.error is not None:
        _hear(connection, _event(device, villager.error), BEFORE)
    if villager.leaves:
        _hear(connection, v1.Death(fleet=FLEET, device=device, session=1), LONG_AGO)


def _hear(connection: Connection, document: FromDevice, now: str) -> None:
    arrivals.commit(connection, [document], now=now)


def _report(device: str, villager: Villager) -> v1.Reported:
    active = v1.Active(
        revision=3 if villager.serves == villager.wanted else 1,
        bundle=villager.serves,
        variant=VARIANT,
        runtime="ai-edge-litert 2.3.0",
        accelerator="cpu",
    )
    return v1.Reported(
        fleet=FLEET,
        device=device,
        session=1,
        observed=v1.Order(epoch=0, generation=5),
        hold=villager.hold,
        deployments=(
            v1.ReportedDeployment(
                name="digits",
                revision=3,
                digest=villager.wanted.digest,
                phase=villager.phase,
                active=active,
                last_error=villager.error,
            ),
        ),
        quarantined=tuple(_quarantined(villager)),
    )


def _quarantined(villager: Villager) -> Iterator[v1.Quarantined]:
    if villager.error is not None:
        yield v1.Quarantined(
            digest=villager.wanted.digest, reason=villager.error.reason, since=BEFORE
        )


def _health(device: str, villager: Villager) -> v1.Health:
    dice = random.Random(device)  # noqa: S311  # made-up latencies
    sketch = Sketch()
    for _ in range(villager.requests):
        sketch.add(villager.milliseconds / 1000 * dice.lognormvariate(0, 0.2))
    fields: dict[str, object] = {
        "cpu_ratio": 0.12,
        "memory_used_bytes": 800 << 20,
        "memory_total_bytes": 1906 << 20,
        "disk_free_bytes": 11 << 30,
        "disk_total_bytes": 28 << 30,
        **villager.health,
    }
    return v1.Health(
        fleet=FLEET,
        device=device,
        session=1,
        at=LATE,
        period_s=60.0,
        deployments=(
            v1.DeploymentHealth(
                name="digits",
                revision=3 if villager.serves == villager.wanted else 1,
                digest=villager.serves.digest,
                requests=villager.requests,
                errors=villager.errors,
                latency=sketch.to_wire(),
            ),
        ),
        **fields,  # type: ignore[arg-type]
    )


def _event(device: str, problem: v1.Problem) -> v1.Event:
    return v1.Event(
        fleet=FLEET,
        device=device,
        ledger="l-1",
        number=1,
        kind=v1.EventKind.PHASE,
        at=BEFORE,
        deployment="digits",
        revision=3,
        digest=NEW.digest,
        phase=Phase.REFUSED,
        reason=problem.reason,
        message=problem.message,
    )


def waiting() -> Rollout:
    """Return a rollout that waits for a person."""
    targets = (PAPER.target(4, name="porto-cam-07"), PAPER.target(6, name="lerwick-2"))
    made = begin(PAPER.plan(PAPER.inventory(*targets), PAPER.request("1.5.0")), "r-41")
    first, second = made.targets
    back = v1.Deployment(name="digits", bundle=OLD, revision=1)
    wave = RolloutWave(
        number=1, targets=("d-4", "d-6"), title="canary", state=WaveState.INCONCLUSIVE
    )
    return replace(
        made,
        state=RolloutState.PAUSED,
        waves=(wave, replace(wave, number=2, targets=(), state=WaveState.WAITING)),
        targets=(
            replace(first, state=TargetState.REFUSED, replaces=back),
            replace(second, state=TargetState.UPDATING, replaces=back),
        ),
        cause=Cause(code=GateReason.SAMPLE_TOO_SMALL, parameters={"wave": "1", "sample": "1"}),
    )


def keep(store: Store, rollout: Rollout, created_at: str) -> None:
    """Put a rollout into the store as one that the executor has nothing to do about."""
    with store.write() as connection:
        kept.add(connection, rollout, plan="{}", created_at=created_at, is_open=False)


def pause(store: Store) -> None:
    """Put a rollout that waits for a person into the store."""
    keep(store, waiting(), BEFORE)
