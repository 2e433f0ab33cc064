"""How rollouts and plans look on a terminal. Pure: lines from what the API answered."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.wire.words import age, size
from fleet import wording
from fleet.cli.marks import LABEL_COLUMNS, Column, Screen, visible
from fleet.marks import ASIDE_MARKS, MARKS, VERDICT_MARKS, Mark
from fleet.wording import before_steps, change, count, figure, percent, ref, short


def plan_lines(made: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return a plan: who, what, when, behind which gates, at what cost and risk."""
    steps, excluded = made["steps"], made["excluded"]
    away = sum(not step["online"] for step in steps)
    held = [step for step in steps if step["online"] and step["hold"] is not None]
    who = [f"{count(len(steps))} get it", f"{count(len(excluded))} do not"]
    brings = f"{change(made['bundle'], before_steps(steps))} as {made['deployment']}"
    lines = [
        _headed(f"Plan {short(made['digest'])}", f"{brings}, {made['policy']}", screen),
        *screen.field("WHO", who),
    ]
    if away:
        told = f"{count(away)} of them can't be reached: set aside, and gated when they return"
        lines += screen.told("", told)
    if held:
        told = f"{count(len(held))} of them held: set aside, and gated when released"
        lines += screen.told("", f"{told} {wording.named(held)}")
    for number, sentence, names in wording.left_out(excluded):
        lines += screen.told("", f"{count(number)}: {sentence} {names}")
    classes = Counter(step["class_name"] for step in steps)
    lines += screen.field("WHAT", [f"{count(n)} of {name}" for name, n in sorted(classes.items())])
    for said in wording.what_changes(made):
        lines += screen.told("", said)
    for number, each in enumerate(made["serving"]):
        lines += screen.told("" if number else "HOW", wording.serving(each))
    if made["waves"]:
        lines += screen.field("WAVES", _waves(made["waves"]))
        for number, gate in enumerate(wording.gates(made["waves"])):
            lines += screen.told("" if number else "GATES", gate)
    for number, limit in enumerate(wording.limits(made)):
        lines += screen.told("" if number else "LIMITS", limit)
    lines += screen.told("COST", wording.cost(made))
    lines += screen.told("RISK", wording.risk(made)) if steps else []
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
                step["name"] + wording.aside(step),
                waves[step["target"]],
                str(step["deployment"]["revision"]),
                "" if step["replaces"] is None else ref(step["replaces"]["bundle"]),
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
            change(rollout["bundle"], rollout["replaces"]),
            "" if rollout["wave"] is None else f"{rollout['wave']} of {rollout['wave_count']}",
            wording.counts(rollout),
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
    head = f"{found['id']}  {change(found['bundle'], found['replaces'])}"
    lines = [_headed(title, head, screen), *screen.field("", [who, *([live] if live else [])])]
    for number, sentence in enumerate(wording.why(found)):
        lines += screen.told("" if number else "WHY", sentence)
    for number, each in enumerate(found["serving"] if wording.special(found["serving"]) else []):
        lines += screen.told("" if number else "HOW", wording.serving(each))
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
            _because(target),
        ]
        for target in found["targets"]
    ]
    left = sum(found["counts"].values()) - len(rows)
    more = f"{count(left)} more targets: they are on the rollout's page, these here the worst first"
    return screen.table(columns, rows) + (screen.told("MORE", more) if left else [])


def why_lines(said: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return why a rollout or a target is no further, a paragraph a reason."""
    state = said["state"] if said["target"] is None else said["target_state"] or "not part of it"
    name = said["rollout"] if said["name"] is None else f"{said['name']} in {said['rollout']}"
    lines = [_headed(screen.state(MARKS.get(state, Mark.UNKNOWN), state), name, screen)]
    for because in said["because"]:
        by = f" Said by {because['by']}." if because["by"] else ""
        lines += screen.told("WHY", f"{because['sentence']}{by} ({because['code']})")
        lines += screen.told("Next", because["next"])
    return lines + trace_lines(said, screen)


def trace_lines(said: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return the id by which a rollout is found in the logs of centre and devices."""
    return screen.told("TRACE", said["trace_id"]) if said["trace_id"] else []


def mark_of(target: Mapping[str, Any]) -> Mark:
    """Return a target's mark: that it is set aside says more than where it was."""
    return ASIDE_MARKS.get(target["set_aside"] or "", MARKS[target["state"]])


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


def _headed(title: str, rest: str, screen: Screen) -> str:
    """Return a first line that doesn't wrap; `title` may have colours, and stays whole."""
    gap = "  "
    if screen.columns is not None:
        rest = screen.cut(rest, screen.columns - visible(title) - len(gap))
    return f"{title}{gap}{rest}"


def _waves(waves: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = [
        f"{wave['number']}  {wave['title']} ({'+' if wave['number'] > 1 else ''}"
        f"{count(len(wave['targets']))})"
        for wave in waves
    ]
    soaks = {wave["gate"]["soak_s"] for wave in waves if wave["gate"] is not None}
    return parts + ([f"soak {wording.soak(max(soaks))}"] if soaks else [])


def _wave(wave: Mapping[str, Any], screen: Screen) -> list[str]:
    good, total = wave["counts"].get("committed", 0), wave["targets"]
    begun = wave["state"] != "waiting"
    return [
        str(wave["number"]),
        screen.state(MARKS[wave["state"]], wave["state"]),
        wave["title"],
        f"{count(good)} of {count(total)}",
        screen.bar(good, total) if begun else " ",
        ", ".join(wording.others(wave)) or " ",
    ]


def _gate(found: Mapping[str, Any], screen: Screen) -> list[str]:
    """Return what the gate of the present wave wants and has seen."""
    wave = next((each for each in found["waves"] if each["number"] == found["wave"]), None)
    if wave is None or wave["gate"] is None or wave["judgement"] is None:
        return []
    gate, seen = wave["gate"], wave["judgement"]
    ended = seen["good"] + seen["bad"]
    total = ended + seen["under_way"]
    verdict = screen.state(VERDICT_MARKS[seen["verdict"]], seen["verdict"])
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
        [
            "ended",
            "all" if gate["everyone"] else f">= {gate['minimum_sample']}",
            count(ended),
            count(total),
            " ",
        ],
        *(row for each in seen["findings"] for row in _finding(each, screen)),
    ]
    return screen.table(columns, rows)


def _finding(said: Mapping[str, Any], screen: Screen) -> Iterator[list[str]]:
    """Return what a check wants and has seen; below it, of whom, and with what it was compared."""
    yield [
        said["check"],
        figure(said["limit"]),
        figure(said["observed"]),
        count(said["sample"]),
        screen.state(VERDICT_MARKS[said["outcome"]], said["outcome"]),
    ]
    where = f"on {said['class_name']}, " if said["class_name"] else ""
    yield [f"  {where}against {said['against']}", " ", " ", f">= {count(said['least'])}", " "]


def _because(target: Mapping[str, Any]) -> str:
    if target["reason"] is None:
        return target["so_far"] or ""
    return f"{target['reason']}: {target['sentence']}"


def _state(target: Mapping[str, Any]) -> str:
    aside = "" if target["set_aside"] is None else f", {wording.kept_by(target['set_aside'])}"
    again = ", to be asked again" if target["again_at"] else ""
    return f"{target['state']}{aside}{again}"
