"""`skerry rollout pause | resume | approve | promote | retry | abort | rollback`.

A person's word about one under way.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from fleet.cli.consent import YesOption, agree
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.rollout_screen import command_lines
from fleet.cli.screen import Color, CommandError, ExitCode, Output, print_json
from fleet.marks import MARKS
from fleet.rollouts.states import (
    WORDS,
    RolloutHappening,
    RolloutState,
    TargetState,
    WaveState,
    possible,
)
from fleet.wording import consequence

app = typer.Typer()

RolloutArgument = Annotated[str, typer.Argument(help="Its id.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the audit.")]
_HELP = {
    "pause": "Ask nobody new until it is resumed; who was asked goes on.",
    "resume": "Go on; a wave that its gate could not decide on passes by this, unless it wants"
    " approval.",
    "approve": "Let the wave pass that waits for a person: for approval, or as its gate can't"
    " decide.",
    "promote": "Let the present wave pass now, before its soak or its gate has; a failed one"
    " never.",
    "retry": "Ask those again that failed, once each and at once, whatever the reason was.",
    "abort": "Stop here: whoever has it keeps it, nobody else gets it.",
    "rollback": "Bring everybody back to what they had; also after it has ended.",
}
_QUESTIONS = {
    "pause": "Pause it?",
    "resume": "Resume it?",
    "approve": "Approve it?",
    "promote": "Let it pass now?",
    "retry": "Ask them again?",
    "abort": "Abort it?",
    "rollback": "Roll it back?",
}


def _command(word: str) -> Callable[..., None]:
    """Return the command that says a word; one that needs a reason asks a person first."""
    _, needs_reason = WORDS[word]

    def said(
        centre: CentreOptions,
        rollout: RolloutArgument,
        *,
        reason: ReasonOption = "",
        yes: YesOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        if needs_reason:
            _reasoned(reason, word)
        _say(centre, rollout, word, reason, yes=yes, unattended=not needs_reason, output=output)

    return at_centre(said)


for _word, _help in _HELP.items():
    app.command(_word, help=_help)(_command(_word))


def _say(
    centre: CentreOptions,
    rollout: str,
    word: str,
    reason: str,
    *,
    yes: bool,
    unattended: bool,
    output: Output,
) -> None:
    """Say a person's word about a rollout, after they agreed to what it means."""
    body: dict[str, object] = {"reason": reason}
    with centre.connect() as api:
        of_wave = word in {"approve", "promote"}
        now = api.get("api", "v1", "rollouts", rollout) if of_wave or not yes else {}
        if of_wave and now["wave"] is not None:
            body["wave"] = now["wave"]  # if another one is there when it comes, nothing passes
        # Nobody is asked about what can't be: the centre says why.
        if not yes and WORDS[word][0] in _possible(now):
            told, affected = consequence(word, now)
            agree(f"{told} {_QUESTIONS[word]}", affected, yes=yes, unattended=unattended)
        found = api.post("api", "v1", "rollouts", rollout, word, body=body)
    if output is Output.JSON:
        print_json("skerry.rollout/1", found)
        return
    screen = Screen.of(sys.stdout, os.environ, Color.AUTO)
    typer.echo(f"{rollout} is {screen.state(MARKS[found['state']], found['state'])}")
    if found["state"] in (RolloutState.RUNNING, RolloutState.ROLLING_BACK):
        words = ["skerry", "rollout", "watch", rollout, *centre.typed()]
        show(command_lines("Watch", words, screen))


def _possible(now: Mapping[str, Any]) -> frozenset[RolloutHappening]:
    waves = [WaveState(each["state"]) for each in now["waves"]]
    return possible(
        RolloutState(now["state"]), waves, [TargetState(each) for each in now["counts"]]
    )


def _reasoned(reason: str, word: str) -> None:
    if not reason.strip():
        raise CommandError(
            f"{'an' if word == 'abort' else 'a'} {word} needs a reason, for the audit",
            "USAGE",
            "say it: --reason TEXT",
            ExitCode.USAGE,
        )
