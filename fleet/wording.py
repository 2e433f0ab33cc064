"""Numbers and sentences as people read them: the same on the terminal and on the page. Pure.

Sentences about rollouts and plans are made from what the API answers, as JSON, so that
nobody who shows them decides or counts anything again.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.wire import v1
from agent.wire.words import age, compared, latency, size, span

_NAMED = 3
_DIGITS = 12
"""As `fleet.rollouts.states.TO_RETURN`, which a test compares."""

_FAILED = ("rolled-back", "refused", "timed-out")


def count(number: int) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,}"


def percent(part: float, whole: float) -> str:
    """Return a share; 100 and 0 only where it is all or nothing."""
    if whole <= 0:
        return ""
    if part in (0, whole):
        return f"{100 * part / whole:.0f} %"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f} %"


def devices(number: int) -> str:
    """Return so many devices in words."""
    return "1 device" if number == 1 else f"{count(number)} devices"


def short(digest: str) -> str:
    """Return the digits of a digest that tell it from others."""
    return digest.removeprefix("sha256:")[:_DIGITS]


def ref(bundle: Mapping[str, Any]) -> str:
    """Return a bundle's name and version as commands take them."""
    return f"{bundle['name']}:{bundle['version']}"


def change(bundle: Mapping[str, Any] | None, before: Sequence[str], arrow: str = "->") -> str:
    """Return what goes to what: `digits 1.0.0 -> 1.1.0`."""
    if bundle is None:
        return "?"
    name, version = bundle["name"], bundle["version"]
    held = before[0] if len(before) == 1 else f"{len(before)} versions" if before else ""
    if held.startswith(f"{name}:"):
        return f"{name} {held.removeprefix(f'{name}:')} {arrow} {version}"
    return f"{held} {arrow} {name} {version}" if held else f"{name} {version}"


def before_steps(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what the targets of a plan have now, as `name:version`."""
    return sorted({ref(step["replaces"]["bundle"]) for step in steps if step["replaces"]})


def aside(step: Mapping[str, Any]) -> str:
    """Say behind a name why its step can't be asked of it now; nothing where it can."""
    if not step["online"]:
        return ", away"
    return "" if step["hold"] is None else f", held: {step['hold']}"


def named(those: Sequence[Mapping[str, Any]]) -> str:
    """Return the first few names, and how many more there are."""
    rest = f" and {count(len(those) - _NAMED)} more" if len(those) > _NAMED else ""
    return ", ".join(each["name"] for each in those[:_NAMED]) + rest


def left_out(excluded: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, str, str]]:
    """Tell who is left out by reason, the most frequent first: how many, why, who."""
    for reason, number in Counter(left["reason"] for left in excluded).most_common():
        here = [left for left in excluded if left["reason"] == reason]
        yield number, here[0]["sentence"], named(here)


def measured(found: Mapping[str, Any]) -> str:
    """Return a measurement, after the one before it: `accuracy 96.1 -> 96.8 % (int8, …) on …`."""
    share = found["name"] == "accuracy"

    def value(number: float) -> str:
        return f"{100 * number:.1f}" if share else f"{number:.4g}"

    before = "" if found["before"] is None else f"{value(found['before'])} -> "
    rows = f"{found['format']}, {found['dataset']}, n {count(found['samples'])}"
    said = f"{found['name']} {before}{value(found['after'])}{' %' if share else ''} ({rows})"
    return f"{said} on {found['runtime']}"


def difference(found: Mapping[str, Any]) -> Iterator[str]:
    """Say what a bundle means to the clients of the one before it, a line each."""
    before, changes = found["before"], found["changes"]
    if not changes:
        yield f"drop-in for {before}: clients ask and read as before"
        return
    yield f"contract changed from {before}: {count(len(changes))} that clients must know anew"
    for each in changes:
        yield f"{each['part']}: {each['before'] or 'not there'} -> {each['after'] or 'gone'}"


def what_changes(made: Mapping[str, Any]) -> Iterator[str]:
    """Say what a plan's bundle changes: for clients, and in what was measured, a line each."""
    for each in made["differences"]:
        yield from difference(each)
    yield from map(measured, made["measured"])


def serving(found: Mapping[str, Any]) -> str:
    """Say how so many targets of a rollout serve: what differs from the defaults, and who had it.

    `3 keep what they had: compared with what serves before they serve …`
    """
    told = [
        SETTINGS[name](value)
        for name, value in found["settings"].items()
        if value != _DEFAULTS.get(name)
    ]
    verb = "keep" if found["kept"] else "get"
    verb += "s" if found["targets"] == 1 else ""
    return f"{count(found['targets'])} {verb} {'; '.join(told) or 'the default settings'}"


def special(those: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether somebody serves with other settings than the defaults."""
    return any(each["settings"] != _DEFAULTS for each in those)


_DEFAULTS = asdict(v1.DeploymentSettings())


def _shadow(found: Mapping[str, Any]) -> str:
    share = "" if found["share"] == 1 else f"{100 * found['share']:g} % of "
    within = "" if found["tolerance"] is None else f" within {found['tolerance']:g}"
    return (
        f"a shadow: before it serves, it is compared on {share}live requests with what does; of "
        f"{count(found['requests'])}, {100 * found['agreement']:g} % must agree{within}, in at "
        f"most {span(found['limit_s'])}"
    )


def _values(found: Mapping[str, Any]) -> str:
    written = [f"{name} = {json.dumps(value)}" for name, value in sorted(found.items())]
    rest = f" and {count(len(written) - _NAMED)} more" if len(written) > _NAMED else ""
    return f"values {', '.join(each[:_VALUE_COLUMNS] for each in written[:_NAMED])}{rest}"


_VALUE_COLUMNS = 40

SETTINGS: Mapping[str, Callable[[Any], str]] = {
    "threads": lambda threads: "1 thread" if threads == 1 else f"{threads} threads",
    "workers": lambda workers: "1 worker" if workers == 1 else f"{workers} workers",
    "timeout_s": lambda seconds: f"calls end after {soak(seconds)}",
    "latency_budget_s": lambda seconds: f"refused above {latency(seconds)} a call",
    "memory_budget_bytes": lambda number: f"refused above {size(number)} of memory",
    "shadow": _shadow,
    "probation_s": lambda seconds: f"on trial for {soak(seconds)}",
    "values": _values,
}
"""What each setting of a deployment means, where it is not as by default."""


def soak(seconds: float) -> str:
    """Return a soak as it was asked for: minutes are exact from ten on."""
    return f"{seconds:g} s" if seconds < 600 else span(seconds)  # noqa: PLR2004  # ten minutes


def gates(waves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tell each different gate once, with the waves it is behind."""
    told: dict[str, list[str]] = {}
    for wave in waves:
        told.setdefault(wanted(wave["gate"]), []).append(str(wave["number"]))
    return [
        f"{want} (wave{'s' if len(numbers) > 1 else ''} {', '.join(numbers)})"
        for want, numbers in told.items()
    ]


def figure(number: float | None) -> str:
    """Return a measured number as people read it."""
    return "nothing" if number is None else f"{number:.4g}"


def wanted(gate: Mapping[str, Any] | None) -> str:
    """Return what a gate wants."""
    if gate is None:
        return "none: what is asked is asked"
    sample = "all" if gate["everyone"] else f"at least {gate['minimum_sample']}"
    approval = "; then a person's approval" if gate["approval"] else ""
    checks = "".join(f"; {each['check']}" for each in gate["checks"])
    return (
        f"committed >= {gate['success_percent']} %, failed <= {gate['error_percent']} %,"
        f" of {sample}, within {span(gate['deadline_s'])}{checks}{approval}"
    )


def risk(made: Mapping[str, Any]) -> str:
    """Say how many serve what a plan brings before anything has decided about it."""
    at_most, version = made["blast_radius"], ref(made["bundle"])
    who = f"{devices(at_most)} serve{'s' if at_most == 1 else ''}"
    if not any(wave["gate"] for wave in made["waves"]):
        return f"if {version} is bad, {who} it: no gate decides about anything"
    said = f"if {version} is bad, at most {who} it before a gate decides"
    later = {
        wave["exposed"]: wave["number"]
        for wave in reversed(made["waves"])
        if wave["exposed"] > at_most
    }
    told = [f"{count(each)} (wave {number})" for each, number in sorted(later.items())]
    return said + (f"; where only a later wave shows it: {', '.join(told)}" if told else "")


def cost(made: Mapping[str, Any]) -> str:
    """Say what all devices fetch, and at which sites most of it."""
    said = f"{size(made['fetch_bytes'])} fetched, all devices together"
    sites = [each for each in made["by_site"] if each["site"] is not None]
    told = [
        f"{each['site']} {size(each['fetch_bytes'])} ({devices(each['targets'])})"
        for each in sites[:_NAMED]
    ]
    rest = [f"and {count(len(sites) - _NAMED)} more sites"] if len(sites) > _NAMED else []
    return said + (f"; {', '.join(told + rest)}" if told else "")


def limits(made: Mapping[str, Any]) -> list[str]:
    """Say what else a policy holds a rollout to: budgets, and who is asked again."""
    said = [
        f"at most {count(each['targets'])} of each {each['label']} under way or down at once"
        if each["targets"] is not None
        else f"at most {each['percent']} % of each {each['label']} in reach under way or down "
        "at once"
        for each in made["budgets"]
    ]
    if (retry := made["retry"]) is not None:
        said.append(
            f"what may pass is asked again: {_times(retry['times'])}, after "
            f"{soak(retry['wait_s'])}, then twice as long, at most {soak(retry['longest_s'])}"
        )
    if (told := _ON_FAILURE.get(made["on_failure"])) is not None:
        said.append(told)
    return said


_ON_FAILURE = {
    "roll-back-in-waves": "if a gate fails, they go back in the waves in which they went",
    "pause": "if a gate fails, it pauses: who has it keeps it until you mend it",
}
"""What differs from what is usual: that all go back at once."""


def _times(number: int) -> str:
    return "once" if number == 1 else f"up to {number} times"


def why(found: Mapping[str, Any]) -> list[str]:
    """Tell why a rollout is no further; when a soak ends as a span, by the centre's clock."""
    said = []
    for because in found["because"]:
        by = f" Said by {because['by']}." if because["by"] else ""
        if because["code"] == "SOAKING":
            left = age(found["as_of"], because["parameters"]["until"])
            number = f"Wave {because['parameters']['wave']} of {found['wave_count']}"
            said.append(f"{number} is soaking: it decides in {left}, unless its gate fails.")
        else:
            said.append(because["sentence"] + by)
    return said


def others(wave: Mapping[str, Any]) -> list[str]:
    """Return how the targets of a wave are that don't serve it, and how many are away."""
    begun = wave["state"] != "waiting"
    told = [
        f"{count(number)} {state}"
        for state, number in wave["counts"].items()
        if state != "committed" and not (state == "planned" and not begun)
    ]
    if wave["set_aside"]:
        told.append(f"{count(wave['set_aside'])} of them set aside")
    return told


def counts(rollout: Mapping[str, Any]) -> str:
    """Return how many targets are in each state, and how many are away."""
    counted = [f"{count(each)} {state}" for state, each in rollout["counts"].items()]
    if rollout["set_aside"]:
        counted.append(f"{count(rollout['set_aside'])} of them set aside")
    return ", ".join(counted)


def consequence(word: str, found: Mapping[str, Any]) -> tuple[str, int]:
    """Say what a person's word would do to a rollout, and to how many devices."""
    if word == "rollback":
        return _return(found)
    planned = found["counts"].get("planned", 0)
    match word:
        case "pause":
            return f"{devices(planned)} not asked yet will wait.", planned
        case "retry":
            failed = sum(found["counts"].get(state, 0) for state in _FAILED)
            return f"{devices(failed)} that failed will be asked again.", failed
        case "approve" | "promote":
            told = f"Wave {found['wave']} passes."
            return f"{told} {devices(planned)} not asked yet may be asked.", planned
        case "resume":
            return f"{devices(planned)} not asked yet may be asked.", planned
        case _:
            return f"{devices(planned)} not asked yet will never be.", planned


def _return(found: Mapping[str, Any]) -> tuple[str, int]:
    """Say who would go back, to what, who to nothing, and who not before they can be reached."""
    back = found["returns"]
    said = [
        f"{devices(number)} {_go(number)} back to {version}."
        for version, number in back["to"].items()
    ]
    if without := back["to_nothing"]:
        name = found["deployment"]
        said.append(f"{devices(without)} will serve no {name}: nothing was there before.")
    if away := back["away"]:
        said.append(f"Of them {count(away)} can't be reached now, and {_go(away)} when back.")
    return " ".join(said) or "No device goes back: none has it.", without + sum(back["to"].values())


def _go(number: int) -> str:
    return "goes" if number == 1 else "go"


def used(health: Mapping[str, Any], name: str) -> str | None:
    """Return the share of memory or disk that is in use, in percent; None: it was not told."""
    total = health[f"{name}_total_bytes"]
    taken = health.get(f"{name}_used_bytes")
    free = health.get(f"{name}_free_bytes")
    if not total or (taken is None and free is None):
        return None
    return f"{100 * (taken if taken is not None else total - free) / total:.0f}"


_KEPT_BY = {"window": "before its window"}


def kept_by(word: str) -> str:
    """Return what keeps a target from going on, as people say it."""
    return _KEPT_BY.get(word, word)


_ASKED = {
    "join": "let it join",
    "publish": "published",
    "token.create": "made a token to join",
    "desired.put": "wrote what it is to serve",
    "rollout.start": "started",
    "rollout.pause": "paused",
    "rollout.resume": "resumed",
    "rollout.rollback": "rolled back",
    "rollout.abort": "aborted",
    "rollout.approve": "approved a wave",
    "rollout.promote": "let a wave pass early",
    "rollout.retry": "asked those again that failed",
    "policy.put": "wrote the policy",
    "policy.remove": "removed the policy",
    "device.export": "exported its document",
    "command.ask": "sent a command to",
    "alert.ack": "is on the alert",
    "alert.silence": "silenced",
    "alert.silence.end": "ended the silence",
    "alert.test": "sent a test to",
}


def asked(action: str) -> str:
    """Return an action of the audit as people say it; one that is not known, as it is."""
    return _ASKED.get(action, action)


def so_far(found: Mapping[str, Any], deployment: str) -> str:
    """Return how far a device's candidate is compared with what serves, as was last heard."""
    late, feels = found["health_late"], found["health"]
    shadows = [
        each["shadow"]
        for each in (feels["deployments"] if feels and not late else ())
        if each["name"] == deployment and each["shadow"]
    ]
    return compared(**shadows[0]) if shadows else ""


def has_a_line(moment: Mapping[str, Any]) -> bool:
    """Say whether a moment of a device's life is told in a line: that it was away is told once."""
    return not (moment["kind"] == "was" and moment["reason"] == "DISCONNECTED")
