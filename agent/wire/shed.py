"""Documents that always fit: what only explains goes before what is said. Pure.

Sixteen deployments with three digests each leave little of 8 KB for words. Each
rung drops one kind of detail from the whole document, the cheapest first. Of a
report, a deployment's name, revision, digest and phase always stay; its details
are not lost: they travelled as events, and the next report has them when there
is room. Of a health document that waited, all but its drift always stays. Of what a
device is to be, only traces go, and that of the newest revision last.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from agent.wire import v1
from agent.wire.codec import WireError, encode
from agent.wire.reasons import Reason

_Shed = TypeVar("_Shed", v1.Reported, v1.Event, v1.Desired)


def shed(report: v1.Reported) -> v1.Reported:
    """Return the report, or as much of it as fits."""
    return _down(report, _parameters, _messages, _conditions, _quarantined, _last_errors, _active)


def shed_waiting(event: v1.Event) -> v1.Event:
    """Return an event with a health document, or as much of it as fits beside its number."""
    return _down(event, _drift)


def shed_desired(document: v1.Desired) -> v1.Desired:
    """Return what a device is to be without what only logs need, if it doesn't fit with it.

    A device keeps the trace that came with a revision: it is missed only where a device
    was away while that revision and another one were asked for.
    """
    return _down(document, _older_traces, _traces)


def _down(document: _Shed, *rungs: Callable[[_Shed], _Shed]) -> _Shed:
    for lighten in rungs:
        if _fits(document):
            break
        document = lighten(document)
    return document


def _fits(document: v1.Reported | v1.Event | v1.Desired) -> bool:
    try:
        encode(document)
    except WireError as error:
        if error.reason is Reason.TOO_LARGE:
            return False
        raise
    return True


def _parameters(report: v1.Reported) -> v1.Reported:
    def bare(problem: v1.Problem | None) -> v1.Problem | None:
        return problem and replace(problem, parameters={})

    def all_bare(conditions: tuple[v1.Condition, ...]) -> tuple[v1.Condition, ...]:
        return tuple(replace(condition, parameters={}) for condition in conditions)

    report = replace(
        report, conditions=all_bare(report.conditions), last_error=bare(report.last_error)
    )
    return _each(
        report,
        lambda part: replace(
            part, conditions=all_bare(part.conditions), last_error=bare(part.last_error)
        ),
    )


def _messages(report: v1.Reported) -> v1.Reported:
    return _each(
        report,
        lambda part: replace(
            part, last_error=part.last_error and replace(part.last_error, message="")
        ),
    )


def _conditions(report: v1.Reported) -> v1.Reported:
    return _each(replace(report, conditions=()), lambda part: replace(part, conditions=()))


def _quarantined(report: v1.Reported) -> v1.Reported:
    """What is wanted in vain says so itself, once it is tried."""
    return replace(report, quarantined=())


def _last_errors(report: v1.Reported) -> v1.Reported:
    return _each(report, lambda part: replace(part, last_error=None))


def _active(report: v1.Reported) -> v1.Reported:
    """What serves can be read from the phase where nothing else is being tried."""
    return _each(report, lambda part: replace(part, active=None))


def _each(
    report: v1.Reported, change: Callable[[v1.ReportedDeployment], v1.ReportedDeployment]
) -> v1.Reported:
    return replace(report, deployments=tuple(change(part) for part in report.deployments))


def _drift(event: v1.Event) -> v1.Event:
    health = event.health
    if health is None:
        return event
    parts = tuple(replace(part, drift=()) for part in health.deployments)
    return replace(event, health=replace(health, deployments=parts))


def _older_traces(document: v1.Desired) -> v1.Desired:
    newest = max((each.revision for each in document.deployments), default=0)
    return _without_traces(document, at_least=newest)


def _traces(document: v1.Desired) -> v1.Desired:
    return _without_traces(document, at_least=math.inf)


def _without_traces(document: v1.Desired, *, at_least: float) -> v1.Desired:
    deployments = tuple(
        each if each.revision >= at_least else replace(each, trace_id=None)
        for each in document.deployments
    )
    return replace(document, deployments=deployments)
