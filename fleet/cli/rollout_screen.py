"""How rollouts and plans look on a terminal. Pure: lines from what the API answered."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fleet.cli.marks import (
    LABEL_COLUMNS,
    ROLLOUT_MARKS,
    Column,
    Mark,
    Screen,
    count,
    percent,
    visible,
)
from fleet.cli.screen import size
from fleet.clock import age, span

_NAMED = 3
_DIGITS = 12
MARKS: Mapping[str, Mark] = {
    **ROLLOUT_MARKS,
    # of waves
    "waiting": Mark.WAITING,
    "soaking": Mark.UPDATING,
    "inconclusive": Mark.PAUSED,
    "passed": Mark.OK,
    # of targets
    "asked": Mark.UPDATING,
    "updating": Mark.UPDATING,
    "returning": Mark.UPDATING,
    "committed": Mark.OK,
    "returned": Mark.OK,
    "refused": Mark.FAILING,
    "timed-out": Mark.FAILING,
    "not-returned": Mark.FAILING,
    "not-asked": Mark.OFFLINE,
}
"""How the states of rollouts, waves and targets are marked; one word has one mark."""

_VERDICTS = {
    "pending": Mark.UPDATING,
    "success": Mark.OK,
    "failure": Mark.FAILING,
    "inconclusive": Mark.PAUSED,
}
_ASIDE = {"offline": Mark.OFFLINE, "held": Mark.PAUSED}


def plan_lines(made: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return a plan: who, what, when, behind which gates, at what cost and risk."""
    steps, excluded = made["steps"], made["excluded"]
    away = sum(not step["online"] for step in steps)
    who = [f"{count(len(steps))} get it", f"{count(len(excluded))} do not"]
    change = f"{_change(made['bundle'], _before(steps))} as {made['deployment']}"
    lines = [
        _headed(f"Plan {short(made['digest'])}", f"{change}, {made['policy']}", screen),
        *screen.field("WHO", who),
    ]
    if away:
        told = f"{count(away)} of them can't be reached: set aside, and gated when they return"
        lines += screen.told("", told)
    for left in _grouped(excluded):
        lines += screen.told("", left)
    classes = Counter(step["class_name"] for step in steps)
    lines += screen.field("WHAT", [f"{count(n)} of {name}" for name, n in sorted(classes.items())])
    if made["waves"]:
        lines += screen.field("WAVES", _waves(made["waves"]))
        for number, gate in enumerate(_gates(made["waves"])):
            lines += screen.told("" if number else "GATES", gate)
    lines += screen.field("COST", [f"{size(made['fetch_bytes'])} fetched, all devices together"])
    lines += screen.told("RISK", _risk(made)) if steps else []
    for number, obstacle in enumerate(made["obstacles"]):
        said = f"{obstacle['sentence']} {obstacle['next']}"
        lines += screen.told("" if number else "STOPS", said)
    return lines


def plan_rows(made: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return a plan device by device."""
    waves = {target: str(wave["number"]) for wave in made["waves"] for target in wave["targets"]}
    lines: list[str] = []
    if made["steps"]:
        columns = [
            Column(title="target", name=True),
            Column(title="wave", right=True),
            Column(title="revision", right=True),
            Column(title="instead of", name=True),
            Column(title="fetches", right=True, spare=1),
            Column(title="class", name=True),
        ]
        rows = [
            [
                step["name"] + ("" if step["online"] else ", away"),
                waves[step["target"]],
                str(step["deployment"]["revision"]),
                "" if step["replaces"] is None else _ref(step["replaces"]["bundle"]),
                size(step["fetch_bytes"]),
                step["class_name"],
            ]
            for step in made["steps"]
        ]
        lines += screen.table(columns, rows)
    if made["excluded"]:
        columns = [Column(title="left out", name=True), Column(title="why", name=True)]
        rows = [[left["name"], left["message"] or left["sentence"]] for left in made["excluded"]]
        lines += screen.table(columns, rows)
    return lines


def list_lines(found: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return all rollouts, a row each."""
    columns = [
        Column(title="id"),
        Column(title="state"),
        Column(title="bundle", name=True),
        Column(title="wave", spare=3),
        Column(title="targets", name=True, spare=1),
        Column(title="started", right=True, spare=2),
    ]
    rows = [
        [
            rollout["id"],
            screen.state(MARKS[rollout["state"]], rollout["state"]),
            _change(rollout["bundle"], rollout["replaces"]),
            "" if rollout["wave"] is None else f"{rollout['wave']} of {rollout['wave_count']}",
            counts(rollout),
            age(rollout["created_at"], found["as_of"]),
        ]
        for rollout in found["rollouts"]
    ]
    return screen.table(columns, rows)


def rollout_lines(found: Mapping[str, Any], screen: Screen, *, live: str = "") -> list[str]:
    """Return one rollout without its targets: the header, why, the waves and the present gate."""
    reason = f', "{found["started_because"]}"' if found["started_because"] else ""
    begun = f"{age(found['created_at'], found['as_of'])} ago"
    who = f"by {found['started_by'] or '?'}, {begun}{reason}"
    title = screen.state(MARKS[found["state"]], found["state"])
    head = f"{found['id']}  {_change(found['bundle'], found['replaces'])}"
    lines = [_headed(title, head, screen), *screen.field("", [who, *([live] if live else [])])]
    for number, sentence in enumerate(_why(found)):
        lines += screen.told("" if number else "WHY", sentence)
    lines += screen.table(_WAVE_COLUMNS, [_wave(wave, screen) for wave in found["waves"]])
    return lines + _gate(found, screen)


_WAVE_COLUMNS = [
    Column(title="wave", right=True),
    Column(title="state"),
    Column(title="who", name=True),
    Column(title="serve it", right=True),
    Column(title=" ", spare=1),
    Column(title="others", name=True),
]


def target_lines(found: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return the targets of a rollout, a row each."""
    columns = [
        Column(title="target", name=True),
        Column(title="wave", right=True),
        Column(title="state"),
        Column(title="phase", spare=1),
        Column(title="since", right=True),
        Column(title="why", name=True),
    ]
    rows = [
        [
            target["name"],
            str(target["wave"]),
            screen.state(mark_of(target), _state(target)),
            target["phase"] or "",
            "" if target["since"] is None else age(target["since"], found["as_of"]),
            "" if target["reason"] is None else f"{target['reason']}: {target['sentence']}",
        ]
        for target in found["targets"]
    ]
    return screen.table(columns, rows)


def why_lines(said: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return why a rollout or a target is no further, a paragraph a reason."""
    state = said["state"] if said["target"] is None else said["target_state"] or "not part of it"
    name = said["rollout"] if said["name"] is None else f"{said['name']} in {said['rollout']}"
    lines = [_headed(screen.state(MARKS.get(state, Mark.UNKNOWN), state), name, screen)]
    for because in said["because"]:
        by = f" Said by {because['by']}." if because["by"] else ""
        lines += screen.told("WHY", f"{because['sentence']}{by} ({because['code']})")
        lines += screen.told("Next", because["next"])
    return lines


def mark_of(target: Mapping[str, Any]) -> Mark:
    """Return a target's mark: that it is set aside says more than where it was."""
    return _ASIDE.get(target["set_aside"] or "", MARKS[target["state"]])


def counts(rollout: Mapping[str, Any]) -> str:
    """Return how many targets are in each state, and how many are away."""
    counted = [f"{count(each)} {state}" for state, each in rollout["counts"].items()]
    if rollout["set_aside"]:
        counted.append(f"{count(len(rollout['set_aside']))} away")
    return ", ".join(counted)


def command_lines(label: str, words: Sequence[str], screen: Screen) -> list[str]:
    """Return a command to be copied, in as many lines as it takes: a shell joins them again."""
    quoted = [shlex.quote(word) for word in words]
    if screen.columns is None:
        return [f"{label:<{LABEL_COLUMNS}}{' '.join(quoted)}"]
    room = screen.columns - LABEL_COLUMNS - len(" \\")
    lines: list[str] = []
    for word in quoted:
        if lines and len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    labels = [label, *[""] * (len(lines) - 1)]
    ends = [*[" \\"] * (len(lines) - 1), ""]
    return [
        f"{name:<{LABEL_COLUMNS}}{line}{end}"
        for name, line, end in zip(labels, lines, ends, strict=True)
    ]


def devices(number: int) -> str:
    """Return so many devices in words."""
    return "1 device" if number == 1 else f"{count(number)} devices"


def short(digest: str) -> str:
    """Return the digits of a digest that tell it from others."""
    return digest.removeprefix("sha256:")[:_DIGITS]


def _headed(title: str, rest: str, screen: Screen) -> str:
    """Return a first line that doesn't wrap; `title` may have colours, and stays whole."""
    gap = "  "
    if screen.columns is not None:
        rest = screen.cut(rest, screen.columns - visible(title) - len(gap))
    return f"{title}{gap}{rest}"


def _ref(bundle: Mapping[str, Any]) -> str:
    return f"{bundle['name']}:{bundle['version']}"


def _before(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({_ref(step["replaces"]["bundle"]) for step in steps if step["replaces"]})


def _change(bundle: Mapping[str, Any] | None, before: Sequence[str]) -> str:
    """Return what goes to what: `digits 1.0.0 -> 1.1.0`."""
    if bundle is None:
        return "?"
    name, version = bundle["name"], bundle["version"]
    held = before[0] if len(before) == 1 else f"{len(before)} versions" if before else ""
    if held.startswith(f"{name}:"):
        return f"{name} {held.removeprefix(f'{name}:')} -> {version}"
    return f"{held} -> {name} {version}" if held else f"{name} {version}"


def _grouped(excluded: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Tell who is left out by reason, the most frequent first."""
    for reason, number in Counter(left["reason"] for left in excluded).most_common():
        here = [left for left in excluded if left["reason"] == reason]
        names = ", ".join(left["name"] for left in here[:_NAMED])
        rest = f" and {count(number - _NAMED)} more" if number > _NAMED else ""
        yield f"{count(number)}: {here[0]['sentence']} {names}{rest}"


def _waves(waves: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = [
        f"{wave['number']}  {wave['title']} ({'+' if wave['number'] > 1 else ''}"
        f"{count(len(wave['targets']))})"
        for wave in waves
    ]
    soaks = {wave["gate"]["soak_s"] for wave in waves if wave["gate"] is not None}
    return parts + ([f"soak {_soak(max(soaks))}"] if soaks else [])


def _soak(seconds: float) -> str:
    """Return a soak as it was asked for: minutes are exact from ten on."""
    return f"{seconds:g} s" if seconds < 600 else span(seconds)  # noqa: PLR2004  # ten minutes


def _gates(waves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tell each different gate once, with the waves it is behind."""
    told: dict[str, list[str]] = {}
    for wave in waves:
        told.setdefault(_wanted(wave["gate"]), []).append(str(wave["number"]))
    return [
        f"{wanted} (wave{'s' if len(numbers) > 1 else ''} {', '.join(numbers)})"
        for wanted, numbers in told.items()
    ]


def _wanted(gate: Mapping[str, Any] | None) -> str:
    if gate is None:
        return "none: what is asked is asked"
    return (
        f"committed >= {gate['success_percent']} %, failed <= {gate['error_percent']} %,"
        f" of at least {gate['minimum_sample']}, within {span(gate['deadline_s'])}"
    )


def _risk(made: Mapping[str, Any]) -> str:
    at_most, version = made["blast_radius"], _ref(made["bundle"])
    who = f"{devices(at_most)} serve{'s' if at_most == 1 else ''}"
    if not any(wave["gate"] for wave in made["waves"]):
        return f"if {version} is bad, {who} it: no gate decides about anything"
    return f"if {version} is bad, at most {who} it before a gate decides"


def _why(found: Mapping[str, Any]) -> list[str]:
    """Tell why it is no further; when a soak ends is told as a span, by the centre's clock."""
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


def _wave(wave: Mapping[str, Any], screen: Screen) -> list[str]:
    good, total = wave["counts"].get("committed", 0), wave["targets"]
    begun = wave["state"] != "waiting"
    others = [
        f"{count(number)} {state}"
        for state, number in wave["counts"].items()
        if state != "committed" and not (state == "planned" and not begun)
    ]
    if wave["set_aside"]:
        others.append(f"{count(wave['set_aside'])} away")
    return [
        str(wave["number"]),
        screen.state(MARKS[wave["state"]], wave["state"]),
        wave["title"],
        f"{count(good)} of {count(total)}",
        screen.bar(good, total) if begun else " ",
        ", ".join(others) or " ",
    ]


def _gate(found: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return what the gate of the present wave wants and has seen."""
    wave = next((each for each in found["waves"] if each["number"] == found["wave"]), None)
    if wave is None or wave["gate"] is None or wave["judgement"] is None:
        return []
    gate, seen = wave["gate"], wave["judgement"]
    ended = seen["good"] + seen["bad"]
    total = ended + seen["under_way"]
    verdict = screen.state(_VERDICTS[seen["verdict"]], seen["verdict"])
    columns = [
        Column(title="gate"),
        Column(title="want"),
        Column(title="seen"),
        Column(title="of", right=True),
        Column(title="verdict"),
    ]
    rows = [
        [
            "committed",
            f">= {gate['success_percent']} %",
            percent(seen["good"], ended),
            count(ended),
            verdict,
        ],
        ["failed", f"<= {gate['error_percent']} %", percent(seen["bad"], total), count(total), " "],
        ["ended", f">= {gate['minimum_sample']}", count(ended), count(total), " "],
    ]
    return screen.table(columns, rows)


def _state(target: Mapping[str, Any]) -> str:
    aside = "" if target["set_aside"] is None else f", {target['set_aside']}"
    return f"{target['state']}{aside}"
