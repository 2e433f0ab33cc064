"""`skerry rollout pause | resume | abort | rollback`: a person's word about one under way."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from fleet.cli.consent import YesOption, agree
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.rollout_screen import MARKS, command_lines, devices
from fleet.cli.screen import Color, CommandError, ExitCode, Output, print_json
from fleet.rollouts.states import TO_RETURN, RolloutState

app = typer.Typer()

RolloutArgument = Annotated[str, typer.Argument(help="Its id.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the audit.")]


@app.command()
@at_centre
def pause(
    centre: CentreOptions,
    rollout: RolloutArgument,
    *,
    reason: ReasonOption = "",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Ask nobody new until it is resumed; who was asked goes on."""

    def question(found: Mapping[str, Any]) -> tuple[str, int]:
        waiting = found["counts"].get("planned", 0)
        return f"{devices(waiting)} not asked yet will wait. Pause it?", waiting

    _say(centre, rollout, "pause", reason, question, yes=yes, unattended=True, output=output)


@app.command()
@at_centre
def resume(
    centre: CentreOptions,
    rollout: RolloutArgument,
    *,
    reason: ReasonOption = "",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Go on; a wave that its gate could not decide on passes by this."""

    def question(found: Mapping[str, Any]) -> tuple[str, int]:
        waiting = found["counts"].get("planned", 0)
        return f"{devices(waiting)} not asked yet may be asked. Resume it?", waiting

    _say(centre, rollout, "resume", reason, question, yes=yes, unattended=True, output=output)


@app.command()
@at_centre
def abort(
    centre: CentreOptions,
    rollout: RolloutArgument,
    *,
    reason: ReasonOption = "",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop here: whoever has it keeps it, nobody else gets it."""

    def question(found: Mapping[str, Any]) -> tuple[str, int]:
        never = found["counts"].get("planned", 0)
        return f"{devices(never)} not asked yet will never be. Abort it?", never

    _reasoned(reason, "abort")
    _say(centre, rollout, "abort", reason, question, yes=yes, unattended=False, output=output)


@app.command()
@at_centre
def rollback(
    centre: CentreOptions,
    rollout: RolloutArgument,
    *,
    reason: ReasonOption = "",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring everybody back to what they had; also after it has ended."""

    def question(found: Mapping[str, Any]) -> tuple[str, int]:
        back = sum(found["counts"].get(state, 0) for state in TO_RETURN)
        return f"{devices(back)} go back to what they had. Roll it back?", back

    _reasoned(reason, "rollback")
    _say(centre, rollout, "rollback", reason, question, yes=yes, unattended=False, output=output)


def _say(
    centre: CentreOptions,
    rollout: str,
    word: str,
    reason: str,
    question: Callable[[Mapping[str, Any]], tuple[str, int]],
    *,
    yes: bool,
    unattended: bool,
    output: Output,
) -> None:
    """Say a person's word about a rollout, after they agreed to what it means."""
    with centre.connect() as api:
        if not yes:
            asking, affected = question(api.get("api", "v1", "rollouts", rollout))
            agree(asking, affected, yes=yes, unattended=unattended)
        found = api.post("api", "v1", "rollouts", rollout, word, body={"reason": reason})
    if output is Output.JSON:
        print_json("skerry.rollout/1", found)
        return
    screen = Screen.of(sys.stdout, os.environ, Color.AUTO)
    typer.echo(f"{rollout} is {screen.state(MARKS[found['state']], found['state'])}")
    if found["state"] in (RolloutState.RUNNING, RolloutState.ROLLING_BACK):
        words = ["skerry", "rollout", "watch", rollout, *centre.typed()]
        show(command_lines("Watch", words, screen))


def _reasoned(reason: str, word: str) -> None:
    if not reason.strip():
        raise CommandError(
            f"a {word} needs a reason, for the audit",
            "USAGE",
            "say it: --reason TEXT",
            ExitCode.USAGE,
        )
