"""`skerry rollout plan | start | ls | show`: bring a bundle to devices."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.screen import (
    CommandError,
    ExitCode,
    Output,
    print_fields,
    print_json,
    print_table,
    size,
)
from fleet.client import Centre
from fleet.rollouts.errors import PlanReason
from fleet.selector import SelectorError, asked
from fleet.sentences import explain

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Bring a bundle to devices: plan, start, look."
)

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
PolicyOption = Annotated[str, typer.Option(help="How it spreads.")]


@app.command()
@at_centre
def plan(
    centre: CentreOptions,
    bundle: BundleArgument,
    *,
    to: ToOption = None,
    device: DeviceOption = None,
    deployment: DeploymentOption = None,
    policy: PolicyOption = "all-at-once",
    output: OutputOption = Output.TABLE,
) -> None:
    """Say who would get what, who would not and why. Nothing is changed."""
    wish = _wish(bundle, to, device, deployment, policy)
    with centre.connect() as api:
        made = api.post("api", "v1", "rollouts", "plan", body=wish)
        if not made["steps"] and not made["excluded"]:
            raise _nobody(api, to or "")
    if output is Output.JSON:
        print_json("skerry.plan/1", made)
        return
    _show_plan(made)
    if made["steps"]:
        given: dict[str, Sequence[str | None]] = {
            "--to": [to],
            "--device": device or [],
            "--as": [deployment],
        }
        given |= {"--policy": [policy], "--if-plan": [_short(made["digest"])]}
        typer.echo(f"\nnothing has been changed; start it: {_start_line(bundle, given, centre)}")


@app.command()
@at_centre
def start(
    centre: CentreOptions,
    bundle: BundleArgument,
    *,
    to: ToOption = None,
    device: DeviceOption = None,
    deployment: DeploymentOption = None,
    policy: PolicyOption = "all-at-once",
    if_plan: Annotated[
        str | None, typer.Option(help="Start only if the plan still has this digest.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Start a rollout."""
    wish = _wish(bundle, to, device, deployment, policy) | {"if_plan": if_plan, "reason": reason}
    with centre.connect() as api:
        try:
            started = api.post("api", "v1", "rollouts", body=wish)
        except CommandError as error:
            if error.why == PlanReason.NO_CHANGE:
                _show_unchanged(api, wish, bundle, output)
                return
            if error.why == PlanReason.TARGET_UNKNOWN:
                raise _nobody(api, to or "") from error
            raise
    if output is Output.JSON:
        print_json("skerry.rollout-started/1", started)
        return
    _show_plan(started["plan"])
    typer.echo(f"\nstarted {started['id']}; look: skerry rollout show {started['id']}")


@app.command()
@at_centre
def ls(
    centre: CentreOptions,
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all rollouts, the newest first."""
    with centre.connect() as api:
        found = api.get("api", "v1", "rollouts")
    if output is Output.JSON:
        print_json("skerry.rollouts/1", found)
        return
    print_table(
        ["id", "state", "deployment", "targets", "started"],
        [
            [
                rollout["id"],
                rollout["state"],
                rollout["deployment"],
                _counts(rollout),
                rollout["created_at"],
            ]
            for rollout in found["rollouts"]
        ],
    )


@app.command()
@at_centre
def show(
    centre: CentreOptions,
    rollout: Annotated[str, typer.Argument(help="Its id.")],
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one rollout, target by target."""
    with centre.connect() as api:
        found = api.get("api", "v1", "rollouts", rollout)
    if output is Output.JSON:
        print_json("skerry.rollout/1", found)
        return
    print_fields(
        {
            "rollout": found["id"],
            "state": found["state"],
            "deployment": found["deployment"],
            "plan": found["plan_digest"],
            "targets": _counts(found),
            "started": found["created_at"],
        }
    )
    typer.echo()
    print_table(
        ["target", "state", "revision", "phase", "why"],
        [
            [
                target["target"],
                target["state"] + ("" if target["online"] else ", away"),
                target["deployment"]["revision"],
                target["phase"],
                None if target["reason"] is None else _why(target["reason"]),
            ]
            for target in found["targets"]
        ],
    )


def _wish(
    bundle: str, to: str | None, device: list[str] | None, deployment: str | None, policy: str
) -> dict[str, object]:
    if to is None and not device:
        raise CommandError(
            "nobody is named to get it",
            "USAGE: a rollout reaches only who was meant",
            "name them: --to SELECTOR, --to all, or --device NAME",
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
    name = deployment or bundle.partition(":")[0]
    if deployment is None and bundle.startswith("sha256:"):
        raise CommandError(
            "a digest says nothing about the name clients call",
            "USAGE",
            "say it: --as NAME",
            ExitCode.USAGE,
        )
    return {
        "bundle": bundle,
        "deployment": name,
        "selector": to,
        "targets": device or [],
        "policy": policy,
    }


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


def _show_unchanged(api: Centre, wish: dict[str, object], bundle: str, output: Output) -> None:
    """Say that there was nothing to do, which is what was wanted."""
    made = api.post("api", "v1", "rollouts", "plan", body=wish)
    if output is Output.JSON:
        print_json("skerry.rollout-started/1", {"id": None, "plan": made})
        return
    count = len(made["excluded"])
    who = "the one device has" if count == 1 else f"all {count} devices have"
    typer.echo(f"{who} {bundle} already")


def _start_line(
    bundle: str, given: Mapping[str, Sequence[str | None]], centre: CentreOptions
) -> str:
    """Return the command that starts what was planned, ready to be copied."""
    words = ["skerry", "rollout", "start", bundle]
    for option, values in given.items():
        for value in values:
            words += [] if value is None else [option, value]
    return shlex.join(words + centre.typed())


def _show_plan(made: dict[str, Any]) -> None:
    bundle = made["bundle"]
    steps, excluded = made["steps"], made["excluded"]
    print_fields(
        {
            "plan": _short(made["digest"]),
            "bundle": f"{bundle['name']}:{bundle['version']} as {made['deployment']}",
            "who": f"{len(steps)} get it, {len(excluded)} do not",
            "away": f"{sum(not step['online'] for step in steps)} are offline and set aside",
            "size": size(made["fetch_bytes"]),
        }
    )
    if steps:
        typer.echo()
        print_table(
            ["target", "revision", "instead of", "class"],
            [
                [
                    step["name"],
                    step["deployment"]["revision"],
                    None if step["replaces"] is None else step["replaces"]["bundle"]["version"],
                    step["class_name"],
                ]
                for step in steps
            ],
        )
    if excluded:
        typer.echo()
        print_table(
            ["left out", "why"],
            [[left["name"], left["message"] or _why(left["reason"])] for left in excluded],
        )


def _why(reason: str) -> str:
    return f"{reason}: {explain(reason).meaning}"


def _counts(rollout: dict[str, Any]) -> str:
    counted = [f"{count} {state}" for state, count in rollout["counts"].items()]
    if rollout["set_aside"]:
        counted.append(f"{len(rollout['set_aside'])} away")
    return ", ".join(counted)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
