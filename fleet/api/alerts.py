"""`/api/v1/alerts`: what is wrong, who is on it, who is told, and what is kept quiet."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field, model_validator

from fleet.alerts.alert import OPEN, Alert, News, Silence, silenced_by
from fleet.alerts.cause import Scope, Severity
from fleet.alerts.rules import BY_NAME, RULES
from fleet.alerts.words import said
from fleet.api.parts import Parts
from fleet.api.refusals import answers
from fleet.api.wish import Wish
from fleet.clock import written
from fleet.receivers.delivery import Receivers, Shown
from fleet.store import alerts

PAGE = 100
PAGE_LIMIT = 500
_DAY_S = 86400
_RULES = ", ".join(BY_NAME)
_RANK = {severity: number for number, severity in enumerate(Severity)}

Which = Literal["open", "ended", "all"]
"""Of which alerts: those that fire, those that are over, or both."""


class AckShown(BaseModel):
    """Who is on it."""

    by: str
    reason: str
    at: str


class AlertShown(BaseModel):
    """One alert: one cause, however many devices show it."""

    id: str
    rule: str
    severity: Severity
    open: bool = Field(description="Whether it fires.")
    scope: Scope = Field(description="Where the cause is looked for.")
    subject: str = Field(description="Which site, bundle, rollout; empty: the fleet, or no site.")
    title: str
    why: str = Field(description="What most devices give as their reason.")
    reason: str = Field(description="Its code: docs/reference/reasons.md.")
    next: str = Field(description="What to do next.")
    command: str
    devices: int = Field(description="How many show it now, or did at its end.")
    of: int = Field(description="Of how many; 0: it isn't about devices.")
    names: list[str] = Field(description="The first of them; `command` lists all.")
    since: str = Field(description="Since when the cause is there, as far as that is known.")
    opened_at: str
    ended_at: str | None
    news: News = Field(description="What happened to it last.")
    news_at: str
    returned: int = Field(description="How often it came back.")
    acknowledged: AckShown | None
    silenced_until: str | None = Field(description="Nobody is told of it until then.")

    @classmethod
    def of_alert(cls, alert: Alert, silences: Sequence[Silence], now: str) -> Self:
        """Return an alert as it is shown."""
        cause, words = alert.cause, said(alert.cause)
        silence = silenced_by(alert, silences, now)
        return cls(
            id=alert.id,
            rule=cause.key.rule,
            severity=alert.severity,
            open=alert.state in OPEN,
            scope=cause.key.scope,
            subject=cause.key.subject,
            title=words.title,
            why=words.why,
            reason=cause.reason,
            next=words.next_step,
            command=words.command,
            devices=cause.devices,
            of=cause.of,
            names=list(cause.names),
            since=cause.since,
            opened_at=written(alert.opened_at or alert.turned_at),
            ended_at=None if alert.ended_at is None else written(alert.ended_at),
            news=alert.news or News.OPENED,
            news_at=written(alert.news_at or alert.turned_at),
            returned=alert.returned,
            acknowledged=None
            if alert.ack is None
            else AckShown(by=alert.ack.by, reason=alert.ack.reason, at=alert.ack.at),
            silenced_until=None if silence is None else silence.until,
        )


class NewsShown(BaseModel):
    """One thing that happened to an alert."""

    news: News
    at: str
    devices: int


class AlertDetail(AlertShown):
    """An alert, and what happened to it: the latest 50, the oldest first."""

    as_of: str
    history: list[NewsShown]


class AlertPage(BaseModel):
    """Some alerts, the latest news first."""

    as_of: str
    looked_at: str | None = Field(description="When rules were last evaluated; null: not yet.")
    alerts: list[AlertShown]
    next: int | None = Field(description="`below` of the next page; null: there is none.")
    failing: list[str] = Field(description="Receivers that do not take what they are told.")
    silences: int = Field(description="How many hold.")


class RuleShown(BaseModel):
    """One rule."""

    name: str
    severity: Severity
    when: str
    next: str
    holds_s: float = Field(description="So long it must hold before its alert opens.")
    clears_s: float = Field(description="So long it must be gone before its alert ends.")
    open: int = Field(description="Alerts of it that are open now.")


class RuleList(BaseModel):
    """All rules."""

    as_of: str
    looked_at: str | None
    rules: list[RuleShown]


class SilenceWish(Wish):
    """What nobody is told of for a while. All that is given must match; something must be."""

    rule: str | None = Field(None, max_length=64, description=f"One of {_RULES}.")
    site: str | None = Field(None, min_length=1, max_length=256)
    bundle: str | None = Field(
        None, min_length=1, max_length=128, description="`name` or `name:version`."
    )
    for_s: int = Field(ge=60, le=30 * _DAY_S, description="For how long; every silence ends.")
    reason: str = Field(min_length=1, max_length=1000, description="Why, for the audit.")

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.rule is None and self.site is None and self.bundle is None:
            raise ValueError("say what is silenced: a rule, a site or a bundle")
        if self.site is not None and self.bundle is not None:
            raise ValueError("no alert is about a site and a bundle: silence one, then the other")
        if self.rule is not None and self.rule not in BY_NAME:
            raise ValueError(f"{self.rule[:64]!r} is no rule; see skerry alert rules")
        return self


class SilenceShown(BaseModel):
    """A silence that holds."""

    id: str
    rule: str | None
    site: str | None
    bundle: str | None
    until: str
    by: str
    reason: str
    created_at: str

    @classmethod
    def of(cls, silence: Silence) -> Self:
        """Return a silence as it is shown."""
        return cls(
            id=silence.id,
            rule=silence.rule,
            site=silence.site,
            bundle=silence.bundle,
            until=silence.until,
            by=silence.by,
            reason=silence.reason,
            created_at=silence.created_at,
        )


class SilenceList(BaseModel):
    """All silences that hold; at most a thousand can."""

    as_of: str
    silences: list[SilenceShown]


class Why(Wish):
    """Why a person does it."""

    reason: str = Field("", max_length=1000, description="Why, for the audit.")


class ReceiverShown(BaseModel):
    """Who is told. Secrets are never shown."""

    name: str
    kind: Literal["webhook", "mail", "mqtt", "alertmanager"]
    where: str
    least: Severity = Field(description="It hears of nothing less severe.")
    failing_since: str | None = Field(description="Null: it takes what it is told.")
    error: str = Field(description="Why it did not take the last message.")
    attempts: int = Field(description="How often it has failed in a row.")
    taken_at: str | None = Field(description="When it last took one, since the centre started.")
    waiting: int = Field(description="Alerts that it is yet to be told of.")

    @classmethod
    def of(cls, shown: Shown) -> Self:
        """Return a receiver as it is shown."""
        failing, taken = shown.standing.failing_since, shown.taken_at
        return cls(
            name=shown.receiver.name,
            kind=shown.receiver.kind,  # type: ignore[arg-type]  # of the kinds there are
            where=shown.receiver.where,
            least=shown.receiver.least,
            failing_since=None if failing is None else written(failing),
            error=shown.standing.error,
            attempts=shown.standing.attempts,
            taken_at=None if taken is None else written(taken),
            waiting=shown.waiting,
        )


class ReceiverList(BaseModel):
    """All receivers of `receivers.toml`."""

    error: str = Field(description="Why the file can't be read; empty: it can.")
    receivers: list[ReceiverShown]

    @classmethod
    def of(cls, found: Receivers) -> Self:
        """Return the receivers as they are shown."""
        return cls(error=found.error, receivers=[ReceiverShown.of(each) for each in found.shown])


class Tested(BaseModel):
    """How a test went."""

    receiver: str
    taken: bool
    error: str = Field(description="Why it was not taken.")


def routes(
    parts: Parts, operator: Callable[..., Awaitable[str]]
) -> APIRouter:  # one function a route
    """Return the routes about alerts."""
    router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])
    lookout, delivery = parts.alerting.lookout, parts.alerting.delivery

    @router.get("", operation_id="listAlerts", responses=answers(401))
    def every(
        *,
        state: Annotated[Which, Query()] = "open",
        rule: Annotated[str | None, Query(max_length=64)] = None,
        severity: Annotated[Severity | None, Query()] = None,
        site: Annotated[str | None, Query(max_length=256)] = None,
        bundle: Annotated[
            str | None, Query(max_length=256, description="`name` or `name:version`.")
        ] = None,
        below: Annotated[int | None, Query(ge=1, description="`next` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = PAGE,
    ) -> AlertPage:
        """List alerts, the latest news first. The newest thousand that are over are kept."""
        return listed(
            parts,
            state=state,
            rule=rule,
            severity=severity,
            site=site,
            bundle=bundle,
            below=below,
            limit=limit,
        )

    @router.get("/rules", operation_id="listAlertRules", responses=answers(401))
    def rules() -> RuleList:
        """List the rules, and how many alerts of each are open."""
        with parts.store.read() as connection:
            counts = alerts.open_by_rule(connection)
        return RuleList(
            as_of=written(parts.clock()),
            looked_at=_moment(lookout.looked_at),
            rules=[
                RuleShown(
                    name=rule.name,
                    severity=rule.severity,
                    when=rule.when,
                    next=rule.next_step,
                    holds_s=rule.holds_s,
                    clears_s=rule.clears_s,
                    open=counts.get(rule.name, 0),
                )
                for rule in RULES
            ],
        )

    @router.get("/receivers", operation_id="listReceivers", responses=answers(401))
    def receivers() -> ReceiverList:
        """List who is told of alerts, and whether they take it."""
        return ReceiverList.of(delivery.receivers())

    @router.post(
        "/receivers/{name}/test",
        operation_id="testReceiver",
        responses=answers(401, 404),
    )
    async def test(name: str, actor: Annotated[str, Depends(operator)]) -> Tested:
        """Send a test to one receiver now; it says that it is one."""
        error = await delivery.test(name, actor=actor)
        return Tested(receiver=name, taken=not error, error=error)

    @router.get("/silences", operation_id="listSilences", responses=answers(401))
    def silences() -> SilenceList:
        """List the silences that hold, the first to end first."""
        return holding(parts)

    @router.post(
        "/silences",
        operation_id="silenceAlerts",
        status_code=201,
        responses=answers(401, 409, body=True),
    )
    def silence(wish: SilenceWish, actor: Annotated[str, Depends(operator)]) -> SilenceShown:
        """Tell nobody of alerts that match, for a time. They are listed all the same."""
        made = lookout.silence(
            rule=wish.rule,
            site=wish.site,
            bundle=wish.bundle,
            for_s=wish.for_s,
            actor=actor,
            reason=wish.reason,
        )
        return SilenceShown.of(made)

    @router.post(
        "/silences/{silence_id}/end",
        operation_id="endSilence",
        responses=answers(401, 404, body=True),
    )
    def end(silence_id: str, wish: Why, actor: Annotated[str, Depends(operator)]) -> SilenceShown:
        """End a silence now: what it kept back is told."""
        return SilenceShown.of(lookout.end_silence(silence_id, actor=actor, reason=wish.reason))

    @router.get("/{alert}", operation_id="getAlert", responses=answers(401, 404))
    def one(alert: str) -> AlertDetail:
        """Show one alert, and what happened to it."""
        return shown(parts, alert)

    @router.post(
        "/{alert}/ack",
        operation_id="acknowledgeAlert",
        responses=answers(401, 404, 409, body=True),
    )
    def acknowledge(alert: str, wish: Why, actor: Annotated[str, Depends(operator)]) -> AlertDetail:
        """Say that you are on it: that it grows is not told any more; that it ends is."""
        lookout.ack(alert, actor=actor, reason=wish.reason)
        return shown(parts, alert)

    return router


def listed(  # one filter each
    parts: Parts,
    *,
    state: Which = "open",
    rule: str | None = None,
    severity: Severity | None = None,
    site: str | None = None,
    bundle: str | None = None,
    below: int | None = None,
    limit: int = PAGE,
) -> AlertPage:
    """Return alerts as they are shown, the latest news first."""
    now = written(parts.clock())
    with parts.store.read() as connection:
        found = alerts.page(
            connection,
            below=below,
            limit=limit + 1,
            is_open={"open": True, "ended": False, "all": None}[state],
            rule=rule,
            severity=severity,
            site=site,
            bundle=bundle,
        )
        silences = alerts.silences_after(connection, now)
    here = found[:limit]
    return AlertPage(
        as_of=now,
        looked_at=_moment(parts.alerting.lookout.looked_at),
        alerts=[AlertShown.of_alert(each, silences, now) for each in here],
        next=here[-1].position if len(found) > limit else None,
        failing=parts.alerting.delivery.failing(),
        silences=len(silences),
    )


def holding(parts: Parts) -> SilenceList:
    """Return the silences that hold, the first to end first."""
    now = written(parts.clock())
    with parts.store.read() as connection:
        found = alerts.silences_after(connection, now)
    return SilenceList(as_of=now, silences=[SilenceShown.of(each) for each in found])


def ordered(found: Iterable[AlertShown]) -> list[AlertShown]:
    """Return the most severe of those that are open first; the others as they come."""
    return sorted(found, key=lambda each: (not each.open, each.open and _RANK[each.severity]))


def shown(parts: Parts, alert: str) -> AlertDetail:
    """Return one alert as it is shown, and what happened to it.

    Raises:
        NotFoundError: there is none with this id, or it is forgotten.
    """
    now = parts.clock()
    with parts.store.read() as connection:
        found = alerts.named(connection, alert)
        silences = alerts.silences_after(connection, written(now))
    moment = written(now)
    return AlertDetail(
        **dict(AlertShown.of_alert(found, silences, moment)),
        as_of=moment,
        history=[
            NewsShown(news=each.news, at=each.at, devices=each.devices) for each in found.history
        ],
    )


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else written(moment)
