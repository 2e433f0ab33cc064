"""`skerry fleet health`: how well the fleet serves and how far it drifts, by what is asked."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from agent.wire.words import latency
from fleet.cli.marks import Column, Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre
from fleet.cli.screen import Color, Output, note, print_json
from fleet.marks import Mark
from fleet.wording import count, devices

_LIMIT = 1000
_TOLD_APART = {
    "deployment": "deployment",
    "bundle": "bundle",
    "revision": "revision",
    "class": "class_name",
    "site": "site",
}
"""What `--by` takes, and where the answer has it."""


@at_centre
def health(
    centre: CentreOptions,
    *,
    by: Annotated[
        str,
        typer.Option("--by", help="Tell apart by deployment, bundle, revision, class, site."),
    ] = "deployment,bundle,class",
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show requests, errors, latency and drift, added up: a verdict, a row a group, and why."""
    with centre.connect() as api:
        query = {"by": by, "limit": str(_LIMIT)}
        found = api.get("api", "v1", "fleet", "health", query=query)
    if output is Output.JSON:
        print_json("skerry.fleet-health/1", found)
        return
    show(lines(Screen.of(sys.stdout, os.environ, color), found))
    if found["after"] is not None:
        note(f"Only the first {count(_LIMIT)} groups are shown; tell fewer things apart: --by")


def lines(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the screen of a health document."""
    whole = found["total"]
    groups = found["groups"]
    worst = next((each for each in (*groups, whole) if each["state"] == "degraded"), whole)
    yield from screen.field("", [_state(screen, worst), *_whole(whole)], indent=0)
    if not groups:
        yield from screen.told("", whole["sentence"], indent=0)
        return
    parts = found["by"]
    columns = [
        Column(title="state"),
        *(Column(title=part, name=part != "revision", right=part == "revision") for part in parts),
        Column(title="devices", right=True, spare=4),
        Column(title="req/s", right=True, spare=2),
        Column(title="errors", right=True, spare=1),
        Column(title="p50", right=True, spare=5),
        Column(title="p95", right=True),
        Column(title="p99", right=True, spare=3),
        Column(title="drift"),
    ]
    yield from screen.table(columns, [_row(screen, each, parts) for each in groups])
    for each in (group for group in groups if group["reason"] is not None):
        who = ", ".join(filter(None, (_part(each, part) for part in parts))) or "all of it"
        yield from screen.told("WHY", f"{who}: {each['sentence']} ({each['reason']})")
        yield from screen.told("Next", each["next"])


def drift(drifts: list[Mapping[str, Any]]) -> str:
    """Return how far some bundles are from their references: the worst, in a few words."""
    levels = ("alarm", "watch", "ok")
    found = [
        (levels.index(subject["level"]), -subject["psi"])
        for bundle in drifts
        for subject in bundle["subjects"]
        if subject["psi"] is not None
    ]
    if not found:
        return "too few" if drifts else ""
    level, psi = min(found)
    return f"{levels[level]} {-psi:.2f}"


def _whole(whole: Mapping[str, Any]) -> Iterator[str]:
    yield devices(whole["devices"])
    yield f"{_rate(whole['per_s'])} requests a second"
    yield f"errors {count(whole['errors'])} of {count(whole['requests'])}"
    for name in ("p50", "p95", "p99"):
        measured = latency(whole[f"{name}_s"])
        if measured:
            yield f"{name} {measured}"
    drifted = drift(whole["drift"])
    if drifted:
        yield f"drift {drifted}"


def _row(screen: Screen, group: Mapping[str, Any], parts: list[str]) -> list[str]:
    return [
        _state(screen, group),
        *(_part(group, part) for part in parts),
        count(group["devices"]),
        _rate(group["per_s"]),
        count(group["errors"]),
        latency(group["p50_s"]),
        latency(group["p95_s"]),
        latency(group["p99_s"]),
        drift(group["drift"]),
    ]


def _state(screen: Screen, group: Mapping[str, Any]) -> str:
    return screen.state(Mark(group["state"]), group["state"])


def _part(group: Mapping[str, Any], part: str) -> str:
    told = str(group[_TOLD_APART[part]])
    return f"{told} {group['version']}".strip() if part == "bundle" else told


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"  # noqa: PLR2004  # three digits
