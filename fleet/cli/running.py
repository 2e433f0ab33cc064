"""Run one word's typer application; whatever ends it becomes an exit code or a `CommandError`."""

import typer
from typer._click.exceptions import (  # typer gives them no public names
    NoArgsIsHelpError,
    UsageError,
)

from fleet.cli.screen import CommandError, ExitCode
from models.errors import CorruptError, ModelError, TransientError

_NEXT = {
    "BUNDLE_MALFORMED": "give the folder that skerry model pack wrote (an OCI layout)",
    "BUNDLE_INCOMPLETE": "copy the whole folder again, or pack it again: skerry model pack",
    "SIGNATURE_MISSING": "sign it: skerry model sign FOLDER --key KEY",
    "SIGNATURE_INVALID": "check which key signed it; to sign it again: skerry model sign",
    "TOO_LARGE": "give a smaller file",
    "DISK_FULL": "make room, or write elsewhere: --out FOLDER",
    "RUNTIME_MISSING": "install one here, or name another Python that has one: --also, --python",
}
"""What to do about an error of a model's, by its reason; the others send to the help."""


def run(app: typer.Typer, word: str, arguments: list[str]) -> int:
    """Run `skerry WORD ARGUMENTS` and return its exit code.

    Raises:
        CommandError: it could not be done; told in what, why and what next.
    """
    program = f"skerry {word}"
    try:
        ended = app(arguments, prog_name=program, standalone_mode=False)
    except NoArgsIsHelpError as error:
        # With rich, typer has printed the help by now; without it, the message is the help.
        if text := error.format_message():
            typer.echo(text)
        return ExitCode.USAGE
    except UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else program
        raise CommandError(
            error.format_message().splitlines()[0],
            "USAGE",
            f"see: {path} --help",
            ExitCode.USAGE,
        ) from error
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except ModelError as error:
        raise _of_model(error, program) from error
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise CommandError(
            f"{program} stopped at{where or ' a file or socket'}: {error.strerror or error}",
            "OPERATING_SYSTEM",
            "check that the path exists, may be written and has room",
            ExitCode.BAD,
        ) from error
    return ended if isinstance(ended, int) else ExitCode.DONE


def _of_model(error: ModelError, program: str) -> CommandError:
    if isinstance(error, TransientError):
        return CommandError(str(error), error.reason, "try again", ExitCode.UNREACHABLE)
    if isinstance(error, CorruptError):
        next_step = "the file was damaged after it was written: fetch or build it again"
        return CommandError(str(error), error.reason, next_step, ExitCode.REFUSED)
    next_step = _NEXT.get(error.reason, f"see: {program} --help")
    if "PEM" in str(error) or "Ed25519" in str(error):
        next_step = (
            "keys are under trust in the centre's folder: bundle.key signs, bundle.pub checks"
        )
    return CommandError(str(error), error.reason, next_step, ExitCode.REFUSED)
