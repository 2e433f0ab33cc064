"""What a device may do now, by its windows and its clock. Pure; `now` is an argument.

A window is open when the clock on the wall there shows a time within it; that is
all that daylight saving means for it. In the hour that is left out a window is
as open as the time after it says, and in the hour that comes twice it is open twice.

Windows are about a clock on a wall, so a clock that is known to be wrong keeps
none of them: one that is earlier than the signed document which the device obeys.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from agent.wire import v1
from agent.wire.reasons import Reason

_DAYS = tuple(v1.Weekday)
_NEAR_DAYS = 2
"""Most windows turn within a day: what is far off is only worked out for the others."""

_HORIZON_DAYS = 16
"""A window on one day of the week is at most that far off, also when one is left out."""

_LOOK_AGAIN_S = 300.0
"""A clock may be set meanwhile, and a machine may sleep: what is to come is looked at again."""

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Whether something is allowed: `shut` says why not; None: it is.

    `look_again_s`: seconds until that may be another; None: when the settings are.
    """

    shut: v1.Problem | None = None
    look_again_s: float | None = None


def downloads(settings: v1.DeviceSettings, issued_at: str, now: str) -> Line:
    """Return whether a device may download at `now`.

    Args:
        settings: the device's own.
        issued_at: when the document with them was issued, by the centre's clock.
        now: by the device's clock; both as documents carry times.
    """
    closed = Reason.DOWNLOAD_WINDOW_CLOSED
    return _line(settings.download_windows, settings.time_zone, issued_at, now, closed)


def maintenance(settings: v1.DeviceSettings, issued_at: str, now: str) -> Line:
    """Return whether what serves on a device may be changed at `now`; as for downloads."""
    closed = Reason.MAINTENANCE_WINDOW_CLOSED
    return _line(settings.maintenance_windows, settings.time_zone, issued_at, now, closed)


_ALLOWED = {
    Reason.DOWNLOAD_WINDOW_CLOSED: "downloads are allowed",
    Reason.MAINTENANCE_WINDOW_CLOSED: "what serves may be changed",
}


def _line(
    windows: Sequence[v1.Window], time_zone: str, issued_at: str, now: str, closed: Reason
) -> Line:
    if not windows:
        return Line()
    at = datetime.fromisoformat(now)
    if at < datetime.fromisoformat(issued_at):
        return _shut(
            Reason.CLOCK_WRONG,
            "the clock is earlier than the document that this device obeys",
            {"issued_at": issued_at},
        )
    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):  # not found; not a zone's name; not a zone's file
        told = f"no time zone {time_zone!r} here"
        return _shut(Reason.TIME_ZONE_UNKNOWN, told, {"zone": time_zone})
    turns = next_turn(windows, zone, at)
    look_again_s = min(_LOOK_AGAIN_S, (turns - at).total_seconds())
    if is_open(windows, _wall(at, zone)):
        return Line(look_again_s=look_again_s)
    opens = turns.strftime("%Y-%m-%dT%H:%M:%SZ")
    return _shut(
        closed,
        f"{_ALLOWED[closed]} from {_wall(turns, zone):%a %H:%M} ({time_zone}) on",
        {"opens": opens},
        look_again_s,
    )


def is_open(windows: Sequence[v1.Window], wall: datetime) -> bool:
    """Say whether one of the windows is open when a clock there shows `wall` (without a zone)."""
    minute = wall.hour * 60 + wall.minute
    today = _DAYS[wall.weekday()]
    yesterday = _DAYS[wall.weekday() - 1]
    for window in windows:
        start, end = _minute(window.start), _minute(window.end)
        if start < end:
            if today in window.days and start <= minute < end:
                return True
        elif (today in window.days and minute >= start) or (
            yesterday in window.days and minute < end
        ):
            return True
    return False


def next_turn(windows: Sequence[v1.Window], zone: tzinfo, now: datetime) -> datetime:
    """Return when what is open closes, or what is closed opens; or as far as is looked."""
    before = is_open(windows, _wall(now, zone))
    for days in (_NEAR_DAYS, _HORIZON_DAYS):
        end = now + (days - 1) * _DAY  # up to there every moment that counts is among them
        for moment in sorted({*_edges(windows, zone, now, days), *_jumps(zone, now, days)}):
            if now < moment <= end and is_open(windows, _wall(moment, zone)) != before:
                return moment
    return now + _HORIZON_DAYS * _DAY


def _edges(
    windows: Sequence[v1.Window], zone: tzinfo, now: datetime, days: int
) -> Iterator[datetime]:
    """Yield every moment at which the clock there may show the start or the end of a window."""
    today = _wall(now, zone).date()
    for day in (today + number * _DAY for number in range(-1, days + 1)):
        for window in windows:
            for minute in (_minute(window.start), _minute(window.end)):
                yield from _moments(day, minute, zone)


def _moments(day: date, minute: int, zone: tzinfo) -> Iterator[datetime]:
    wall = datetime.combine(day, time(0)) + timedelta(minutes=minute)
    for fold in (0, 1):
        yield wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _jumps(zone: tzinfo, now: datetime, days: int) -> Iterator[datetime]:
    """Yield the moments at which the clock there is set, for daylight saving or for good."""
    for number in range(days):
        before, after = now + number * _DAY, now + (number + 1) * _DAY
        if _offset(before, zone) == _offset(after, zone):
            continue
        while after - before > _SECOND:
            middle = before + (after - before) // 2
            same = _offset(middle, zone) == _offset(before, zone)
            before, after = (middle, after) if same else (before, middle)
        yield after.replace(microsecond=0)


def _offset(moment: datetime, zone: tzinfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def _minute(time_of_day: str) -> int:
    hours, _, minutes = time_of_day.partition(":")
    return int(hours) * 60 + int(minutes)


def _shut(
    reason: Reason, message: str, parameters: dict[str, str], look_again_s: float = 60.0
) -> Line:
    problem = v1.Problem(reason=reason, message=message, parameters=parameters)
    return Line(shut=problem, look_again_s=look_again_s)
