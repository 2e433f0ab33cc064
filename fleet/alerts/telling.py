"""What a receiver is yet to be told. Pure.

Level-triggered: what a receiver has taken is compared with what there is. So nothing is lost with
a process or while a receiver is away, nothing is queued twice, and who comes back after a day is
told how things are, once an alert, and not all that it has missed.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from fleet.alerts.alert import OVER, Alert, News, Silence, silenced_by
from fleet.alerts.cause import Severity
from fleet.clock import written

LATE = timedelta(days=1)
"""What a receiver never heard of, and has been over for so long, is no news to it any more."""

LATELY = timedelta(minutes=15)

_RANK = {severity: number for number, severity in enumerate(Severity)}


def due(
    alerts: Iterable[Alert],
    *,
    taken: Mapping[str, int],
    since: int,
    least: Severity,
    silences: Sequence[Silence],
    now: datetime,
) -> list[Alert]:
    """Return the alerts whose last news a receiver has not taken, the oldest news first.

    Args:
        alerts: all that were ever told of.
        taken: by alert, the position of the news that it has taken last.
        since: what was over before this position is not told to it.
        least: the least severity that it wants to hear of.
        silences: those that hold, and those that held lately.
        now: the time.
    """
    wanted = [
        alert
        for alert in alerts
        if _RANK[alert.severity] <= _RANK[least]
        and _is_due(alert, taken.get(alert.id), since, silences, now)
    ]
    return sorted(wanted, key=lambda each: each.position)


def firing(
    alerts: Iterable[Alert], *, least: Severity, silences: Sequence[Silence], now: datetime
) -> list[Alert]:
    """Return what is told as open to who wants all of it again and again, and what was lately."""
    moment = written(now)
    return [
        alert
        for alert in alerts
        if _RANK[alert.severity] <= _RANK[least]
        and not silenced_by(alert, silences, moment)
        and (alert.state not in OVER or _ended_since(alert, now - LATELY))
    ]


def _is_due(
    alert: Alert, taken: int | None, since: int, silences: Sequence[Silence], now: datetime
) -> bool:
    if taken is not None and alert.position <= taken:
        return False
    if alert.state not in OVER:
        acknowledged = alert.ack is not None and alert.news is News.GREW
        return not acknowledged and silenced_by(alert, silences, written(now)) is None
    if taken is not None:
        return True  # it was told that it is open
    return (
        alert.position > since
        and _ended_since(alert, now - LATE)
        and not _was_silenced(alert, silences)
    )


def _ended_since(alert: Alert, moment: datetime) -> bool:
    return alert.ended_at is not None and alert.ended_at >= moment


def _was_silenced(alert: Alert, silences: Iterable[Silence]) -> bool:
    """Say whether it was silenced when it ended: then nobody was to be told of it at all."""
    ended = "" if alert.ended_at is None else written(alert.ended_at)
    return any(
        each.created_at <= ended < each.until and each.matches(alert.key) for each in silences
    )
