"""A device, and all that the store holds of it. Blocking, inside the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from agent.wire import codec, v1
from fleet.health.drift import Drift
from fleet.health.heard import Heard
from fleet.store import desired, devices, drift, health, presence, reported
from fleet.store.targets import target_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A device, and all that the store holds of it.

    `heard` is what was last heard of it, as the value that deciding reads.
    """

    device: devices.Device
    seen: presence.Presence | None = None
    told: reported.HeldReport | None = None
    wanted: v1.Desired | None = None
    feels: health.HeldHealth | None = None
    drifts: tuple[Drift, ...] = ()
    heard: Heard = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        told, feels = self.told, self.feels
        heard = Heard(
            target=target_of(
                self.device,
                seen=self.seen,
                told=None if told is None else told.document,
                wanted=self.wanted,
            ),
            joined_at=self.device.joined_at,
            reported_at=None if told is None else told.received_at,
            health=None if feels is None else feels.document,
            health_at=None if feels is None else feels.received_at,
            health_late=feels is not None and feels.late,
            drift=self.drifts,
        )
        object.__setattr__(self, "heard", heard)


def known(connection: Connection, name: str) -> Known:
    """Return what the store holds of the device with this id or name.

    Raises:
        NotFoundError: there is none.
        AmbiguousError: several have the name.
    """
    device = devices.named(connection, name)
    return Known(
        device=device,
        seen=presence.held(connection, device.id),
        told=reported.held(connection, device.id),
        wanted=read(desired.held(connection, device.id)),
        feels=health.held(connection, device.id),
        drifts=tuple(drift.held(connection, device.id)),
    )


def known_among(connection: Connection, found: Sequence[devices.Device]) -> Sequence[Known]:
    """Return what the store holds of these devices, some hundreds of them."""
    ids = [each.id for each in found]
    here = presence.among(connection, ids)
    told = {report.document.device: report for report in reported.among(connection, ids)}
    wanted = {document.target: document for document in desired.among(connection, ids)}
    feels = {each.document.device: each for each in health.among(connection, ids)}
    drifts = drift.among(connection, ids)
    return [
        Known(
            device=device,
            seen=here.get(device.id),
            told=told.get(device.id),
            wanted=read(wanted.get(device.id)),
            feels=feels.get(device.id),
            drifts=drifts.get(device.id, ()),
        )
        for device in found
    ]


def read(held: desired.HeldDesired | None) -> v1.Desired | None:
    """Return a kept document as the value it is."""
    return None if held is None else codec.decode(held.payload, v1.Desired)
