"""`skerry doctor`: look for what is wrong with a centre, and say what to do."""

import importlib.metadata
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import typer

from fleet import clock
from fleet.checkup import centre as of_centre
from fleet.checkup import devices, disk, receivers, registry, store, trust
from fleet.checkup.centre import Asked
from fleet.checkup.finding import Finding, Verdict, not_tried, wrong
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre
from fleet.cli.screen import Color, CommandError, ExitCode, Output, print_json
from fleet.identity.places import Home
from fleet.marks import Mark
from fleet.wording import count

app = typer.Typer(add_completion=False)

_MARKS = {
    Verdict.OK: Mark.OK,
    Verdict.WARNING: Mark.DEGRADED,
    Verdict.WRONG: Mark.FAILING,
    Verdict.NOT_TRIED: Mark.UNKNOWN,
}
_COLUMNS = 12
_T = TypeVar("_T")


@app.command()
@at_centre
def doctor(
    centre: CentreOptions,
    *,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Look for what is wrong with a centre, and say what to do. Nothing is changed.

    Beside the centre its home is looked at, too, whether it runs or not. The exit code is 1
    when something is wrong; a warning is not.
    """
    screen = Screen.of(sys.stdout, os.environ, color)
    found = []
    for each in examine(centre):
        found.append(each)
        if output is Output.TABLE:
            show(lines(screen, each))
            sys.stdout.flush()
    bad = sum(each.verdict is Verdict.WRONG for each in found)
    if output is Output.JSON:
        checks = [
            {
                "check": each.check,
                "verdict": each.verdict.value,
                "what": each.what,
                "why": each.why,
                "next": each.hint,
            }
            for each in found
        ]
        print_json("skerry.doctor/1", {"ok": not bad, "checks": checks})
    else:
        show([summary(found)])
    if bad:
        raise typer.Exit(ExitCode.BAD)


def examine(centre: CentreOptions) -> Iterator[Finding]:
    """Do all checks: first of the home, where it is here, then of the centre that runs."""
    home, now = Home(centre.home), clock.now()
    here = not centre.url and any(
        os.path.lexists(each) for each in (home.trust, home.store, home.operator_token)
    )
    where = "".join(f" {shlex.quote(word)}" for word in centre.typed())
    kept = None
    if here:
        yield disk.look(home.path)
        yield from trust.look(home, now)
        whole, kept = store.look(home.store, now)
        yield whole
        yield from registry.look(home, kept, where)
    else:
        why = "another centre is named" if centre.url else f"no centre's home at {home.path}"
        yield not_tried("home", f"{why}: disk, trust, store and registry are not looked at")
    asked = yield from _running(centre, home if here else None, where)
    if asked is not None:
        yield from _told(centre)
    yield from devices.judge(kept, asked)


def _running(
    centre: CentreOptions, home: Home | None, where: str
) -> Generator[Finding, None, Asked | None]:
    try:
        asked = _ask(centre, where)
    except CommandError as error:
        yield _unanswered(home, error) or wrong("centre", error.what, error.why, error.next_step)
        yield not_tried("broker", "it needs the centre")
        return None
    except ValueError as error:
        hint = "check the address: --centre or SKERRY_CENTRE"
        yield wrong("centre", "what is asked there is no centre", str(error), hint)
        yield not_tried("broker", "it needs the centre")
        return None
    yield from of_centre.centre(asked, importlib.metadata.version("skerry"))
    url = None if home is None else _said(home.running, "broker_url", str)
    strangers = None if home is None or url is None else of_centre.strangers(url, str(home.ca))
    yield of_centre.broker(asked, url, strangers_in=strangers)
    return asked


def _told(centre: CentreOptions) -> Iterator[Finding]:
    """Look who is told of alerts, where the centre that runs knows of alerts."""
    try:
        with centre.connect() as api:
            yield from receivers.judge(api.get("api", "v1", "alerts", "receivers"))
    except (CommandError, ValueError) as error:
        yield not_tried("alerts", f"the centre does not say who is told: {error}")


def _unanswered(home: Home | None, error: CommandError) -> Finding | None:
    if home is None or not error.why.startswith("UNREACHABLE"):
        return None
    return of_centre.unanswered(
        home.path,
        error.why,
        running=of_centre.runs(home.lock) is True,
        pid=_said(home.running, "pid", int),
    )


def _ask(centre: CentreOptions, where: str) -> Asked:
    with centre.connect() as api:
        began = time.monotonic()  # noqa: TID251  # a command of its own: there is no loop
        healthy = api.get("healthz")
        took_s = time.monotonic() - began  # noqa: TID251  # as above
        fleet = api.get("api", "v1", "fleet")
        now = clock.now()
        return Asked.read(
            healthy=healthy,
            fleet=fleet,
            unheard=api.get("api", "v1", "devices", query={"field": "state=unknown"}),
            url=api.url,
            where=where,
            took_s=took_s,
            now=now,
        )


def _said(running: Path, name: str, kind: Callable[[Any], _T]) -> _T | None:
    """Return what a centre said when it was ready; None: it ended well, or never was."""
    try:
        return kind(json.loads(running.read_text(encoding="utf-8"))[name])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lines(screen: Screen, found: Finding) -> Iterator[str]:
    """Return a finding for people."""
    mark = screen.state(_MARKS[found.verdict], found.check)
    yield from screen.told(mark, found.what, indent=_COLUMNS)
    for text in filter(None, [found.why, f"next: {found.hint}" if found.hint else ""]):
        yield from screen.told("", text, indent=_COLUMNS)


def summary(found: list[Finding]) -> str:
    """Return how many of what there are."""
    bad = sum(each.verdict is Verdict.WRONG for each in found)
    soon = sum(each.verdict is Verdict.WARNING for each in found)
    if not bad and not soon:
        return "Nothing is wrong."
    said = [
        f"{count(number)} {word}{'s' if number > 1 else ''}"
        for number, word in ((bad, "problem"), (soon, "warning"))
        if number
    ]
    return f"{', '.join(said)}."
