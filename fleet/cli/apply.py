"""`skerry apply -f FILE`: bring the fleet to what documents say. Twice is as once."""

from collections.abc import Sequence
from dataclasses import replace

import typer

from fleet.cli.consent import YesOption, agree
from fleet.cli.declaring import Change, Does, FilesOption, at, compared
from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.rollout_words import ReasonOption
from fleet.cli.screen import CommandError, ExitCode, Output, print_json, print_table
from fleet.client import Centre
from fleet.wording import devices

app = typer.Typer(add_completion=False)


@app.command(no_args_is_help=True)
@at_centre
def apply(
    centre: CentreOptions,
    *,
    file: FilesOption,
    reason: ReasonOption = "",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Bring policies, devices and rollouts to what documents say; what is so already stays."""
    with centre.connect() as api:
        changes = compared(api, file)
        started = [len(each.plan["steps"]) for each in changes if each.plan and each.does.changes]
        if started:
            question = f"{devices(sum(started))} get something else. Apply it?"
            agree(question, sum(started), yes=yes, unattended=False)
        done: list[Change] = []
        try:
            for each in changes:
                with at(each.document):
                    done.append(_carried_out(api, each, reason) if each.does.changes else each)
        finally:
            _tell(done, output)
    held = [each for each in changes if each.does is Does.HELD]
    if held:
        raise CommandError(
            f"{', '.join(each.name for each in held)} not started: {held[0].what}",
            "HELD: what was brought back, given up or failed is not started by a document again",
            f"see why: skerry rollout why {held[0].rollout}; to try it all the same: "
            "skerry rollout start",
            ExitCode.CONFLICT,
        )


def _carried_out(api: Centre, change: Change, reason: str) -> Change:
    """Carry out one change, and return what was done."""
    match change.kind:
        case "policy":
            query = {"reason": reason}
            api.put("api", "v1", "policies", change.name, body=change.body, query=query)
        case "device":
            body = {**change.body, "reason": change.body["reason"] or reason}
            api.post("api", "v1", "devices", change.device, "settings", body=body)
        case _:
            # Of two pipelines at the same moment, one starts it. The plan itself may have moved
            # by what was carried out just before.
            said = {"once": True, "reason": reason}
            made = api.post("api", "v1", "rollouts", body={**change.body, **said})
            return replace(change, rollout=made["id"], what=f"{change.what}: {made['id']}")
    return change


def _tell(done: Sequence[Change], output: Output) -> None:
    if output is Output.JSON:
        print_json("skerry.applied/1", {"changes": [each.shown() for each in done]})
        return
    if done:
        rows = [(_DONE[each.does], each.kind, each.name, each.what) for each in done]
        print_table(("done", "kind", "name", "what"), rows)


_DONE = {
    Does.CREATE: "created",
    Does.CHANGE: "changed",
    Does.START: "started",
    Does.NOTHING: "nothing",
    Does.HELD: "held",
}
