"""What happened to a device, and how it was: `/lifeline` and `/health/history` of one."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import Connection

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet.api.cursor import cursor, place
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.api.shown import shown_at
from fleet.clock import written
from fleet.health.days import DAY_S
from fleet.health.lifeline import Counted, Gone, Kind, Moment, Told, lifeline
from fleet.health.spoken import as_watched
from fleet.rollouts.errors import PlanError
from fleet.sentences import explain
from fleet.store import away, devices, events, health_days, summed, words

_PAGE = 100
_PAGE_LIMIT = 500
_CURSOR_LIMIT = 1000
_KINDS = (str, str, int)
_SINCE = "From then on, as RFC 3339."
_UNTIL = "Before then, as RFC 3339; by default now."


class MomentShown(BaseModel):
    """One thing in a device's life."""

    at: str = Field(description="By the centre's clock, or the device's where it is believed.")
    kind: Kind
    until: str | None = Field(description="When it was over; null: it is not, or does not last.")
    late: bool = Field(description="It had waited for a connection.")
    by_arrival: bool = Field(
        description="The device's clock is not believed: it happened at this time or before."
    )
    count: int = Field(description="How many, of what is summed up.")
    lasted_s: int = Field(description="How long it was so, in all; 0: it is so still.")
    subject: str = Field(
        description="Of what is summed up: the kind of events, `away`, or a state; of a state"
        " which bundle it is about, if one."
    )
    state: str | None = Field(description="Of `was`, and of what is summed up of it: which state.")
    reason: str | None = Field(description="Of `was`: why, as a code.")
    sentence: str | None = Field(description="Of `was`: why, in words.")
    event: v1.Event | None

    @classmethod
    def of(cls, moment: Moment) -> Self:
        """Return a moment."""
        word = moment.word
        reason = word.reason or None if word else None
        return cls(
            at=moment.at,
            kind=moment.kind,
            until=moment.until,
            late=moment.late,
            by_arrival=moment.by_arrival,
            count=moment.count,
            lasted_s=moment.lasted_s,
            subject=moment.subject,
            state=word.state if word else None,
            reason=reason,
            sentence=explain(reason).meaning if reason else None,
            event=moment.event,
        )


class Lifeline(BaseModel):
    """Some moments of a device's life, in order: the last ones, or those beside what was given."""

    device: str
    as_of: str
    moments: list[MomentShown]
    before: str | None = Field(description="Ask with it for those before; null: there are none.")
    after: str | None = Field(description="Ask with it for those after; null: there are none.")


class SlotShown(BaseModel):
    """How a device was for a while. Null: it was not measured, or no request was answered."""

    at: str
    length_s: int
    documents: int = Field(description="Health documents of that time that came.")
    late: int = Field(description="So many of them had waited for a connection.")
    requests: int
    errors: int
    restarts: int
    p50_s: float | None = Field(description="Of all its deployments' requests.")
    p95_s: float | None
    quantiles_within: float = Field(description="By which share a quantile may be wrong.")
    cpu_mean: float | None
    cpu_most: float | None
    memory_most: float | None = Field(description="The most that was taken, as a share.")
    disk_most: float | None
    temperature_most_c: float | None
    accelerator_most_c: float | None
    throttled: int = Field(description="In so many of the documents it was slowed down.")
    outbox_most: int | None

    @classmethod
    def of(cls, stretch: health_days.Stretch) -> Self:
        """Return a slot that is kept."""
        slot = stretch.slot
        cpu = slot.cpu_sum / slot.cpu_documents / 1000 if slot.cpu_documents else None
        return cls(
            at=written(datetime.fromtimestamp(stretch.begin, UTC)),
            length_s=stretch.length_s,
            documents=slot.documents,
            late=slot.late,
            requests=slot.requests,
            errors=slot.errors,
            restarts=slot.restarts,
            p50_s=slot.latency.quantile(0.5),
            p95_s=slot.latency.quantile(0.95),
            quantiles_within=round(slot.latency.within, 3),
            cpu_mean=None if cpu is None else round(cpu, 3),
            cpu_most=_divided(slot.cpu_most, 1000),
            memory_most=_divided(slot.memory_most, 1000),
            disk_most=_divided(slot.disk_most, 1000),
            temperature_most_c=_divided(slot.temperature_most, 10),
            accelerator_most_c=_divided(slot.accelerator_most, 10),
            throttled=slot.throttled,
            outbox_most=slot.outbox_most,
        )


class HealthHistory(BaseModel):
    """How a device was, in order. Where nothing came there is no slot."""

    device: str
    as_of: str
    since: str
    until: str
    slots: list[SlotShown]
    next: str | None = Field(description="Ask with `since` this for those after; null: all came.")


def routes(parts: Parts) -> APIRouter:
    """Return the routes about a device's past."""
    router = APIRouter(prefix="/api/v1/devices", tags=["devices"])

    @router.get(
        "/{device}/lifeline", operation_id="getDeviceLifeline", responses=answers(401, 404, 409)
    )
    def line(
        device: str,
        *,
        since: Annotated[datetime | None, Query(description=_SINCE)] = None,
        until: Annotated[datetime | None, Query(description=_UNTIL)] = None,
        before: Annotated[
            str, Query(description="From the page after this one.", max_length=_CURSOR_LIMIT)
        ] = "",
        after: Annotated[
            str,
            Query(
                description="From the page before this one: then the first ones, not the last.",
                max_length=_CURSOR_LIMIT,
            ),
        ] = "",
        kind: Annotated[Kind | None, Query(description="Only moments of this kind.")] = None,
        limit: Annotated[int, Query(ge=1, le=_PAGE_LIMIT)] = _PAGE,
    ) -> Lifeline:
        """Show a device's life: joined, away, started again, and what it told; the newest last."""
        return lived(
            parts,
            device,
            since=since,
            until=until,
            before=before,
            after=after,
            kind=kind,
            limit=limit,
        )

    @router.get(
        "/{device}/health/history",
        operation_id="getDeviceHealthHistory",
        responses=answers(401, 404, 409),
    )
    def felt(
        device: str,
        *,
        since: Annotated[
            datetime | None, Query(description=f"{_SINCE} By default a day ago.")
        ] = None,
        until: Annotated[datetime | None, Query(description=_UNTIL)] = None,
        limit: Annotated[int, Query(ge=1, le=_PAGE_LIMIT)] = _PAGE,
    ) -> HealthHistory:
        """Show how a device was, in slots of a quarter of an hour, or of an hour further back."""
        return history(parts, device, since=since, until=until, limit=limit)

    return router


def lived(
    parts: Parts,
    device: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    before: str = "",
    after: str = "",
    kind: Kind | None = None,
    limit: int = _PAGE,
) -> Lifeline:
    """Return a device's life, or the last moments of a part of it; after a place the first ones.

    Raises:
        NotFoundError: there is none with this id or name.
        AmbiguousError: several have the name.
        PlanError: `before` or `after` is not what a page said, or there is no such time.
    """
    above = tuple(place(before, _KINDS, of="before")) if before else None
    below = tuple(place(after, _KINDS, of="after")) if after else None
    begin, end = (None if each is None else written(_aware(each)) for each in (since, until))
    with parts.store.read() as connection:
        found = devices.named(connection, device)
        moments = _of_device(connection, found)
    in_time = [
        each
        for each in moments
        if (begin is None or _ends(each) >= begin)
        and (end is None or each.at < end)
        and (kind is None or each.kind is kind)
    ]
    wanted = [
        each
        for each in in_time
        if (above is None or each.place < above) and (below is None or each.place > below)
    ]
    shown = wanted[-limit:] if below is None else wanted[:limit]
    return Lifeline(
        device=found.id,
        as_of=shown_at(parts.clock()),
        moments=[MomentShown.of(each) for each in shown],
        before=cursor(shown[0].place) if shown and shown[0].place > in_time[0].place else None,
        after=cursor(shown[-1].place) if shown and shown[-1].place < in_time[-1].place else None,
    )


def history(
    parts: Parts,
    device: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = _PAGE,
) -> HealthHistory:
    """Return how a device was, in order.

    Raises:
        NotFoundError: there is none with this id or name.
        AmbiguousError: several have the name.
    """
    now = parts.clock()
    end = now + timedelta(seconds=1) if until is None else _aware(until)
    begin = now - timedelta(seconds=DAY_S) if since is None else _aware(since)
    with parts.store.read() as connection:
        found = devices.named(connection, device)
        stretches = health_days.between(
            connection, found.id, int(begin.timestamp()), int(end.timestamp())
        )
    slots = [SlotShown.of(each) for each in stretches[: limit + 1]]
    return HealthHistory(
        device=found.id,
        as_of=shown_at(now),
        since=written(begin),
        until=written(end),
        slots=slots[:limit],
        next=slots[limit].at if len(slots) > limit else None,
    )


def _of_device(connection: Connection, found: devices.Device) -> list[Moment]:
    """Return the whole life of a device. All of it is bounded in the store."""
    told = [
        Told(event=each.event, late=each.late, received_at=each.received_at)
        for each in events.every_transition(connection, found.id)
    ]
    gone = [
        Gone(since=each.since, until=each.until, spans=each.spans, away_s=each.away_s)
        for each in away.of_device(connection, found.id)
    ]
    counted = [
        Counted(kind=each.kind, count=each.count, first_at=each.first_at, last_at=each.last_at)
        for each in summed.of_device(connection, found.id)
    ]
    return list(
        lifeline(
            found.joined_at,
            told,
            gone,
            counted,
            spoken=as_watched(words.of_device(connection, found.id), words.all_watches(connection)),
            spoken_sums=words.summed(connection, found.id),
        )
    )


def _divided(most: int | None, by: int) -> float | None:
    return None if most is None else most / by


def _aware(moment: datetime) -> datetime:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise PlanError(Reason.MALFORMED, f"there is no such time: {moment}") from error


def _ends(moment: Moment) -> str:
    """Return when it was over: what is not over yet is of every time since it began."""
    return (
        "9999"
        if moment.kind in {Kind.AWAY, Kind.WAS} and moment.until is None
        else moment.until or moment.at
    )
