"""Why a device is as it is, in lines: the same on the terminal and on the page. Pure.

They are made from what the API answered (`/api/v1/devices/{device}/why`), as JSON, so that
nobody who shows them decides or counts anything again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agent.wire.words import age
from fleet import wording
from fleet.transitions import happened

QUIET = frozenset(
    {"", "Nothing.", "Wait.", "Nothing: wait.", "Nothing left to do.", "Wait for its next word."}
)
"""Next steps that are none: nobody has to do anything."""

_WAITS = "WAITS_FOR_WAVE"
_CALM = ("ok", "updating", "waiting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One reason, with its code and the next step; a label of nothing goes on with the one before.

    `about` is the rollout or the alert that it is about. A line with a `trace` has no more: the
    lines before it are about what the logs have under this id.
    """

    label: str = ""
    text: str = ""
    code: str = ""
    next: str = ""
    about: str = ""
    trace: str = ""


def is_calm(said: Mapping[str, Any]) -> bool:
    """Tell whether a device is as wanted, or on its way there: no person has to look."""
    return said["state"]["word"] in _CALM


def lines(said: Mapping[str, Any]) -> Iterator[Line]:
    """Return all that is said of a device; each next step once, and none that is none."""
    known: set[str] = set()
    for line in _every(said):
        step = "" if line.next in QUIET | known else line.next
        known.add(step)
        yield replace(line, next=step)


def _every(said: Mapping[str, Any]) -> Iterator[Line]:
    state = said["state"]
    yield Line(label="WHY", text=state["sentence"], code=state["reason"], next=state["next"])
    when = "when last heard, " if state["was"] is not None else ""
    for number, each in enumerate(said["also"]):
        about = f"{each['subject']}: " if each["subject"] else ""
        text = f"{when}{each['state']}: {about}{each['sentence']}"
        yield Line(label="" if number else "ALSO", text=text, code=each["code"], next=each["next"])
    for each in said["deployments"]:
        yield from _deployment(each, state["reason"])
    for each in said["rollouts"]:
        yield from _rollout(each)
    if said["more_rollouts"]:
        yield Line(text="And older rollouts that are open: skerry rollout ls.")
    for number, each in enumerate(said["alerts"]):
        text = f"{each['severity']}: {each['title']} Open {age(each['opened_at'], said['as_of'])}."
        step = f"skerry alert show {each['id']}"
        yield Line(label="" if number else "ALERT", text=text, about=each["id"], next=step)
    for number, each in enumerate(said["drift"]):
        yield Line(label="" if number else "DRIFT", text=_drift(each, said["as_of"]))
    last = said["last"]
    if last is not None:
        at = last["at"][:19].replace("T", " ")
        yield Line(label="LAST", text=f"{at} UTC, {happened(last)}")
        yield from _trace(last)


def _deployment(each: Mapping[str, Any], known: str) -> Iterator[Line]:
    """Return what is wanted and what serves; a reason that is that of the state was said."""
    because = each["because"]
    wanted = f"{_named(each['wanted'])} (revision {each['revision']})" if each["wanted"] else ""
    if each["as_wanted"]:
        yield Line(label="WANT", text=f"{each['name']}: {wanted} is wanted, and serves.")
        return
    serves = f"{_named(each['serves'])} serves" if each["serves"] else "nothing serves"
    far = f"; revision {each['reached']} is {each['phase']}" if each["phase"] else ""
    yield Line(
        label="WANT",
        text=f"{each['name']}: {wanted or 'nothing'} is wanted, {serves}{far}.",
        code=because[0]["code"] if because[0]["code"] == known else "",
    )
    yield from _reasons(each for each in because if each["code"] != known)


def _rollout(each: Mapping[str, Any]) -> Iterator[Line]:
    brings = wording.change(each["bundle"], each["replaces"])
    if each["wave"] is None:
        where = "it is left out"
    else:
        aside = f", set aside: {wording.kept_by(each['set_aside'])}" if each["set_aside"] else ""
        wave = f"in wave {each['wave']} of {each['wave_count']}, which is {each['wave_state']}"
        where = f"{each['target_state']} {wave}{aside}"
    text = f"{each['rollout']} ({each['state']}), {brings}: {where}."
    yield Line(label="ROLLOUT", text=text, about=each["rollout"])
    for line in _reasons(each["because"]):
        # What it says to look up follows at once.
        told = line.code == _WAITS and each["waits_for"]
        yield replace(line, next="") if told else line
    yield from _reasons(each["waits_for"])
    yield from _trace(each)


def _trace(each: Mapping[str, Any]) -> Iterator[Line]:
    if each["trace_id"]:
        yield Line(label="TRACE", trace=each["trace_id"])


def _reasons(because: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    for each in because:
        by = f" Said by {each['by']}." if each["by"] else ""
        yield Line(text=f"{each['sentence']}{by}", code=each["code"], next=each["next"])


def _drift(each: Mapping[str, Any], now: str) -> str:
    far = [
        f"{part['subject']} has a PSI of {part['psi']:.2f} of {wording.count(part['requests'])}"
        for part in each["subjects"]
        if part["psi"] is not None and part["level"] == each["level"]
    ]
    name = f"{each['bundle']} {each['version']}".strip()
    return f"{name}: {each['level']} for {age(each['since'], now)}; {', '.join(far)} requests."


def _named(bundle: Mapping[str, Any]) -> str:
    return f"{bundle['name']} {bundle['version'] or wording.short(bundle['digest'])}"
