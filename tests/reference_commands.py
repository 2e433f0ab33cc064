"""The reference of the two commands, made of the very parsers that read what a person types."""

import argparse
import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import typer.main
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from agent.cli import parser
from fleet.cli import EXIT_CODES, WORDS

CENTRE = ("--home", "--centre", "--token-file", "--ca")
"""The options that say which centre; they are described once."""

HOME = "SKERRY_HOME; else /var/lib/skerry for root, ~/.local/share/skerry for others"
"""The one default that depends on who asks."""


_SENTENCE_END = re.compile(r"(?<=[a-z)`]\.) (?=[A-Z])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument or option, as it is typed and described."""

    typed: str
    meaning: str
    default: str = ""
    optional: bool = True


def operators() -> str:
    """Return the page of `skerry`."""
    found = list(_typer_commands())
    shared = next(
        [each for each in parameters if each.typed in CENTRE]
        for _, _, parameters in found
        if _names_a_centre(parameters)
    )
    lines = ["# `skerry`", "", "What operators and engineers type.", ""]
    for name, text, parameters in found:
        own = [each for each in parameters if each.typed not in CENTRE]
        at_centre = _names_a_centre(parameters)
        usage = _usage(name, own if at_centre else parameters, more=at_centre)
        lines += _command(name, usage, text, own if at_centre else parameters)
        if at_centre:
            lines += ["And [which centre](#which-centre).", ""]
    lines += ["## Which centre", "", *_table(shared), *_exit_codes()]
    return "\n".join(lines)


def devices() -> str:
    """Return the page of `skerry-agent`."""
    made = parser()
    lines = ["# `skerry-agent`", "", "What is typed on a device.", ""]
    for action in made._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for name, word in action.choices.items():
            parameters = [_of_argparse(each) for each in word._actions if each.dest != "help"]
            full = f"skerry-agent {name}"
            lines += _command(full, _usage(full, parameters), str(word.description), parameters)
    return "\n".join(lines)


def _typer_commands() -> Iterator[tuple[str, str, list[Parameter]]]:
    for word, place in WORDS.items():
        app = importlib.import_module(place.module).app
        command = typer.main.get_command(app)
        if isinstance(command, TyperGroup):
            for name, each in sorted(command.commands.items()):
                assert isinstance(each, TyperCommand)
                yield f"skerry {word} {name}", str(each.help), _of_typer(each)
        else:
            assert isinstance(command, TyperCommand)
            yield f"skerry {word}", str(command.help), _of_typer(command)


def _of_typer(command: TyperCommand) -> list[Parameter]:
    found = []
    for each in command.params:
        if isinstance(each, TyperArgument):
            typed = each.name.upper() + ("..." if each.nargs == -1 else "")
            found.append(
                Parameter(typed=typed, meaning=each.help or "", optional=not each.required)
            )
        elif isinstance(each, TyperOption):
            meaning = each.help or ""
            if each.envvar:
                meaning += f" (or {each.envvar})"
            default = (
                each.show_default if isinstance(each.show_default, str) else _said(each.default)
            )
            found.append(
                Parameter(
                    typed=", ".join([*each.opts, *each.secondary_opts]),
                    meaning=meaning,
                    default=default,
                    optional=not each.required,
                )
            )
    return found


def _of_argparse(action: argparse.Action) -> Parameter:
    typed = ", ".join(action.option_strings) or str(action.metavar or action.dest).upper()
    meaning = (action.help or "").replace(" (default: %(default)s)", "").replace("%(default)s", "")
    if action.choices:
        meaning = f"{meaning} ({', '.join(map(str, action.choices))})".strip()
    default = HOME if action.dest == "home" else _said(action.default)
    return Parameter(
        typed=typed,
        meaning=meaning.replace("(default: )", "").strip(),
        default=default,
        optional=bool(action.option_strings) and not action.required,
    )


def _said(default: object) -> str:
    if default in (None, False, "", [], ()):
        return ""
    return str(default.value if isinstance(default, Enum) else default)


def _names_a_centre(parameters: Iterable[Parameter]) -> bool:
    return {*CENTRE} <= {each.typed for each in parameters}


def _usage(name: str, parameters: Sequence[Parameter], *, more: bool = False) -> str:
    wanted = [
        each.typed if each.typed.isupper() or "..." in each.typed else f"{each.typed} …"
        for each in parameters
        if not each.optional
    ]
    options = ["[OPTIONS]"] if more or any(each.optional for each in parameters) else []
    return " ".join([name, *wanted, *options])


def _command(name: str, usage: str, text: str, parameters: Sequence[Parameter]) -> list[str]:
    paragraphs = [" ".join(each.split()) for each in text.split("\n\n")]
    spoken = [line for each in paragraphs for line in ("", *_SENTENCE_END.split(each))]
    return [f"## `{name}`", "", "```", usage, "```", *spoken, "", *_table(parameters)]


def _table(parameters: Sequence[Parameter]) -> list[str]:
    if not parameters:
        return []
    rows = [
        f"| `{each.typed}` | {each.meaning.replace('|', '/')} | {each.default.replace('|', '/')} |"
        for each in parameters
    ]
    return ["| | | by default |", "|---|---|---|", *rows, ""]


def _exit_codes() -> list[str]:
    rows = [line.split(maxsplit=1) for line in EXIT_CODES.splitlines()]
    table = [f"| {code} | {meaning} |" for code, meaning in rows]
    return ["## Exit codes", "", "| code | it means |", "|---|---|", *table, ""]
