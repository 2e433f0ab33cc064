"""`skerry rollout plan | start | ls | show`: bring a bundle to devices."""

from typing import Annotated, Any

import typer

from fleet.cli.options import (
    CaOption,
    CentreOption,
    HomeOption,
    OutputOption,
    TokenFileOption,
    connect,
)
from fleet.cli.screen import CommandError, ExitCode, Output, print_fields, print_json, print_table
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
def plan(
    bundle: BundleArgument,
    *,
    to: ToOption = None,
    device: DeviceOption = None,
    deployment: DeploymentOption = None,
    policy: PolicyOption = "all-at-once",
    home: HomeOption,
    centre: CentreOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say who would get what, who would not and why. Nothing is changed."""
    wish = _wish(bundle, to, device, deployment, policy)
    with connect(home, centre, token_file, ca) as api:
        made = api.post("api", "v1", "rollouts", "plan", body=wish)
    if output is Output.JSON:
        print_json("skerry.plan/1", made)
        return
    _show_plan(made)
    if made["steps"]:
        typer.echo(
            f"\nnothing has been changed; start it: skerry rollout start {bundle} …"
            f" --if-plan {_short(made['digest'])}"
        )


@app.command()
def start(
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
    home: HomeOption,
    centre: CentreOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Start a rollout."""
    wish = _wish(bundle, to, device, deployment, policy) | {"if_plan": if_plan, "reason": reason}
    with connect(home, centre, token_file, ca) as api:
        started = api.post("api", "v1", "rollouts", body=wish)
    if output is Output.JSON:
        print_json("skerry.rollout-started/1", started)
        return
    _show_plan(started["plan"])
    typer.echo(f"\nstarted {started['id']}; look: skerry rollout show {started['id']}")


@app.command()
def ls(
    *,
    home: HomeOption,
    centre: CentreOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all rollouts, the newest first."""
    with connect(home, centre, token_file, ca) as api:
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
def show(
    rollout: Annotated[str, typer.Argument(help="Its id.")],
    *,
    home: HomeOption,
    centre: CentreOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one rollout, target by target."""
    with connect(home, centre, token_file, ca) as api:
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
        "selector": "" if to == "all" else to,
        "targets": device or [],
        "policy": policy,
    }


def _show_plan(made: dict[str, Any]) -> None:
    bundle = made["bundle"]
    steps, excluded = made["steps"], made["excluded"]
    print_fields(
        {
            "plan": _short(made["digest"]),
            "bundle": f"{bundle['name']}:{bundle['version']} as {made['deployment']}",
            "who": f"{len(steps)} get it, {len(excluded)} do not",
            "away": f"{sum(not step['online'] for step in steps)} are offline and set aside",
            "bytes": made["fetch_bytes"],
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
