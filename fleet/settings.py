"""A target's next document when only its own settings change: its deployments stay. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from zoneinfo import ZoneInfo

from agent.wire.codec import WireError, encode
from agent.wire.reasons import Reason
from agent.wire.v1 import Desired, DeviceSettings, Order, Weekday, Window
from fleet.inventory import Target
from fleet.rollouts.documents import next_order
from fleet.rollouts.errors import PlanError, PlanReason


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChange:
    """What should be different from now on; None: as it is.

    A `download_rate_bytes_per_s` of 0 takes the bound away, no windows are always.
    """

    health_period_s: float | None = None
    reconnect_cap_s: float | None = None
    download_rate_bytes_per_s: int | None = None
    download_windows: tuple[Window, ...] | None = None
    maintenance_windows: tuple[Window, ...] | None = None
    time_zone: str | None = None


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
            back. NO_CHANGE: it has these settings. MALFORMED, TIME_ZONE_UNKNOWN: no device can
            have them. TOO_LARGE: beside all that it serves there is no room for them.
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
    _check_zone(settings.time_zone)
    if settings == before:
        raise PlanError(PlanReason.NO_CHANGE, f"{target.name} has these settings already")
    if held is None:
        document = Desired(
            fleet=fleet,
            target=target.device,
            order=Order(epoch=epoch, generation=1),
            issued_at=issued_at,
            settings=settings,
        )
    else:
        order = next_order(held.order)
        document = replace(held, order=order, issued_at=issued_at, settings=settings)
    try:
        encode(document)
    except WireError as error:
        raise PlanError(error.reason, str(error)) from error
    return document


def _check_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise PlanError(Reason.TIME_ZONE_UNKNOWN, f"there is no time zone {name!r}") from error


_DAYS = tuple(Weekday)
_WINDOW = re.compile(r"([a-z,-]+) +(\d\d:\d\d)-(\d\d:\d\d)\Z")


def parse_windows(text: str) -> tuple[Window, ...]:
    """Return the windows that a person wrote: `mon-fri 22:00-05:00; sat,sun 00:00-24:00`.

    `none` are none: what they are about is allowed always. `daily` is every day.

    Raises:
        ValueError: what of it can't be read.
    """
    if text.strip() == "none":
        return ()
    return tuple(_window(part.strip()) for part in text.split(";"))


def written_windows(windows: Iterable[Window]) -> str:
    """Return windows as they are written."""
    return "; ".join(f"{_written_days(each.days)} {each.start}-{each.end}" for each in windows)


def _window(text: str) -> Window:
    found = _WINDOW.match(text)
    if found is None:
        raise ValueError(f"{text[:60]!r} is no window; write it like mon-fri 22:00-05:00")
    days, start, end = found.groups()
    return Window(days=_days(days), start=start, end=end)


def _days(text: str) -> tuple[Weekday, ...]:
    if text == "daily":
        return _DAYS
    days: set[Weekday] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = _place(first), _place(last or first)
        span = (end - begin) % len(_DAYS) + 1  # fri-mon goes on over the weekend
        days |= {_DAYS[(begin + step) % len(_DAYS)] for step in range(span)}
    return tuple(day for day in _DAYS if day in days)


def _place(day: str) -> int:
    if day not in _DAYS:
        raise ValueError(f"{day[:60]!r} is no day; there are {', '.join(_DAYS)}")
    return _DAYS.index(Weekday(day))


def _written_days(days: Sequence[Weekday]) -> str:
    if len(days) == len(_DAYS):
        return "daily"
    places = [_DAYS.index(day) for day in days]
    if len(days) > 2 and places == list(range(places[0], places[0] + len(days))):  # noqa: PLR2004  # two are written out
        return f"{days[0]}-{days[-1]}"
    return ",".join(days)
