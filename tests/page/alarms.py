"""What is wrong in the scene's fleet, as a lookout would have found it, and what drifts in it."""

import datetime as dt
from dataclasses import replace

from agent.wire import v1
from fleet.alerts.alert import Ack, Alert, AlertState, Event, News, Silence
from fleet.alerts.cause import Cause, Key, Scope
from fleet.clock import written
from fleet.store import alerts, arrivals, health
from fleet.store.engine import Store
from models.card import DriftReference
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import LATE

REFERENCE = DriftReference(
    subject="input-0-mean", edges=(1.0, 2.0, 3.0), shares=(0.25,) * 4, samples=500
)
DARKER, FEW = (6012, 1400, 700, 300, 0), (3, 0, 0, 0, 0)

GOLDEN = Cause(
    key=Key("SkerryGoldenFailing", Scope.BUNDLE, "digits 1.5.0"),
    since=written(NOW - dt.timedelta(minutes=10)),
    devices=1,
    of=22,
    names=("porto-cam-07",),
    reason="GOLDEN_MISMATCH",
    parameters={"failed": "3", "of": "16"},
)
AWAY = Cause(
    key=Key("SkerryDevicesAway", Scope.SITE, "lerwick"),
    since=written(NOW - dt.timedelta(hours=3)),
    devices=7,
    of=40,
    names=("lerwick-6",),
    reason="DISCONNECTED",
)
HEAT = Cause(
    key=Key("SkerryThrottling", Scope.SITE, "bergen"),
    since=written(NOW - dt.timedelta(minutes=2)),
    devices=1,
    of=4,
    names=("bergen-4",),
    reason="THROTTLED",
)
UNDECIDED = Cause(
    key=Key("SkerryRolloutInconclusive", Scope.ROLLOUT, "r-39"),
    since=written(NOW - dt.timedelta(hours=25)),
    parameters={"to": "digits 1.5.0", "state": "paused"},
)
OPEN = {"a-golden": GOLDEN, "a-away": AWAY, "a-heat": HEAT, "a-undecided": UNDECIDED}


def alarm(store: Store) -> None:
    """Let four alerts be open, one with somebody on it and one silenced; and one be over."""
    silence = Silence(
        id="q-1",
        rule=HEAT.key.rule,
        site="bergen",
        bundle=None,
        until=written(NOW + dt.timedelta(hours=4)),
        by="operator",
        reason="the fan is on its way",
        created_at=written(NOW),
    )
    with store.write() as connection:
        for number, (name, cause) in enumerate(OPEN.items(), start=2):
            alerts.put(connection, opened(name, cause, number))
        alerts.put(
            connection,
            replace(opened("a-away", AWAY, 3), ack=Ack(by="operator", reason="driving", at=LATE)),
        )
        alerts.put(connection, over("a-over", HEAT, 1))
        alerts.silence(connection, silence)


def opened(name: str, cause: Cause, position: int) -> Alert:
    at = NOW - dt.timedelta(minutes=5 + position)
    return Alert(
        id=name,
        cause=cause,
        state=AlertState.FIRING,
        turned_at=at,
        opened_at=at,
        news=News.OPENED,
        news_at=at,
        told_devices=cause.devices,
        position=position,
        history=(Event(alert=name, news=News.OPENED, at=written(at), devices=cause.devices),),
    )


def over(name: str, cause: Cause, position: int) -> Alert:
    ended = replace(
        opened(name, cause, position),
        state=AlertState.ENDED,
        ended_at=NOW - dt.timedelta(minutes=1),
        news=News.CLEARED,
    )
    last = Event(alert=name, news=News.CLEARED, at=LATE, devices=0)
    return replace(ended, history=(*ended.history, last))


def drift(store: Store) -> None:
    """Let one device see another light, and another have been asked too little."""
    for device, counts in (("d-8", DARKER), ("d-1", FEW)):
        with store.write() as connection:
            last = health.held(connection, device)
            assert last is not None
            (part,) = last.document.deployments
            told = (v1.DriftSketch(subject=REFERENCE.subject, counts=counts),)
            document = replace(last.document, deployments=(replace(part, drift=told),))
            arrivals.commit(connection, [document], now=LATE)
