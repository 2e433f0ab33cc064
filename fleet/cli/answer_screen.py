"""What a device answered, drawn: the doctor's findings, what a model's worker measured. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent.wire.v1 import Verb
from agent.wire.words import latency, size
from fleet.cli.marks import Column, Screen
from fleet.marks import Mark
from fleet.sentences import explain

_CHECK_COLUMNS = 23

_FOUND = {"ok": Mark.OK, "wrong": Mark.FAILING, "not tried": Mark.UNKNOWN}
_ENDED = {
    "waiting": Mark.WAITING,
    "failed": Mark.FAILING,
    "refused": Mark.PAUSED,
    "expired": Mark.OFFLINE,
}


def drawn(screen: Screen, verb: str, document: Mapping[str, Any]) -> Iterator[str]:
    """Return a device's own document, verdict first.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not as it should be.
    """
    if verb == Verb.DOCTOR:
        for each in document["checks"]:
            yield from _check(screen, each)
        return
    for each in document["deployments"]:
        yield from _model(screen, each)
    cost = document["cost"]
    yield from screen.field(
        "COST",
        [
            f"{cost['wall_s']:.1f} s",
            f"{cost['cpu_s']:.1f} s of computing, behind all else",
            f"load {cost['load_before']:.2f} on {cost['cores']} cores before",
        ],
    )


def listed(screen: Screen, asked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each device that was asked, answered or not."""
    columns = [
        Column(title="how"),
        Column(title="name", name=True),
        Column(title="answer", name=True),
        Column(title="command", spare=1),
    ]
    return screen.table(columns, [_row(screen, each) for each in asked])


def _row(screen: Screen, asked: Mapping[str, Any]) -> list[str]:
    status, problem = asked["status"], asked["problem"]
    word = asked["answer"].get("verdict", status) if status == "done" else status
    mark = _FOUND.get(word, Mark.UNKNOWN) if status == "done" else _ENDED[status]
    told = asked["answer"].get("summary", "")
    if problem is not None:
        told = f"{problem['reason']}: {problem['message']}" + (f" - {told}" if told else "")
    elif status == "waiting":
        told = f"it may answer until {asked['expires_at']}"
    return [screen.state(mark, word), asked["name"], told, asked["id"]]


def _check(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    verdict = str(found["verdict"])
    mark = screen.state(_FOUND.get(verdict, Mark.UNKNOWN), verdict)
    # The mark's colour takes no columns.
    label = f"{mark}{' ' * (11 - len(verdict))}{found['check']!s:8}"
    yield from screen.told(label, str(found["what"]), indent=_CHECK_COLUMNS)
    for each in (found["why"], f"next: {found['hint']}" if found["hint"] else ""):
        if each:
            yield from screen.told("", str(each), indent=_CHECK_COLUMNS)


def _model(screen: Screen, each: Mapping[str, Any]) -> Iterator[str]:
    good = each["reason"] is None
    bundle = f"{each['bundle']['name']} {each['bundle']['version']}"
    yield from screen.field(
        "",
        [
            screen.state(Mark.OK if good else Mark.FAILING, str(each["name"])),
            f"{bundle}, revision {each['revision']}",
            f"{each['format']} on {each['accelerator']}, threads: {each['threads']}",
        ],
        indent=0,
    )
    if not good:
        said = explain(str(each["reason"]))
        yield from screen.told("WHY", f"{said.meaning} ({each['reason']}: {each['message']})")
        yield from screen.told("Next", said.next_step)
        return
    golden = f"{each['agreed']} of {each['vectors']} vectors agree"
    worst = ", ".join(f"{float(error):.3g}" for error in each["largest_errors"])
    yield from screen.field("GOLDEN", [golden, f"largest errors {worst}"] if worst else [golden])
    if each["latency_p50_s"] is not None:
        yield from screen.field("LATENCY", _latency(each))
        yield from screen.field("MEMORY", [size(int(each["memory_bytes"]))])


def _latency(each: Mapping[str, Any]) -> Iterator[str]:
    now_s, chosen_s = float(each["latency_p50_s"]), each["chosen_latency_p50_s"]
    yield f"p50 {latency(now_s)}"
    if chosen_s:
        yield f"{latency(float(chosen_s))} when it was chosen"
        yield f"{now_s / float(chosen_s):.2g} times that"
    if each["reference"] == "agrees":
        yield "agrees with the CPU"
