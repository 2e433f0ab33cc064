"""`skerry device ls | show`: the devices and what is known of them."""

from typing import Annotated, Any

import typer

from fleet.cli.options import CentreOptions, OutputOption, at_centre
from fleet.cli.screen import Output, print_fields, print_json, print_table
from fleet.sentences import explain

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Devices: list, show.")


@app.command()
@at_centre
def ls(
    centre: CentreOptions,
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """List all devices."""
    with centre.connect() as api:
        found = api.get("api", "v1", "devices")
    if output is Output.JSON:
        print_json("skerry.devices/1", found)
        return
    print_table(
        ["name", "id", "site", "presence", "since", "serves"],
        [
            [
                device["name"],
                device["id"],
                device["site"],
                _presence(device["online"]),
                device["since"],
                ", ".join(map(_deployment, device["deployments"])),
            ]
            for device in found["devices"]
        ],
    )


@app.command()
@at_centre
def show(
    centre: CentreOptions,
    device: Annotated[str, typer.Argument(help="Its id or its name.")],
    *,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one device: what it should be, what it says it is, what happened last."""
    with centre.connect() as api:
        found = api.get("api", "v1", "devices", device)
    if output is Output.JSON:
        print_json("skerry.device/1", found)
        return
    print_fields(
        {
            "name": found["name"],
            "id": found["id"],
            "site": found["site"],
            "presence": f"{_presence(found['online'])} since {found['since'] or 'it joined'}",
            "agent": found["agent_version"],
            "labels": _pairs(found["labels"]),
            "facts": _pairs(found["facts"]),
            "certificate": f"{found['certificate_serial']} until {found['certificate_expires_at']}",
            "wanted": _wanted(found["desired"]),
            "reported": found["reported_at"],
        }
    )
    if found["deployments"]:
        typer.echo()
        print_table(["deployment", "revision", "phase", "serves", "why"], _rows(found))


def _rows(found: dict[str, Any]) -> list[list[object]]:
    rows: list[list[object]] = []
    for told in found["deployments"]:
        active, error = told["active"], told["last_error"]
        serves = (
            f"{active['bundle']['name']}:{active['bundle']['version']} on {active['runtime']}"
            if active
            else None
        )
        why = (
            f"{error['reason']}: {explain(error['reason'], error['parameters']).meaning}"
            if error
            else None
        )
        rows.append([told["name"], told["revision"], told["phase"], serves, why])
    return rows


def _deployment(told: dict[str, Any]) -> str:
    active = told["active"]
    serves = "nothing" if active is None else active["bundle"]["version"]
    settled = active is not None and active["revision"] == told["revision"]
    return f"{told['name']} {serves}" + ("" if settled else f" ({told['phase']})")


def _wanted(desired: dict[str, Any] | None) -> str | None:
    if desired is None:
        return None
    order = desired["order"]
    named = [
        f"{wanted['name']}: {wanted['bundle']['name']}:{wanted['bundle']['version']}"
        for wanted in desired["deployments"]
    ]
    return f"generation {order['epoch']}.{order['generation']}, {', '.join(named) or 'nothing'}"


def _presence(online: bool | None) -> str:  # noqa: FBT001  # a value of three kinds, not a switch
    return "never seen" if online is None else "online" if online else "offline"


def _pairs(pairs: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(pairs.items()))
