"""`skerry rollout plan | start | ls | show | watch | why`: bring a bundle to devices, and look."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fleet.cli import rollout_simulate, rollout_words
from fleet.cli.consent import YesOption, agree
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre
from fleet.cli.policy_file import PolicyFileOption, policy_in
from fleet.cli.rollout_screen import (
    command_lines,
    list_lines,
    plan_lines,
    plan_rows,
    rollout_lines,
    target_lines,
    trace_lines,
    why_lines,
)
from fleet.cli.rollout_settings import SettingsOption, settings_in
from fleet.cli.rollout_watch import Documents, Lines, Picture, View, watch_now
from fleet.cli.rollout_words import ReasonOption, RolloutArgument
from fleet.cli.screen import Color, CommandError, ExitCode, Output, note, print_json
from fleet.client import Centre
from fleet.rollouts.errors import PlanReason
from fleet.rollouts.policy import CAREFUL, SOAK_LIMIT_S
from fleet.selector import SelectorError, asked
from fleet.sentences import explain
from fleet.wording import devices, short

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Bring a bundle to devices: plan, start, watch; pause, resume, abort, roll back.",
)
app.add_typer(rollout_simulate.app)
app.add_typer(rollout_words.app)


class PlanOutput(StrEnum):
    """How a plan is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


BundleArgument = Annotated[str, typer.Argument(help="name:version, or a digest.")]
DeploymentOption = Annotated[
    str | None,
    typer.Option("--as", help="The name clients call; by default the model's own."),
]
ToOption = Annotated[
    str | None, typer.Option("--to", help="A selector, like room=oven,tier!=lab; or: all.")
]
DeviceOption = Annotated[
    list[str] | None, typer.Option("--device", help="A device by id or name; more than once.")
]
PolicyOption = Annotated[
    str, typer.Option(help="How it spreads: careful, all-at-once, or one that the centre keeps.")
]
SoakOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=SOAK_LIMIT_S, help="Seconds that each gate watches; by default the policy's."
    ),
]


@app.command()
@at_centre
def plan(
    centre: CentreOptions,
    bundle: BundleArgument,
    *,
    to: ToOption = None,
    device: DeviceOption = None,
    deployment: DeploymentOption = None,
    policy: PolicyOption = CAREFUL.name,
    soak: SoakOption = None,
    policy_file: PolicyFileOption = None,
    settings: SettingsOption = None,
    output: Annotated[
        PlanOutput, typer.Option("--output", "-o", help="How it is printed; wide: each device.")
    ] = PlanOutput.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say who would get what and when, who would not and why. Nothing is changed."""
    wish = _wish(bundle, to=to, device=device, deployment=deployment, policy=policy, soak_s=soak)
    wish |= {"settings": settings_in(settings), "own_policy": _own(policy, policy_file)}
    with centre.connect() as api:
        made = _plan(api, wish)
    if output is PlanOutput.JSON:
        print_json("skerry.plan/1", made)
        return
    screen = _screen(color)
    show(plan_lines(made, screen))
    show(plan_rows(made, screen) if output is PlanOutput.WIDE else [])
    show(["nothing has been changed" + ("; start it:" if made["steps"] else "")])
    if made["steps"]:
        files = {"--settings": settings, "--policy-file": policy_file}
        words = _start_line(wish, short(made["digest"]), centre, files)
        show(command_lines("Start", words, screen))


@app.command()
@at_centre
def start(
    centre: CentreOptions,
    bundle: BundleArgument,
    *,
    to: ToOption = None,
    device: DeviceOption = None,
    deployment: DeploymentOption = None,
    policy: PolicyOption = CAREFUL.name,
    soak: SoakOption = None,
    policy_file: PolicyFileOption = None,
    settings: SettingsOption = None,
    if_plan: Annotated[
        str | None, typer.Option(help="Start only if the plan still has this digest.")
    ] = None,
    reason: ReasonOption = "",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Start a rollout."""
    screen = _screen(color)
    wish = _wish(bundle, to=to, device=device, deployment=deployment, policy=policy, soak_s=soak)
    wish |= {"settings": settings_in(settings), "own_policy": _own(policy, policy_file)}
    with centre.connect() as api:
        made = _plan(api, wish)
        if (number := len(made["steps"])) > 0:
            if output is Output.TABLE:
                show(plan_lines(made, screen))
            question = f"{bundle} goes to {devices(number)}. Start it?"
            if agree(question, number, yes=yes, unattended=if_plan is not None):
                if_plan = if_plan or made["digest"]  # what they have seen is what they agreed to
        said = {"if_plan": if_plan, "reason": reason}
        try:
            started = api.post("api", "v1", "rollouts", body=wish | said)
        except CommandError as error:
            if error.why == PlanReason.NO_CHANGE:
                _show_unchanged(made, bundle, output)
                return
            raise
    if output is Output.JSON:
        print_json("skerry.rollout-started/1", started)
        return
    show([f"started {started['id']}"])
    watching = ["skerry", "rollout", "watch", started["id"], *centre.typed()]
    show(command_lines("Watch", watching, screen))


@app.command()
@at_centre
def ls(
    centre: CentreOptions,
    *,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """List all rollouts, the newest first."""
    with centre.connect() as api:
        found = page = api.get("api", "v1", "rollouts")
        while page["after"] is not None:
            page = api.get("api", "v1", "rollouts", query={"after": page["after"]})
            found["rollouts"] += page["rollouts"]
        del found["after"]
    if output is Output.JSON:
        print_json("skerry.rollouts/1", found)
        return
    show(list_lines(found, _screen(color)))


@app.command("show")
@at_centre
def show_one(
    centre: CentreOptions,
    rollout: RolloutArgument,
    *,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Show one rollout: why it is no further, wave by wave and target by target."""
    with centre.connect() as api:
        found = api.get("api", "v1", "rollouts", rollout)
    if output is Output.JSON:
        print_json("skerry.rollout/1", found)
        return
    screen = _screen(color)
    lines = [*rollout_lines(found, screen), *trace_lines(found, screen)]
    show([*lines, *target_lines(found, screen)])


@app.command()
@at_centre
def watch(
    centre: CentreOptions,
    rollout: RolloutArgument,
    *,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Stop watching after so many seconds (exit 24).")
    ] = None,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Watch until it ends or is paused; the exit code says how (skerry help exit-codes)."""
    again = shlex.join(["skerry", "rollout", "watch", rollout, *centre.typed()])
    view: View = Lines()
    if output is Output.JSON:
        view = Documents()
    elif _screen(color).live:
        view = Picture(lambda: _screen(color), f"Pause   skerry rollout pause {rollout}")
    try:
        code = watch_now(centre, rollout, view, timeout)
    except KeyboardInterrupt:
        note(f"\ndetached; it goes on: {again}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if code is ExitCode.STILL_RUNNING:
        note(f"still running after {timeout:g} s; it goes on: {again}")
    elif code is not ExitCode.DONE:
        note(f"see why: skerry rollout why {rollout}")
    raise typer.Exit(code)


@app.command()
@at_centre
def why(
    centre: CentreOptions,
    rollout: RolloutArgument,
    device: Annotated[
        str | None, typer.Argument(help="A device by id or name; by default the rollout itself.")
    ] = None,
    *,
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say why a rollout is no further, or why a device is where it is in it."""
    with centre.connect() as api:
        query = {} if device is None else {"target": device}
        said = api.get("api", "v1", "rollouts", rollout, "why", query=query)
    if output is Output.JSON:
        print_json("skerry.why/1", said)
        return
    show(why_lines(said, _screen(color)))


def _screen(color: Color) -> Screen:
    return Screen.of(sys.stdout, os.environ, color)


def _plan(api: Centre, wish: Mapping[str, object]) -> Any:  # noqa: ANN401  # JSON
    made = api.post("api", "v1", "rollouts", "plan", body=wish)
    if not made["steps"] and not made["excluded"]:
        raise _nobody(api, str(wish["selector"] or ""))
    return made


def _wish(
    bundle: str,
    *,
    to: str | None,
    device: list[str] | None,
    deployment: str | None,
    policy: str,
    soak_s: float | None,
) -> dict[str, object]:
    if to is None and not device:
        raise CommandError(
            "nobody is named to get it",
            "USAGE: a rollout reaches only who was meant",
            "name them: --to SELECTOR, --to all, or --device NAME",
            ExitCode.USAGE,
        )
    if to is not None and device:
        raise CommandError(
            "--to and --device together leave open whether both or either is meant",
            "USAGE: a rollout reaches only who was meant",
            "say one of them; a selector can name devices: --to 'skerry/name in (pi-1,pi-2)'",
            ExitCode.USAGE,
        )
    if to is not None:
        try:
            asked(to)
        except SelectorError as error:
            told = explain(PlanReason.SELECTOR_MALFORMED)
            raise CommandError(
                f"--to {to!r}: {told.meaning}",
                f"{PlanReason.SELECTOR_MALFORMED}: {error}",
                told.next_step,
                ExitCode.USAGE,
            ) from error
    if deployment is None and bundle.startswith("sha256:"):
        raise CommandError(
            "a digest says nothing about the name clients call",
            "USAGE",
            "say it: --as NAME",
            ExitCode.USAGE,
        )
    return {
        "bundle": bundle,
        "deployment": deployment or bundle.partition(":")[0],
        "selector": to,
        "targets": device or [],
        "policy": policy,
        "soak_s": soak_s,
    }


def _own(policy: str, path: Path | None) -> object:
    if path is not None and policy != CAREFUL.name:
        raise CommandError(
            f"--policy {policy} and --policy-file {path} are two policies",
            "USAGE",
            "say one of them",
            ExitCode.USAGE,
        )
    return policy_in(path)


def _nobody(api: Centre, to: str) -> CommandError:
    """Say that a selector matches nobody, and how to name the device whose name it is."""
    next_step = "see their labels: skerry device ls, skerry device show NAME"
    try:
        api.get("api", "v1", "devices", to)
        next_step = f"did you mean: --device {shlex.quote(to)}"
    except CommandError as error:
        if error.exit_code not in (ExitCode.NOT_FOUND, ExitCode.CONFLICT):
            raise
    return CommandError(
        f"no device matches --to {shlex.quote(to)}",
        PlanReason.TARGET_UNKNOWN,
        next_step,
        ExitCode.NOT_FOUND,
    )


def _show_unchanged(made: Mapping[str, Any], bundle: str, output: Output) -> None:
    """Say that there was nothing to do, which is what was wanted."""
    if output is Output.JSON:
        print_json("skerry.rollout-started/1", {"id": None, "plan": made})
        return
    number = len(made["excluded"])
    who = "the one device has" if number == 1 else f"all {number} devices have"
    typer.echo(f"{who} {bundle} already")


def _start_line(
    wish: Mapping[str, Any],
    digest: str,
    centre: CentreOptions,
    files: Mapping[str, Path | None],
) -> Sequence[str]:
    """Return the command that starts what was planned, ready to be copied."""
    bundle = wish["bundle"]
    name = wish["deployment"]
    given: dict[str, Sequence[object]] = {
        "--to": [wish["selector"]],
        "--device": wish["targets"],
        "--as": [None if name == bundle.partition(":")[0] else name],
        "--policy": [wish["policy"] if wish["own_policy"] is None else None],
        "--soak": [None if wish["soak_s"] is None else f"{wish['soak_s']:g}"],
        **{option: [path] for option, path in files.items()},
        "--if-plan": [digest],
    }
    words = ["skerry", "rollout", "start", bundle]
    for option, values in given.items():
        for value in values:
            words += [] if value is None else [option, str(value)]
    return words + centre.typed()
