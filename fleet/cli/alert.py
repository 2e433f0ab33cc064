"""`skerry alert ls | show | ack | silence | rules | test`: what is wrong, and who is told."""

import os
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from agent.wire.words import age, span
from fleet.alerts.cause import Severity
from fleet.cli.marks import Column, Screen, labelled, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre, seconds
from fleet.cli.screen import Color, CommandError, ExitCode, Output, note, print_json
from fleet.marks import SEVERITY_MARKS, Mark

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Alerts: list, show, ack, silence."
)

_LIMIT = 500
_COLUMNS = 12
_RANK = {severity: number for number, severity in enumerate(Severity)}


class Which(StrEnum):
    """Which alerts."""

    OPEN = "open"
    ENDED = "ended"
    ALL = "all"


AlertArgument = Annotated[str, typer.Argument(help="Its id: skerry alert ls.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the audit.")]


@app.command()
@at_centre
def ls(
    centre: CentreOptions,
    *,
    state: Annotated[Which, typer.Option("--state", help="Which ones.")] = Which.OPEN,
    rule: Annotated[str, typer.Option("--rule", help="Only those of this rule.")] = "",
    severity: Annotated[
        Severity | None, typer.Option("--severity", help="Only those as severe as this.")
    ] = None,
    site: Annotated[str, typer.Option("--site", help="Only those of this site.")] = "",
    bundle: Annotated[
        str, typer.Option("--bundle", help="Only those of this bundle: name or name:version.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=_LIMIT, help="At most.")] = 100,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """List alerts, the most severe first, and who is not told because they can't be."""
    asked = {
        "state": state.value,
        "rule": rule,
        "severity": severity or "",
        "site": site,
        "bundle": bundle,
        "limit": str(limit),
    }
    query = {name: text for name, text in asked.items() if text}
    with centre.connect() as api:
        found = api.get("api", "v1", "alerts", query=query)
    if output is Output.JSON:
        print_json("skerry.alerts/1", found)
        return
    show(listed(Screen.of(sys.stdout, os.environ, color), found))
    if found["next"] is not None:
        note(f"there are older ones: --limit N, at most {_LIMIT}")


@app.command("show")
@at_centre
def show_alert(
    centre: CentreOptions,
    alert: AlertArgument,
    *,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show one alert: what is wrong, where and why, what to do, and what happened to it."""
    with centre.connect() as api:
        found = api.get("api", "v1", "alerts", alert)
    if output is Output.JSON:
        print_json("skerry.alert/1", found)
        return
    show(shown(Screen.of(sys.stdout, os.environ, color), found))


@app.command()
@at_centre
def ack(
    centre: CentreOptions,
    alert: AlertArgument,
    *,
    reason: ReasonOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Say that you are on it: nobody is told that it grows, only that it ends."""
    with centre.connect() as api:
        found = api.post("api", "v1", "alerts", alert, "ack", body={"reason": reason})
    if output is Output.JSON:
        print_json("skerry.alert/1", found)
        return
    note(f"acknowledged: {found['title']}")


@app.command()
@at_centre
def silence(
    centre: CentreOptions,
    *,
    rule: Annotated[str, typer.Option("--rule", help="Alerts of this rule.")] = "",
    site: Annotated[str, typer.Option("--site", help="Alerts of this site.")] = "",
    bundle: Annotated[
        str, typer.Option("--bundle", help="Alerts of this bundle: name or name:version.")
    ] = "",
    lasts: Annotated[
        str, typer.Option("--for", help="For how long: 30m, 4h, 7d; thirty days at most.")
    ] = "",
    end: Annotated[str, typer.Option("--end", help="End the silence with this id.")] = "",
    reason: ReasonOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Tell nobody of some alerts for a while; without options, list what is silenced."""
    wish = {"rule": rule or None, "site": site or None, "bundle": bundle or None}
    with centre.connect() as api:
        if end:
            found = api.post("api", "v1", "alerts", "silences", end, "end", body={"reason": reason})
        elif any(wish.values()):
            if not (lasts and reason):
                raise CommandError(
                    "a silence needs an end and a reason",
                    "USAGE",
                    "say both: --for 4h --reason 'the mast is moved'",
                    ExitCode.USAGE,
                )
            body = {**wish, "for_s": seconds(lasts), "reason": reason}
            found = api.post("api", "v1", "alerts", "silences", body=body)
        else:
            found = api.get("api", "v1", "alerts", "silences")
    if output is Output.JSON:
        print_json("skerry.silences/1" if "silences" in found else "skerry.silence/1", found)
        return
    if "silences" in found:
        show(silenced(Screen.of(sys.stdout, os.environ, Color.NEVER), found))
    elif end:
        note(f"ended: {found['id']}")
    else:
        note(f"silenced until {found['until']}; sooner: skerry alert silence --end {found['id']}")


@app.command()
@at_centre
def rules(
    centre: CentreOptions, *, output: OutputOption = Output.TABLE, color: ColorOption = Color.AUTO
) -> None:
    """List the rules: when each fires, how severe it is, and how many alerts it has open."""
    with centre.connect() as api:
        found = api.get("api", "v1", "alerts", "rules")
    if output is Output.JSON:
        print_json("skerry.alert.rules/1", found)
        return
    show(ruled(Screen.of(sys.stdout, os.environ, color), found))


@app.command("test")
@at_centre
def try_receiver(
    centre: CentreOptions,
    receiver: Annotated[
        str, typer.Argument(help="Which one: its name in receivers.toml; none: list them.")
    ] = "",
    *,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Send a test to a receiver now; without one, list who is told, and how it goes."""
    with centre.connect() as api:
        if not receiver:
            found = api.get("api", "v1", "alerts", "receivers")
        else:
            found = api.post("api", "v1", "alerts", "receivers", receiver, "test", body={})
    if output is Output.JSON:
        schema = "skerry.receiver.test/1" if receiver else "skerry.receivers/1"
        print_json(schema, found)
    elif not receiver:
        show(receivers(Screen.of(sys.stdout, os.environ, color), found))
    elif found["taken"]:
        note(f"{receiver} has taken the test")
    if receiver and not found["taken"]:
        raise CommandError(
            f"{receiver} has not taken the test",
            f"RECEIVER: {found['error']}",
            "look at receivers.toml in the centre's home, and at the receiver",
            ExitCode.BAD,
        )


def listed(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    """Return a list of alerts, each in a paragraph of its own."""
    if found["failing"]:
        told = f"{', '.join(found['failing'])}: alerts are not taken: skerry alert test"
        yield from screen.told(screen.state(Mark.FAILING, "receivers"), told, indent=_COLUMNS)
    now = found["as_of"]
    every = sorted(found["alerts"], key=lambda each: (not each["open"], _RANK[each["severity"]]))
    if not every:
        looked = found["looked_at"]
        yield "Nothing fires." + (f" Rules last evaluated {looked[11:19]} UTC." if looked else "")
    for each in every:
        mark = SEVERITY_MARKS[each["severity"]] if each["open"] else Mark.OK
        word = each["severity"] if each["open"] else "over"
        yield from screen.told(screen.state(mark, word), each["title"], indent=_COLUMNS)
        yield from screen.field("", [*_facts(each, now)], indent=_COLUMNS)
        if each["open"]:
            yield from screen.told("", each["command"], indent=_COLUMNS)


def _facts(each: Mapping[str, Any], now: str) -> Iterator[str]:
    yield each["id"]
    yield each["rule"]
    if each["open"]:
        yield f"open {age(each['opened_at'], now)}"
    else:
        yield f"ended {age(each['ended_at'], now)} ago"
    if each["acknowledged"] is not None:
        yield f"{each['acknowledged']['by']} is on it"
    if each["silenced_until"] is not None:
        yield f"silenced until {each['silenced_until'][:16]}Z"


def shown(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the screen of one alert."""
    mark = SEVERITY_MARKS[found["severity"]] if found["open"] else Mark.OK
    word = found["severity"] if found["open"] else "over"
    yield from screen.told(screen.state(mark, word), found["title"], indent=_COLUMNS)
    if found["why"]:
        yield from screen.told("WHY", f"{found['why']} ({found['reason']})", indent=_COLUMNS)
    yield from screen.field("ALERT", _facts(found, found["as_of"]), indent=_COLUMNS)
    if found["names"]:
        rest = found["devices"] - len(found["names"])
        names = [*found["names"], *([f"and {rest:,} more"] if rest > 0 else [])]
        yield from screen.field("DEVICES", names, indent=_COLUMNS)
    ack = found["acknowledged"]
    if ack is not None:
        said = f"{ack['by']} at {ack['at']}: {ack['reason'] or 'no reason given'}"
        yield from screen.told("ON IT", said, indent=_COLUMNS)
    for number, each in enumerate(found["history"]):
        said = f"{each['at']}  {each['news']}"
        many = f", {each['devices']:,} devices" if each["devices"] else ""
        yield from labelled("" if number else "HISTORY", [said + many], indent=_COLUMNS)
    yield from screen.told("Next", found["next"], indent=_COLUMNS)
    yield from screen.told("", found["command"], indent=_COLUMNS)


def ruled(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the table of rules."""
    for each in found["rules"]:
        mark = SEVERITY_MARKS[each["severity"]]
        told = f"{each['when']} (holds {span(each['holds_s'])}, clears {span(each['clears_s'])})"
        name = f"{each['name']}   {each['open']} open" if each["open"] else each["name"]
        yield from labelled(screen.state(mark, each["severity"]), [name], indent=_COLUMNS)
        yield from screen.told("", told, indent=_COLUMNS)


def silenced(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the table of silences."""
    if not found["silences"]:
        yield "Nothing is silenced."
        return
    columns = [
        Column(title="id"),
        Column(title="what", name=True),
        Column(title="until"),
        Column(title="by", spare=1),
        Column(title="why", name=True),
    ]
    rows = [
        [
            each["id"],
            " ".join(filter(None, [each["rule"], each["site"], each["bundle"]])),
            each["until"],
            each["by"],
            each["reason"],
        ]
        for each in found["silences"]
    ]
    yield from screen.table(columns, rows)


def receivers(screen: Screen, found: Mapping[str, Any]) -> Iterator[str]:
    """Return the table of receivers."""
    if found["error"]:
        yield from screen.told(screen.state(Mark.FAILING, "file"), found["error"], indent=_COLUMNS)
    if not found["receivers"]:
        nobody = "is told of alerts: write receivers.toml in the centre's home."
        yield from screen.told("Nobody", nobody, indent=7)
    for each in found["receivers"]:
        mark = Mark.FAILING if each["failing_since"] else Mark.OK
        told = [f"{each['kind']} {each['where']}", f"from {each['least']} on"]
        if each["waiting"]:
            told.append(f"{each['waiting']:,} to be told")
        yield from screen.field(screen.state(mark, each["name"]), told, indent=_COLUMNS)
        if each["failing_since"]:
            said = (
                f"{each['error']} (since {each['failing_since']}, tried {each['attempts']} times)"
            )
            yield from screen.told("", said, indent=_COLUMNS)
