"""A target's next document when only its own settings change: its deployments stay. Pure."""

from dataclasses import dataclass, fields, replace

from agent.wire.reasons import Reason
from agent.wire.v1 import Desired, DeviceSettings, Order
from fleet.inventory import Target
from fleet.rollouts.documents import next_order
from fleet.rollouts.errors import PlanError, PlanReason


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChange:
    """What should be different from now on; None: as it is.

    A `download_rate_bytes_per_s` of 0 takes the bound away.
    """

    health_period_s: float | None = None
    reconnect_cap_s: float | None = None
    download_rate_bytes_per_s: int | None = None


def resettled(
    target: Target, change: SettingsChange, *, fleet: str, epoch: int, issued_at: str
) -> Desired:
    """Return the target's next document: the newest one with these settings.

    Args:
        target: the device as it is known, with its newest document if it has one.
        change: the settings to put in.
        fleet: the fleet's id.
        epoch: the epoch of a first document; later ones keep their own.
        issued_at: shown to people.

    Raises:
        PlanError: TARGET_AHEAD: the store was restored, and this would drive the device
            back. NO_CHANGE: it has these settings. MALFORMED: no device can have them.
    """
    observed = target.ahead
    if observed is not None:
        raise PlanError(
            PlanReason.TARGET_AHEAD,
            f"{target.name} acts on document {observed.epoch}.{observed.generation}, "
            "newer than any in the store",
        )
    held = target.desired
    before = DeviceSettings() if held is None else held.settings
    given = {each.name: getattr(change, each.name) for each in fields(change)}
    wanted = {name: value for name, value in given.items() if value is not None}
    if change.download_rate_bytes_per_s == 0:
        wanted["download_rate_bytes_per_s"] = None
    try:
        settings = replace(before, **wanted)
    except ValueError as error:
        raise PlanError(Reason.MALFORMED, str(error)) from error
    if settings == before:
        raise PlanError(PlanReason.NO_CHANGE, f"{target.name} has these settings already")
    if held is None:
        return Desired(
            fleet=fleet,
            target=target.device,
            order=Order(epoch=epoch, generation=1),
            issued_at=issued_at,
            settings=settings,
        )
    return replace(held, order=next_order(held.order), issued_at=issued_at, settings=settings)
