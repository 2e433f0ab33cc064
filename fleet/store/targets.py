"""A device as deciding reads it, from what the store holds of it."""

from agent.wire import v1
from fleet.inventory import Target
from fleet.store.devices import Device
from fleet.store.presence import Presence


def target_of(
    device: Device,
    *,
    seen: Presence | None = None,
    told: v1.Reported | None = None,
    wanted: v1.Desired | None = None,
) -> Target:
    """Return a device with what is given of it; with nothing more it is as selectors read it."""
    return Target(
        device=device.id,
        name=device.name,
        site=device.site_name,
        labels=device.labels,
        facts=device.facts,
        online=seen is not None and seen.online,
        last_seen=None if seen is None else seen.since,
        desired=wanted,
        reported=told,
    )
