"""The `skerry` command: a table of words, and only the word that was typed is loaded.

Rules:
- Each word is a module with `app`, a `typer.Typer`; `main` runs it, prints what went wrong in
  three lines on stderr and returns the exit code. No stack trace reaches a person unless
  `SKERRY_TRACE=1` asks for it.
- A word's module is imported only when it is typed; an import that fails for a package that is
  not installed names the extra to install.
- A folder of the user's own called `models` or `agent` is never imported in place of ours.
"""

import difflib
import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.cli.screen import CommandError, ExitCode, complain


@dataclass(frozen=True, slots=True)
class Word:
    """One word after `skerry`: where it lives, which extra it needs, and what it is for."""

    module: str
    extra: str
    purpose: str


WORDS = {
    "demo": Word("fleet.cli.demo", "demo", "show the main job on this machine"),
    "trust": Word("fleet.cli.trust", "fleet", "keys and certificates of a fleet"),
    "up": Word("fleet.cli.up", "fleet", "run the centre"),
    "doctor": Word("fleet.cli.doctor", "fleet", "what is wrong with a centre, and what to do"),
    "token": Word("fleet.cli.token", "fleet", "tokens with which devices join"),
    "fleet": Word("fleet.cli.fleet", "fleet", "the whole fleet at one look"),
    "device": Word("fleet.cli.device", "fleet", "devices: list, show, read logs, set"),
    "model": Word("fleet.cli.model", "build", "models: from a file to a signed bundle"),
    "bundle": Word("fleet.cli.bundle", "fleet", "bundles in the registry: list, show"),
    "rollout": Word("fleet.cli.rollout", "fleet", "bring a bundle to devices: plan, start, watch"),
    "policy": Word("fleet.cli.policy", "fleet", "how rollouts spread: list, show, remove"),
    "apply": Word("fleet.cli.apply", "fleet", "bring a fleet to what documents say"),
    "diff": Word("fleet.cli.diff", "fleet", "what applying documents would change"),
    "alert": Word("fleet.cli.alert", "fleet", "what is wrong, who is on it, who is told"),
    "monitoring": Word("fleet.cli.monitoring", "fleet", "Prometheus and Grafana: what they need"),
    "site": Word("fleet.cli.site", "fleet", "sites: what a K3s cluster gets"),
}

EXIT_CODES = """\
0    done, as wanted
1    it ran, and the verdict is bad
2    usage, or refused because nobody said --yes
3    not found
4    not allowed
5    cannot reach it, or timed out
6    conflict: a plan moved, a newer rollout has overtaken it, it is there already, or is held
7    refused by verification or budget (signature, accuracy, fit)
10   diff: applying it would change something
20   rollout watch: it is paused by a person
21   rollout watch: a gate could not decide, and it is paused
22   rollout watch: it was rolled back
23   rollout watch: it was aborted
24   rollout watch: it is still running at --timeout
130  interrupted
"""

_OURS = ("agent", "fleet", "models", "k3s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _keep_to_ours()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except CommandError as error:
        complain(error)
        _trace(error)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # `skerry … | head`: the reader has what it wanted, and there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except Exception as error:  # noqa: BLE001  # the outermost rim: nothing above could say it better
        wrong = CommandError(
            f"a defect in skerry: {type(error).__name__}: {error}",
            "INTERNAL",
            "see where: run it again with SKERRY_TRACE=1",
        )
        complain(wrong)
        _trace(error)
        return wrong.exit_code


def _run(words: list[str]) -> int:
    match words:
        case [] | ["-h" | "--help" | "help"]:
            sys.stdout.write(_help())
            return ExitCode.DONE
        case ["--version" | "version"]:
            sys.stdout.write(f"skerry {importlib.metadata.version('skerry')}\n")
            return ExitCode.DONE
        case ["help", "exit-codes"]:
            sys.stdout.write(EXIT_CODES)
            return ExitCode.DONE
        case ["help", word, *rest]:
            return _run([word, *rest, "--help"])
        case [word, *rest] if word in WORDS:
            return _run_word(word, rest)
        case [word, *_]:
            near = difflib.get_close_matches(word, WORDS, n=1)
            hint = f"did you mean: skerry {near[0]}" if near else "see: skerry --help"
            raise CommandError(f"no such command: {word}", "USAGE", hint, ExitCode.USAGE)
        case _:  # pragma: no cover  # a list is empty or has a first word
            raise AssertionError(words)


def _run_word(word: str, rest: list[str]) -> int:
    place = WORDS[word]
    try:
        module = importlib.import_module(place.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS and error.name != place.module:
            raise
        raise CommandError(
            f"skerry {word} needs a part that is not installed: {error.name}",
            "EXTRA_MISSING",
            f"install it: pip install 'skerry[{place.extra}]'",
            ExitCode.USAGE,
        ) from error
    from fleet.cli.running import run  # noqa: PLC0415  # loads typer, which `--help` must not pay for

    return run(module.app, word, rest)


def _help() -> str:
    width = max(map(len, WORDS))
    lines = [f"  {word:<{width}}  {place.purpose}" for word, place in WORDS.items()]
    return "\n".join(
        [
            "skerry: roll quantized models out to fleets of edge devices",
            "",
            "usage: skerry WORD ...      skerry WORD --help      skerry --version",
            "",
            *lines,
            "",
            "Exit codes: skerry help exit-codes",
            "",
        ]
    )


def _keep_to_ours() -> None:
    """Take the current folder out of the import path, unless it is where we are installed."""
    here, ours = Path.cwd(), Path(__file__).resolve().parents[2]
    sys.path[:] = [
        entry
        for entry in sys.path
        if entry not in ("", ".") and (Path(entry) != here or here == ours)
    ]


def _trace(error: BaseException) -> None:
    """Print the whole chain of an error on stderr, for who asked."""
    if os.environ.get("SKERRY_TRACE", "") not in ("", "0"):
        traceback.print_exception(error, file=sys.stderr)
