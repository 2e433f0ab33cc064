"""`skerry rollout simulate`: what would come of a rollout, on a fleet that is simulated."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions, ColorOption, OutputOption, at_centre, seconds
from fleet.cli.policy_file import PolicyFileOption, policy_in
from fleet.cli.rollout_simulate_screen import simulated_lines
from fleet.cli.screen import Color, CommandError, ExitCode, Output, print_json
from fleet.clock import now as wall_clock
from fleet.rollouts.plan import Plan
from fleet.rollouts.policy import BUILT_IN, CAREFUL, Policy, RolloutRequest
from fleet.selector import Selector
from fleet.simulate.invented import CLASSES_LIMIT
from fleet.simulate.many import invent, simulate
from fleet.simulate.outcome import distribution
from fleet.simulate.twin import FailsIn, Spread, Twin

app = typer.Typer()

_DEVICES_LIMIT = 200_000
_RUNS_LIMIT = 1000
_RUNS = 20
_DEVICES_OF_ALL_RUNS = 200_000
"""By default there are fewer runs of many devices: one in each process, at the least."""

_DEFAULT = Twin()


def _typed(spread: Spread) -> str:
    return f"{spread.p50_s:g}s,{spread.p95_s:g}s"


@app.command("simulate")
@at_centre
def simulated(
    centre: CentreOptions,
    bundle: Annotated[
        str | None,
        typer.Argument(help="name:version, for a centre's own fleet; without it one is invented."),
    ] = None,
    *,
    to: Annotated[
        str | None, typer.Option("--to", help="With a bundle: a selector, or all.")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option("--as", help="With a bundle: the name clients call.")
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, max=_DEVICES_LIMIT, help="Without a bundle: how many there are."),
    ] = None,
    classes: Annotated[
        int, typer.Option(min=1, max=CLASSES_LIMIT, help="Of how many classes they are.")
    ] = 4,
    policy: Annotated[str, typer.Option(help="How it spreads: careful, or all-at-once.")] = (
        CAREFUL.name
    ),
    policy_file: PolicyFileOption = None,
    away_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.95,
            help="The share that is away at any moment; by default 0, or as the centre's fleet is.",
        ),
    ] = None,
    away: Annotated[
        str, typer.Option(help="How long one is away: half of the times, 95 % of them.")
    ] = _typed(_DEFAULT.away),
    bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="The share that the bundle is bad for.")
    ] = 0.0,
    bad_class: Annotated[
        list[str] | None,
        typer.Option(help="It is bad for classes with this in their name; more than once."),
    ] = None,
    fails_in: Annotated[FailsIn, typer.Option(help="Where that is found out.")] = _DEFAULT.fails_in,
    fails_after: Annotated[
        str, typer.Option(help="How long it serves before: half of the times, 95 % of them.")
    ] = _typed(_DEFAULT.fails_after),
    fetch: Annotated[
        str, typer.Option(help="How long a download takes: half of them, 95 % of them.")
    ] = _typed(_DEFAULT.fetch),
    test: Annotated[
        str, typer.Option(help="How long a device's test takes: half of them, 95 % of them.")
    ] = _typed(_DEFAULT.test),
    runs: Annotated[
        int | None,
        typer.Option(
            min=1, max=_RUNS_LIMIT, help="How often; by default 20, and fewer of many devices."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first run; the next has the next.")] = 0,
    within: Annotated[str, typer.Option(help="How much of its time is looked at.")] = "7d",
    output: OutputOption = Output.TABLE,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say what would come of a rollout, run often on a simulated fleet. Nothing is changed."""
    if (bundle is None) is (devices is None):
        raise _usage(
            "it is either a bundle for the centre's fleet or a number of devices",
            "say one: skerry rollout simulate NAME:VERSION --to all, or --devices 1000",
        )
    own = policy_in(policy_file)
    chosen = _policy(policy, own)
    now = wall_clock()
    try:
        twin = Twin(
            away_share=away_share or 0.0,
            away=_spread(away),
            bad_share=bad_share,
            fails_in=fails_in,
            fails_after=_spread(fails_after),
            fetch=_spread(fetch),
            test=_spread(test),
        )
        if bundle is None:
            plan = invent(devices or 0, classes, chosen, twin, now)
        else:
            wish = {
                "bundle": bundle,
                "deployment": deployment or bundle.partition(":")[0],
                "selector": to or "all",
                "policy": policy,
                "own_policy": own,
            }
            with centre.connect() as api:
                plan = _planned(api.post("api", "v1", "rollouts", "plan", body=wish), chosen)
            if away_share is None and plan.steps:
                found = sum(not step.online for step in plan.steps) / len(plan.steps)
                twin = replace(twin, away_share=min(found, 0.95))
        twin = replace(twin, bad_classes=_classes(plan, bad_class or []))
    except ValueError as error:
        raise _usage(str(error), "see skerry rollout simulate --help") from error
    if not plan.steps:
        raise CommandError(
            "there is nothing to simulate: no device gets anything",
            "NO_CHANGE",
            "see who is left out, and why: skerry rollout plan",
            ExitCode.CONFLICT,
        )
    number = runs or max(2, min(_RUNS, _DEVICES_OF_ALL_RUNS // len(plan.steps)))
    seeds = range(seed, seed + number)
    done = simulate(plan, twin, seeds=seeds, limit_s=seconds(within), now=now)
    found_out = {
        "devices": len(plan.steps),
        "classes": len({step.class_name for step in plan.steps}),
        "policy": plan.policy.name,
        "blast_radius": plan.blast_radius,
        "seed": seed,
        "twin": {**asdict(twin), "bad_classes": sorted(twin.bad_classes)},
        "outcome": asdict(distribution(done)),
    }
    if output is Output.JSON:
        print_json("skerry.simulation/1", found_out | {"each": [asdict(run) for run in done]})
        return
    show(simulated_lines(found_out, Screen.of(sys.stdout, os.environ, color)))


def _policy(name: str, own: Mapping[str, Any] | None) -> Policy:
    if own is not None:
        from fleet.api.policies import PolicyWish  # noqa: PLC0415  # for those who give a file

        return PolicyWish.model_validate(own).policy()
    if name not in BUILT_IN:
        raise _usage(f"no policy {name[:80]!r} is built in", f"say one of {', '.join(BUILT_IN)}")
    return BUILT_IN[name]


def _planned(made: Mapping[str, Any], policy: Policy) -> Plan:
    """Return a plan as the centre told it."""
    from pydantic import TypeAdapter  # noqa: PLC0415  # for those who ask a centre

    from agent.wire.v1 import BundleRef  # noqa: PLC0415  # as above
    from fleet.rollouts.foresee import Step  # noqa: PLC0415  # as above
    from fleet.rollouts.waves import Wave  # noqa: PLC0415  # as above

    request = RolloutRequest(
        bundle=TypeAdapter(BundleRef).validate_python(made["bundle"]),
        deployment=made["deployment"],
        selector=Selector(),
        policy=policy.name,
        own_policy=policy,
    )
    return Plan(
        fleet="simulated",
        request=request,
        policy=policy,
        steps=TypeAdapter(tuple[Step, ...]).validate_python(made["steps"]),
        excluded=(),
        waves=TypeAdapter(tuple[Wave, ...]).validate_python(made["waves"]),
        blast_radius=made["blast_radius"],
        fetch_bytes=made["fetch_bytes"],
        planned_at=made["planned_at"],
    )


def _classes(plan: Plan, parts: Sequence[str]) -> frozenset[str]:
    """Return the classes that are meant by a part of their name, each by at least one."""
    names = {step.class_name for step in plan.steps}
    for part in parts:
        if not any(part in name for name in names):
            raise ValueError(
                f"no class has {part[:80]!r} in its name; there are: {'; '.join(sorted(names))}"
            )
    return frozenset(name for name in names if any(part in name for part in parts))


def _spread(text: str) -> Spread:
    half, comma, most = text.partition(",")
    if not comma:
        raise ValueError(f"not two time spans: {text[:40]!r}; write them like 20s,90s")
    return Spread(p50_s=seconds(half), p95_s=seconds(most))


def _usage(what: str, next_step: str) -> CommandError:
    return CommandError(what, "USAGE", next_step, ExitCode.USAGE)
