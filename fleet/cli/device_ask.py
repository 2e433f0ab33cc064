"""`skerry device doctor | benchmark | self-test`: ask devices how they are; show the answers."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from agent.wire.v1 import Verb
from fleet.cli import answer_screen
from fleet.cli.asking import EXITS, Asked, again, answered, no_answer, not_done
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre, seconds
from fleet.cli.screen import Color, CommandError, ExitCode, Output, note, print_json
from fleet.client import Centre

_COMMANDS = ("api", "v1", "commands")


def asking(verb: Verb, meaning: str) -> Callable[..., None]:
    """Return the command that asks for one thing; `meaning` is its help."""

    @at_centre
    def ask(
        centre: CentreOptions,
        device: Annotated[
            str | None, typer.Argument(help="Its id or its name; or say which by --selector.")
        ] = None,
        *,
        selector: Annotated[
            str,
            typer.Option("--selector", "-l", help="All that it matches, 100 at most; or: all."),
        ] = "",
        field: Annotated[
            str, typer.Option("--field", help="Only those: site=porto,bundle=digits:1.4.0.")
        ] = "",
        wait: Annotated[str, typer.Option("--wait", help="How long to wait here: 30s, 5m.")] = "3m",
        no_wait: Annotated[bool, typer.Option("--no-wait", help="Ask, and don't wait.")] = False,
        valid: Annotated[
            str, typer.Option("--valid", help="How long a device may take: it may be away.")
        ] = "1h",
        reason: Annotated[str, typer.Option("--reason", help="Why, for the audit.")] = "",
        command: Annotated[
            str | None,
            typer.Option("--command", help="Show the answer to an earlier one, and ask nothing."),
        ] = None,
        output: OutputOption = Output.TABLE,
        color: ColorOption = Color.AUTO,
    ) -> None:
        several = bool(selector or field)
        if several is (device is not None) or (several and command is not None):
            raise CommandError(
                "it is not clear which device is meant",
                "USAGE: one is named, or several are selected",
                f"skerry device {verb} NAME, or: skerry device {verb} --selector room=oven",
                ExitCode.USAGE,
            )
        wait_s = 0 if no_wait else seconds(wait)
        wish = {"verb": verb.value, "valid_s": max(wait_s, seconds(valid)), "reason": reason}
        screen = Screen.of(sys.stdout, os.environ, color)
        with centre.connect() as api:
            if device is None:
                wish |= {"selector": selector, "field": field}
                asked: Sequence[Asked] = api.post(*_COMMANDS, body=wish)["commands"]
                note(f"asked {len(asked)} devices")
                _show_many(screen, output, _over(api, asked, wait_s))
                return
            path = ("api", "v1", "devices", device, "commands")
            first = api.get(*path, command) if command else api.post(*path, body=wish)
            if no_wait:
                note(f"asked {device}; its answer, when it is there: {again(device, first)}")
                return
            if command is None:
                note(f"asked {device}; it answers as {first['id']}")
            [one] = _over(api, [first], wait_s)
            _show_one(api, screen, output, device, one)

    ask.__doc__ = meaning
    return ask


def _over(api: Centre, asked: Sequence[Asked], wait_s: float) -> Sequence[Asked]:
    try:
        return answered(api, asked, wait_s)
    except KeyboardInterrupt:
        for each in asked[:8]:
            note(f"\nthe answer, when it is there: {again(each['device'], each)}")
        raise


def _show_one(api: Centre, screen: Screen, output: Output, device: str, asked: Asked) -> None:
    if asked["status"] == "waiting":
        raise no_answer(api, device, asked)
    if asked["status"] != "done":
        raise not_done(device, asked, f"do its {asked['verb']}")
    text = api.get_text("api", "v1", "devices", device, "commands", asked["id"], "answer")
    try:
        document = json.loads(text)
        lines = list(answer_screen.drawn(screen, asked["verb"], document))
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # it may send anything
        raise CommandError(
            f"{device}'s answer can't be read",
            f"MALFORMED: {error}",
            "give the device and this centre the same version of Skerry",
        ) from error
    if output is Output.JSON:
        print_json("skerry.device.answer/1", {"command": asked, "answer": document})
    else:
        show(lines)
    if asked["answer"].get("verdict") != "ok":
        raise typer.Exit(ExitCode.BAD)


def _show_many(screen: Screen, output: Output, asked: Sequence[Asked]) -> None:
    """Show one line a device; the exit code is of the worst."""
    if output is Output.JSON:
        print_json("skerry.device.answers/1", {"commands": list(asked)})
    else:
        show(answer_screen.listed(screen, asked))
    codes = [_exit(each) for each in asked]
    if worst := next((code for code in codes if code is not ExitCode.DONE), None):
        note(f"{codes.count(ExitCode.DONE)} of {len(codes)} are well")
        raise typer.Exit(ExitCode.BAD if ExitCode.BAD in codes else worst)


def _exit(asked: Asked) -> ExitCode:
    if asked["status"] == "done":
        return ExitCode.DONE if asked["answer"].get("verdict") == "ok" else ExitCode.BAD
    return EXITS.get(asked["status"], ExitCode.UNREACHABLE)
